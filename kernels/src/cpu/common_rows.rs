//! Sums of the rows that two lists have in common.
use super::product::linear::PaddedRows;
use super::vector::groups::Groups;
use super::vector::math::add;
use super::vector::parallel::{DisjointRows, in_chunks};
use crate::Neighbours;

/// Lists, pairs of lists or rows per task.
const CHUNK: usize = 64;

/// `y_p = [sum of x_w over the rows w in both lists of p | how many they are]`, for pairs `p` of lists of rows of one
/// table.
///
/// A row that a list names several times counts once. The rows of a sum are added in ascending order.
#[derive(Clone, Debug, Default)]
pub struct CommonRows {
    lists: Lists,
    /// The common rows of all pairs, pair after pair, and the pair of each.
    rows: Vec<u32>,
    pairs: Vec<u32>,
    groups: Groups,
}

/// Lists of distinct rows, ascending.
#[derive(Clone, Debug, Default)]
struct Lists {
    /// Capacity of a list, `K`.
    k: usize,
    /// `[A, K]`
    rows: Vec<u32>,
    /// `[A]`
    lengths: Vec<u32>,
}

impl Lists {
    fn of(&self, list: u32) -> &[u32] {
        let list = list as usize;
        &self.rows[list * self.k..][..self.lengths[list] as usize]
    }
}

impl CommonRows {
    /// Loads the lists, `A` of them with at most `K` entries each. Entry `e` of a list means row `row_of[e]` of the
    /// table.
    ///
    /// # Panics
    /// If an entry has no row.
    pub fn fill(&mut self, lists: &Neighbours, row_of: &[u32]) {
        let Lists { k, rows, lengths } = &mut self.lists;
        *k = lists.k;
        rows.resize(lists.roots * lists.k, 0);
        lengths.resize(lists.roots, 0);
        let width = lists.k;
        let (rows, lengths) = (DisjointRows::new(rows, width), DisjointRows::new(lengths, 1));
        in_chunks(lists.roots, CHUNK, |chunk| {
            // SAFETY: chunks do not overlap.
            let (rows, lengths) = unsafe { (rows.rows(chunk.clone()), lengths.rows(chunk.clone())) };
            for (at, (list, length)) in chunk.zip(lengths).enumerate() {
                let entries = &lists.row[list * width..][..lists.count[list] as usize];
                let own = &mut rows[at * width..][..entries.len()];
                own.iter_mut().zip(entries).for_each(|(row, &entry)| *row = row_of[entry as usize]);
                own.sort_unstable();
                *length = distinct(own) as u32;
            }
        });
    }

    /// Whether a list contains a row.
    pub fn names(&self, list: u32, row: u32) -> bool {
        self.lists.of(list).binary_search(&row).is_ok()
    }

    /// Writes the sums, `[P, W]`, into the columns of `out` that begin at `column`, and the counts into the next
    /// column. Pair `p` consists of the lists `i[p]` and `j[p]`.
    ///
    /// # Panics
    /// If shapes do not fit together, or a pair has a list out of range.
    pub fn forward(&self, [i, j]: [&[u32]; 2], table: &PaddedRows, out: &mut PaddedRows, column: usize) {
        let (width, stride) = (table.columns(), out.stride());
        assert_eq!([i.len(), j.len()], [out.rows(); 2], "a pair has two lists and a row");
        assert!(column + width < out.columns(), "rows have no room for {width} sums and a count from {column} on");
        let all = DisjointRows::new(&mut out.values, stride);
        in_chunks(i.len(), CHUNK, |chunk| {
            // SAFETY: chunks do not overlap.
            let out = unsafe { all.rows(chunk.clone()) };
            for (pair, out) in chunk.zip(out.chunks_exact_mut(stride)) {
                let out = &mut out[column..=column + width];
                out.fill(0.0);
                let (sum, count) = out.split_at_mut(width);
                common(self.lists.of(i[pair]), self.lists.of(j[pair]), |row| {
                    add(sum, table.row(row as usize));
                    count[0] += 1.0;
                });
            }
        });
    }

    /// Writes the gradient of the table, given that of [`forward`](Self::forward)'s `out`. `of_table` has the table's
    /// shape.
    ///
    /// # Panics
    /// As `forward`.
    pub fn backward(&mut self, [i, j]: [&[u32]; 2], grad: &PaddedRows, column: usize, of_table: &mut PaddedRows) {
        let CommonRows { lists, rows, pairs, groups } = self;
        // Reserves the maximum number of common rows, so that no later batch of this size allocates.
        [&mut *rows, &mut *pairs].into_iter().for_each(|array| {
            array.clear();
            array.reserve(i.len() * lists.k);
        });
        for (pair, (&i, &j)) in i.iter().zip(j).enumerate() {
            common(lists.of(i), lists.of(j), |row| {
                rows.push(row);
                pairs.push(pair as u32);
            });
        }
        groups.fill(of_table.rows(), 0..rows.len() as u32, rows);
        let (rows_of_table, width, stride) = (of_table.rows(), of_table.columns(), of_table.stride());
        let all = DisjointRows::new(&mut of_table.values, stride);
        in_chunks(rows_of_table, CHUNK, |chunk| {
            // SAFETY: chunks do not overlap.
            let out = unsafe { all.rows(chunk.clone()) };
            for (row, out) in chunk.zip(out.chunks_exact_mut(stride)) {
                out.fill(0.0);
                for &found in groups.of(row) {
                    let pair = pairs[found as usize] as usize;
                    add(&mut out[..width], &grad.row(pair)[column..][..width]);
                }
            }
        });
    }
}

