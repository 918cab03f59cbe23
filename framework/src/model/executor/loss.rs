//! Losses, on tensors and on slices: for link prediction, and for heads with outputs for each root.

use tempograph_kernels::tensor::{
    Backend, Int, Tensor, TensorData,
    activation::{log_softmax, softplus},
};

/// Targets of a head with `K` outputs for each root.
#[derive(Clone, Copy, Debug)]
pub struct RowTargets<'a> {
    /// The labelled roots, `[L]`, by position among the roots of the queries. The other roots do not count in the
    /// loss.
    pub roots: &'a [u32],
    /// Their labels.
    pub labels: RowLabels<'a>,
}

/// Labels of roots. Their kind selects the loss: each is a mean over the labelled roots, as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub enum RowLabels<'a> {
    /// The class of each root, below `K`: cross-entropy.
    Classes {
        /// `[L]`
        classes: &'a [u32],
        /// `[K]` the weight of each class in the mean; `None` for equal weights.
        weights: Option<&'a [f32]>,
    },
    /// The numbers of each root, `[L, K]`: mean squared error, over roots and numbers.
    Numbers(&'a [f32]),
    /// A distribution for each root, `[L, K]`: cross-entropy against soft labels.
    Distributions(&'a [f32]),
}

impl RowTargets<'_> {
    /// Writes the factor of each probability's logarithm to `shares`, `[K]`, for labelled root number `label`. Does
    /// nothing if the loss has no probabilities. The shares of a root sum to its weight in the mean.
    fn shares(&self, label: usize, total: f32, shares: &mut [f32]) {
        match self.labels {
            RowLabels::Classes { classes, weights } => {
                let class = classes[label] as usize;
                shares.fill(0.0);
                shares[class] = weights.map_or(1.0, |weights| weights[class]) / total;
            }
            RowLabels::Distributions(rows) => {
                let row = &rows[label * shares.len()..][..shares.len()];
                shares.iter_mut().zip(row).for_each(|(share, label)| *share = label / total);
            }
            RowLabels::Numbers(_) => {}
        }
    }

    /// The divisor of the sum over the labelled roots.
    fn total(&self) -> f32 {
        match self.labels {
            RowLabels::Classes { classes, weights: Some(weights) } => {
                classes.iter().map(|&class| weights[class as usize]).sum()
            }
            _ => self.roots.len() as f32,
        }
    }

    /// Panics if labels and outputs do not match: such targets are a bug of the code that made them.
    fn check(&self, columns: usize) {
        let (count, numbers) = match self.labels {
            RowLabels::Classes { classes, weights } => {
                assert!(weights.is_none_or(|weights| weights.len() == columns), "weights are not [{columns}]");
                assert!(classes.iter().all(|&class| (class as usize) < columns), "a class is not below {columns}");
                (classes.len(), self.roots.len())
            }
            RowLabels::Numbers(rows) | RowLabels::Distributions(rows) => (rows.len(), self.roots.len() * columns),
        };
        assert_eq!(count, numbers, "labels of {} roots with {columns} outputs each", self.roots.len());
    }
}

/// The loss of `outputs`, `[R, K]`, for these targets: `[1]`, 0 if no root is labelled.
///
/// # Panics
/// If targets and outputs do not match.
pub fn row_loss<B: Backend>(outputs: Tensor<B, 2>, targets: RowTargets<'_>) -> Tensor<B, 1> {
    let (device, [_, columns], labelled) = (outputs.device(), outputs.dims(), targets.roots.len());
    targets.check(columns);
    let total = targets.total();
    if labelled == 0 || total == 0.0 {
        return outputs.sum() * 0.0;
    }
    let roots = targets.roots.iter().map(|&root| i64::from(root)).collect::<Vec<_>>();
    let rows = outputs.select(0, Tensor::<B, 1, Int>::from_data(TensorData::new(roots, [labelled]), &device));
    let constant = |numbers: Vec<f32>| Tensor::from_data(TensorData::new(numbers, [labelled, columns]), &device);
    if let RowLabels::Numbers(numbers) = targets.labels {
        let off = rows - constant(numbers.to_vec());
        return (off.clone() * off).mean();
    }
    let mut shares = vec![0.0; labelled * columns];
    for (label, shares) in shares.chunks_exact_mut(columns).enumerate() {
        targets.shares(label, total, shares);
    }
    (log_softmax(rows, 1) * constant(shares)).sum().neg()
}

