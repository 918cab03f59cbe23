//! Common neighbours: rows of pairs, made of the recent neighbours of both ends (TNCN, Zhang et al., 2024,
//! arXiv:2406.07926).
//!
//! ```text
//! y_uv = [z_u * z_v | m z_u | m z_v | sum of x_w over w in N_u and N_v | n]
//! ```
//!
//! `N_u` are the distinct nodes among the neighbours of `u` in hop 0; `n` is how many of them are also in `N_v`. `m` is
//! 1 if one end is among the neighbours of the other, else 0: TNCN's 0-1 hop. The first three parts are optional.
//!
//! The decoder maps the sum of rows. A map `W x_w + b` of each row before the sum would give the same model: `W sum + n
//! b` is a linear map of the sum and of `n`.
mod slices;
mod tensors;

use tempograph_kernels::tensor::{CpuTape, Tensor};

use crate::operation::{Axis, Builder, Operation, Products, Shape, Stage, StepSizes, TensorContext, Value};

/// Makes rows of pairs of their common neighbours.
#[derive(Clone, Debug)]
pub struct CommonNeighbours {
    /// Columns of the nodes' rows, `W`.
    pub(crate) width: usize,
    /// Columns of the embeddings, `O`, and the parts made of them.
    pub(crate) ends: Option<(usize, EndColumns)>,
}

/// The parts of a pair's row that are made of the embeddings of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndColumns {
    /// Their elementwise product.
    pub product: bool,
    /// Both embeddings, if one end is among the neighbours of the other; else zeros.
    pub met: bool,
}

impl Builder {
    /// Rows of pairs: the sum of the rows of `nodes` over the nodes that are neighbours of both ends, and their number.
    /// With `ends`, parts made of the embeddings of the ends come first.
    pub fn common_neighbours(&mut self, name: &str, nodes: Value, ends: Option<(Value, EndColumns)>) -> Value {
        self.require_neighbours(0);
        let neighbours = self.needs.neighbours;
        self.check(neighbours > 0, || "model.neighbours is 0; common neighbours need at least 1".into());
        let axis = self.axis(nodes);
        self.check(axis == Axis::Nodes, || format!("common neighbours are rows of nodes, not of {axis}"));
        if let Some(axis) = ends.map(|(embedding, _)| self.axis(embedding)) {
            self.check(axis == Axis::Centres(0), || format!("the ends of pairs are rows of the roots, not of {axis}"));
        }
        let reads: Vec<Value> = std::iter::once(nodes).chain(ends.map(|(embedding, _)| embedding)).collect();
        let ends = ends.map(|(embedding, columns)| (self.width(embedding), columns));
        let op = CommonNeighbours { width: self.width(nodes), ends };
        let shape = Shape { axis: Axis::Pairs, width: op.column() + op.width + 1 };
        self.push(name, op, &reads, shape)
    }
}

impl CommonNeighbours {
    /// The column at which the sums begin.
    pub(crate) fn column(&self) -> usize {
        let parts = |EndColumns { product, met }: EndColumns| usize::from(product) + 2 * usize::from(met);
        self.ends.map_or(0, |(width, columns)| width * parts(columns))
    }
}

impl Operation for CommonNeighbours {
    fn describe(&self) -> String {
        let EndColumns { product, met } =
            self.ends.map_or(EndColumns { product: false, met: false }, |(_, columns)| columns);
        let product = if product { ", product of the ends" } else { "" };
        format!("common neighbours{product}{}", if met { ", ends that met" } else { "" })
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(slices::CommonStage::new(self.clone()))
    }

    fn cost(&self, _: &StepSizes, _: &mut Products) {}

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, reads)
    }
}

#[cfg(test)]
mod tests {
    use tempograph_framework::{Draw, EventLog, Features, History, Needs, NodeId, Purpose, Queries, Timestamp, Update};
    use tempograph_kernels::cpu::{PaddedRows, Precision};

    use super::*;
    use crate::operation::{Context, Tables};
    use crate::operation::{Declarations, Weights};

    /// A table whose row `i` is `row(i)`.
    fn table(rows: usize, row: impl Fn(usize) -> Vec<f32>) -> PaddedRows {
        let mut table = PaddedRows::default();
        table.zeros(rows, row(0).len());
        (0..rows).for_each(|i| table.row_mut(i).copy_from_slice(&row(i)));
        table
    }

    #[test]
    fn a_row_sums_up_the_nodes_that_both_ends_met_in_their_last_events() {
        // At most the last 3 events are visible: 0 met 6, 2, 3, 3; 1 met 3, 2; 4 met 3, 2, 6.
        let events = [(0, 6), (0, 2), (0, 3), (1, 3), (0, 3), (1, 2), (4, 3), (4, 2), (4, 6)];
        let end = |of: fn(&(u32, u32)) -> u32| events.iter().map(|event| NodeId(of(event))).collect::<Vec<_>>();
        let time = (0..9).map(Timestamp).collect();
        let log = EventLog::new(end(|event| event.0), end(|event| event.1), time, vec![0.0; 9], None).unwrap();
        let needs = Needs { neighbours: 3, layers: 1, ..Needs::nothing() };
        let mut history = History::new(7, needs, Timestamp(0), Features::default());
        history.observe(&log.batch(0..9), &Update::none()).unwrap();

        let mut queries = Queries::none();
        for (src, dst) in [(0, 1), (0, 4), (4, 1), (0, 2), (2, 0), (5, 0)] {
            queries.push_pair(NodeId(src), NodeId(dst), Timestamp(20));
        }
        let view = history.view(&queries, None, Draw::new(0).of(Purpose::Sampling));
        let nodes = table(view.nodes.len(), |row| vec![10.0 * view.nodes[row].0 as f32, 1.0]);
        let of_root = |row: usize| view.nodes[view.hops[0].centres[row] as usize].0 as f32 + 0.5;
        let embeddings = table(view.hops[0].centres.len(), |row| vec![of_root(row)]);
        let declared = Declarations::default();
        let (parameters, layout) = (declared.initial_parameters(0), declared.layout());
        let weights = Weights { parameters: &parameters, layout: &layout, precision: Precision::F32 };
        let cx = Context { queries: &queries, view: &view, dropout: None, weights };
        let values = [Value::new(0), Value::new(1)];
        let (reads, mut out) = (Tables { tables: &[nodes, embeddings], values: &values }, PaddedRows::default());
        let op = CommonNeighbours { width: 2, ends: Some((1, EndColumns { product: true, met: true })) };
        op.stage().forward(&cx, reads, &mut out);

        // 0 sees 2 and 3, which it met twice; 1 sees 3 and 2; 4 sees 3, 2, 6; 2 sees 0, 1, 4; 5 sees no node.
        let expected = [
            [0.75, 0.0, 0.0, 50.0, 2.0, 2.0],
            [2.25, 0.0, 0.0, 50.0, 2.0, 2.0],
            [6.75, 0.0, 0.0, 50.0, 2.0, 2.0],
            [1.25, 0.5, 2.5, 0.0, 0.0, 0.0],
            [1.25, 2.5, 0.5, 0.0, 0.0, 0.0],
            [2.75, 0.0, 0.0, 0.0, 0.0, 0.0],
        ];
        assert_eq!(out.rows(), expected.len());
        expected.iter().enumerate().for_each(|(pair, row)| assert_eq!(out.row(pair), row, "pair {pair}"));
    }
}