/// Moves the distinct values of ascending rows to the front. Returns their number.
fn distinct(rows: &mut [u32]) -> usize {
    let mut length = 0;
    for at in 0..rows.len() {
        if length == 0 || rows[length - 1] != rows[at] {
            rows[length] = rows[at];
            length += 1;
        }
    }
    length
}

/// Visits the values that are in both of two ascending lists.
fn common(mut a: &[u32], mut b: &[u32], mut visit: impl FnMut(u32)) {
    while let ([x, rest_of_a @ ..], [y, rest_of_b @ ..]) = (a, b) {
        if x == y {
            visit(*x);
        }
        if x <= y {
            a = rest_of_a;
        }
        if y <= x {
            b = rest_of_b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: usize = 40;

    fn numbers(rows: usize, columns: usize) -> PaddedRows {
        let mut table = PaddedRows::default();
        table.zeros(rows, columns);
        for row in 0..rows {
            table.row_mut(row).iter_mut().enumerate().for_each(|(i, x)| *x = ((row * 7 + i * 3) as f32).sin());
        }
        table
    }

    /// Lists in which entries repeat, some of them empty; entries are rows counted from the end of the table.
    fn lists(roots: usize, k: usize) -> (Neighbours, Vec<u32>) {
        let row = (0..roots * k).map(|i| (i * i * 31 % TABLE) as u32 / 2).collect();
        let count = (0..roots).map(|root| (root * 5 % (k + 1)) as u32).collect();
        let row_of = (0..TABLE as u32).rev().collect();
        (Neighbours { roots, k, count, row, ..Neighbours::default() }, row_of)
    }

    fn pairs(count: usize, lists: usize) -> [Vec<u32>; 2] {
        [(0..count).map(|p| (p * 3 % lists) as u32).collect(), (0..count).map(|p| (p * p % lists) as u32).collect()]
    }

    /// Of each pair the rows in both lists, by looking for each in the other list.
    fn expected(lists: &Neighbours, row_of: &[u32], [i, j]: &[Vec<u32>; 2]) -> Vec<Vec<u32>> {
        let of = |list: u32| {
            let list = list as usize;
            lists.row[list * lists.k..][..lists.count[list] as usize].iter().map(|&entry| row_of[entry as usize])
        };
        let both = |(&i, &j): (&u32, &u32)| {
            let mut both: Vec<u32> = of(i).filter(|row| of(j).any(|other| other == *row)).collect();
            both.sort_unstable();
            both.dedup();
            both
        };
        i.iter().zip(j).map(both).collect()
    }

    #[test]
    fn rows_in_both_lists_are_added_once_each_and_their_gradients_handed_back() {
        for (k, width) in [(1, 3), (6, 16), (11, 21)] {
            let ((lists, row_of), ends, table) = (lists(30, k), pairs(200, 30), numbers(TABLE, width));
            let (mut kernel, mut out, mut of_table) =
                (CommonRows::default(), PaddedRows::default(), numbers(TABLE, width));
            kernel.fill(&lists, &row_of);
            out.zeros(200, width + 3);
            let both = expected(&lists, &row_of, &ends);
            assert!(both.iter().any(|rows| rows.len() > usize::from(k > 1)) && both.iter().any(Vec::is_empty));
            let read = [&ends[0][..], &ends[1][..]];
            kernel.forward(read, &table, &mut out, 2);
            let grad = numbers(200, width + 3);
            kernel.backward(read, &grad, 2, &mut of_table);
            let mut gradient = vec![vec![0.0f32; width]; TABLE];
            for (pair, rows) in both.iter().enumerate() {
                let mut sum = vec![0.0f32; width];
                for &row in rows {
                    add(&mut sum, table.row(row as usize));
                    add(&mut gradient[row as usize], &grad.row(pair)[2..][..width]);
                    assert!(kernel.names(ends[0][pair], row) && kernel.names(ends[1][pair], row));
                }
                assert_eq!(out.row(pair)[..2], [0.0; 2], "columns before are left alone");
                assert_eq!(out.row(pair)[2..width + 2], sum, "pair {pair}, {k} entries");
                assert_eq!(out.row(pair)[width + 2], rows.len() as f32, "pair {pair}, {k} entries");
            }
            (0..TABLE).for_each(|row| assert_eq!(of_table.row(row), gradient[row], "row {row}, {k} entries"));
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let ((lists, row_of), ends, table, grad) =
            (lists(300, 8), pairs(900, 300), numbers(TABLE, 9), numbers(900, 10));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (mut kernel, mut out, mut of_table) = (CommonRows::default(), PaddedRows::default(), numbers(TABLE, 9));
            out.zeros(900, 10);
            pool.install(|| {
                kernel.fill(&lists, &row_of);
                kernel.forward([&ends[0], &ends[1]], &table, &mut out, 0);
                kernel.backward([&ends[0], &ends[1]], &grad, 0, &mut of_table);
            });
            [out.values, of_table.values].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert!(on(2) == on(1) && on(3) == on(1));
    }
}
