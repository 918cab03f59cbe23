//! The constant inputs of temporal attention.
use crate::{Dropout, Rows};
use std::sync::Arc;

/// Recent events of `R` roots, at most `K` each: slot `k` of root `r` is at `r * K + k`.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// `R`.
    pub roots: usize,
    /// `K`.
    pub k: usize,
    /// `[R]` the first `count[r]` slots of root `r` are valid.
    pub count: Vec<u32>,
    /// `[R, K]` row of the neighbour in `hidden`.
    pub row: Vec<u32>,
    /// `[R, K]` key into the edge features.
    pub event: Vec<u64>,
    /// `[R, K]` time between the event and the root.
    pub dt: Vec<f32>,
}

impl Neighbours {
    /// Panics if the arrays do not fit together: such a plan is a bug of its caller.
    pub(crate) fn check(&self) {
        let slots = self.roots * self.k;
        assert_eq!(self.count.len(), self.roots, "count is not [{}]", self.roots);
        assert_eq!(
            [self.row.len(), self.event.len(), self.dt.len()],
            [slots; 3],
            "row, event and dt are not [{slots}]"
        );
        assert!(self.count.iter().all(|&count| count as usize <= self.k), "a count is above {}", self.k);
    }

    /// The valid slots, root by root.
    pub(crate) fn valid_slots(&self) -> impl Iterator<Item = u32> + Clone {
        self.count.iter().enumerate().flat_map(|(root, &count)| {
            let first = (root * self.k) as u32;
            first..first + count
        })
    }
}

/// The function applied to a score before the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoreActivation {
    /// `s * scale`.
    Scaled(f32),
    /// `s` where positive, `s * slope` elsewhere.
    LeakyRelu(f32),
}

impl ScoreActivation {
    /// The activated score and the derivative of the activation there.
    #[inline]
    pub(crate) fn apply(self, score: f32) -> (f32, f32) {
        let slope = match self {
            Self::Scaled(scale) => scale,
            Self::LeakyRelu(slope) => {
                if score > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
        };
        (score * slope, slope)
    }
}

/// Constants of one temporal attention.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    /// The neighbours of each root.
    pub neighbours: Neighbours,
    /// Edge features, `E` columns. Without them a neighbour has no edge columns.
    pub features: Option<Arc<dyn Rows>>,
    /// Applied to scores before the softmax.
    pub activation: ScoreActivation,
    /// Applied to the attention weights after the softmax.
    pub dropout: Option<Dropout>,
}

impl AttentionPlan {
    /// `E`: columns of the edge features.
    pub fn edge_width(&self) -> usize {
        self.features.as_ref().map_or(0, |features| features.width())
    }

    /// The same, borrowed.
    pub(crate) fn borrowed(&self) -> AttentionPlanRef<'_> {
        let Self { neighbours, features, activation, dropout } = self;
        AttentionPlanRef { neighbours, features: features.as_deref(), activation: *activation, dropout: *dropout }
    }
}

/// Constants of one attention, borrowed from a view or a plan.
#[derive(Clone, Copy, Debug)]
pub struct AttentionPlanRef<'a> {
    /// The neighbours of each root.
    pub neighbours: &'a Neighbours,
    /// Edge features, `E` columns.
    pub features: Option<&'a dyn Rows>,
    /// Applied to scores before the softmax.
    pub activation: ScoreActivation,
    /// Applied to the attention weights after the softmax.
    pub dropout: Option<Dropout>,
}

impl AttentionPlanRef<'_> {
    /// `E`: columns of the edge features.
    pub fn edge_width(&self) -> usize {
        self.features.map_or(0, Rows::width)
    }

    /// The dropout factor of the weight of one (root, head, slot): 0, or `1 / (1 - rate)`.
    #[inline]
    pub(crate) fn dropout_factor(&self, root: usize, head: usize, heads: usize, slot: usize) -> f32 {
        let counter = ((root * heads + head) * self.neighbours.k + slot) as u64;
        self.dropout.map_or(1.0, |dropout| dropout.factor(counter))
    }
}
