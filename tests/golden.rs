//! Ten steps of TGN agree with PyG's, tensor by tensor, under the tolerances that `golden/make_golden.py` measured.

use std::collections::BTreeMap;
use std::path::Path;

use tempograph_framework::{
    Draw, EventLog, Features, History, Model, NodeId, Purpose, Queries, Store, Table, Timestamp, link_loss, values,
    with_weights,
};
use tempograph_kernels::tensor::CpuTape;
use tempograph_models::{AttentionForm, FeatureWidths, TgnSpec, TimeInit};
use tempograph_tests::{gradients, tensors};

const NODES: usize = 30;
const BATCH: usize = 20;
const EDGE: usize = 5;
const TIME: usize = 8;

fn golden(name: &str) -> Store {
    Store::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)).unwrap()
}

/// PyG's names by ours.
const NAMES: [(&str, &str); 21] = [
    ("memory.time.freq", "memory.time_enc.lin.weight"),
    ("memory.time.phase", "memory.time_enc.lin.bias"),
    ("memory.cell.weight_ih", "memory.gru.weight_ih"),
    ("memory.cell.weight_hh", "memory.gru.weight_hh"),
    ("memory.cell.bias_ih", "memory.gru.bias_ih"),
    ("memory.cell.bias_hh", "memory.gru.bias_hh"),
    ("embedding.layers.0.lin_query.weight", "gnn.conv.lin_query.weight"),
    ("embedding.layers.0.lin_query.bias", "gnn.conv.lin_query.bias"),
    ("embedding.layers.0.lin_key.weight", "gnn.conv.lin_key.weight"),
    ("embedding.layers.0.lin_key.bias", "gnn.conv.lin_key.bias"),
    ("embedding.layers.0.lin_value.weight", "gnn.conv.lin_value.weight"),
    ("embedding.layers.0.lin_value.bias", "gnn.conv.lin_value.bias"),
    ("embedding.layers.0.lin_edge.weight", "gnn.conv.lin_edge.weight"),
    ("embedding.layers.0.lin_skip.weight", "gnn.conv.lin_skip.weight"),
    ("embedding.layers.0.lin_skip.bias", "gnn.conv.lin_skip.bias"),
    ("decoder.lin_src.weight", "link_pred.lin_src.weight"),
    ("decoder.lin_src.bias", "link_pred.lin_src.bias"),
    ("decoder.lin_dst.weight", "link_pred.lin_dst.weight"),
    ("decoder.lin_dst.bias", "link_pred.lin_dst.bias"),
    ("decoder.lin_final.weight", "link_pred.lin_final.weight"),
    ("decoder.lin_final.bias", "link_pred.lin_final.bias"),
];

/// PyG's `lin_edge` reads `[phi | features]`, ours `[features | phi]`.
fn edge_columns_turned(rows: &[f32]) -> Vec<f32> {
    rows.chunks(TIME + EDGE).flat_map(|row| row[TIME..].iter().chain(&row[..TIME])).copied().collect()
}

fn in_our_order(ours: &str, values: Vec<f32>) -> Vec<f32> {
    if ours.ends_with("lin_edge.weight") { edge_columns_turned(&values) } else { values }
}

fn spec() -> TgnSpec {
    TgnSpec {
        memory: 8,
        time: TIME,
        width: 8,
        heads: 2,
        neighbours: 4,
        dropout: 0.0,
        time_init: TimeInit::Uniform,
        attention: AttentionForm::TransformerConv,
        mail_memory: tempograph_framework::OtherMemory::AtRead,
        update_without_mail: true,
        history: tempograph_framework::Lookup::Batch,
        time_delta: tempograph_framework::Delta::SinceUpdate,
        ..TgnSpec::default()
    }
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst:e}, tolerance {tolerance:e}");
}

