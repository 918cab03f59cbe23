//! Middles and tails of measurements.

/// The middle value, or the mean of the middle two; nothing of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let values = sorted(values);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(0.5 * (values[middle - 1] + values[middle])),
    }
}

/// The least value that at least `share` of the values do not exceed; nothing of nothing.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    let values = sorted(values);
    let place = (share * values.len() as f64).ceil() as usize;
    values.get(place.saturating_sub(1)).copied()
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_quantile_leaves_no_more_than_its_rest_above() {
        let values = || (1..=100).rev().map(f64::from);
        assert_eq!(
            (quantile(values(), 0.5), quantile(values(), 0.99), quantile(values(), 1.0)),
            (Some(50.0), Some(99.0), Some(100.0))
        );
        assert_eq!((quantile([7.0], 0.01), quantile([], 0.5)), (Some(7.0), None));
    }
}