/// [`row_loss`] of outputs in host memory, `[R, columns]`. Overwrites `output_grads` with the derivative in each
/// output.
///
/// # Panics
/// As `row_loss`.
pub fn row_loss_on_slices(
    outputs: &[f32],
    columns: usize,
    targets: RowTargets<'_>,
    output_grads: &mut Vec<f32>,
) -> f32 {
    targets.check(columns);
    output_grads.clear();
    // One extra row at the end: the shares of the current root.
    output_grads.resize(outputs.len() + columns, 0.0);
    let (grads, shares) = output_grads.split_at_mut(outputs.len());
    let total = targets.total();
    let mut sum = 0.0;
    for (label, &root) in targets.roots.iter().enumerate().filter(|_| total != 0.0) {
        let place = root as usize * columns;
        let (row, grads) = (&outputs[place..][..columns], &mut grads[place..][..columns]);
        if let RowLabels::Numbers(numbers) = targets.labels {
            let share = 1.0 / (total * columns as f32);
            for ((x, label), grad) in row.iter().zip(&numbers[label * columns..]).zip(grads) {
                let off = x - label;
                sum += f64::from(off) * f64::from(off) * f64::from(share);
                *grad += 2.0 * off * share;
            }
            continue;
        }
        targets.shares(label, total, shares);
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let whole: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        let (log, weight) = (whole.ln(), shares.iter().sum::<f32>());
        for ((x, share), grad) in row.iter().zip(&*shares).zip(grads) {
            let off = f64::from(x - most);
            sum += f64::from(*share) * (log - off);
            *grad += weight * (off.exp() / whole) as f32 - share;
        }
    }
    output_grads.truncate(outputs.len());
    sum as f32
}

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

/// [`link_loss`] of logits in host memory. Overwrites `score_grads` with the derivative in each score.
pub fn link_loss_on_slices(scores: &[f32], positives: usize, score_grads: &mut Vec<f32>) -> f32 {
    score_grads.clear();
    let (positive, negative) = scores.split_at(positives);
    (mean_softplus(positive, -1.0, score_grads) + mean_softplus(negative, 1.0, score_grads)) as f32
}

