//! The mean of the rows of the nodes that the second look shows, plus the root's own row. It has no weights.
//!
//! ```text
//! z_u = x_u + mean of x_v        over the events of u with v that the second look shows (GraphMixer, Cong et al., ICLR 2023, section 3.2)
//! ```
//! A node counts once per event. A root that is shown no event has its own row only.
//! A node counts as often as it was met. A root that is shown no event has its own row.

use serde::{Deserialize, Serialize};
use tempograph_framework::WindowSpec;
use tempograph_kernels::TemporalOps;
use tempograph_kernels::cpu::{PaddedRows, WindowMeans, WindowRows};
use tempograph_kernels::product;
use tempograph_kernels::tensor::{CpuTape, Tensor};

use crate::operation::{
    Axis, Builder, Context, Gradients, Operation, Products, Shape, Stage, StepSizes, TableGradients, Tables,
    TensorContext, Value,
};
use crate::ops::tables::centres::{centre_nodes, centre_nodes_into};

/// What the sum of rows is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeanOver {
    /// The number of events shown.
    Events,
    /// The number of events shown times the maximum number of events: DyGLib's mean of a softmax.
    EventsAndSlots,
}

/// Means of the nodes that the second look shows to the roots.
#[derive(Clone, Debug)]
pub struct WindowMean {
    pub(crate) look: WindowSpec,
    pub(crate) over: MeanOver,
}

impl Builder {
    /// Rows of the roots from the rows of nodes in `table`, with the same width, over the events that `look` shows. A
    /// program has at most one second look.
    pub fn window_mean(&mut self, name: &str, table: Value, look: WindowSpec, over: MeanOver) -> Value {
        let (axis, width) = (self.axis(table), self.width(table));
        self.check(axis == Axis::Nodes, || format!("a mean of a window reads rows of nodes, not of {axis}"));
        let other = self.needs.window.is_some_and(|own| own != look);
        self.check(!other, || "two operations look at the past a second time, each in another way".into());
        self.needs.window = Some(look);
        self.require_hop(0);
        let op = WindowMean { look, over };
        self.push(name, op, &[table], Shape { axis: Axis::Centres(0), width })
    }
}

impl WindowMean {
    /// The factor of the means.
    fn scale(&self) -> f32 {
        match self.over {
            MeanOver::Events => 1.0,
            MeanOver::EventsAndSlots => 1.0 / self.look.neighbours.max(1) as f32,
        }
    }

    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        let (window, own, nodes) = (&cx.view.window, centre_nodes(cx.view, 0), cx.view.nodes.len());
        let mut counts = vec![0.0; own.len() * nodes];
        for (centre, (row, &node)) in counts.chunks_exact_mut(nodes.max(1)).zip(&own).enumerate() {
            let seen = window.of(centre);
            let share = self.scale() / seen.len().max(1) as f32;
            window.row[seen].iter().for_each(|&node| row[node as usize] += share);
            row[node as usize] += 1.0;
        }
        product(cx.from_rows(counts, [own.len(), nodes]), table.clone())
    }
}

impl Operation for WindowMean {
    fn describe(&self) -> String {
        let WindowSpec { neighbours, ticks } = self.look;
        let young = ticks.map(|ticks| format!(" of {ticks} ticks")).unwrap_or_default();
        format!("mean of the last {neighbours} events{young}")
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(WindowStage { op: self.clone(), own: Vec::new(), means: WindowMeans::default() })
    }

    fn cost(&self, _: &StepSizes, _: &mut Products) {}

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}

#[derive(Debug)]
struct WindowStage {
    op: WindowMean,
    /// `[C]` rows of the roots' own nodes.
    own: Vec<u32>,
    means: WindowMeans,
}

impl WindowStage {
    /// The table rows that the roots see.
    fn rows<'a>(op: &WindowMean, own: &'a [u32], cx: &Context<'a>) -> WindowRows<'a> {
        let window = &cx.view.window;
        WindowRows { own, starts: &window.starts, rows: &window.row, scale: op.scale() }
    }
}

impl Stage for WindowStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let WindowStage { op, own, means } = self;
        centre_nodes_into(cx.view, 0, own);
        means.forward(&WindowStage::rows(op, own, cx), reads.table(0), out);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        _: &mut Gradients<'_>,
    ) {
        let WindowStage { op, own, means } = self;
        means.backward(&WindowStage::rows(op, own, cx), grad, into.table(0, reads.table(0)));
    }
}
