//! Executors run programs. An executor depends on no model, and a model depends on no executor.
#[cfg(feature = "cube")]
mod device;
mod dispatch;
mod slices;
mod tensors;
mod update;

#[cfg(feature = "cube")]
pub use device::DeviceProgram;
pub use slices::{SliceProgram, SliceWork};
pub use tensors::ProgramModule;

use tempograph_kernels::tensor::Backend;

use crate::operation::FeatureWidths;
use crate::program::ModelSpec;

impl ModelSpec {
    /// Its program on slices of host memory with initial parameters, drawn from `seed`.
    ///
    /// # Errors
    /// As [`program`](Self::program).
    pub fn on_slices(&self, features: FeatureWidths, seed: u64) -> Result<SliceProgram, String> {
        Ok(SliceProgram::new(self.program(features)?, seed))
    }

    /// Its program on tensors with initial parameters, drawn from `seed`.
    ///
    /// # Errors
    /// As [`program`](Self::program).
    pub fn on_tensors<B: Backend>(
        &self,
        features: FeatureWidths,
        seed: u64,
        device: &B::Device,
    ) -> Result<ProgramModule<B>, String> {
        Ok(ProgramModule::new(self.program(features)?, seed, device))
    }
}
