//! What embeddings start from, on slices: the memory, with mapped node features and static memory where there are any.

use std::ops::Range;

use tempograph_framework::{NodeId, View};
use tempograph_kernels::cpu::{self, Activation, InputGradient, PaddedRows, add};

use super::places::weight_and_bias;
use super::{SliceTgn, SliceWork};
use crate::disttgl::{Hiding, StaticSpec};

/// Working memory of the hidden rows, `[U, W]`: `W` is the memory's width, and that of static memory where it stands behind.
#[derive(Debug, Default)]
pub(super) struct HiddenWork {
    features: Mapped,
    static_memory: Mapped,
    /// `[U]` nodes whose static memory is shown.
    shown: Vec<bool>,
    /// `[U, W]` hidden rows, where they are not the memory itself.
    rows: Vec<f32>,
    /// `[U, D]` that of the memory, where it is only a part of them.
    memory_gradient: Vec<f32>,
}

/// Constant rows and what a linear map makes of them.
#[derive(Debug, Default)]
struct Mapped {
    map: cpu::Linear,
    rows: PaddedRows,
    /// Mapped rows, in the backward pass their gradient.
    mapped: PaddedRows,
    /// Gradient of the rows.
    gradient: PaddedRows,
}

impl HiddenWork {
    /// The hidden rows.
    pub fn rows<'a>(&'a self, memory: &'a [f32]) -> &'a [f32] {
        if self.rows.is_empty() { memory } else { &self.rows }
    }

    /// `[U, D]` gradient of the memory, of that of the hidden rows.
    pub fn of_memory<'a>(&'a self, gradient: &'a [f32]) -> &'a [f32] {
        if self.memory_gradient.is_empty() { gradient } else { &self.memory_gradient }
    }
}

impl SliceTgn {
    /// Puts the hidden rows together, if they are more than the memory.
    pub(super) fn put_together(&self, view: &View, work: &mut SliceWork) {
        let (width, hidden) = (self.spec.memory, &mut work.hidden);
        hidden.rows.clear();
        hidden.memory_gradient.clear();
        if self.places.node_features.is_none() && self.static_spec().is_none() {
            return;
        }
        hidden.rows.resize(view.nodes.len() * self.spec.hidden_width(), 0.0);
        let memory = work.answer.update.memory.chunks_exact(width);
        let rows = hidden.rows.chunks_exact_mut(self.spec.hidden_width());
        rows.zip(memory).for_each(|(row, memory)| row[..width].copy_from_slice(memory));
        self.add_features(view, &mut work.hidden);
        self.add_static_memory(view, work.dropout, &mut work.hidden);
    }

    fn static_spec(&self) -> Option<&StaticSpec> {
        self.spec.static_memory.on()
    }

    fn add_features(&self, view: &View, work: &mut HiddenWork) {
        let (Some(place), Some(source)) = (&self.places.node_features, &view.node_features) else { return };
        let Mapped { map, rows, mapped, .. } = &mut work.features;
        rows.zeros(view.nodes.len(), source.width());
        for (i, node) in view.nodes.iter().enumerate() {
            rows.row_mut(i).copy_from_slice(source.row(u64::from(node.0)));
        }
        map.forward(rows, self.weights().of(place), Activation::None, mapped);
        self.add_mapped(mapped, &mut work.rows);
    }

    fn add_mapped(&self, mapped: &PaddedRows, hidden: &mut [f32]) {
        for (i, row) in hidden.chunks_exact_mut(self.spec.hidden_width()).enumerate() {
            add(&mut row[..self.spec.memory], mapped.row(i));
        }
    }

    fn add_static_memory(&self, view: &View, dropout: Option<u64>, work: &mut HiddenWork) {
        let Some(spec) = self.static_spec() else { return };
        self.gather_static_memory(spec, view, dropout, work);
        let Mapped { map, rows, mapped, .. } = &mut work.static_memory;
        match &self.places.static_memory.map {
            Some(place) => {
                map.forward(rows, self.weights().of(place), Activation::None, mapped);
                self.add_mapped(mapped, &mut work.rows);
            }
            None => {
                for (i, row) in work.rows.chunks_exact_mut(self.spec.hidden_width()).enumerate() {
                    row[self.spec.memory..].copy_from_slice(rows.row(i));
                }
            }
        }
    }

