//! The operations that models are made of. Each is a whole stage; none is named after a model.
pub(crate) mod layers;
mod mailbox;
mod memory;
pub(crate) mod pairs;
pub(crate) mod tables;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempograph_kernels::TemporalOps;
#[cfg(feature = "cube")]
use tempograph_kernels::tensor::CubeRuntime;
use tempograph_kernels::tensor::Tensor;

pub use layers::attention::{AttentionLayer, AttentionSettings};
pub use layers::mixer::{MixerSettings, TokenMixer};
pub use layers::projection::{IdleNormalisation, TimeProjection, TimeProjectionSettings};
pub use layers::sum::NeighbourSum;
pub use layers::window::{MeanOver, WindowMean};
pub use mailbox::{MailboxAttention, MailboxSettings};
pub use memory::{MemoryUpdate, MemoryUpdateSettings};
pub use pairs::common::{CommonNeighbours, EndColumns};
#[cfg(feature = "cube")]
pub(crate) use pairs::decoder::DeviceDecoder;
pub(crate) use pairs::decoder::{DecoderGradients, DecoderInputs, DecoderStage, ShownPairs};
pub use pairs::decoder::{LinkDecoder, PairFeatures};
pub(crate) use pairs::head::RowStage;
pub use pairs::head::{Head, RowHead};
pub use tables::centres::Centres;
pub use tables::map::RowMap;
pub use tables::norm::RowNorm;
pub use tables::rows::NodeRows;
pub use tables::time::{AnyTimeEncoding, FixedTimeEncoding, TimeEncoding};

use crate::executor::TensorContext;
#[cfg(feature = "cube")]
use crate::executor::{DeviceStage, LayoutBuilder};
use crate::operation::Operation;
use crate::program::Value;

/// What mail carries if the model makes it: rows of the batch's ends, made without dropout.
#[derive(Clone, Copy, Debug)]
pub struct MailPayload {
    /// Rows of the roots.
    pub value: Value,
    /// Which rows a mail carries.
    pub rows: MailRows,
    /// Whether the features of the event are appended. Needed if mails are averaged: features that are read from an
    /// event later are not in the mean.
    pub features: bool,
}

/// Which rows of an event's ends its mail to one end carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailRows {
    /// The row of the other end.
    Other,
    /// The receiver's own row, then that of the other end.
    Both,
    /// The sum of both rows.
    Sum,
}

#[cfg(feature = "cube")]
impl From<MailRows> for tempograph_kernels::cube::MailRows {
    fn from(rows: MailRows) -> Self {
        match rows {
            MailRows::Other => Self::Other,
            MailRows::Both => Self::Both,
            MailRows::Sum => Self::Sum,
        }
    }
}

impl MailRows {
    /// Columns of a mail's payload, for rows of `width` columns.
    pub fn columns(self, width: usize) -> usize {
        if self == MailRows::Both { 2 * width } else { width }
    }
}