/// Mean of `softplus(sign * x)`, 0 for no scores. Appends the derivative in each `x` to `score_grads`.
fn mean_softplus(scores: &[f32], sign: f32, score_grads: &mut Vec<f32>) -> f64 {
    let share = 1.0 / scores.len().max(1) as f32;
    let mut sum = 0.0;
    for score in scores {
        let x = sign * score;
        // `exp` of a negative number cannot overflow.
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

    const ROWS: usize = 5;
    const OUTPUTS: [f32; 3 * ROWS] =
        [0.3, -1.0, 2.0, 5.0, 5.0, -40.0, 0.0, 0.0, 0.0, 80.0, -3.0, 1.0, -0.5, 0.25, 0.125];
    const CLASSES: [u32; 4] = [2, 1, 0, 1];
    const NUMBERS: [f32; 12] = [0.0, 1.0, 2.0, -3.0, 4.5, 0.0, 0.1, 0.2, 0.3, -1.0, -2.0, 0.5];
    /// The last distribution sums to less than one, as one that was cut off does.
    const SHARES: [f32; 12] = [0.5, 0.25, 0.25, 0.0, 1.0, 0.0, 0.1, 0.2, 0.7, 0.25, 0.25, 0.0];

    /// Root 1 has no label, and root 0 has two.
    fn targets(labels: RowLabels<'_>) -> RowTargets<'_> {
        RowTargets { roots: &[4, 0, 2, 0], labels }
    }

    fn all_labels() -> [RowLabels<'static>; 4] {
        [
            RowLabels::Classes { classes: &CLASSES, weights: None },
            RowLabels::Classes { classes: &CLASSES, weights: Some(&[2.0, 0.5, 0.0]) },
            RowLabels::Numbers(&NUMBERS),
            RowLabels::Distributions(&SHARES),
        ]
    }

    #[test]
    fn losses_of_rows_and_their_gradients_are_those_of_the_tape() {
        for labels in all_labels() {
            let data = TensorData::new(OUTPUTS.to_vec(), [ROWS, 3]);
            let outputs = Tensor::<CpuTape, 2>::from_data(data, &Default::default()).require_grad();
            let loss = row_loss(outputs.clone(), targets(labels));
            let gradient = values(outputs.grad(&loss.backward()).expect("a gradient of the outputs"));
            let mut grads = vec![9.0; 2];
            let (found, expected) = (row_loss_on_slices(&OUTPUTS, 3, targets(labels), &mut grads), values(loss)[0]);
            assert!((found - expected).abs() <= 1e-6 * expected, "{labels:?}: {found} for {expected}");
            assert_eq!(grads.len(), OUTPUTS.len());
            let close = grads.iter().zip(&gradient).all(|(a, b)| (a - b).abs() < 2e-6);
            assert!(close, "{labels:?}: {grads:?} for {gradient:?}");
        }
    }

    #[test]
    fn losses_of_rows_are_means_over_labelled_roots() {
        let loss = |labels| row_loss_on_slices(&OUTPUTS, 3, targets(labels), &mut Vec::new());
        let probability = |root: usize, class: usize| -> f64 {
            let row = &OUTPUTS[3 * root..][..3];
            f64::from(row[class]).exp() / row.iter().map(|x| f64::from(*x).exp()).sum::<f64>()
        };
        let logs = [(4, 2), (0, 1), (2, 0), (0, 1)].map(|(root, class)| -probability(root, class).ln());
        let close = |found: f32, expected: f64| {
            assert!((f64::from(found) - expected).abs() < 1e-5, "{found} for {expected}");
        };
        let [plain, weighted, numbers, shares] = all_labels().map(loss);
        close(plain, logs.iter().sum::<f64>() / 4.0);
        close(weighted, (0.5 * logs[1] + 2.0 * logs[2] + 0.5 * logs[3]) / 3.0);
        let squares = [4, 0, 2, 0].iter().enumerate().flat_map(|(label, root)| {
            (0..3).map(move |i| f64::from(OUTPUTS[3 * root + i] - NUMBERS[3 * label + i]).powi(2))
        });
        close(numbers, squares.sum::<f64>() / 12.0);
        let entropies = [4, 0, 2, 0].iter().enumerate().flat_map(|(label, &root)| {
            (0..3).map(move |i| -f64::from(SHARES[3 * label + i]) * probability(root, i).ln())
        });
        close(shares, entropies.sum::<f64>() / 4.0);
    }

    #[test]
    fn roots_without_a_label_take_no_part() {
        for labels in all_labels() {
            let with = |x: f32| {
                let (mut outputs, mut grads) = (OUTPUTS, Vec::new());
                outputs[3..6].fill(x);
                (row_loss_on_slices(&outputs, 3, targets(labels), &mut grads), grads)
            };
            assert_eq!(with(1.0), with(-70.0), "{labels:?}");
            let (_, grads) = with(1.0);
            assert!(grads[3..6].iter().chain(&grads[9..12]).all(|grad| *grad == 0.0), "{labels:?}");
        }
        let (nobody, mut grads) = (RowTargets { roots: &[], labels: RowLabels::Numbers(&[]) }, Vec::new());
        assert_eq!(row_loss_on_slices(&OUTPUTS, 3, nobody, &mut grads), 0.0);
        assert_eq!(grads, [0.0; 15]);
        let nothing = RowLabels::Classes { classes: &CLASSES, weights: Some(&[0.0; 3]) };
        assert_eq!(row_loss_on_slices(&OUTPUTS, 3, targets(nothing), &mut grads), 0.0);
    }

    #[test]
    fn rows_far_out_have_a_loss_and_those_that_are_no_numbers_have_none() {
        let loss = |row: [f32; 2], class: u32| {
            let labels = RowLabels::Classes { classes: &[class], weights: None };
            row_loss_on_slices(&row, 2, RowTargets { roots: &[0], labels }, &mut Vec::new())
        };
        assert_eq!(loss([1000.0, -1000.0], 1), 2000.0);
        assert_eq!(loss([1000.0, -1000.0], 0), 0.0);
        assert!(loss([f32::NAN, 0.0], 1).is_nan());
    }
}
