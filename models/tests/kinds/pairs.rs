//! Rows of pairs: which operations may read them, how they are computed, and when.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Delta, Draw, History, Lookup, Purpose, Queries, Sampler, SliceModel};
use tempograph_kernels::gather_rows;
use tempograph_models::{
    Axis, Builder, Context, CpuTape, FeatureWidths, Gradients, MailPayload, MailRows, MemoryUpdateSettings, ModelKind,
    ModelSpec, NeighbourSettings, Operation, Outputs, PaddedRows, Program, Shape, SliceProgram, SliceWork, Stage,
    TableGradients, Tables, Tensor, TensorContext, TgnSpec, TimeInit, Updater, Value,
};

use crate::tape::assert_agrees;
use crate::{NODES, batch_queries, batch_ranges, features, stream, variants};

/// `y_p = (1 + z_u[0]) x_p`: an operation on pairs that reads a table of pairs and one of the roots.
#[derive(Clone, Debug)]
struct Weighed;

impl Operation for Weighed {
    fn describe(&self) -> String {
        "weighed".into()
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(self.clone())
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        let rows: Vec<u32> = cx.pairs().map(|[src, _]| src).collect();
        let weight = gather_rows(reads[1].clone(), rows).narrow(1, 0, 1) + 1.0;
        reads[0].clone() * weight.repeat_dim(1, reads[0].dims()[1])
    }
}

impl Stage for Weighed {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let (x, z) = (reads.table(0), reads.table(1));
        out.zeros(x.rows(), x.columns());
        for (pair, [src, _]) in cx.pairs().enumerate() {
            let weight = 1.0 + z.row(src as usize)[0];
            out.row_mut(pair).iter_mut().zip(x.row(pair)).for_each(|(y, x)| *y = weight * x);
        }
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        _: &mut Gradients<'_>,
    ) {
        let (x, z) = (reads.table(0), reads.table(1));
        let of_z = into.table(1, z);
        of_z.values.fill(0.0);
        for (pair, [src, _]) in cx.pairs().enumerate() {
            of_z.row_mut(src as usize)[0] += grad.row(pair).iter().zip(x.row(pair)).map(|(g, x)| g * x).sum::<f32>();
        }
        let of_x = into.table(0, x);
        for (pair, [src, _]) in cx.pairs().enumerate() {
            let weight = 1.0 + z.row(src as usize)[0];
            of_x.row_mut(pair).iter_mut().zip(grad.row(pair)).for_each(|(x, g)| *x = weight * g);
        }
    }
}

/// Models with rows of pairs, valid or invalid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct OnPairs {
    how: usize,
}

impl ModelKind for OnPairs {
    const KIND: &'static str = "on-pairs";
    const ABOUT: &'static str = "";
    const PAPER: &'static str = "";
    const TEMPLATE: &'static str = "";

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let (sampler, lookup, delta) = (Sampler::Recent, Lookup::Exact, Delta::SinceEvent);
        g.neighbours(NeighbourSettings { neighbours: 6, sampler, lookup, delta });
        let time = g.time_encoding("time", 4, TimeInit::LogSpaced);
        let memory = g.memory_update("memory", time, MemoryUpdateSettings::last(8, Updater::Gru));
        let roots = g.centres(memory);
        let pairs = g.common_neighbours("common", if self.how == 2 { roots } else { memory }, None);
        let axis = if self.how == 3 { Axis::Centres(0) } else { Axis::Pairs };
        let weighed = g.push("weighed", Weighed, &[pairs, roots], Shape { axis, width: g.width(pairs) });
        let link = |g: &mut Builder, rows: Value| {
            let decoder = g.link_decoder(8, 7, false);
            g.link_decoder_with_pair_rows(decoder, rows)
        };
        let decoder = match self.how {
            0 => g.pair_row_decoder(weighed, 7),
            4 => link(g, memory),
            _ => link(g, weighed),
        };
        let embedding = if self.how == 5 { weighed } else { roots };
        let says = (self.how == 6).then_some(MailPayload { value: weighed, rows: MailRows::Other, features: false });
        Outputs { memory: Some(if self.how == 7 { weighed } else { memory }), embedding, decoder, mail_payload: says }
    }
}

