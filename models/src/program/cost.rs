//! The cost of a training step of a program, from shapes alone: the arithmetic and the memory traffic that every
//! implementation needs.
//!
//! Counted are matrix products and the dots and sums of attention. A multiplication and an addition are two operations.
//! Gates, softmax and cosines are left out, since each costs only the width of a row. The algebra is the cheapest known
//! to be exact:
//!
//! - each distinct node and each distinct (node, time) is computed once;
//! - a message's own-memory columns and `W_hh` read the same row, so for the gates that add their products they are one
//!   matrix;
//! - keys and values are never computed: `q . (x Wk) = (Wk q) . x` and `sum a (x Wv) = (sum a x) Wv`, `x = [row | e |
//!   phi(dt)]`;
//! - a part that is the same for all rows, as `phi(0)` in a query, is multiplied once;
//! - stored memories, mails and features are constants: no gradient runs to them.
//!
//! ```text
//! memory     forward  R (2D + E + T) G + R D A + S D G        G = 3D, A = D (GRU); G = D, A = 0 (RNN)
//!            backward the same again for the weights, and R T G for the time encoding
//! attention  forward  C W O + 2 C O X + 2 N H X               X = W + E + T, W = D (+ S, static memory behind it) or, above the first layer, O
//!            backward 2 C W O + 4 C O X + 2 N H X + 2 N H (W + T)
//!   paper    forward  C O O + C (O + W) O + C O O,  backward twice that
//!   conv     forward  C W O,  backward twice that
//!   residual as paper, with Q = W + T in the place of O inside and C Q Q + C (Q + W) O + C O O behind
//! mixer      forward  C K (E + T) W + L (2 C W K K' + 2 C K W W')     K', W' columns inside the maps over tokens and over columns, L layers
//!            backward twice that, but for the inputs of the first map
//! map        forward  C X O,  backward twice that
//! mailbox    forward  C D D + 2 C D X + 2 C S H X + C D D     X = M + E + T, M columns of what mail says, S slots
//! decoder    forward  (P_src + P_dst) O O + P O,  backward twice that; with rows of pairs, W wide,  P W O  more
//! row head   forward  C O O' + C O' K,  backward twice that
//! walks      forward  P d (2 L + 2) (2 L + 3) / 2             inner products of the rows of both ends
//! static     forward  U S D where it is added,  backward that, or where it is tuned twice that
//! ```
//!
//! in products of one multiplication and one addition: `R` receivers of mail, `S` nodes updated without, `C` centres,
//! `N` neighbours shown, `P_src`, `P_dst` distinct rows among the pairs' ends.
//!
//! Bytes are those that must come from memory and go back if the caches hold nothing from the step before: weights,
//! both moments and gradients read and written once, memory rows and mail of the distinct nodes read and of the batch's
//! nodes written, neighbours, and each feature row once. Temporary data of a step is not counted.

use crate::operation::{Products, StepSizes};
use crate::program::Program;

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;

/// Operations of Adam on one weight: two moving averages, a root, a quotient, a difference.
const ADAM: f64 = 14.0;
/// A waiting mail without the other end's memory: event, other end, time, time of the last update.
const MAIL_BYTES: f64 = 28.0;
/// A neighbour: node, event, time.
const LINK_BYTES: f64 = 20.0;
const F32: f64 = 4.0;

/// The cost of a step: operations, and bytes to and from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepCost {
    /// Operations of the forward pass.
    pub forward: f64,
    /// Operations of the backward pass.
    pub backward: f64,
    /// Operations of the optimiser's step.
    pub optimiser: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

impl StepCost {
    /// Floating-point operations of the whole step.
    pub fn flops(&self) -> f64 {
        self.forward + self.backward + self.optimiser
    }
}

/// Cost of a training step of these sizes: the sum over the program's operations.
pub(super) fn step_cost(program: &Program, sizes: &StepSizes) -> StepCost {
    let mut products = Products::default();
    program.steps.iter().for_each(|step| step.op.cost(sizes, &mut products));
    program.head.cost(sizes, &mut products);
    let weights = program.declarations.numbers() as f64;
    StepCost {
        forward: 2.0 * products.forward,
        backward: 2.0 * products.backward,
        optimiser: ADAM * weights,
        bytes: bytes(program, sizes, weights),
    }
}

fn bytes(program: &Program, sizes: &StepSizes, weights: f64) -> f64 {
    let (row, features) = (F32 * program.needs.memory as f64, program.inputs.features);
    let mail = if program.needs.memory > 0 { MAIL_BYTES + row } else { 0.0 };
    let neighbours: f64 = sizes.hops.iter().map(|hop| hop.neighbours).sum();
    // weights, two moments and gradients, each read and written
    let learned = 8.0 * F32 * weights;
    let static_width = program.static_memory().map_or(0, |spec| spec.width);
    let walks = program.needs.walks.map_or(0, |rule| rule.numbers()) as f64;
    let walked = (sizes.sources + sizes.destinations) * F32 * walks;
    let read = sizes.nodes * (row + F32 * (features.node + static_width) as f64) + sizes.mails * mail;
    let shown = (neighbours + sizes.window) * LINK_BYTES + sizes.feature_rows * F32 * features.edge as f64;
    learned + read + walked + shown + sizes.written * (row + mail)
}
