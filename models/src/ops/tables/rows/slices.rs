//! Rows of nodes, on slices.

use std::ops::Range;

use tempograph_framework::NodeId;
use tempograph_kernels::cpu::{self, Activation, InputGradient, PaddedRows, add};

use crate::operation::{Context, Gradients, Stage, TableGradients, Tables};
use crate::ops::tables::rows::mask::StaticMemoryMask;
use crate::ops::tables::rows::{NodeRows, StaticRows};

#[derive(Debug)]
pub(crate) struct RowsStage {
    op: NodeRows,
    features: Mapped,
    vectors: Mapped,
    /// `[U]` nodes whose static memory is shown.
    shown: Vec<bool>,
}

/// Constant rows and their linear map.
#[derive(Debug, Default)]
struct Mapped {
    map: cpu::Linear,
    rows: PaddedRows,
    /// Mapped rows; in the backward pass their gradient.
    mapped: PaddedRows,
    /// Gradient of the rows.
    gradient: PaddedRows,
}

impl Mapped {
    fn add_to(&self, out: &mut PaddedRows) {
        let columns = self.mapped.columns();
        (0..out.rows()).for_each(|row| add(&mut out.row_mut(row)[..columns], self.mapped.row(row)));
    }
}

impl StaticRows {
    /// The range of the node's correction, if it has one.
    fn correction_of(&self, node: NodeId) -> Option<Range<usize>> {
        let (_, nodes) = self.correction?;
        let width = self.spec.width;
        (node.index() < nodes).then(|| node.index() * width..(node.index() + 1) * width)
    }
}

impl RowsStage {
    pub fn new(op: NodeRows) -> RowsStage {
        RowsStage { op, features: Mapped::default(), vectors: Mapped::default(), shown: Vec::new() }
    }

    fn add_features(&mut self, cx: &Context<'_>, out: &mut PaddedRows) {
        let (Some(place), Some(source)) = (&self.op.features, &cx.view.node_features) else { return };
        let Mapped { map, rows, mapped, .. } = &mut self.features;
        rows.zeros(cx.view.nodes.len(), source.width());
        for (i, node) in cx.view.nodes.iter().enumerate() {
            rows.row_mut(i).copy_from_slice(source.row(u64::from(node.0)));
        }
        map.forward(rows, cx.weights.linear(place), Activation::None, mapped);
        self.features.add_to(out);
    }

    /// Adds the vectors of the view's nodes, `[U, S]`: zeros for nodes without one, and for nodes hidden in this step.
    fn add_vectors(&mut self, cx: &Context<'_>, out: &mut PaddedRows) {
        let Some(part) = &self.op.vectors else { return };
        let (hiding, shown, nodes) = (StaticMemoryMask::new(&part.spec, cx.dropout), &mut self.shown, &cx.view.nodes);
        shown.clear();
        shown.extend(nodes.iter().map(|&node| !hiding.masks(node)));
        let Mapped { map, rows, mapped, .. } = &mut self.vectors;
        rows.zeros(nodes.len(), part.spec.width);
        for (i, &node) in nodes.iter().enumerate().filter(|(i, _)| shown[*i]) {
            if let Some(frozen) = &cx.view.static_memory {
                rows.row_mut(i).copy_from_slice(frozen.row(u64::from(node.0)));
            }
            if let (Some(place), Some((param, _))) = (part.correction_of(node), part.correction) {
                add(rows.row_mut(i), &cx.weights.values(param)[place]);
            }
        }
        match &part.map {
            Some(place) => {
                map.forward(rows, cx.weights.linear(place), Activation::None, mapped);
                self.vectors.add_to(out);
            }
            None => (0..nodes.len()).for_each(|i| out.row_mut(i)[self.op.memory..].copy_from_slice(rows.row(i))),
        }
    }

    fn vectors_backward(&mut self, cx: &Context<'_>, grad: &PaddedRows, gradients: &mut Gradients<'_>) {
        let Some(part) = &self.op.vectors else { return };
        let (memory, all) = (self.op.memory, self.op.width);
        let Mapped { map, rows, mapped, gradient } = &mut self.vectors;
        match &part.map {
            Some(place) => {
                take_columns(mapped, grad, 0..memory);
                let tuned = part.correction.is_some();
                let into = if tuned { InputGradient::Replace(gradient) } else { InputGradient::Unwanted };
                map.backward(rows, cx.weights.values(place.weight), mapped, gradients.map(place), into);
            }
            None if part.correction.is_some() => take_columns(gradient, grad, memory..all),
            None => {}
        }
        let Some((param, _)) = part.correction else { return };
        let corrections = gradients.param_mut(param);
        corrections.fill(0.0);
        for (i, &node) in cx.view.nodes.iter().enumerate().filter(|(i, _)| self.shown[*i]) {
            if let Some(place) = part.correction_of(node) {
                corrections[place].copy_from_slice(gradient.row(i));
            }
        }
    }
}

/// Copies some columns of `rows`.
pub(crate) fn take_columns(out: &mut PaddedRows, rows: &PaddedRows, columns: Range<usize>) {
    out.zeros(rows.rows(), columns.len());
    (0..rows.rows()).for_each(|row| out.row_mut(row).copy_from_slice(&rows.row(row)[columns.clone()]));
}

impl Stage for RowsStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        out.resize_dense(cx.view.nodes.len(), self.op.width);
        match self.op.reads_memory(&reads) {
            Some(memory) => {
                (0..out.rows()).for_each(|row| out.row_mut(row)[..self.op.memory].copy_from_slice(memory.row(row)));
            }
            None => out.values.fill(0.0),
        }
        self.add_features(cx, out);
        self.add_vectors(cx, out);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        if let (Some(place), Some(_)) = (&self.op.features, &cx.view.node_features) {
            let Mapped { map, rows, mapped, .. } = &mut self.features;
            take_columns(mapped, grad, 0..self.op.memory);
            let weight = cx.weights.values(place.weight);
            map.backward(rows, weight, mapped, gradients.map(place), InputGradient::Unwanted);
        }
        self.vectors_backward(cx, grad, gradients);
        let Some(memory) = self.op.reads_memory(&reads) else { return };
        let of_memory = into.table(0, memory);
        if self.op.width == self.op.memory {
            return std::mem::swap(of_memory, grad);
        }
        for row in 0..memory.rows() {
            of_memory.row_mut(row).copy_from_slice(&grad.row(row)[..self.op.memory]);
        }
    }
}

impl NodeRows {
    /// The memory, if the model has one.
    fn reads_memory<'a>(&self, reads: &Tables<'a>) -> Option<&'a PaddedRows> {
        (!reads.is_empty()).then(|| reads.table(0))
    }
}