/// An operation of a program.
#[derive(Clone, Debug)]
pub enum Op {
    /// Reads waiting mail into memory.
    Memory(Arc<MemoryUpdate>),
    /// Combines memory, features and static memory of nodes.
    Rows(Arc<NodeRows>),
    /// Attends to neighbours.
    Attention(Arc<AttentionLayer>),
    /// Sums over neighbours.
    Sum(Arc<NeighbourSum>),
    /// Scales rows by their idle times.
    Projection(Arc<TimeProjection>),
    /// Gathers the rows of the roots.
    Centres(Arc<Centres>),
    /// Attends to the mails in a node's mailbox.
    Mailbox(Arc<MailboxAttention>),
    /// Applies a layer norm to rows.
    Norm(Arc<RowNorm>),
    /// Makes rows of pairs from the common neighbours of both ends.
    Common(Arc<CommonNeighbours>),
    /// Mixes the events shown to centres.
    Mixer(Arc<TokenMixer>),
    /// Averages the nodes that the second look shows.
    Window(Arc<WindowMean>),
    /// Maps concatenated tables.
    Map(Arc<RowMap>),
    /// A custom operation.
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
            Op::Mailbox(op) => &**op,
            Op::Norm(op) => &**op,
            Op::Common(op) => &**op,
            Op::Mixer(op) => &**op,
            Op::Window(op) => &**op,
            Op::Map(op) => &**op,
            Op::Custom(op) => &**op,
        }
    }

    /// Whether it attends to neighbours, so that its weights can explain answers.
    pub fn attends(&self) -> bool {
        matches!(self, Op::Attention(_))
    }

    /// Checks that it can run on a device. The error names the setting.
    pub(crate) fn check_device_support(&self) -> Result<(), String> {
        match self {
            Op::Memory(op) => op.check_device_support(),
            Op::Projection(op) => op.check_device_support(),
            Op::Rows(_) | Op::Attention(_) | Op::Centres(_) => Ok(()),
            Op::Mailbox(_) => Err("attention to mail that is kept in slots".into()),
            Op::Norm(_) => Err("norms of rows".into()),
            Op::Mixer(_) => Err("mixers of tokens".into()),
            Op::Window(_) => Err("means over a second look at the past (model.window)".into()),
            Op::Map(_) => Err("linear maps of tables side by side".into()),
            Op::Sum(_) => Err("sums of neighbours (model.embedding = \"sum\")".into()),
            Op::Common(_) => Err("common neighbours (model.kind = \"tncn\", model.common_neighbours)".into()),
            Op::Custom(op) => Err(format!("operations from elsewhere ({})", op.describe())),
        }
    }

    /// Columns of the features and of the static memory that it adds to nodes.
    #[cfg(feature = "cube")]
    pub(crate) fn node_columns(&self) -> Option<[usize; 2]> {
        if let Op::Rows(op) = self { Some(op.columns()) } else { None }
    }

    /// The operation on a device, with its parameters laid out and these tables as inputs.
    ///
    /// # Panics
    /// If it [cannot run on a device](Self::check_device_support).
    #[cfg(feature = "cube")]
    pub(crate) fn device_stage<R: CubeRuntime>(
        &self,
        reads: &[Value],
        layout_builder: &mut LayoutBuilder<'_>,
    ) -> Box<dyn DeviceStage<R>> {
        match self {
            Op::Memory(op) => op.device_stage(layout_builder),
            Op::Rows(op) => op.device_stage(layout_builder, !reads.is_empty()),
            Op::Attention(op) => op.device_stage(layout_builder),
            Op::Projection(op) => op.device_stage(layout_builder),
            Op::Centres(_) => Box::new(Centres),
            Op::Sum(_)
            | Op::Mailbox(_)
            | Op::Norm(_)
            | Op::Common(_)
            | Op::Mixer(_)
            | Op::Window(_)
            | Op::Map(_)
            | Op::Custom(_) => {
                unreachable!("an executor on a device asks whether operations are known there")
            }
        }
    }

    /// Its table on the tensors of any backend.
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, reads: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        match self {
            Op::Memory(op) => op.on_tensors(cx),
            Op::Rows(op) => op.on_tensors(cx, reads),
            Op::Attention(op) => op.on_tensors(cx, reads),
            Op::Sum(op) => op.on_tensors(cx, &reads[0]),
            Op::Projection(op) => op.on_tensors(cx, &reads[0]),
            Op::Centres(op) => op.on_tensors(cx, &reads[0]),
            Op::Mailbox(op) => op.on_tensors(cx),
            Op::Norm(op) => op.on_tensors(cx, &reads[0]),
            Op::Common(op) => op.on_tensors(cx, reads),
            Op::Mixer(op) => op.on_tensors(cx),
            Op::Window(op) => op.on_tensors(cx, &reads[0]),
            Op::Map(op) => op.on_tensors(cx, reads),
            Op::Custom(op) => cx.custom(&**op, reads),
        }
    }
}