#[test]
fn operations_on_pairs_follow_each_other_and_hand_gradients_to_what_they_read() {
    for how in [0, 1] {
        assert_agrees(&format!("on pairs, {how}"), &OnPairs { how }.into(), 3, 2);
    }
}

#[test]
fn the_builder_says_who_may_read_rows_of_pairs() {
    let expected = [
        "common neighbours are rows of nodes, not of roots",
        "weighed gives rows of roots; rows of pairs are read by operations on pairs and by the decoder",
        "the decoder reads rows of pairs, and was given rows of nodes",
        "embeddings are rows of the roots, not of pairs",
        "mail says rows of the roots, not of pairs",
        "memories are rows of nodes or of the roots, not of pairs",
    ];
    for (how, expected) in (2..).zip(expected) {
        let found = ModelSpec::from(OnPairs { how }).program(FeatureWidths::default()).unwrap_err();
        assert_eq!(found, expected);
    }
}

/// Whether a program has rows of pairs.
fn has_pairs(program: &Program) -> bool {
    program.steps().iter().any(|step| program.shape(step.gives).axis == Axis::Pairs)
}

#[test]
fn rows_of_pairs_are_for_scores_alone() {
    let mut seen = 0;
    for (name, spec) in variants() {
        let program = spec.program(FeatureWidths { edge: 3, node: 0 }).unwrap();
        let of_pairs = program.steps().iter().filter(|step| program.shape(step.gives).axis == Axis::Pairs);
        for step in of_pairs {
            assert!(step.embeds && !step.updates && !step.updates_nodes, "{name}: {}", step.name);
            assert!(!program.scores_from_embeddings(), "{name}");
            let why = program.check_device_support().unwrap_err();
            assert!(why.starts_with("kernels on a device know no"), "{name}: {why}");
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn a_pair_has_the_same_score_whatever_else_is_scored() {
    for (name, spec) in variants() {
        let program = spec.program(FeatureWidths { edge: 3, node: 0 }).unwrap();
        if !has_pairs(&program) {
            continue;
        }
        let log = stream(210, 3);
        let model = SliceProgram::new(program, 3);
        let mut history = History::new(NODES, model.needs(), log.time()[0], features(&log, 0));
        let mut work = SliceWork::default();
        for range in batch_ranges().into_iter().take(3) {
            let batch = log.batch(range);
            let queries = batch_queries(&batch);
            let chance = Draw::new(0).of(Purpose::Sampling);
            let view = history.view(&queries, Some(&batch), chance);
            model.forward(&queries, &view, None, &mut work);
            let (scores, update) = (work.as_ref().scores.clone(), work.as_ref().update.clone());
            for (pair, score) in queries.pairs().iter().zip(&scores).step_by(7) {
                let [src, dst] = [pair.src, pair.dst].map(|root| root as usize);
                let alone = Queries::of_candidates(queries.nodes()[src], &[queries.nodes()[dst]], queries.times()[src]);
                let view = history.view(&alone, Some(&batch), chance);
                model.forward(&alone, &view, None, &mut work);
                let found = work.as_ref().scores[0];
                assert!((found - score).abs() <= 1e-5 * score.abs().max(1.0), "{name}: {found} for {score}");
            }
            history.observe(&batch, &update).unwrap();
        }
    }
}

#[test]
fn reading_common_neighbours_changes_no_other_first_number() {
    let fresh = |common_neighbours| {
        let spec = TgnSpec { memory: 8, time: 6, width: 8, common_neighbours, ..TgnSpec::default() };
        SliceProgram::new(ModelSpec::from(spec).program(FeatureWidths { edge: 3, node: 2 }).unwrap(), 3)
    };
    let (without, with) = (fresh(false), fresh(true));
    let numbers = |model: &SliceProgram, name: &str| {
        let part = model.parameters().parts().iter().find(|part| part.name == name).map(|part| part.range.clone());
        part.map(|range| model.parameters().values()[range].to_vec())
    };
    for part in with.parameters().parts() {
        let expected = numbers(&without, &part.name);
        assert_eq!(expected.is_none(), part.name == "decoder.lin_rows.weight", "{}", part.name);
        assert!(expected.is_none_or(|expected| numbers(&with, &part.name) == Some(expected)), "{}", part.name);
    }
}
