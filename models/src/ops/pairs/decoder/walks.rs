//! Walks of both ends of a pair as numbers: see [`WalkSpec`](crate::WalkSpec).

use tempograph_framework::WalkRule;
use tempograph_kernels::cpu::pairwise_dot_products;

/// Columns of the features: the inner products of all pairs of rows of both ends, each once.
pub(crate) fn walk_columns(rule: WalkRule) -> usize {
    let rows = rule.layers + 1;
    rows * (2 * rows + 1)
}

/// The features of a pair whose ends have these rows, `width` numbers each: `log(1 + relu(..))` of their inner
/// products.
pub(crate) fn walk_row(src: &[f32], dst: &[f32], width: usize, row: &mut [f32]) {
    pairwise_dot_products(row, src, dst, width);
    // The clamp keeps a score finite if a product overflows.
    row.iter_mut().for_each(|product| *product = product.clamp(0.0, f32::MAX).ln_1p());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_logarithms_of_products_that_are_positive_and_always_numbers() {
        let (src, dst) = ([1.0, 2.0, 0.0, 1.0], [0.0, -3.0, f32::MAX, f32::MAX]);
        let mut row = vec![0.0; walk_columns(WalkRule { layers: 1, width: 2, decay: 0.0, seed: 0 })];
        walk_row(&src, &dst, 2, &mut row);
        let expected = [5.0f32, 2.0, 0.0, f32::MAX, 1.0, 0.0, f32::MAX, 9.0, 0.0, f32::MAX].map(f32::ln_1p);
        for (found, expected) in row.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{row:?}");
        }
    }
}
