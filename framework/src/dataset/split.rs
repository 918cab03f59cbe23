//! Chronological splits.

use std::ops::Range;

use crate::Timestamp;

/// Where a log is cut into training, validation and test events, in that order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Events for training.
    pub train: Range<usize>,
    /// Events for choosing among models.
    pub val: Range<usize>,
    /// Events that are only reported.
    pub test: Range<usize>,
}

/// Shares that leave nothing to train on, or are invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a split of val = {val}, test = {test} must have both in 0..1 and leave something to train on")]
pub struct SplitError {
    val: f64,
    test: f64,
}

impl Split {
    /// The field's split by time, as `TemporalData.train_val_test_split` of PyG and the TGN paper do it: training ends
    /// at the `1 - val - test` quantile of the times (interpolated as numpy does), validation at the `1 - test`
    /// quantile, both inclusive. Events at one time are never divided, so sets with few distinct times split unevenly.
    ///
    /// Times are compared exactly; PyG compares 32-bit floats, which near 1.6e9 seconds may move a handful of events
    /// across a cut.
    pub fn by_time(time: &[Timestamp], val: f64, test: f64) -> Result<Self, SplitError> {
        check(val, test)?;
        // Beyond 2^53 a double no longer has every tick, so such times are compared as integers.
        let exact =
            time.first().into_iter().chain(time.last()).all(|t| t.0.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS);
        let until = |share: f64| match exact {
            true => quantile(time, share).map_or(0, |limit| time.partition_point(|t| t.0 as f64 <= limit)),
            false => whole_quantile(time, share).map_or(0, |limit| time.partition_point(|&t| t <= limit)),
        };
        Ok(Self::at(until(1.0 - val - test), until(1.0 - test), time.len()))
    }

    /// A split by number of events, which may divide events at one time.
    pub fn by_count(events: usize, val: f64, test: f64) -> Result<Self, SplitError> {
        check(val, test)?;
        let until = |share: f64| ((share * events as f64).round() as usize).min(events);
        Ok(Self::at(until(1.0 - val - test), until(1.0 - test), events))
    }

    fn at(train: usize, val: usize, events: usize) -> Self {
        Self { train: 0..train, val: train..val, test: val..events }
    }
}

fn check(val: f64, test: f64) -> Result<(), SplitError> {
    let shares = 0.0..1.0;
    if shares.contains(&val) && shares.contains(&test) && val + test < 1.0 {
        Ok(())
    } else {
        Err(SplitError { val, test })
    }
}

/// `numpy.quantile(time, q)`, linear interpolation, of sorted times; `None` of none.
fn quantile(time: &[Timestamp], q: f64) -> Option<f64> {
    let last = time.len().checked_sub(1)?;
    let at = q * last as f64;
    let below = (at.floor() as usize).min(last);
    let part = at - below as f64;
    let (low, high) = (time[below].0, time[(below + 1).min(last)].0);
    let step = high.abs_diff(low) as f64;
    // numpy interpolates from the nearer end.
    Some(if part < 0.5 { low as f64 + step * part } else { high as f64 - step * (1.0 - part) })
}

/// As [`quantile`], rounded down to a whole tick and computed in integers.
fn whole_quantile(time: &[Timestamp], q: f64) -> Option<Timestamp> {
    let last = time.len().checked_sub(1)?;
    let at = q * last as f64;
    // A share such as 0.7 is not exact, nor is its product: what is a position but for rounding is that position.
    let at = if (at - at.round()).abs() < 1e-9 * at.max(1.0) { at.round() } else { at };
    let below = (at.floor() as usize).min(last);
    let (low, high) = (time[below], time[(below + 1).min(last)]);
    let part = ((at - below as f64) * high.0.abs_diff(low.0) as f64).floor() as u64;
    Some(Timestamp(low.0.saturating_add_unsigned(part).min(high.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: &[i64]) -> Vec<Timestamp> {
        values.iter().copied().map(Timestamp).collect()
    }

    #[test]
    fn ties_stay_together_as_in_pyg() {
        // np.quantile([0,1,2,3,3,3,3,7,8,9], [0.6, 0.8]) = [3.0, 7.2]: (t <= 3).sum() = 7, (t <= 7.2).sum() = 8.
        let split = Split::by_time(&times(&[0, 1, 2, 3, 3, 3, 3, 7, 8, 9]), 0.2, 0.2).unwrap();
        assert_eq!(split, Split { train: 0..7, val: 7..8, test: 8..10 });
    }

    #[test]
    fn quantiles_interpolate_as_numpy_does() {
        let time = times(&[0, 10, 20, 40]);
        for (q, expected) in
            [(0.0, 0.0), (0.25, 7.5), (0.5, 15.0), (0.7, 22.000000000000004), (0.85, 31.0), (1.0, 40.0)]
        {
            let found = quantile(&time, q).unwrap();
            assert!((found - expected).abs() < 1e-9, "q {q}: {found} is not {expected}");
        }
    }

    #[test]
    fn times_beyond_a_doubles_integers_are_split_like_the_same_times_near_zero() {
        let near: Vec<i64> = (0..1000).map(|k| k / 3).collect();
        let split = |shift: i64, factor: i64| {
            Split::by_time(&times(&near.iter().map(|t| t * factor + shift).collect::<Vec<_>>()), 0.15, 0.15).unwrap()
        };
        let expected = split(0, 1);
        for (shift, factor) in [
            (1_700_000_000_000_000_000, 1),
            (1_700_000_000_000_000_000, 1_000_000_000),
            (i64::MAX - 400, 1),
            (i64::MIN, 1),
            (-5_000_000_000_000_000_000, 20_000_000_000_000_000),
        ] {
            assert_eq!(split(shift, factor), expected, "{shift} and steps of {factor}");
        }
        // one event at zero and the rest in nanoseconds: a set with a hole
        let hole: Vec<i64> =
            [0].into_iter().chain((0..199).map(|k| 1_700_000_000_000_000_000 + k * 1_000_000_000)).collect();
        assert_eq!(
            Split::by_time(&times(&hole), 0.15, 0.15).unwrap(),
            Split { train: 0..140, val: 140..170, test: 170..200 }
        );
    }

    #[test]
    fn a_split_by_count_divides_ties() {
        assert_eq!(Split::by_count(10, 0.15, 0.15).unwrap(), Split { train: 0..7, val: 7..9, test: 9..10 });
    }

    #[test]
    fn shares_that_leave_nothing_to_train_on_are_refused() {
        let error = Split::by_time(&times(&[1, 2]), 0.5, 0.5).unwrap_err();
        assert!(error.to_string().contains("val = 0.5, test = 0.5"), "{error}");
        assert!(Split::by_count(9, f64::NAN, 0.1).is_err());
    }

    #[test]
    fn an_empty_log_splits_into_nothing() {
        assert_eq!(Split::by_time(&[], 0.15, 0.15).unwrap(), Split { train: 0..0, val: 0..0, test: 0..0 });
    }
}
