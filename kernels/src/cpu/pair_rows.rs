//! Rows of pairs, made of the two rows of each.
use super::product::linear::PaddedRows;
use super::vector::groups::Groups;
use super::vector::math::add;
use super::vector::parallel::{DisjointRows, in_chunks};
use super::vector::simd::vectorised;

/// Pairs, or rows, per task.
const CHUNK: usize = 64;

/// `y_p = [x_i * x_j | m_p x_i | m_p x_j]` of pairs `p` of rows of one table. Either part may be left out.
#[derive(Clone, Debug, Default)]
pub struct PairRows {
    groups: [Groups; 2],
}

/// The inputs of rows of pairs.
#[derive(Clone, Copy, Debug)]
pub struct PairEnds<'a> {
    /// `[A, O]`
    pub table: &'a PaddedRows,
    /// `[P]` rows of the table.
    pub i: &'a [u32],
    /// `[P]` rows of the table.
    pub j: &'a [u32],
    /// Whether the products are computed.
    pub product: bool,
    /// `[P]` the pairs that have both rows after the products; the others have zeros there. `None`: no such columns.
    pub own: Option<&'a [bool]>,
}

impl PairEnds<'_> {
    /// Columns of the rows.
    pub fn columns(&self) -> usize {
        (usize::from(self.product) + if self.own.is_some() { 2 } else { 0 }) * self.table.columns()
    }
}

impl PairRows {
    /// Writes the rows into the first columns of `out`, `[P, ..]`.
    ///
    /// # Panics
    /// If shapes do not fit together, or a pair has a row out of range.
    pub fn forward(ends: PairEnds<'_>, out: &mut PaddedRows) {
        let (width, columns, stride) = (ends.table.columns(), ends.columns(), out.stride());
        assert_eq!([ends.i.len(), ends.j.len()], [out.rows(); 2], "a pair has two rows");
        assert!(columns <= out.columns(), "rows have no room for {columns} columns");
        let all = DisjointRows::new(&mut out.values, stride);
        in_chunks(ends.i.len(), CHUNK, |chunk| {
            // SAFETY: chunks do not overlap.
            let out = unsafe { all.rows(chunk.clone()) };
            for (pair, out) in chunk.zip(out.chunks_exact_mut(stride)) {
                let [a, b] = [ends.i[pair], ends.j[pair]].map(|row| ends.table.row(row as usize));
                let (product, own) = out.split_at_mut(if ends.product { width } else { 0 });
                if ends.product {
                    multiply(product, a, b);
                }
                match ends.own {
                    Some(of) if of[pair] => {
                        own[..width].copy_from_slice(a);
                        own[width..][..width].copy_from_slice(b);
                    }
                    Some(_) => own[..2 * width].fill(0.0),
                    None => {}
                }
            }
        });
    }

    /// Writes the gradient of the table, given that of [`forward`](Self::forward)'s `out`.
    ///
    /// # Panics
    /// As `forward`.
    pub fn backward(&mut self, ends: PairEnds<'_>, grad: &PaddedRows, of_table: &mut PaddedRows) {
        of_table.resize_like(ends.table);
        let (rows, width, stride) = (of_table.rows(), of_table.columns(), of_table.stride());
        let [of_i, of_j] = &mut self.groups;
        let pairs = ends.i.len() as u32;
        of_i.fill(rows, 0..pairs, ends.i);
        of_j.fill(rows, 0..pairs, ends.j);
        let sides = [(&*of_i, ends.j, 0), (&*of_j, ends.i, 1)];
        let all = DisjointRows::new(&mut of_table.values, stride);
        in_chunks(rows, CHUNK, |chunk| {
            // SAFETY: chunks do not overlap.
            let out = unsafe { all.rows(chunk.clone()) };
            for (row, out) in chunk.zip(out.chunks_exact_mut(stride)) {
                out.fill(0.0);
                let out = &mut out[..width];
                for (groups, other, side) in sides {
                    for pair in groups.of(row).iter().map(|&pair| pair as usize) {
                        let (product, own) = grad.row(pair).split_at(if ends.product { width } else { 0 });
                        if ends.product {
                            add_product(out, product, ends.table.row(other[pair] as usize));
                        }
                        if ends.own.is_some_and(|of| of[pair]) {
                            add(out, &own[side * width..][..width]);
                        }
                    }
                }
            }
        });
    }
}

