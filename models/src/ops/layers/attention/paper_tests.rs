//! Tests the paper's layer against `torch.nn.MultiheadAttention`, forward and backward, on slices and on tensors. The
//! numbers come from `tests/golden/paper_attention.py`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param as BurnParam};
use tempograph_framework::{Hop, ModulePath, NodeId, Queries, Store, Table, View, values};
use tempograph_kernels::Neighbours;
use tempograph_kernels::cpu::{PaddedRows, Precision};
use tempograph_kernels::tensor::{AutodiffBackend, CpuTape, Tensor, TensorData};

use std::sync::Arc;

use crate::executor::ProgramModule;
use crate::kinds::static_only::StaticOnlySpec;
use crate::operation::{Context, Declarations, FeatureWidths, Gradients, TableGradients, Tables, Weights};
use crate::ops::layers::attention::*;
use crate::program::{ModelSpec, Program};

const ROOTS: usize = 7;
const SLOTS: usize = 4;
const ROWS: usize = ROOTS * (1 + SLOTS);
const WIDTH: usize = 8;
const EDGE: usize = 5;
/// Width of query and attention, `D + T`.
const INNER: usize = 2 * WIDTH;

/// The golden numbers, and their comparison with ours.
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

    #[track_caller]
    fn assert_close(&self, name: &str, found: &[f32]) {
        let (expected, tolerance) = (self.floats(name), self.floats(&format!("tolerance.{name}"))[0]);
        assert_eq!(found.len(), expected.len(), "{name}");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{name}: off by {worst:e}, tolerance {tolerance:e}");
    }

    /// Declares a map with torch's weight and bias. If the bias has more numbers, it uses those from `first` on.
    fn linear(
        &self,
        all: &mut Declarations,
        weight: &str,
        [outputs, inputs]: [usize; 2],
        bias: &str,
        first: usize,
    ) -> Map {
        let numbers = self.floats(&format!("weight.{bias}"))[first..first + outputs].to_vec();
        let bias = all.values(&format!("{bias}.{first}"), &[outputs], numbers);
        let weight = all.values(weight, &[outputs, inputs], self.floats(&format!("weight.{weight}")));
        Map { weight, bias: Some(bias), inputs, outputs }
    }

    /// The authors' layer, as wide inside as its query, and its parameters.
    fn layer(&self) -> (AttentionLayer, Declarations) {
        let (mut all, seen) = (Declarations::default(), INNER + EDGE);
        let [freq, phase] = ["time.weight", "time.bias"]
            .map(|name| all.shared(|all| all.values(name, &[WIDTH], self.floats(&format!("weight.{name}")))));
        let maps = Maps::Paper {
            query: self.linear(&mut all, "attn.q_proj_weight", [INNER, INNER], "attn.in_proj_bias", 0),
            key: self.linear(&mut all, "attn.k_proj_weight", [INNER, seen], "attn.in_proj_bias", INNER),
            value: self.linear(&mut all, "attn.v_proj_weight", [INNER, seen], "attn.in_proj_bias", 2 * INNER),
            out: self.linear(&mut all, "attn.out_proj.weight", [INNER, INNER], "attn.out_proj.bias", 0),
            fc1: self.linear(&mut all, "fc1.weight", [WIDTH, INNER + WIDTH], "fc1.bias", 0),
            fc2: self.linear(&mut all, "fc2.weight", [WIDTH, WIDTH], "fc2.bias", 0),
        };
        let settings = AttentionSettings {
            form: AttentionForm::Paper,
            scores: AttentionScores::Scaled,
            width: INNER,
            heads: self.integers("setting.heads")[0] as usize,
            dropout: 0.0,
            alone: EmptyNeighbourhood::Nothing,
        };
        let time = TimeEncoding { freq, phase, width: WIDTH };
        let (input, edge, inner) = (WIDTH, EDGE, INNER);
        (AttentionLayer { settings, maps, time, hop: 0, depth: 0, input, edge, inner, merge_width: WIDTH }, all)
    }

    /// The roots are the table's first rows. Each slot's neighbour is its own row after them.
    fn view(&self) -> View {
        let neighbours = Neighbours {
            roots: ROOTS,
            k: SLOTS,
            count: self.integers("input.count").iter().map(|&count| count as u32).collect(),
            row: (ROOTS as u32..ROWS as u32).collect(),
            event: (0..(ROOTS * SLOTS) as u64).collect(),
            dt: self.integers("input.delta").iter().map(|&delta| delta as f32).collect(),
        };
        let mut view = View::default();
        view.nodes = (0..ROWS as u32).map(NodeId).collect();
        view.hops = vec![Hop { centres: (0..ROOTS as u32).collect(), neighbours, ..Hop::default() }];
        view.roots = (0..ROOTS as u32).collect();
        view.edge_features = Some(Arc::new(Table::new(self.floats("input.features"), EDGE).unwrap()));
        view
    }

    /// The rows that the layer reads.
    fn rows(&self) -> Vec<f32> {
        [self.floats("input.h"), self.floats("input.neighbours")].concat()
    }

    /// Compares gradients of the table and, by declared name, of the parameters with torch's.
    fn assert_gradients(&self, of_table: &[f32], of: impl Fn(&str) -> Vec<f32>) {
        self.assert_close("grad.input.h", &of_table[..ROOTS * WIDTH]);
        self.assert_close("grad.input.neighbours", &of_table[ROOTS * WIDTH..]);
        for name in ["time.weight", "time.bias"] {
            self.assert_close(&format!("grad.weight.{name}"), &of(name));
        }
        for name in ["attn.q_proj_weight", "attn.k_proj_weight", "attn.v_proj_weight"] {
            self.assert_close(&format!("grad.weight.{name}"), &of(name));
        }
        let parts = [0, INNER, 2 * INNER].map(|first| of(&format!("attn.in_proj_bias.{first}")));
        self.assert_close("grad.weight.attn.in_proj_bias", &parts.concat());
        for name in ["attn.out_proj", "fc1", "fc2"] {
            self.assert_close(&format!("grad.weight.{name}.weight"), &of(&format!("{name}.weight")));
            self.assert_close(&format!("grad.weight.{name}.bias"), &of(&format!("{name}.bias.0")));
        }
    }
}

