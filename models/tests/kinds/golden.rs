//! Compares ten steps of public implementations with slices and tensors, to 1e-5: see `tests/golden/README.md`.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use tempograph_framework::{
    Draw, EventLog, Features, ForwardOutput, History, Hop, Lookup, MailView, ManyMails, Model, NodeId, Parameters,
    Purpose, Queries, SliceModel, Store, Table, Timestamp, View, values, with_weights,
};
use tempograph_kernels::tensor::Cpu;
use tempograph_kernels::{Neighbours, Rows};
use tempograph_models::{
    ApanSpec, DatasetStats, DyrepSpec, FeatureWidths, GraphMixerSpec, IdleSpec, IdleStats, JodieSpec, MeanOver,
    ModelSpec, ProgramModule, SliceProgram, SliceWork, TgatSpec, TncnSpec,
};

use crate::tape::TAPE;

const TOLERANCE: f32 = 1e-5;
const D: usize = 8;
const T: usize = 6;
const E: usize = 3;

struct Golden {
    file: Store,
    log: EventLog,
    negative: Vec<NodeId>,
    features: Arc<Table>,
    /// Features of nodes, `D` columns, if the file has any.
    of_nodes: Option<Arc<Table>>,
    nodes: usize,
    batch: usize,
}

impl Golden {
    fn read(name: &str) -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
        let mut file = Store::read(&path).unwrap();
        let mut column = |name: &str| file.take::<i64>(&format!("log.{name}")).unwrap().1;
        let nodes = |ids: Vec<i64>| ids.into_iter().map(|id| NodeId(id as u32)).collect::<Vec<_>>();
        let [src, dst, negative] = ["src", "dst", "negative"].map(|name| nodes(column(name)));
        let time: Vec<Timestamp> = column("time").into_iter().map(Timestamp).collect();
        let features = Arc::new(Table::new(file.take::<f32>("log.features").unwrap().1, E).unwrap());
        let labels = vec![0.0; src.len()];
        let log = EventLog::new(src, dst, time, labels, Some(features.clone())).unwrap();
        let number = |name: &str| file.get::<i64>(&format!("setting.{name}")).unwrap()[0] as usize;
        let (nodes, batch) = (number("nodes"), number("batch"));
        assert_eq!([number("width"), number("time"), number("steps")], [D, T, 10]);
        let of_nodes = file.get::<f32>("node.features").map(|rows| Arc::new(Table::new(rows.to_vec(), D).unwrap()));
        Golden { nodes, batch, log, negative, features, of_nodes, file }
    }

    fn weight(&self, name: &str) -> Vec<f32> {
        self.file.get::<f32>(&format!("weight.{name}")).unwrap_or_else(|| panic!("no weight {name}")).to_vec()
    }

    fn at(&self, step: usize, name: &str) -> Vec<f32> {
        self.file.get::<f32>(&format!("step{step}.{name}")).unwrap_or_else(|| panic!("no {name}")).to_vec()
    }

    /// The parameter of ours called `name`.
    fn ours(&self, name: &str) -> Vec<f32> {
        let (whole, part) = name.rsplit_once('.').unwrap();
        if let Some(layer) = whole.strip_prefix("embedding.layers.") {
            let (layer, map) = layer.split_once('.').unwrap();
            let deep = self.file.names().any(|name| name.contains("embedding_module.temporal_conv"));
            let prefix = if deep { "0.embedding_module" } else { "0" };
            let conv = |map: &str| self.weight(&format!("{prefix}.temporal_conv_layers.{layer}.{map}.{part}"));
            return match map {
                "query" | "key" | "value" => conv(&format!("{map}_projection")),
                "out" => conv("residual_fc"),
                "norm" => conv("layer_norm"),
                _ => self.weight(&format!("{prefix}.merge_layers.{layer}.{map}.{part}")),
            };
        }
        if let Some(name) = whole.strip_prefix("embedding.mixer.") {
            return self.ours_of_mixer(name, part);
        }
        let cell = "0.memory_updater.memory_updater";
        let half =
            |at: usize| self.weight("1.fc1.weight").chunks(2 * D).flat_map(|row| row[at..at + D].to_vec()).collect();
        match name {
            "memory.time.freq" | "embedding.time.freq" => self.weight("0.time_encoder.w.weight"),
            "memory.time.phase" | "embedding.time.phase" => self.weight("0.time_encoder.w.bias"),
            // theirs reads [own | other | time | features], ours has the time last
            "memory.cell.weight_ih" => self
                .weight(&format!("{cell}.weight_ih"))
                .chunks(2 * D + T + E)
                .flat_map(|row| [&row[..2 * D], &row[2 * D + T..], &row[2 * D..2 * D + T]].concat())
                .collect(),
            // theirs are as they are
            "node_features.weight" => (0..D * D).map(|i| f32::from(u8::from(i % (D + 1) == 0))).collect(),
            "node_features.bias" => vec![0.0; D],
            "embedding.out.weight" | "embedding.out.bias" => self.weight(&format!("0.output_layer.{part}")),
            "embedding.drift" => self.weight("0.embedding_module.linear_layer.weight"),
            "embedding.bias" => self.weight("0.embedding_module.linear_layer.bias"),
            "decoder.lin_src.weight" => half(0),
            "decoder.lin_dst.weight" => half(D),
            "decoder.lin_src.bias" => self.weight("1.fc1.bias"),
            "decoder.lin_dst.bias" => vec![0.0; D],
            "decoder.lin_final.weight" => self.weight("1.fc2.weight"),
            "decoder.lin_final.bias" => self.weight("1.fc2.bias"),
            _ => self.weight(&format!("{cell}.{part}")),
        }
    }

    /// The parameter of a token mixer of which `name` is all but the last `part`.
    fn ours_of_mixer(&self, name: &str, part: &str) -> Vec<f32> {
        let Some(name) = name.strip_prefix("layers.") else {
            return self.weight(&format!("0.projection_layer.{part}"));
        };
        let [layer, over, map] = name.split('.').collect::<Vec<_>>().try_into().unwrap();
        let over = over.strip_suffix('s').unwrap();
        let theirs = match map {
            "norm" => format!("{over}_norm"),
            "up" => format!("{over}_feedforward.ffn.0"),
            _ => format!("{over}_feedforward.ffn.3"),
        };
        let mut numbers = self.weight(&format!("0.mlp_mixers.{layer}.{theirs}.{part}"));
        // their first token is our last
        let tokens = self.file.get::<i64>("setting.neighbours").unwrap()[0] as usize;
        match (over, map, part) {
            ("token", "up", "weight") => numbers.chunks_mut(tokens).for_each(<[f32]>::reverse),
            ("token", "down", "weight") => {
                numbers = numbers.chunks(numbers.len() / tokens).rev().flatten().copied().collect();
            }
            ("token", "norm", _) | ("token", "down", "bias") => numbers.reverse(),
            _ => {}
        }
        numbers
    }

    /// The same of APAN, whose times are counted `ticks` to one of theirs.
    fn ours_of_apan(&self, name: &str, ticks: f32) -> Vec<f32> {
        let (whole, part) = name.rsplit_once('.').unwrap();
        match whole {
            "memory.time" if part == "freq" => {
                self.weight("memory_updater.time_enc.w.weight").iter().map(|freq| freq / ticks).collect()
            }
            "memory.time" => self.weight("memory_updater.time_enc.w.bias"),
            "embedding.norm" => self.weight(&format!("layers.l0h0.norm.{part}")),
            _ => {
                let theirs = match whole {
                    "memory.query" => "memory_updater.w_q",
                    "memory.key" => "memory_updater.w_k",
                    "memory.value" => "memory_updater.w_v",
                    "memory.norm" => "memory_updater.layer_norm",
                    "memory.last" => "memory_updater.mlp",
                    "decoder.lin_src" => "edge_predictor.src_fc",
                    "decoder.lin_dst" => "edge_predictor.dst_fc",
                    "decoder.lin_final" => "edge_predictor.out_fc",
                    _ => panic!("no golden weight for {name}"),
                };
                self.weight(&format!("{theirs}.{part}"))
            }
        }
    }

    /// The same of TNCN.
    fn ours_of_tncn(&self, name: &str) -> Vec<f32> {
        let first = self.weight("link_pred.xsmlp.0.weight");
        let skip = [self.weight("gnn.conv.lin_skip.weight"), self.weight("gnn.conv.lin_skip.bias")];
        let (whole, part) = name.rsplit_once('.').unwrap();
        match name {
            "memory.time.freq" => self.weight("memory.time_enc.lin.weight"),
            "memory.time.phase" => self.weight("memory.time_enc.lin.bias"),
            // theirs reads [phi | features], ours [features | phi]
            "embedding.layers.0.lin_edge.weight" => self
                .weight("gnn.conv.lin_edge.weight")
                .chunks(T + E)
                .flat_map(|row| [&row[T..], &row[..T]].concat())
                .collect(),
            // a neighbour's row goes through the skip connection first
            "decoder.lin_rows.weight" => first
                .chunks(first.len() / self.weight("link_pred.xsmlp.0.bias").len())
                .flat_map(|row| {
                    let (of_ends, of_common) = row.split_at(row.len() - D);
                    let through = |column: &dyn Fn(usize) -> f32| -> f32 {
                        of_common.iter().enumerate().map(|(i, w)| f64::from(*w) * f64::from(column(i))).sum::<f64>()
                            as f32
                    };
                    let rows = (0..D).map(|column| through(&|i| skip[0][i * D + column]));
                    of_ends.iter().copied().chain(rows).chain([through(&|i| skip[1][i])]).collect::<Vec<_>>()
                })
                .collect(),
            "decoder.lin_rows.bias" => self.weight("link_pred.xsmlp.0.bias"),
            "decoder.lin_final.weight" => self.weight("link_pred.xsmlp.2.weight"),
            "decoder.lin_final.bias" => self.weight("link_pred.xsmlp.2.bias"),
            _ => match whole.strip_prefix("embedding.layers.0.") {
                Some(map) => self.weight(&format!("gnn.conv.{map}.{part}")),
                None => self.weight(&format!("memory.memory_updater.{part}")),
            },
        }
    }

    /// A model of `spec` with these weights, on slices and on tensors.
    fn models(&self, spec: &ModelSpec, ours: impl Fn(&str) -> Vec<f32>) -> (SliceProgram, ProgramModule<Cpu>) {
        let node = self.of_nodes.as_ref().map_or(0, |_| D);
        let program = spec.program(FeatureWidths { edge: E, node }).unwrap();
        let mut slices = SliceProgram::new(program.clone(), 0);
        let parts = slices.parameters().parts().to_vec();
        for part in parts {
            let numbers = ours(&part.name);
            slices.parameters_mut().values_mut()[part.range.clone()].copy_from_slice(&numbers);
        }
        let store = Parameters::to_store(slices.parameters());
        (slices, with_weights(ProgramModule::new(program, 0, &Default::default()), store).unwrap())
    }

    /// Compares scores and, by `scored`, the rows that the decoder read.
    fn assert_scored(&self, what: &str, step: usize, scores: &[f32]) {
        for (kind, found) in [("positive", &scores[..self.batch]), ("negative", &scores[self.batch..])] {
            close(&format!("{what}, step {step}: {kind}"), found, &self.at(step, kind));
        }
    }
}

