//! A link decoder on a device, from the mapped ends of pairs to the loss, and its gradients.
use crate::PairPlan;
use crate::cube::array::layout::{Block, WeightLayout};
use crate::cube::array::math::rectify;
use crate::cube::array::matrix::Matrix;
use crate::cube::array::weights::{Weight, Weights};
use crate::cube::kernel::pairs::{CHUNK, DevicePairs, Inputs, Parts, Shape, hidden, hidden_gradient, score};
use crate::cube::launch::buffer::{DeviceBuffer, UNITS, cubes, units};
use crate::cube::launch::reduce::{COLUMNS, ROWS};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// The weights of positives and negatives in the loss.
#[derive(CubeType, CubeLaunch)]
struct Share {
    positives: u32,
    positive: f32,
    negative: f32,
}

/// Contribution of every pair to the loss, and the derivative of the loss with respect to its score. A row of units
/// sums one pair.
#[cube(launch)]
fn loss_kernel(
    parts: &Parts,
    share: &Share,
    losses: &mut Array<f32>,
    score_grads: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let pair = CUBE_POS * ROWS as usize + UNIT_POS_Y as usize;
    let score = score(parts, pair, losses.len(), shape);
    if pair < losses.len() && UNIT_POS_X == 0 {
        let positive = pair < share.positives as usize;
        let sign = select(positive, -1.0f32, 1.0f32);
        let share = select(positive, share.positive, share.negative);
        let x = sign * score;
        // the exponential that cannot overflow
        let small = (-x.abs()).exp();
        let sigmoid = select(x >= 0.0f32, 1.0f32, small) / (1.0f32 + small);
        losses[pair] = share * (rectify(x) + (1.0f32 + small).ln());
        score_grads[pair] = sign * share * sigmoid;
    }
}

/// Contribution of every chunk of pairs to the gradients of weight, biases of both ends and bias, and to the loss:
/// `[chunks, 3 O + 2]`.
#[cube(launch)]
fn shares_kernel(
    parts: &Parts,
    losses: &Array<f32>,
    score_grads: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let width = comptime!(shape.width);
    let all = comptime!(3 * shape.width + 2);
    let chunk = ABSOLUTE_POS / all;
    let column = ABSOLUTE_POS % all;
    let first = chunk * comptime!(CHUNK);
    let end = usize::min(first + comptime!(CHUNK), losses.len());
    let mut sum = 0.0f32;
    for pair in first..end {
        if column < width {
            sum += score_grads[pair] * rectify(hidden(parts, pair, column, shape));
        } else if column < 3 * width {
            sum += hidden_gradient(parts, score_grads, pair, column % width, shape);
        } else {
            sum += select(column == 3 * width, score_grads[pair], losses[pair]);
        }
    }
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = sum;
    }
}

/// Sums the chunks: gradients, then the loss.
#[cube(launch)]
fn sum_kernel(shares: &Array<f32>, gradient: &mut Array<f32>, loss: &mut Array<f32>, chunks: u32) {
    let column = ABSOLUTE_POS;
    let all = gradient.len() + 1;
    if column < all {
        let mut sum = 0.0f32;
        for chunk in 0..chunks as usize {
            sum += shares[chunk * all + column];
        }
        if column < gradient.len() {
            gradient[column] = sum;
        } else {
            loss[0] = sum;
        }
    }
}

/// The positions of the weights of a link decoder `p(u, v) = weight . relu(src z_u + dst z_v + facts) + bias`.
#[derive(Clone, Copy, Debug)]
pub struct DecoderBlocks {
    ends: Block,
    /// Weight, biases of both ends, bias.
    last: Block,
    /// Whether the ends read columns of their own.
    roles: bool,
}

/// The offsets of these weights among the numbers of all: weight and bias of either end, and of the last map.
#[derive(Clone, Copy, Debug)]
pub struct DecoderOffsets {
    /// `[width, input]` each.
    pub ends: [usize; 2],
    /// `[width]` each.
    pub biases: [usize; 2],
    /// `[1, width]` and `[1]`.
    pub last: [usize; 2],
}

impl DecoderBlocks {
    /// For embeddings of width `input`, `width` wide inside. With `roles` a row is the embedding of a root as a source,
    /// then as a destination.
    pub fn allocate(
        layout: &mut WeightLayout,
        (input, roles): (usize, bool),
        width: usize,
        from: &DecoderOffsets,
    ) -> Self {
        let columns = if roles { 2 * input } else { input };
        let (ends, last) = (layout.block(2 * width, columns), layout.block(1, 3 * width + 1));
        for end in [0, 1] {
            layout.assign(ends, [end * width, if roles { end * input } else { 0 }], [width, input], from.ends[end]);
            layout.assign(last, [0, (end + 1) * width], [1, width], from.biases[end]);
        }
        layout.assign(last, [0, 0], [1, width], from.last[0]);
        layout.assign(last, [0, 3 * width], [1, 1], from.last[1]);
        Self { ends, last, roles }
    }
}

