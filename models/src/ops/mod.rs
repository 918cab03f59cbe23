//! The operations that models are made of: each a whole stage, none named after a model.

mod attention;
mod centres;
mod decoder;
mod memory;
mod projection;
mod rows;
mod sum;
mod time;

use std::sync::Arc;

use tempograph_kernels::TemporalOps;
#[cfg(feature = "cube")]
use tempograph_kernels::tensor::CubeRuntime;
use tempograph_kernels::tensor::Tensor;

pub use attention::{Attention, AttentionLayer};
pub use centres::Centres;
#[cfg(feature = "cube")]
pub(crate) use decoder::DeviceDecoder;
pub use decoder::{DecoderStage, LinkDecoder};
pub use memory::{Mail, MemoryUpdate};
pub use projection::TimeProjection;
pub use rows::NodeRows;
pub use sum::NeighbourSum;
pub use time::TimeEncoding;

use crate::executor::TensorContext;
#[cfg(feature = "cube")]
use crate::executor::{DeviceStage, Laying};
use crate::operation::Operation;
use crate::program::Value;

/// What a model gives mail to say.
#[derive(Clone, Copy, Debug)]
pub struct Says {
    /// Rows of the roots, of which those of the batch's ends go into their mail.
    pub value: Value,
    /// Whether a mail says the sum of both ends' rows instead of the other end's.
    pub both: bool,
}

#[cfg(feature = "cube")]
impl Says {
    /// Which rows of both ends a mail says, as kernels call them.
    pub(crate) fn rows(self) -> tempograph_kernels::cube::SaidRows {
        use tempograph_kernels::cube::SaidRows;
        if self.both { SaidRows::Sum } else { SaidRows::Other }
    }
}

/// An operation of a program.
#[derive(Clone, Debug)]
pub enum Op {
    /// Reads waiting mail into memory.
    Memory(Arc<MemoryUpdate>),
    /// Puts together what nodes show: memory, features, static memory.
    Rows(Arc<NodeRows>),
    /// Attends to neighbours.
    Attention(Arc<AttentionLayer>),
    /// Adds up neighbours.
    Sum(Arc<NeighbourSum>),
    /// Scales rows by how long nothing has happened to them.
    Projection(Arc<TimeProjection>),
    /// Takes the rows of the roots.
    Centres(Arc<Centres>),
    /// An operation from elsewhere.
    Custom(Arc<dyn Operation>),
}

impl Op {
    /// The operation.
    pub fn operation(&self) -> &dyn Operation {
        match self {
            Op::Memory(op) => &**op,
            Op::Rows(op) => &**op,
            Op::Attention(op) => &**op,
            Op::Sum(op) => &**op,
            Op::Projection(op) => &**op,
            Op::Centres(op) => &**op,
            Op::Custom(op) => &**op,
        }
    }

    /// Whether it attends to neighbours, so that answers can be explained by it.
    pub fn attends(&self) -> bool {
        matches!(self, Op::Attention(_))
    }

    /// Says what of it has no form on a device, naming the setting.
    #[cfg(feature = "cube")]
    pub(crate) fn on_device(&self) -> Result<(), String> {
        match self {
            Op::Memory(op) => op.on_device(),
            Op::Rows(_) | Op::Attention(_) | Op::Projection(_) | Op::Centres(_) => Ok(()),
            Op::Sum(_) => Err("sums of neighbours (model.embedding = \"sum\")".into()),
            Op::Custom(op) => Err(format!("operations from elsewhere ({})", op.describe())),
        }
    }

    /// Columns of the features and of the static memory that nodes show by it.
    #[cfg(feature = "cube")]
    pub(crate) fn node_columns(&self) -> Option<[usize; 2]> {
        if let Op::Rows(op) = self { Some(op.columns()) } else { None }
    }

    /// The operation on a device, where it reads these tables, its parameters laid out.
    ///
    /// # Panics
    /// If it [has no form there](Self::on_device).
    #[cfg(feature = "cube")]
    pub(crate) fn device_stage<R: CubeRuntime>(
        &self,
        reads: &[Value],
        laying: &mut Laying<'_>,
    ) -> Box<dyn DeviceStage<R>> {
        match self {
            Op::Memory(op) => op.device_stage(laying),
            Op::Rows(op) => op.device_stage(laying, !reads.is_empty()),
            Op::Attention(op) => op.device_stage(laying),
            Op::Projection(op) => op.device_stage(laying),
            Op::Centres(_) => Box::new(Centres),
            Op::Sum(_) | Op::Custom(_) => {
                unreachable!("an executor on a device asks whether operations are known there")
            }
        }
    }

    /// Its table on the tensors of any backend.
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, reads: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        match self {
            Op::Memory(op) => op.on_tensors(cx),
            Op::Rows(op) => op.on_tensors(cx, reads),
            Op::Attention(op) => op.on_tensors(cx, &reads[0]),
            Op::Sum(op) => op.on_tensors(cx, &reads[0]),
            Op::Projection(op) => op.on_tensors(cx, &reads[0]),
            Op::Centres(op) => op.on_tensors(cx, &reads[0]),
            Op::Custom(op) => cx.custom(&**op, reads),
        }
    }
}