fn close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{what}: off by {worst:e}");
}

/// The root of a pair's end, by the pair's number and that of all ends.
type End = fn(usize, usize) -> usize;

/// Runs the ten steps.
fn assert_agrees(name: &str, golden: &Golden, spec: &ModelSpec) {
    assert_agrees_with(name, golden, spec, |name| golden.ours(name));
}

/// The same with weights from `ours`.
fn assert_agrees_with(name: &str, golden: &Golden, spec: &ModelSpec, ours: impl Fn(&str) -> Vec<f32>) {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    let (slices, tensors) = golden.models(spec, ours);
    let nodes = golden.of_nodes.clone().map(|rows| rows as Arc<dyn Rows>);
    let features = Features { edges: Some(golden.features.clone()), nodes, ..Features::default() };
    let mut history = History::new(golden.nodes, slices.needs(), Timestamp(0), features);
    let mut work = SliceWork::default();
    for step in 0..10 {
        let part = step * golden.batch..(step + 1) * golden.batch;
        let batch = golden.log.batch(part.clone());
        let queries = Queries::of_batch(&batch, &golden.negative[part], &(0..=golden.batch).collect::<Vec<_>>());
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let forward = tensors.forward(&queries, &view, None);
        golden.assert_scored(&format!("{name} on tensors"), step, &values(forward.scores));
        slices.forward(&queries, &view, None, &mut work);
        let ForwardOutput { scores, embeddings, update, .. } = work.as_ref();
        golden.assert_scored(name, step, scores);
        let width = embeddings.len() / view.roots.iter().max().map_or(1, |&row| row as usize + 1);
        let rows = |end: End, role: usize| -> Vec<f32> {
            let row = |i| view.roots[end(i, 2 * golden.batch)] as usize * width + role;
            (0..golden.batch).flat_map(|i| embeddings[row(i)..][..D].to_vec()).collect()
        };
        let as_dst = width - D;
        let ends: [(&str, End, usize); 3] =
            [("src", |i, _| 2 * i, 0), ("dst", |i, _| 2 * i + 1, as_dst), ("negative", |i, ends| ends + i, as_dst)];
        for (kind, end, role) in ends {
            close(
                &format!("{name}, step {step}: rows of {kind}"),
                &rows(end, role),
                &golden.at(step, &format!("scored.{kind}")),
            );
        }
        history.observe(&batch, update).unwrap();
        if history.needs().memory > 0 {
            close(&format!("{name}, step {step}: memories"), history.memory(), &golden.at(step, "after.memory"));
            let updated: Vec<f32> = history.updated().iter().map(|time| time.0 as f32).collect();
            close(&format!("{name}, step {step}: last updates"), &updated, &golden.at(step, "after.last_update"));
        }
    }
}

