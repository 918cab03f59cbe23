//! The streams on which the kinds are tested.

use std::ops::Range;
use std::sync::Arc;

use tempograph_framework::{Batch, EventLog, Features, NodeId, Queries, Sampler, Table, Timestamp};
use tempograph_kernels::Rows;
use tempograph_models::{
    ApanSpec, AttentionForm, DyrepSpec, Embedding, EmptyNeighbourhood, Frequencies, GraphMixerSpec, IdleSpec,
    JodieSpec, MailDelivery, MailRows, MeanOver, ModelSpec, StaticMemoryMode, StaticOnlySpec, StaticSpec, TgatSpec,
    TgnSpec, TncnSpec, Updater, WalkSpec,
};

/// Nodes of the streams.
pub const NODES: usize = 24;
/// Width of static memory.
pub const STATIC: usize = 5;

/// A stream of events among some nodes, about two at each time.
pub fn stream(events: usize, edge: usize) -> EventLog {
    let mut state = 7u32;
    let mut below = |n: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % n
    };
    let src: Vec<NodeId> = (0..events).map(|_| NodeId(below(14))).collect();
    let dst = src.iter().map(|src| NodeId((src.0 + 1 + below(NODES as u32 - 2)) % NODES as u32)).collect();
    let time = (0..events).map(|i| Timestamp(i as i64 / 2)).collect();
    let features = (0..events * edge).map(|i| (i as f32 * 0.37).sin()).collect();
    let features: Option<Arc<dyn Rows>> = (edge > 0).then(|| Arc::new(Table::new(features, edge).unwrap()) as _);
    EventLog::new(src, dst, time, vec![0.0; events], features).unwrap()
}

/// The other inputs of models.
pub fn features(log: &EventLog, node: usize) -> Features {
    let rows = |width: usize, step: f32| -> Arc<dyn Rows> {
        Arc::new(Table::new((0..NODES * width).map(|i| (i as f32 * step).cos()).collect(), width).unwrap())
    };
    let nodes = (node > 0).then(|| rows(node, 0.3));
    Features { edges: log.features().cloned(), nodes, static_memory: Some(rows(STATIC, 0.7)) }
}

/// Each event of a batch and a negative of it.
pub fn batch_queries(batch: &Batch<'_>) -> Queries {
    let negatives: Vec<NodeId> = batch.dst.iter().rev().copied().collect();
    Queries::of_batch(batch, &negatives, &(0..=batch.len()).collect::<Vec<_>>())
}

/// Parts of a stream. The last is smaller, so that numbers left over from a larger one would show.
pub fn batch_ranges() -> [Range<usize>; 5] {
    [0..40, 40..80, 80..170, 170..210, 209..210]
}

pub fn static_memory(how: StaticMemoryMode) -> StaticSpec {
    StaticSpec { how, width: STATIC, train: true, hide: 0.3, nodes: Some(NODES - 3) }
}

/// Walks of up to `layers` events.
pub fn walks(layers: usize) -> Option<WalkSpec> {
    Some(WalkSpec { layers, width: 20, decay: Some(0.05), seed: 1 })
}

