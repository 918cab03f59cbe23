//! The paper's attention layer against `torch.nn.MultiheadAttention`: numbers of `tests/golden/paper_attention.py`.
use super::*;
use std::path::Path;
use tempograph_framework::{NodeId, Store, Table, values};
use tempograph_kernels::Neighbours;
use tempograph_kernels::tensor::CpuTape;

const ROOTS: usize = 7;
const SLOTS: usize = 4;
const WIDTH: usize = 8;
const EDGE: usize = 5;

/// The golden numbers, and what is compared with them.
struct Golden(Store);

impl Golden {
    fn read() -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/paper_attention.safetensors");
        Golden(Store::read(&path).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0.clone().take::<f32>(name).unwrap().1
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        self.0.clone().take::<i64>(name).unwrap().1
    }

    fn param<const R: usize>(&self, name: &str, shape: [usize; R]) -> Param<Tensor<CpuTape, R>> {
        Param::from_data(TensorData::new(self.floats(&format!("weight.{name}")), shape), &Default::default())
    }

    /// A map whose bias is `bias` numbers of a longer one, from `first` on.
    fn linear(&self, weight: &str, [outputs, inputs]: [usize; 2], bias: &str, first: usize) -> Linear<CpuTape> {
        let bias = self.floats(&format!("weight.{bias}"))[first..first + outputs].to_vec();
        let bias = Param::from_data(TensorData::new(bias, [outputs]), &Default::default());
        Linear { weight: self.param(weight, [outputs, inputs]), bias: Some(bias) }
    }

    #[track_caller]
    fn assert_close(&self, name: &str, found: &[f32]) {
        let (expected, tolerance) = (self.floats(name), self.floats(&format!("tolerance.{name}"))[0]);
        assert_eq!(found.len(), expected.len(), "{name}");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{name}: off by {worst:e}, tolerance {tolerance:e}");
    }
}

/// The layer as its authors have it, as wide inside as its query: `Q = D + T`.
fn layer(golden: &Golden) -> PaperLayer<CpuTape> {
    let (query, context) = (2 * WIDTH, 2 * WIDTH + EDGE);
    let heads = golden.integers("setting.heads")[0] as usize;
    PaperLayer {
        query: golden.linear("attn.q_proj_weight", [query, query], "attn.in_proj_bias", 0),
        key: golden.linear("attn.k_proj_weight", [query, context], "attn.in_proj_bias", query),
        value: golden.linear("attn.v_proj_weight", [query, context], "attn.in_proj_bias", 2 * query),
        out: golden.linear("attn.out_proj.weight", [query, query], "attn.out_proj.bias", 0),
        fc1: golden.linear("fc1.weight", [WIDTH, query + WIDTH], "fc1.bias", 0),
        fc2: golden.linear("fc2.weight", [WIDTH, WIDTH], "fc2.bias", 0),
        heads,
        activation: ScoreActivation::Scaled(1.0 / ((query / heads) as f32).sqrt()),
    }
}

/// The roots are the table's first rows, every slot's neighbour a row of its own behind them.
fn view(golden: &Golden) -> View {
    let slots = ROOTS * SLOTS;
    let neighbours = Neighbours {
        roots: ROOTS,
        k: SLOTS,
        count: golden.integers("input.count").iter().map(|&count| count as u32).collect(),
        row: (ROOTS as u32..(ROOTS + slots) as u32).collect(),
        event: (0..slots as u64).collect(),
        dt: golden.integers("input.delta").iter().map(|&delta| delta as f32).collect(),
    };
    let mut view = View::default();
    view.nodes = (0..(ROOTS + slots) as u32).map(NodeId).collect();
    view.hops = vec![Hop { centres: (0..ROOTS as u32).collect(), neighbours, idle: Vec::new() }];
    view.roots = (0..ROOTS as u32).collect();
    view.edge_features = Some(Arc::new(Table::new(golden.floats("input.features"), EDGE).unwrap()));
    view
}

#[test]
fn the_paper_layer_agrees_with_torch_forward_and_backward() {
    let golden = Golden::read();
    let (layer, view) = (layer(&golden), view(&golden));
    let time = TimeEncoder { freq: golden.param("time.weight", [WIDTH]), phase: golden.param("time.bias", [WIDTH]) };
    let rows = [golden.floats("input.h"), golden.floats("input.neighbours")].concat();
    let device = Default::default();
    let table =
        Tensor::<CpuTape, 2>::from_data(TensorData::new(rows, [ROOTS * (1 + SLOTS), WIDTH]), &device).require_grad();

    let reading = Reading { hop: &view.hops[0], view: &view, time: &time, dropout: None };
    let output = layer.forward(table.clone(), &reading);
    golden.assert_close("output", &values(output.clone()));

    let upstream = Tensor::<CpuTape, 2>::from_data(TensorData::new(golden.floats("upstream"), [ROOTS, WIDTH]), &device);
    let gradients = (output * upstream).sum().backward();
    let of_table = values(table.grad(&gradients).unwrap());
    golden.assert_close("grad.input.h", &of_table[..ROOTS * WIDTH]);
    golden.assert_close("grad.input.neighbours", &of_table[ROOTS * WIDTH..]);
    golden.assert_close("grad.weight.time.weight", &values(time.freq.val().grad(&gradients).unwrap()));
    golden.assert_close("grad.weight.time.bias", &values(time.phase.val().grad(&gradients).unwrap()));

    let weight = |lin: &Linear<CpuTape>| values(lin.weight.val().grad(&gradients).unwrap());
    let bias = |lin: &Linear<CpuTape>| values(lin.bias.as_ref().unwrap().val().grad(&gradients).unwrap());
    golden.assert_close("grad.weight.attn.q_proj_weight", &weight(&layer.query));
    golden.assert_close("grad.weight.attn.k_proj_weight", &weight(&layer.key));
    golden.assert_close("grad.weight.attn.v_proj_weight", &weight(&layer.value));
    golden.assert_close(
        "grad.weight.attn.in_proj_bias",
        &[bias(&layer.query), bias(&layer.key), bias(&layer.value)].concat(),
    );
    for (name, lin) in [("attn.out_proj", &layer.out), ("fc1", &layer.fc1), ("fc2", &layer.fc2)] {
        golden.assert_close(&format!("grad.weight.{name}.weight"), &weight(lin));
        golden.assert_close(&format!("grad.weight.{name}.bias"), &bias(lin));
    }
}