#[test]
fn tgat_agrees_with_dyglib() {
    for layers in [1, 2] {
        let name = format!("tgat_{layers}");
        let golden = Golden::read(&format!("{name}.safetensors"));
        let spec = TgatSpec { width: D, time: T, layers, heads: 2, neighbours: 4, ..TgatSpec::default() };
        assert_agrees(&name, &golden, &spec.into());
    }
}

#[test]
fn graphmixer_agrees_with_dyglib() {
    let golden = Golden::read("graphmixer.safetensors");
    let number = |name: &str| golden.file.get::<i64>(&format!("setting.{name}")).unwrap()[0] as usize;
    let spec = GraphMixerSpec {
        width: D,
        time: T,
        channels: E,
        layers: number("layers"),
        neighbours: number("neighbours"),
        window: number("window"),
        mean_over: MeanOver::EventsAndSlots,
        ..GraphMixerSpec::default()
    };
    assert_agrees("graphmixer", &golden, &spec.into());
}

#[test]
fn jodie_agrees_with_dyglib() {
    let golden = Golden::read("jodie.safetensors");
    let DatasetStats { idle, .. } = DatasetStats::of(&golden.log, 0..golden.log.len(), golden.nodes);
    for (role, IdleStats { mean, deviation }) in ["src", "dst"].into_iter().zip(idle) {
        let theirs = |name: &str| golden.file.get::<f32>(&format!("setting.{role}_{name}")).unwrap()[0];
        close(role, &[mean as f32, deviation as f32], &[theirs("mean"), theirs("std")]);
    }
    let [source_idle, destination_idle] = idle.map(|IdleStats { mean, deviation }| Some(IdleSpec { mean, deviation }));
    let spec = JodieSpec { memory: D, time: T, width: D, source_idle, destination_idle, ..JodieSpec::default() };
    assert_agrees("jodie", &golden, &spec.into());
}