/// All kinds in some forms, with names for messages.
pub fn variants() -> Vec<(&'static str, ModelSpec)> {
    let tgat = TgatSpec { width: 8, time: 6, neighbours: 4, ..TgatSpec::default() };
    let idle = |mean, deviation| Some(IdleSpec { mean, deviation });
    let jodie = JodieSpec {
        memory: 8,
        time: 6,
        width: 7,
        source_idle: idle(3.0, 5.0),
        destination_idle: idle(7.0, 11.0),
        ..JodieSpec::default()
    };
    let dyrep = DyrepSpec { memory: 8, time: 6, width: 7, neighbours: 4, ..DyrepSpec::default() };
    let apan = ApanSpec { memory: 8, time: 6, width: 7, slots: 3, neighbours: 3, ..ApanSpec::default() };
    let mixer =
        GraphMixerSpec { width: 8, time: 6, channels: 7, neighbours: 5, window: 9, ..GraphMixerSpec::default() };
    let tgn = TgnSpec { memory: 8, time: 6, width: 7, heads: 1, neighbours: 4, ..TgnSpec::default() };
    let residual = TgnSpec { attention: AttentionForm::Residual, heads: 2, ..tgn.clone() };
    let tncn = TncnSpec { memory: 8, time: 6, width: 6, decoder: 9, neighbours: 5, ..TncnSpec::default() };
    let common = TgnSpec { common_neighbours: true, ..tgn.clone() };
    let deliver = MailDelivery::Neighbours { count: 2, decay: Some(20.0) };
    vec![
        ("tgat, 1 layer", TgatSpec { layers: 1, ..tgat.clone() }.into()),
        ("tgat, 2 layers", tgat.clone().into()),
        ("tgat, walks", TgatSpec { walks: walks(2), layers: 1, ..tgat.clone() }.into()),
        ("tgat, nothing for the lonely", TgatSpec { alone: EmptyNeighbourhood::Nothing, ..tgat.clone() }.into()),
        ("tgat, static", TgatSpec { static_memory: static_memory(StaticMemoryMode::Add), ..tgat.clone() }.into()),
        (
            "tgat, static behind",
            TgatSpec { static_memory: static_memory(StaticMemoryMode::Concat), heads: 1, ..tgat }.into(),
        ),
        ("jodie", jodie.clone().into()),
        ("jodie, walks", JodieSpec { walks: walks(2), ..jodie.clone() }.into()),
        ("jodie, static", JodieSpec { static_memory: static_memory(StaticMemoryMode::Concat), ..jodie }.into()),
        ("dyrep", dyrep.clone().into()),
        ("dyrep, walks", DyrepSpec { walks: walks(2), ..dyrep.clone() }.into()),
        ("dyrep, 2 layers", DyrepSpec { layers: 2, updater: Updater::Gru, ..dyrep.clone() }.into()),
        ("dyrep, static", DyrepSpec { static_memory: static_memory(StaticMemoryMode::Add), ..dyrep }.into()),
        ("apan", apan.clone().into()),
        ("apan, a slot for each mail", ApanSpec { mean: false, ..apan.clone() }.into()),
        ("apan, sums, no empty slots", ApanSpec { says: MailRows::Sum, empty_slots: false, ..apan.clone() }.into()),
        ("apan, walks", ApanSpec { walks: walks(2), ..apan.clone() }.into()),
        ("apan, to ends", ApanSpec { says: MailRows::Other, neighbours: 0, ..apan }.into()),
        ("graphmixer", mixer.clone().into()),
        (
            "graphmixer, learned times, a window of ticks",
            GraphMixerSpec { frequencies: Frequencies::Learned, window_ticks: Some(30), ..mixer.clone() }.into(),
        ),
        (
            "graphmixer, static",
            GraphMixerSpec {
                frequencies: Frequencies::RootSpaced,
                mean_over: MeanOver::EventsAndSlots,
                layers: 1,
                static_memory: static_memory(StaticMemoryMode::Concat),
                ..mixer
            }
            .into(),
        ),
        (
            "static",
            StaticOnlySpec {
                width: 8,
                static_memory: static_memory(StaticMemoryMode::Add),
                ..StaticOnlySpec::default()
            }
            .into(),
        ),
        ("tgn, residual", residual.clone().into()),
        ("tgn, residual, 2 layers", TgnSpec { layers: 2, heads: 1, ..residual }.into()),
        ("tgn, time", TgnSpec { embedding: Embedding::Time, time_scale: Some(9.0), ..tgn.clone() }.into()),
        ("tgn, to neighbours", TgnSpec { deliver, ..tgn.clone() }.into()),
        ("tgn, walks", TgnSpec { walks: walks(3), ..tgn.clone() }.into()),
        ("tgn, facts and walks", TgnSpec { walks: walks(1), pair_features: true, ..tgn.clone() }.into()),
        ("tncn", tncn.clone().into()),
        ("tncn, 0 hops", TncnSpec { zero_hop: true, neighbours: 9, ..tncn.clone() }.into()),
        ("tncn, drawn", TncnSpec { sampler: Sampler::Uniform, neighbours: 7, ..tncn.clone() }.into()),
        ("tncn, static", TncnSpec { static_memory: static_memory(StaticMemoryMode::Concat), ..tncn }.into()),
        ("tgn, common", TgnSpec { neighbours: 8, ..common.clone() }.into()),
        (
            "tgn, common, facts, identity",
            TgnSpec { pair_features: true, embedding: Embedding::Identity, ..common.clone() }.into(),
        ),
        ("tgn, common, 2 layers", TgnSpec { layers: 2, ..common }.into()),
    ]
}
