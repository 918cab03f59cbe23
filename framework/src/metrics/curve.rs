//! Areas under the precision–recall and ROC curves, with equal scores taken as one threshold as scikit-learn does.
use crate::metrics::MetricError;

/// Average precision: the sum over thresholds of precision times the gain in recall, `AP = sum_n (R_n - R_{n-1}) P_n`.
///
/// `labels[i]` says whether `scores[i]` belongs to a positive. Equal scores are one threshold.
///
/// # Errors
/// When lengths differ, a score is NaN or infinite, or there is not at least one positive and one negative.
pub fn average_precision(scores: &[f32], labels: &[bool]) -> Result<f64, MetricError> {
    let curve = Curve::new(scores, labels)?;
    let (mut positives, mut all, mut sum) = (0, 0, 0.0);
    for step in &curve.steps {
        positives += step.positives;
        all += step.positives + step.negatives;
        sum += step.positives as f64 * (positives as f64 / all as f64);
    }
    Ok(sum / positives as f64)
}

/// Area under the ROC curve: how often a positive scores above a negative, an equal score counting one half.
///
/// `labels[i]` says whether `scores[i]` belongs to a positive.
///
/// # Errors
/// When lengths differ, a score is NaN or infinite, or there is not at least one positive and one negative.
pub fn roc_auc(scores: &[f32], labels: &[bool]) -> Result<f64, MetricError> {
    let curve = Curve::new(scores, labels)?;
    let (mut above, mut negatives, mut twice) = (0u128, 0u128, 0u128);
    for step in &curve.steps {
        twice += step.negatives as u128 * (2 * above + step.positives as u128);
        above += step.positives as u128;
        negatives += step.negatives as u128;
    }
    Ok(twice as f64 / (2 * above * negatives) as f64)
}

/// How many positives and negatives share each distinct score, from the highest score down.
struct Curve {
    steps: Vec<Step>,
}

#[derive(Default)]
struct Step {
    positives: usize,
    negatives: usize,
}

impl Curve {
    fn new(scores: &[f32], labels: &[bool]) -> Result<Self, MetricError> {
        if scores.len() != labels.len() {
            return Err(MetricError::Lengths { scores: scores.len(), labels: labels.len() });
        }
        if let Some((index, &value)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return Err(MetricError::Score { index, value });
        }
        let positives = labels.iter().filter(|&&label| label).count();
        if positives == 0 || positives == labels.len() {
            return Err(MetricError::OneSided { positives, negatives: labels.len() - positives });
        }
        // `+ 0.0` makes -0.0 and 0.0 one score, which `total_cmp` would tell apart.
        let mut sorted: Vec<(f32, bool)> =
            scores.iter().zip(labels).map(|(&score, &label)| (score + 0.0, label)).collect();
        sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let steps = sorted.chunk_by(|a, b| a.0 == b.0).map(Step::of).collect();
        Ok(Self { steps })
    }
}

impl Step {
    fn of(equals: &[(f32, bool)]) -> Self {
        let positives = equals.iter().filter(|(_, label)| *label).count();
        Self { positives, negatives: equals.len() - positives }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// AP by walking every threshold over the whole set, straight from the definition.
    fn slow_average_precision(scores: &[f32], labels: &[bool]) -> f64 {
        let mut thresholds = scores.to_vec();
        thresholds.sort_by(f32::total_cmp);
        thresholds.dedup();
        let total = labels.iter().filter(|&&l| l).count() as f64;
        let (mut area, mut recall) = (0.0, 0.0);
        for &threshold in thresholds.iter().rev() {
            let taken = scores.iter().filter(|&&s| s >= threshold).count() as f64;
            let hits = scores.iter().zip(labels).filter(|&(&s, &l)| l && s >= threshold).count() as f64;
            area += (hits / total - recall) * (hits / taken);
            recall = hits / total;
        }
        area
    }

    /// AUC by comparing every positive with every negative.
    fn slow_roc_auc(scores: &[f32], labels: &[bool]) -> f64 {
        let of = |wanted: bool| scores.iter().zip(labels).filter(move |&(_, &l)| l == wanted).map(|(&s, _)| s);
        let (mut wins, mut pairs) = (0.0, 0.0);
        for positive in of(true) {
            for negative in of(false) {
                pairs += 1.0;
                wins += if positive > negative {
                    1.0
                } else if positive == negative {
                    0.5
                } else {
                    0.0
                };
            }
        }
        wins / pairs
    }

    proptest! {
        #[test]
        fn areas_agree_with_their_definitions_under_many_ties(pairs in prop::collection::vec((-4i8..4, any::<bool>()), 2..60)) {
            let scores: Vec<f32> = pairs.iter().map(|p| f32::from(p.0) / 3.0).collect();
            let labels: Vec<bool> = pairs.iter().map(|p| p.1).collect();
            prop_assume!(labels.contains(&true) && labels.contains(&false));
            prop_assert!((average_precision(&scores, &labels).unwrap() - slow_average_precision(&scores, &labels)).abs() < 1e-12);
            prop_assert!((roc_auc(&scores, &labels).unwrap() - slow_roc_auc(&scores, &labels)).abs() < 1e-12);
        }
    }

    #[test]
    fn zero_and_minus_zero_are_one_score() {
        assert_eq!(roc_auc(&[-0.0, 0.0], &[true, false]), Ok(0.5));
        assert_eq!(average_precision(&[-0.0, 0.0], &[true, false]), Ok(0.5));
    }

    #[test]
    fn a_metric_without_a_value_is_an_error_and_never_nan() {
        for metric in [average_precision, roc_auc] {
            assert_eq!(metric(&[], &[]), Err(MetricError::OneSided { positives: 0, negatives: 0 }));
            assert_eq!(metric(&[1.0], &[true]), Err(MetricError::OneSided { positives: 1, negatives: 0 }));
            assert_eq!(metric(&[1.0], &[false]), Err(MetricError::OneSided { positives: 0, negatives: 1 }));
            assert_eq!(metric(&[1.0], &[]), Err(MetricError::Lengths { scores: 1, labels: 0 }));
            assert_eq!(
                metric(&[1.0, f32::INFINITY], &[true, false]),
                Err(MetricError::Score { index: 1, value: f32::INFINITY })
            );
            assert_eq!(metric(&[f32::NAN, 0.0], &[true, false]).unwrap_err().to_string(), "score 0 is NaN");
        }
    }
}
