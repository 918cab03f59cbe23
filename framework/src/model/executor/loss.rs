//! The loss of link prediction, on tensors and on slices.

use tempograph_kernels::tensor::{Backend, Tensor, activation::softplus};

/// Binary cross-entropy of logits, the positives' mean plus the negatives' mean: `[1]`.
pub fn link_loss<B: Backend>(scores: Tensor<B, 1>, positives: usize) -> Tensor<B, 1> {
    let pairs = scores.dims()[0];
    // -ln sigmoid(x) = softplus(-x), and -ln(1 - sigmoid(x)) = softplus(x).
    let positive = softplus(-scores.clone().narrow(0, 0, positives), 1.0).mean();
    if pairs == positives {
        return positive;
    }
    positive + softplus(scores.narrow(0, positives, pairs - positives), 1.0).mean()
}

/// [`link_loss`] of logits in host memory. Its derivative in each score is written over `score_grads`.
pub fn link_loss_on_slices(scores: &[f32], positives: usize, score_grads: &mut Vec<f32>) -> f32 {
    score_grads.clear();
    let (positive, negative) = scores.split_at(positives);
    (mean_softplus(positive, -1.0, score_grads) + mean_softplus(negative, 1.0, score_grads)) as f32
}

/// Mean of `softplus(sign * x)`, 0 of nothing. The derivative in each `x` is added to `score_grads`.
fn mean_softplus(scores: &[f32], sign: f32, score_grads: &mut Vec<f32>) -> f64 {
    let share = 1.0 / scores.len().max(1) as f32;
    let mut sum = 0.0;
    for score in scores {
        let x = sign * score;
        // Of the two exponentials the one that cannot overflow.
        let small = (-x.abs()).exp();
        let sigmoid = if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
        sum += f64::from(x.max(0.0) + small.ln_1p());
        score_grads.push(sign * share * sigmoid);
    }
    sum * f64::from(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values;
    use tempograph_kernels::tensor::{CpuTape, TensorData};

    const SCORES: [f32; 7] = [0.0, 3.5, -2.0, 0.25, -8.0, 12.0, 1e-3];

    #[test]
    fn loss_and_score_gradients_are_those_of_the_tape() {
        for positives in [1, 3, 7] {
            let scores =
                Tensor::<CpuTape, 1>::from_data(TensorData::new(SCORES.to_vec(), [SCORES.len()]), &Default::default())
                    .require_grad();
            let loss = link_loss(scores.clone(), positives);
            let gradient = values(scores.grad(&loss.backward()).expect("a gradient of the scores"));
            let mut score_grads = vec![9.0; 2];
            let found = link_loss_on_slices(&SCORES, positives, &mut score_grads);
            let expected = values(loss)[0];
            assert!((found - expected).abs() <= 1e-6 * expected, "{found} for {expected}");
            assert_eq!(score_grads.len(), SCORES.len());
            score_grads
                .iter()
                .zip(&gradient)
                .for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{score_grads:?} for {gradient:?}"));
        }
    }

    #[test]
    fn scores_far_out_have_a_loss_and_those_that_are_no_numbers_have_none() {
        let loss = |scores: &[f32]| link_loss_on_slices(scores, 1, &mut Vec::new());
        assert_eq!(loss(&[-500.0, 500.0]), 1000.0);
        assert_eq!(loss(&[500.0, -500.0]), 0.0);
        assert!(loss(&[f32::NAN, 0.0]).is_nan());
        assert!(loss(&[0.0, f32::INFINITY]).is_infinite());
    }
}
