//! The mail payload of an update depends neither on dropout nor on the other queries.

use tempograph_framework::{Batch, Draw, History, Purpose, Queries, SliceModel};
use tempograph_models::{ApanSpec, FeatureWidths, MailRows, ModelSpec, SliceProgram, SliceWork};

use crate::{NODES, batch_queries, batch_ranges, features, stream, variants};

#[test]
fn updates_are_made_without_dropout_and_do_not_depend_on_the_queries() {
    for (name, spec) in variants() {
        let log = stream(210, 3);
        let model = SliceProgram::new(spec.program(FeatureWidths { edge: 3, node: 2 }).unwrap(), 3);
        let mut history = History::new(NODES, model.needs(), log.time()[0], features(&log, 2));
        let mut work = SliceWork::default();
        for (step, range) in batch_ranges().into_iter().take(4).enumerate() {
            let batch = log.batch(range);
            let queries = batch_queries(&batch);
            let chance = || Draw::new(0).of(Purpose::Sampling);
            let view = history.view(&queries, Some(&batch), chance());
            model.forward(&queries, &view, None, &mut work);
            let (scores, update) = (work.as_ref().scores.clone(), work.as_ref().update.clone());
            model.forward(&queries, &view, Some(5), &mut work);
            assert_eq!(work.as_ref().update, update, "{name}, step {step}: dropout");
            model.forward(&queries, &view, None, &mut work);
            assert_eq!(work.as_ref().scores, scores, "{name}, step {step}: scores afterwards");

            let ends = Queries::of_ends(&batch);
            let view = history.view(&ends, Some(&batch), chance());
            model.advance(&ends, &view, &mut work);
            let alone = &work.as_ref().update;
            assert_eq!(alone.mail, update.mail, "{name}, step {step}: mail of ends alone");
            let width = model.needs().memory;
            for (i, node) in alone.nodes.iter().enumerate().filter(|_| width > 0) {
                let other = update.nodes.binary_search(node).unwrap();
                let [own, theirs] =
                    [(i, &alone.memory), (other, &update.memory)].map(|(i, rows)| &rows[i * width..][..width]);
                assert_eq!(own, theirs, "{name}, step {step}: memory of {node:?}");
            }
            history.observe(&batch, &update).unwrap();
        }
        assert_eq!(model.needs().ends, name.starts_with("dyrep") || name.starts_with("apan"), "{name}: ends");
    }
}

#[test]
fn mail_says_rows_of_the_ends_and_memories_are_those_of_the_last_event() {
    let log = stream(120, 3);
    let (first, batch) = (log.batch(0..60), log.batch(60..120));
    let last = batch.len() - 1;
    let update_of = |says: MailRows| {
        let spec = ApanSpec { memory: 8, time: 6, width: 7, slots: 3, says, ..ApanSpec::default() };
        let program = ModelSpec::from(spec).program(FeatureWidths { edge: 3, node: 0 }).unwrap();
        let model = SliceProgram::new(program, 3);
        let mut history = History::new(NODES, model.needs(), log.time()[0], features(&log, 0));
        let mut work = SliceWork::default();
        let mut update = |history: &History, batch: &Batch<'_>| {
            let queries = batch_queries(batch);
            let view = history.view(&queries, Some(batch), Draw::new(0).of(Purpose::Sampling));
            model.forward(&queries, &view, None, &mut work);
            work.as_ref().update.clone()
        };
        let before = update(&history, &first);
        history.observe(&first, &before).unwrap();
        update(&history, &batch)
    };
    // The source's mail goes to the destination. With both rows, the destination's own row comes first.
    type Said = fn([&[f32]; 2]) -> Vec<f32>;
    let forms: [(MailRows, Said); 3] = [
        (MailRows::Other, |[src, dst]| [src, dst].concat()),
        (MailRows::Both, |[src, dst]| [dst, src, src, dst].concat()),
        (MailRows::Sum, |[src, dst]| src.iter().zip(dst).chain(src.iter().zip(dst)).map(|(a, b)| a + b).collect()),
    ];
    let mut ends: Vec<_> = batch.src.iter().chain(batch.dst).copied().collect();
    ends.sort_unstable();
    ends.dedup();
    for (says, expected) in forms {
        let update = update_of(says);
        assert_eq!(update.nodes, ends);
        let memory = |node| &update.memory[update.nodes.binary_search(&node).unwrap() * 8..][..8];
        let [src, dst] = [batch.src[last], batch.dst[last]].map(memory);
        assert!(src != dst && src.iter().any(|x| *x != 0.0));
        // If mails are averaged, the features of the event follow the rows of its ends.
        let features = log.features().unwrap().row(batch.id(last).0);
        let expected: Vec<f32> =
            expected([src, dst]).chunks(says.columns(8)).flat_map(|said| [said, features].concat()).collect();
        assert_eq!(update.mail[update.mail.len() - expected.len()..], expected, "{says:?}");
    }
}