    /// The vectors of the view's nodes, `[U, S]`: zeros for those that have none, or are hidden in this step.
    fn gather_static_memory(&self, spec: &StaticSpec, view: &View, dropout: Option<u64>, work: &mut HiddenWork) {
        let hiding = Hiding::new(spec, dropout);
        work.shown.clear();
        work.shown.extend(view.nodes.iter().map(|&node| !hiding.hides(node)));
        let rows = &mut work.static_memory.rows;
        rows.zeros(view.nodes.len(), spec.width);
        for (i, &node) in view.nodes.iter().enumerate().filter(|(i, _)| work.shown[*i]) {
            if let Some(frozen) = &view.static_memory {
                rows.row_mut(i).copy_from_slice(frozen.row(u64::from(node.0)));
            }
            if let Some(place) = self.correction_of(node) {
                add(rows.row_mut(i), self.values(&place));
            }
        }
    }

    /// Where the node's learned difference stands, if it has one.
    fn correction_of(&self, node: NodeId) -> Option<Range<usize>> {
        let (all, width) = (self.places.static_memory.correction.as_ref()?, self.spec.static_memory.width);
        let start = all.start + node.index() * width;
        (start < all.end).then(|| start..start + width)
    }

    /// Gradients of the maps and the differences, and of the memory, from that of the hidden rows.
    pub(super) fn hidden_backward(&self, view: &View, gradients: &mut [f32], work: &mut SliceWork) {
        let (memory, all) = (self.spec.memory, self.spec.hidden_width());
        let SliceWork { hidden: work, hidden_gradient: hidden, .. } = work;
        if let (Some(place), Some(_)) = (&self.places.node_features, &view.node_features) {
            let Mapped { map, rows, mapped, .. } = &mut work.features;
            take_columns(mapped, hidden, all, 0..memory);
            map.backward(
                rows,
                self.values(&place.weight),
                mapped,
                weight_and_bias(gradients, place),
                InputGradient::Unwanted,
            );
        }
        if self.static_spec().is_some() {
            self.static_backward(view, hidden, gradients, work);
        }
        if all > memory {
            hidden.chunks_exact(all).for_each(|row| work.memory_gradient.extend_from_slice(&row[..memory]));
        }
    }

    fn static_backward(&self, view: &View, hidden: &[f32], gradients: &mut [f32], work: &mut HiddenWork) {
        let (memory, all) = (self.spec.memory, self.spec.hidden_width());
        let tuned = self.places.static_memory.correction.is_some();
        let Mapped { map, rows, mapped, gradient } = &mut work.static_memory;
        match &self.places.static_memory.map {
            Some(place) => {
                take_columns(mapped, hidden, all, 0..memory);
                let into = if tuned { InputGradient::Replace(gradient) } else { InputGradient::Unwanted };
                map.backward(rows, self.values(&place.weight), mapped, weight_and_bias(gradients, place), into);
            }
            None if tuned => take_columns(gradient, hidden, all, memory..all),
            None => {}
        }
        for (i, &node) in view.nodes.iter().enumerate().filter(|(i, _)| tuned && work.shown[*i]) {
            if let Some(place) = self.correction_of(node) {
                gradients[place].copy_from_slice(gradient.row(i));
            }
        }
    }
}

/// Some columns of `rows`, which are `width` wide.
fn take_columns(out: &mut PaddedRows, rows: &[f32], width: usize, columns: Range<usize>) {
    out.zeros(rows.len() / width, columns.len());
    for (i, row) in rows.chunks_exact(width).enumerate() {
        out.row_mut(i).copy_from_slice(&row[columns.clone()]);
    }
}