vectorised! {
    fn multiply<I>(out: &mut [f32], a: &[f32], b: &[f32]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = a * b;
        }
    }
}

vectorised! {
    fn add_product<I>(out: &mut [f32], a: &[f32], b: &[f32]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = I::mul_add(a, b, *out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, columns: usize, seed: usize) -> PaddedRows {
        let mut table = PaddedRows::default();
        table.zeros(rows, columns);
        for row in 0..rows {
            table.row_mut(row).iter_mut().enumerate().for_each(|(i, x)| *x = ((row * 7 + i * 3 + seed) as f32).sin());
        }
        table
    }

    fn pairs(count: usize, rows: usize) -> ([Vec<u32>; 2], Vec<bool>) {
        let i = (0..count).map(|p| (p * 3 % rows) as u32).collect();
        let j = (0..count).map(|p| (p * p % rows) as u32).collect();
        ([i, j], (0..count).map(|p| p % 3 == 0).collect())
    }

    #[test]
    fn parts_stand_side_by_side_and_gradients_are_those_of_finite_differences() {
        let (([i, j], met), table) = (pairs(50, 12), numbers(12, 5, 1));
        for (product, own) in [(true, Some(&met[..])), (true, None), (false, Some(&met[..]))] {
            let ends = PairEnds { table: &table, i: &i, j: &j, product, own };
            let columns = ends.columns();
            let forward = |table: &PaddedRows| {
                let mut out = numbers(50, columns, 9);
                PairRows::forward(PairEnds { table, i: &i, j: &j, product, own }, &mut out);
                out
            };
            let out = forward(&table);
            for pair in 0..50 {
                let [a, b] = [i[pair], j[pair]].map(|row| table.row(row as usize).to_vec());
                let keep = if met[pair] { 1.0 } else { 0.0 };
                let mut expected: Vec<f32> = Vec::new();
                expected.extend(a.iter().zip(&b).filter(|_| product).map(|(a, b)| a * b));
                expected.extend(a.iter().chain(&b).filter(|_| own.is_some()).map(|x| keep * x));
                assert_eq!(out.row(pair), expected, "pair {pair}");
            }
            let (grad, mut of_table) = (numbers(50, columns, 4), PaddedRows::default());
            PairRows::default().backward(ends, &grad, &mut of_table);
            let value = |table: &PaddedRows| -> f64 {
                let out = forward(table);
                let dots = |pair| out.row(pair).iter().zip(grad.row(pair)).map(|(y, g)| f64::from(y * g)).sum::<f64>();
                (0..50).map(dots).sum()
            };
            for row in 0..12 {
                for column in 0..5 {
                    let moved = |by: f32| {
                        let mut table = table.clone();
                        table.row_mut(row)[column] += by;
                        value(&table)
                    };
                    let (found, expected) = (of_table.row(row)[column], (moved(1e-2) - moved(-1e-2)) / 2e-2);
                    assert!((f64::from(found) - expected).abs() < 1e-2, "{row}, {column}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (([i, j], met), table, grad) = (pairs(900, 300), numbers(300, 9, 1), numbers(900, 27, 2));
        let ends = PairEnds { table: &table, i: &i, j: &j, product: true, own: Some(&met) };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (mut out, mut of_table) = (PaddedRows::default(), PaddedRows::default());
            out.zeros(900, 27);
            pool.install(|| {
                PairRows::forward(ends, &mut out);
                PairRows::default().backward(ends, &grad, &mut of_table);
            });
            [out.values, of_table.values].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert!(on(2) == on(1) && on(3) == on(1));
    }
}
