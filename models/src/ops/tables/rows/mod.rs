//! Rows of nodes: memory, mapped features and static memory combined, `[U, W]`.
//!
//! ```text
//! h_u = s_u + Wf x_u + bf                    features x, where the data have any
//! h_u = ... + Wc c_u + bc,  or  [... | c_u]  static memory c: added, or behind
//! ```
//!
//! A model without memory has zeros of its hidden width instead.
#[cfg(feature = "cube")]
mod device;
mod mask;
mod slices;
mod tensors;

pub(crate) use slices::take_columns;

use tempograph_kernels::tensor::{CpuTape, Tensor};

use crate::operation::{Axis, Builder, Map, Operation, Param, Products, Shape, Stage, StepSizes, TensorContext, Value};
use crate::settings::{StaticMemoryMode, StaticSpec};

/// Where static memory enters, and which part of it is learned with the model.
#[derive(Clone, Debug)]
pub struct StaticRows {
    pub(crate) spec: StaticSpec,
    /// `[D, S]`, the map of static memory that is added.
    pub(crate) map: Option<Map>,
    /// `[N, S]` learned difference to the frozen vectors, and `N`.
    pub(crate) correction: Option<(Param, usize)>,
}

/// Combines memory, features and static memory of nodes.
#[derive(Clone, Debug)]
pub struct NodeRows {
    /// Columns of the memory, or of the zeros instead of it.
    pub(crate) memory: usize,
    /// Columns of the rows.
    pub(crate) width: usize,
    /// Map of the node features.
    pub(crate) features: Option<Map>,
    pub(crate) vectors: Option<StaticRows>,
}

impl Builder {
    /// Rows of nodes: memory, features if the data have any, and static memory if `vectors` is enabled. Returns
    /// `memory` itself if there is nothing else. Parameters are called `node_features…` and `static_memory…`. Those of
    /// static memory are drawn last, since it is optional.
    pub fn node_rows(&mut self, memory: Value, vectors: &StaticSpec) -> Value {
        if self.node_width() == 0 && vectors.enabled().is_none() {
            return memory;
        }
        let width = self.width(memory);
        self.build_node_rows(Some(memory), width, vectors)
    }

    /// The same for a model without memory: rows of `width` columns.
    pub fn rows_without_memory(&mut self, width: usize, vectors: &StaticSpec) -> Value {
        self.build_node_rows(None, width, vectors)
    }

    fn build_node_rows(&mut self, memory: Option<Value>, width: usize, vectors: &StaticSpec) -> Value {
        self.check(width > 0, || "model.memory is 0; what nodes show needs at least 1 column".into());
        let columns = self.node_width();
        let features = (columns > 0).then(|| self.parameters.linear("node_features", columns, width, true));
        let vectors = vectors.enabled().map(|spec| {
            let (nodes, vector) = (spec.tuned(), spec.width);
            self.parameters.drawn_last(|parameters| StaticRows {
                spec: spec.clone(),
                map: (spec.how == StaticMemoryMode::Add)
                    .then(|| parameters.linear("static_memory.map", vector, width, true)),
                correction: (nodes > 0).then(|| {
                    let zeros = vec![0.0; nodes * vector];
                    (parameters.values("static_memory.correction", &[nodes, vector], zeros), nodes)
                }),
            })
        });
        let behind = vectors.as_ref().filter(|part| part.map.is_none()).map_or(0, |part| part.spec.width);
        let op = NodeRows { memory: width, width: width + behind, features, vectors };
        let shape = Shape { axis: Axis::Nodes, width: op.width };
        self.push("node_rows", op, memory.as_slice(), shape)
    }
}

impl Operation for NodeRows {
    fn describe(&self) -> String {
        let vectors = self.vectors.as_ref().map(|part| match part.map {
            Some(_) => ", static memory added",
            None => ", static memory behind",
        });
        let features = if self.features.is_some() { ", features mapped" } else { "" };
        format!("what nodes show{features}{}", vectors.unwrap_or_default())
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(slices::RowsStage::new(self.clone()))
    }

    fn has_dropout(&self) -> bool {
        self.vectors.as_ref().is_some_and(|part| part.spec.hide > 0.0)
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        if let Some(map) = self.features {
            products.map(sizes.nodes, map.inputs, map.outputs, 0);
        }
        if let Some(StaticRows { map: Some(map), correction, .. }) = &self.vectors {
            products.map(sizes.nodes, map.inputs, map.outputs, if correction.is_some() { map.inputs } else { 0 });
        }
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, reads)
    }
}