/// A link decoder.
#[derive(Clone, Debug)]
pub struct PairDecoder<R: CubeRuntime> {
    ends: Weight<R>,
    last: Weight<R>,
    roles: bool,
}

/// Saved arrays of a forward pass: pairs, mapped ends, the loss `[1]` and its derivative with respect to every score.
pub struct SavedDecoder<R: CubeRuntime> {
    pairs: DevicePairs<R>,
    inputs: Inputs<R>,
    rows: usize,
    losses: DeviceBuffer<R>,
    score_grads: DeviceBuffer<R>,
}

impl<R: CubeRuntime> PairDecoder<R> {
    /// The decoder at `blocks`.
    pub fn at(weights: &Weights<R>, blocks: DecoderBlocks) -> Self {
        Self { ends: weights.at(blocks.ends), last: weights.at(blocks.last), roles: blocks.roles }
    }

    /// The loss of pairs of rows of `embeddings` `[R, O]`, of which the first `positives` are true events: the mean
    /// binary cross-entropy of these plus that of the others. `facts` `[P, width]` are added to the mapped ends, if
    /// any.
    ///
    /// # Panics
    /// If a pair has a row out of range.
    pub fn forward(
        &self,
        plan: &PairPlan,
        embeddings: &Matrix<R>,
        facts: Option<&Matrix<R>>,
        positives: usize,
    ) -> SavedDecoder<R> {
        let (device, rows, count) = (&embeddings.device, embeddings.rows(), plan.i.len());
        let pairs = DevicePairs::send_joint(device, plan, rows);
        let mapped = self.ends.forward(embeddings).buffer;
        let shape = Shape { width: self.ends.rows / 2, joint: true, added: facts.is_some() };
        let c = facts.map_or_else(|| mapped.clone(), |facts| facts.buffer.clone());
        let weight = self.last.value.clone();
        let inputs = Inputs { a: mapped.clone(), b: mapped, c, bias: weight.clone(), weight, shape };
        let [losses, score_grads] = [(); 2].map(|()| device.empty(count).part(0, count));
        if count > 0 {
            let (launch, dim) = (cubes(count.div_ceil(ROWS as usize)), CubeDim::new_2d(COLUMNS, ROWS));
            let [positive, negative] = [positives, count - positives].map(|count| 1.0 / count.max(1) as f32);
            let share = ShareLaunch::new(positives as u32, positive, negative);
            loss_kernel::launch::<R>(
                &device.client,
                launch,
                dim,
                inputs.parts(&pairs),
                share,
                losses.arg(),
                score_grads.arg(),
                shape,
            );
        }
        SavedDecoder { pairs, inputs, rows, losses, score_grads }
    }

    /// Writes the gradients of the weights. Returns the loss, `[1, 1]`, and the gradient of the embeddings.
    pub fn backward(&self, decoded: &SavedDecoder<R>, embeddings: &Matrix<R>) -> (Matrix<R>, Matrix<R>) {
        let SavedDecoder { pairs, inputs, rows, losses, score_grads } = decoded;
        let (device, dim, chunks) = (&pairs.device, CubeDim::new_1d(UNITS), losses.len().div_ceil(CHUNK));
        let all = self.last.columns + 1;
        let (shares, loss) = (device.empty(chunks * all).part(0, chunks * all), Matrix::new(device, 1, 1));
        if chunks > 0 {
            let (launch, parts) = (units(shares.len()), inputs.parts(pairs));
            shares_kernel::launch::<R>(
                &device.client,
                launch,
                dim,
                parts,
                losses.arg(),
                score_grads.arg(),
                shares.arg(),
                inputs.shape,
            );
        }
        let gradient = self.last.gradient.arg();
        sum_kernel::launch::<R>(
            &device.client,
            units(all),
            dim,
            shares.arg(),
            gradient,
            loss.buffer.arg(),
            chunks as u32,
        );
        let mapped = inputs.table(pairs, 0, *rows, score_grads);
        self.ends.backward(embeddings, &mapped);
        if self.roles {
            // what either end does not read of the other's columns
            let (width, input) = (self.ends.rows / 2, self.ends.columns / 2);
            self.ends.clear_part(0..width, input..2 * input);
            self.ends.clear_part(width..2 * width, 0..input);
        }
        (loss, self.ends.backward_input(&mapped))
    }

    /// The gradient of the facts, `[P, width]`.
    pub fn backward_facts(&self, decoded: &SavedDecoder<R>) -> Matrix<R> {
        let SavedDecoder { pairs, inputs, score_grads, .. } = decoded;
        let out = Matrix::new(&pairs.device, score_grads.len(), inputs.shape.width);
        inputs.added(pairs, score_grads, &out.buffer);
        out
    }
}