/// The parameter of a name.
fn named(all: &Declarations, name: &str) -> Param {
    all.params().find(|&param| all.describe(param).0 == name).unwrap()
}

#[test]
fn the_paper_layer_on_slices_agrees_with_torch_forward_and_backward() {
    let golden = Golden::read();
    let (layer, all) = golden.layer();
    let (view, queries, layout, parameters) = (golden.view(), Queries::none(), all.layout(), all.initial_parameters(0));
    let weights = Weights { parameters: &parameters, layout: &layout, precision: Precision::F32 };
    let cx = Context { queries: &queries, view: &view, dropout: None, weights };
    let (reads, mut stage) = ([Value::new(0)], layer.stage());
    let mut table = PaddedRows::default();
    table.resize(ROWS, WIDTH);
    golden
        .rows()
        .chunks(WIDTH)
        .enumerate()
        .for_each(|(row, numbers)| table.row_mut(row)[..WIDTH].copy_from_slice(numbers));
    let tables = [table];
    let rows_of = |table: &PaddedRows, rows: usize| {
        (0..rows).flat_map(|row| table.row(row)[..WIDTH].to_vec()).collect::<Vec<f32>>()
    };

    let mut output = PaddedRows::default();
    stage.forward(&cx, Tables { tables: &tables, values: &reads }, &mut output);
    golden.assert_close("output", &rows_of(&output, ROOTS));

    golden
        .floats("upstream")
        .chunks(WIDTH)
        .enumerate()
        .for_each(|(row, numbers)| output.row_mut(row)[..WIDTH].copy_from_slice(numbers));
    let (mut of_tables, mut found) = ([PaddedRows::default()], vec![0.0; all.numbers()]);
    let mut gradients = Gradients { values: &mut found, layout: &layout };
    let mut into = TableGradients { tables: &mut of_tables, values: &reads };
    stage.backward(&cx, Tables { tables: &tables, values: &reads }, &mut output, &mut into, &mut gradients);
    golden.assert_gradients(&rows_of(&of_tables[0], ROWS), |name| found[layout.of(named(&all, name))].to_vec());
}

/// Gathers gradients by name.
struct Visit<'a> {
    path: ModulePath,
    tape: &'a <CpuTape as AutodiffBackend>::Gradients,
    found: Vec<(String, Vec<f32>)>,
}

impl ModuleVisitor<CpuTape> for Visit<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &BurnParam<Tensor<CpuTape, D>>) {
        self.found.push((self.path.dotted(), values(param.val().grad(self.tape).unwrap())));
    }
}

#[test]
fn the_paper_layer_on_tensors_agrees_with_torch_forward_and_backward() {
    let golden = Golden::read();
    let (layer, all) = golden.layer();
    let (view, queries) = (golden.view(), Queries::none());
    // Any program works here: the layer's parameters replace its own.
    let program = ModelSpec::from(StaticOnlySpec::default()).program(FeatureWidths::default()).unwrap();
    let program = Program { layout: all.layout(), declarations: all, ..(*program).clone() };
    let module = ProgramModule::<CpuTape>::new(Arc::new(program), 0, &Default::default());
    let tensor = |numbers: Vec<f32>, rows| {
        Tensor::<CpuTape, 2>::from_data(TensorData::new(numbers, [rows, WIDTH]), &Default::default())
    };
    let table = tensor(golden.rows(), ROWS).require_grad();

    let output = layer.on_tape(&module.context(&queries, &view, None), std::slice::from_ref(&table));
    golden.assert_close("output", &values(output.clone()));

    let tape = (output * tensor(golden.floats("upstream"), ROOTS)).sum().backward();
    let mut visit = Visit { path: ModulePath::default(), tape: &tape, found: Vec::new() };
    module.visit(&mut visit);
    let of = |name: &str| visit.found.iter().find(|(path, _)| path == name).unwrap().1.clone();
    golden.assert_gradients(&values(table.grad(&tape).unwrap()), of);
}
