//! Finds the largest rate that a server sustains.

use anyhow::Result;

/// The search ends when the smallest load that is too large is within this factor of the largest that is sustained.
const CLOSE: f64 = 1.08;
/// The largest number of loads to try.
const TRIES: usize = 16;

/// The largest load that is sustained: first between powers of two of `first`, then by bisection. 0 if no load is,
/// `None` if the search was stopped.
///
/// # Errors
/// Those of `keeps_up`.
pub(super) fn saturation(first: f64, mut keeps_up: impl FnMut(f64) -> Result<Option<bool>>) -> Result<Option<f64>> {
    let (mut kept, mut lost, mut load) = (0.0, f64::INFINITY, first);
    for _ in 0..TRIES {
        match keeps_up(load)? {
            None => return Ok(None),
            Some(true) => kept = load,
            Some(false) => lost = load,
        }
        load = match (kept > 0.0, lost.is_finite()) {
            (true, false) => 2.0 * kept,
            (false, _) => lost / 2.0,
            (true, true) if lost / kept <= CLOSE => break,
            (true, true) => (kept * lost).sqrt(),
        };
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_load_that_is_kept_up_with_is_found_from_either_side() {
        for (first, capacity) in [(100.0, 7300.0), (50_000.0, 800.0), (1000.0, 1000.0)] {
            let mut tried = 0;
            let found = saturation(first, |load| {
                tried += 1;
                Ok(Some(load <= capacity))
            });
            let found = found.unwrap().unwrap();
            assert!(found <= capacity && found * CLOSE >= capacity, "{found} of {capacity}");
            assert!(tried <= TRIES);
        }
    }

    #[test]
    fn the_search_ends_at_an_interrupt_and_at_a_load_that_cannot_be_served() {
        assert_eq!(saturation(10.0, |_| Ok(None)).unwrap(), None);
        assert_eq!(saturation(10.0, |_| Ok(Some(false))).unwrap(), Some(0.0));
        assert!(saturation(10.0, |_| anyhow::bail!("no server")).is_err());
    }
}
