//! The rank of one positive among its negatives, and what is averaged from ranks.
use serde::{Deserialize, Serialize};

/// What a negative with exactly the positive's score does to the positive's rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TiePolicy {
    /// Half of them rank before the positive: the mean of the two rules below. The rule of the Temporal Graph
    /// Benchmark's evaluator.
    #[default]
    Mean,
    /// None ranks before the positive. A constant model then ranks first everywhere: too good, for comparison only.
    Optimistic,
    /// All of them rank before the positive.
    Pessimistic,
}

/// The rank of a positive among `negatives`, from 1; a multiple of one half under [`TiePolicy::Mean`]. NaN if a score is
/// NaN: it has no place among the others.
pub fn rank(positive: f32, negatives: &[f32], ties: TiePolicy) -> f64 {
    if positive.is_nan() || negatives.iter().any(|negative| negative.is_nan()) {
        return f64::NAN;
    }
    let above = negatives.iter().filter(|&&negative| negative > positive).count() as f64;
    let equal = negatives.iter().filter(|&&negative| negative == positive).count() as f64;
    let share = match ties {
        TiePolicy::Mean => 0.5,
        TiePolicy::Optimistic => 0.0,
        TiePolicy::Pessimistic => 1.0,
    };
    above + share * equal + 1.0
}

/// Mean reciprocal rank; `None` of no ranks.
pub fn mrr(ranks: &[f64]) -> Option<f64> {
    mean(ranks.iter().map(|rank| 1.0 / rank))
}

/// The share of ranks that are `k` or better; `None` of no ranks. NaN if a rank is NaN.
pub fn hits_at(k: u32, ranks: &[f64]) -> Option<f64> {
    let hit = |rank: f64| if rank <= f64::from(k) { 1.0 } else { 0.0 };
    mean(ranks.iter().map(|&rank| if rank.is_nan() { rank } else { hit(rank) }))
}

/// The mean of some numbers; `None` of none.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut count, mut sum) = (0u64, 0.0);
    for value in values {
        count += 1;
        sum += value;
    }
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_tie_rule_is_a_place_in_some_sorted_order(positive in -3i8..3, negatives in prop::collection::vec(-3i8..3, 0..30)) {
            let scores: Vec<f32> = negatives.iter().map(|&n| f32::from(n)).collect();
            // Sort with the positive put before, then behind, the negatives that equal it.
            let place = |positive_first: bool| {
                let mut all: Vec<(i8, bool)> = negatives.iter().map(|&n| (-n, positive_first)).chain([(-positive, !positive_first)]).collect();
                all.sort();
                1.0 + all.iter().position(|&entry| entry == (-positive, !positive_first)).unwrap() as f64
            };
            let (best, worst) = (place(true), place(false));
            prop_assert_eq!(rank(f32::from(positive), &scores, TiePolicy::Optimistic), best);
            prop_assert_eq!(rank(f32::from(positive), &scores, TiePolicy::Pessimistic), worst);
            prop_assert_eq!(rank(f32::from(positive), &scores, TiePolicy::Mean), 0.5 * (best + worst));
        }
    }

    #[test]
    fn a_constant_model_is_not_rewarded_by_the_mean_rule() {
        assert_eq!(rank(0.0, &[0.0; 49], TiePolicy::Mean), 25.5);
        assert_eq!(rank(0.0, &[0.0; 49], TiePolicy::Optimistic), 1.0);
    }

    #[test]
    fn a_score_that_is_not_a_number_has_no_rank() {
        for ties in [TiePolicy::Mean, TiePolicy::Optimistic, TiePolicy::Pessimistic] {
            assert!(rank(f32::NAN, &[0.0, 1.0], ties).is_nan());
            assert!(rank(0.5, &[0.0, f32::NAN], ties).is_nan());
        }
        assert!(mrr(&[1.0, f64::NAN]).is_some_and(f64::is_nan));
        assert!(hits_at(1, &[1.0, f64::NAN]).is_some_and(f64::is_nan));
    }

    #[test]
    fn means_of_ranks_are_counted_by_hand() {
        assert_eq!(mrr(&[1.0, 2.0, 4.0]), Some((1.0 + 0.5 + 0.25) / 3.0));
        assert_eq!(hits_at(1, &[1.0, 1.5, 4.0]), Some(1.0 / 3.0));
        assert_eq!(hits_at(3, &[1.0, 1.5, 4.0]), Some(2.0 / 3.0));
        assert_eq!((mrr(&[]), hits_at(1, &[])), (None, None));
    }
}