#[test]
fn dyrep_agrees_with_dyglib() {
    let golden = Golden::read("dyrep.safetensors");
    let spec = DyrepSpec { memory: D, time: T, width: D, heads: 2, neighbours: 4, ..DyrepSpec::default() };
    assert_agrees("dyrep", &golden, &spec.into());
}

/// Each pair was scored alone: in a batch, the public code's result for a pair depends on the others.
#[test]
fn tncn_agrees_with_its_authors_code() {
    for (name, zero_hop) in [("tncn_1", false), ("tncn_01", true)] {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let number = |name: &str| golden.file.get::<i64>(&format!("setting.{name}")).unwrap()[0] as usize;
        let spec = TncnSpec {
            memory: D,
            time: T,
            width: D,
            decoder: number("decoder"),
            neighbours: number("neighbours"),
            heads: 2,
            zero_hop,
            history: Lookup::Batch,
            ..TncnSpec::default()
        };
        assert_agrees_with(name, &golden, &spec.into(), |name| golden.ours_of_tncn(name));
    }
}

/// Starts each step from TGL's mailboxes and memories, since TGL fills them by other rules.
#[test]
fn apan_agrees_with_tgl_on_the_same_mailboxes() {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    // Means of mail times are fractions. With ticks this small they are whole.
    for (name, ticks) in [("apan_last", 1i64), ("apan_mean", 27720)] {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let slots = golden.file.get::<i64>("setting.slots").unwrap()[0] as usize;
        let mean = name == "apan_mean";
        let spec = ApanSpec { memory: D, time: T, width: D, heads: 2, slots, mean, ..ApanSpec::default() };
        let (slices, tensors) = golden.models(&spec.into(), |name| golden.ours_of_apan(name, ticks as f32));
        let mut work = SliceWork::default();
        for step in 0..10 {
            let before = |kind: &str, len: usize| match step {
                0 => vec![0.0; len],
                _ => golden.at(step - 1, &format!("after.{kind}")),
            };
            let (memory, times) = (before("memory", golden.nodes * D), before("mailbox_time", golden.nodes * slots));
            let boxes = before("mailbox", golden.nodes * slots * (2 * D + E));
            let mut mails = ManyMails { unique: golden.nodes, memory, ..ManyMails::default() };
            let mut of_mails = Vec::new();
            for node in 0..golden.nodes {
                mails.starts.push(mails.event.len() as u32);
                mails.rows.push(node as u32);
                for slot in node * slots..(node + 1) * slots {
                    let mail = &boxes[slot * (2 * D + E)..][..2 * D + E];
                    if mail.iter().any(|x| *x != 0.0) {
                        // The payload of a mean also contains the features of its events.
                        mails.other.extend_from_slice(&mail[..2 * D + if mean { E } else { 0 }]);
                        of_mails.extend_from_slice(&mail[2 * D..]);
                        mails.event.push(mails.event.len() as u64);
                        mails.time.push((f64::from(times[slot]) * ticks as f64).round() as i64);
                        mails.dt.push(0.0);
                    }
                }
            }
            mails.starts.push(mails.event.len() as u32);

            let mut queries = Queries::none();
            let part = step * golden.batch..(step + 1) * golden.batch;
            let others = golden.log.dst()[part.clone()].iter().chain(&golden.negative[part.clone()]);
            for (i, &other) in others.enumerate() {
                let event = part.start + i % golden.batch;
                queries.push_pair(golden.log.src()[event], other, Timestamp(golden.log.time()[event].0 * ticks));
            }
            let roots = queries.len();
            let mut view = View::default();
            view.nodes = (0..golden.nodes as u32).map(NodeId).collect();
            view.mail = MailView::Many(Arc::new(mails));
            view.roots = (0..roots as u32).collect();
            view.hops = vec![Hop {
                centres: queries.nodes().iter().map(|node| node.0).collect(),
                neighbours: Neighbours { roots, count: vec![0; roots], ..Neighbours::default() },
                idle: Vec::new(),
                age: queries.times().iter().map(|time| time.0 as f32).collect(),
            }];
            of_mails.resize(of_mails.len().max(E), 0.0);
            view.edge_features = Some(Arc::new(Table::new(of_mails, E).unwrap()));
            slices.forward(&queries, &view, None, &mut work);
            golden.assert_scored(name, step, &work.as_ref().scores);
            golden.assert_scored(
                &format!("{name} on tensors"),
                step,
                &values(tensors.forward(&queries, &view, None).scores),
            );
        }
    }
}
