//! Finds out which operation of this crate an operation is. A program holds operations as trait objects, whose methods
//! cannot be generic; the forms for any backend of tensors and for any device are.

use std::any::Any;

use tempograph_kernels::TemporalOps;
#[cfg(feature = "cube")]
use tempograph_kernels::tensor::CubeRuntime;
use tempograph_kernels::tensor::Tensor;

use crate::executor::tensors;
#[cfg(feature = "cube")]
use crate::operation::{DeviceStage, LayoutBuilder, Step};
use crate::operation::{Operation, TensorContext};
use crate::ops::layers::attention::AttentionLayer;
use crate::ops::layers::mixer::TokenMixer;
use crate::ops::layers::projection::TimeProjection;
use crate::ops::layers::sum::NeighbourSum;
use crate::ops::layers::window::WindowMean;
use crate::ops::mailbox::MailboxAttention;
use crate::ops::memory::MemoryUpdate;
use crate::ops::pairs::common::CommonNeighbours;
use crate::ops::tables::centres::Centres;
use crate::ops::tables::map::RowMap;
use crate::ops::tables::norm::RowNorm;
use crate::ops::tables::rows::NodeRows;
use crate::program::Program;

macro_rules! known {
    ($($name:ident),+ $(,)?) => {
        /// An operation of this crate.
        enum Known<'a> {
            $($name(&'a $name),)+
        }

        impl<'a> Known<'a> {
            /// `None` for an operation from elsewhere.
            fn of(op: &'a dyn Operation) -> Option<Known<'a>> {
                let any: &dyn Any = op;
                $(if let Some(op) = any.downcast_ref() {
                    return Some(Known::$name(op));
                })+
                None
            }
        }
    };
}

known!(
    MemoryUpdate,
    NodeRows,
    AttentionLayer,
    NeighbourSum,
    TimeProjection,
    Centres,
    MailboxAttention,
    RowNorm,
    CommonNeighbours,
    TokenMixer,
    WindowMean,
    RowMap,
);

impl Program {
    /// Checks that it can train on a device.
    ///
    /// # Errors
    /// The first obstacle, in a sentence that names its setting.
    pub fn check_device_support(&self) -> Result<(), String> {
        if self.memory.is_some() && !self.updates_nodes() {
            return Err("kernels on a device know no memories that are rows of the roots".into());
        }
        let neighbours = self.needs.neighbours > 0 || self.attending().next().is_none();
        let looks = if neighbours { Ok(()) } else { Err("attention to nobody (model.neighbours = 0)".into()) };
        let known = self.steps.iter().fold(looks, |known, step| known.and_then(|()| check_device_support(&*step.op)));
        let known = known.and_then(|()| self.head.check_device_support());
        let kept = || self.needs.on_device().map_err(String::from);
        known.and_then(|()| kept()).map_err(|what| format!("kernels on a device know no {what}"))
    }

    /// The description of its first custom operation, if it has one. Such a program runs on the CPU only, on slices and
    /// on the tape.
    pub fn custom_operation(&self) -> Option<String> {
        self.steps.iter().find(|step| Known::of(&*step.op).is_none()).map(|step| step.op.describe())
    }
}

/// Checks that an operation can run on a device. The error names the setting.
fn check_device_support(op: &dyn Operation) -> Result<(), String> {
    let Some(known) = Known::of(op) else { return Err(format!("operations from elsewhere ({})", op.describe())) };
    match known {
        Known::MemoryUpdate(op) => op.check_device_support(),
        Known::TimeProjection(op) => op.check_device_support(),
        Known::NodeRows(_) | Known::AttentionLayer(_) | Known::Centres(_) => Ok(()),
        Known::MailboxAttention(_) => Err("attention to mail that is kept in slots".into()),
        Known::RowNorm(_) => Err("norms of rows".into()),
        Known::TokenMixer(_) => Err("mixers of tokens".into()),
        Known::WindowMean(_) => Err("means over a second look at the past (model.window)".into()),
        Known::RowMap(_) => Err("linear maps of tables side by side".into()),
        Known::NeighbourSum(_) => Err("sums of neighbours (model.embedding = \"sum\")".into()),
        Known::CommonNeighbours(_) => Err("common neighbours (model.kind = \"tncn\", model.common_neighbours)".into()),
    }
}

/// A step's operation on a device, with its parameters laid out.
///
/// # Panics
/// If it cannot run on a device ([`Program::check_device_support`]).
#[cfg(feature = "cube")]
pub(super) fn device_stage<R: CubeRuntime>(
    step: &Step,
    layout_builder: &mut LayoutBuilder<'_>,
) -> Box<dyn DeviceStage<R>> {
    match Known::of(&*step.op) {
        Some(Known::MemoryUpdate(op)) => op.device_stage(layout_builder),
        Some(Known::NodeRows(op)) => op.device_stage(layout_builder, !step.reads.is_empty()),
        Some(Known::AttentionLayer(op)) => op.device_stage(layout_builder),
        Some(Known::TimeProjection(op)) => op.device_stage(layout_builder),
        Some(Known::Centres(_)) => Box::new(Centres),
        _ => unreachable!("an executor on a device asks whether operations are known there"),
    }
}

/// The table of an operation on the tensors of any backend.
pub(super) fn on_tensors<B: TemporalOps>(
    op: &dyn Operation,
    cx: &TensorContext<'_, B>,
    reads: &[Tensor<B, 2>],
) -> Tensor<B, 2> {
    match Known::of(op) {
        Some(Known::MemoryUpdate(op)) => op.on_tensors(cx),
        Some(Known::NodeRows(op)) => op.on_tensors(cx, reads),
        Some(Known::AttentionLayer(op)) => op.on_tensors(cx, reads),
        Some(Known::NeighbourSum(op)) => op.on_tensors(cx, &reads[0]),
        Some(Known::TimeProjection(op)) => op.on_tensors(cx, &reads[0]),
        Some(Known::Centres(op)) => op.on_tensors(cx, &reads[0]),
        Some(Known::MailboxAttention(op)) => op.on_tensors(cx),
        Some(Known::RowNorm(op)) => op.on_tensors(cx, &reads[0]),
        Some(Known::CommonNeighbours(op)) => op.on_tensors(cx, reads),
        Some(Known::TokenMixer(op)) => op.on_tensors(cx),
        Some(Known::WindowMean(op)) => op.on_tensors(cx, &reads[0]),
        Some(Known::RowMap(op)) => op.on_tensors(cx, reads),
        None => tensors::custom(op, cx, reads),
    }
}
