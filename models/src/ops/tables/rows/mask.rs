//! Which nodes show no static vector in a training step.

use tempograph_framework::{Draw, NodeId, Purpose, PurposeDraw};

use crate::settings::StaticSpec;

/// The nodes whose static vector a training step hides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StaticMemoryMask {
    share: f32,
    /// `None` if nothing is hidden.
    chance: Option<PurposeDraw>,
}

impl StaticMemoryMask {
    pub fn new(spec: &StaticSpec, dropout: Option<u64>) -> StaticMemoryMask {
        StaticMemoryMask {
            share: spec.hide,
            chance: dropout.filter(|_| spec.hide > 0.0).map(|seed| Draw::new(seed).of(Purpose::Dropout)),
        }
    }

    pub fn masks(&self, node: NodeId) -> bool {
        self.chance.is_some_and(|chance| chance.at(0, u64::from(node.0)).uniform() < self.share)
    }
}
