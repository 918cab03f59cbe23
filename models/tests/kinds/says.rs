//! What an update says does not depend on what a training step drops out, nor on what else is asked.

use tempograph_framework::{Draw, History, Purpose, Queries, SliceModel};
use tempograph_models::{FeatureWidths, SliceProgram, SliceWork};

use crate::{NODES, asked, features, parts, stream, variants};

#[test]
fn updates_are_made_without_dropout_and_whatever_is_asked() {
    for (name, spec) in variants() {
        let log = stream(210, 3);
        let model = SliceProgram::new(spec.program(FeatureWidths { edge: 3, node: 2 }).unwrap(), 3);
        let mut history = History::new(NODES, model.needs(), log.time()[0], features(&log, 2));
        let mut work = SliceWork::default();
        for (step, range) in parts().into_iter().take(4).enumerate() {
            let batch = log.batch(range);
            let queries = asked(&batch);
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