#[test]
fn ten_steps_agree_with_pyg() {
    let mut file = golden("tgn_ten_steps.safetensors");
    let tolerances = file.clone();
    let column = |file: &mut Store, name: &str| file.take::<i64>(&format!("log.{name}")).unwrap().1;
    let nodes = |ids: Vec<i64>| ids.into_iter().map(|id| NodeId(id as u32)).collect::<Vec<_>>();
    let (src, dst, negative) =
        (nodes(column(&mut file, "src")), nodes(column(&mut file, "dst")), nodes(column(&mut file, "negative")));
    let time = column(&mut file, "time").into_iter().map(Timestamp).collect();
    let features = std::sync::Arc::new(Table::new(file.take::<f32>("log.features").unwrap().1, EDGE).unwrap());
    let log = EventLog::new(src, dst, time, vec![0.0; 200], Some(features.clone())).unwrap();

    let names = || NAMES.iter().filter(|(ours, _)| !ours.is_empty());
    let tolerance =
        |kind: &str| tolerances.clone().take::<f32>(&format!("tolerance.{kind}")).map(|(_, value)| value[0]).unwrap();
    let mut model = tensors::<CpuTape>(&spec(), FeatureWidths { edge: EDGE, node: 0 }, 0);
    let mut history =
        History::new(NODES, model.needs(), Timestamp(0), Features { edges: Some(features), ..Features::default() });

    for step in 0..10 {
        // The weights before each step are PyG's, so a step is compared without the drift of earlier steps.
        let mut ours = tempograph_framework::weights::<CpuTape, _>(&model);
        let shapes: Vec<(String, Vec<usize>)> = ours
            .names()
            .map(String::from)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|name| (name.clone(), ours.take::<f32>(&name).unwrap().0))
            .collect();
        let mut weights = Store::default();
        for (name, shape) in shapes {
            let theirs =
                names().find(|(ours, _)| *ours == name).unwrap_or_else(|| panic!("no golden weight for {name}")).1;
            let values = file.take::<f32>(&format!("step{step}.weight.{theirs}")).unwrap().1;
            weights.put(name.clone(), shape, in_our_order(&name, values));
        }
        model = with_weights(model, weights).unwrap();

        let batch = log.batch(step * BATCH..(step + 1) * BATCH);
        let offsets: Vec<usize> = (0..=BATCH).collect();
        let queries = Queries::of_batch(&batch, &negative[step * BATCH..(step + 1) * BATCH], &offsets);
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let forward = model.forward(&queries, &view, Some(0));
        let scores = values(forward.scores.clone());
        let at = |kind: &str| format!("step{step}.{kind}");
        assert_close(
            &at("positive"),
            &scores[..BATCH],
            &file.take::<f32>(&at("positive")).unwrap().1,
            tolerance("positive"),
        );
        assert_close(
            &at("negative"),
            &scores[BATCH..],
            &file.take::<f32>(&at("negative")).unwrap().1,
            tolerance("negative"),
        );
        let loss = link_loss(forward.scores, BATCH);
        assert_close(&at("loss"), &values(loss.clone()), &file.take::<f32>(&at("loss")).unwrap().1, tolerance("loss"));

        let found: BTreeMap<String, Vec<f32>> = gradients(&model, &loss.backward()).into_iter().collect();
        for (ours, theirs) in NAMES {
            let expected = in_our_order(ours, file.take::<f32>(&at(&format!("grad.{theirs}"))).unwrap().1);
            let gradient = found.get(ours).cloned().unwrap_or_else(|| vec![0.0; expected.len()]);
            assert_close(&at(&format!("grad.{ours}")), &gradient, &expected, tolerance(&format!("grad.{theirs}")));
        }
        history.observe(&batch, &forward.update).unwrap();
        assert_close(
            &at("after.memory"),
            history.memory(),
            &file.take::<f32>(&at("after.memory")).unwrap().1,
            tolerance("after.memory"),
        );
        let updated: Vec<i64> = history.updated().iter().map(|time| time.0).collect();
        assert_eq!(updated, file.take::<i64>(&at("after.last_update")).unwrap().1, "step {step}: last updates");
    }
}
