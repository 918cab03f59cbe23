//! Tables of tokens: the events shown to each of `C` centres as rows, `K` for each centre, `[C K, W]`.
use crate::cpu::product::linear::PaddedRows;
use crate::cpu::vector::math::{add, add_time_gradient, cos_row, sin_row};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::time::{TimeWeights, sum_rows};
use crate::{Neighbours, Rows};

/// Centres per task.
const TILE: usize = 4;

/// Calls `each` with a centre and its `group` rows of `rows`, padding included.
fn in_groups(rows: &mut PaddedRows, group: usize, each: impl Fn(usize, &mut [f32]) + Sync) {
    let (centres, width) = (rows.rows() / group.max(1), group * rows.stride());
    if width == 0 {
        return;
    }
    let all = DisjointRows::new(&mut rows.values, width);
    in_chunks(centres, TILE, |tile| {
        // SAFETY: tiles do not overlap.
        let out = unsafe { all.rows(tile.clone()) };
        tile.zip(out.chunks_exact_mut(width)).for_each(|(centre, out)| each(centre, out));
    });
}

/// Writes the tokens `[edge features | cos(dt * freq + phase)]` of the neighbours, `[C K, edge + T]`, the newest of a
/// centre first. Slots without a neighbour are zeros, and so are missing features.
pub fn token_rows(
    neighbours: &Neighbours,
    features: Option<&dyn Rows>,
    edge: usize,
    time: TimeWeights<'_>,
    out: &mut PaddedRows,
) {
    let k = neighbours.k;
    out.resize(neighbours.roots * k, edge + time.freq.len());
    let (stride, columns) = (out.stride(), out.columns());
    in_groups(out, k, |centre, rows| {
        for (slot, row) in rows.chunks_exact_mut(stride).enumerate() {
            if slot >= neighbours.count[centre] as usize {
                row.fill(0.0);
                continue;
            }
            let at = centre * k + slot;
            let (own, rest) = row.split_at_mut(columns);
            let (of_event, of_time) = own.split_at_mut(edge);
            match features {
                Some(features) => of_event.copy_from_slice(features.row(neighbours.event[at])),
                None => of_event.fill(0.0),
            }
            cos_row(of_time, neighbours.dt[at], time.freq, time.phase);
            rest.fill(0.0);
        }
    });
}

/// The gradient of the time encoding in [`token_rows`]. Reuses its working memory.
#[derive(Clone, Debug, Default)]
pub struct TokenTimeGradients {
    /// `[tasks, 2 T]`
    partial: Vec<f32>,
    /// `[tasks, T]`
    sine: Vec<f32>,
}

impl TokenTimeGradients {
    /// Adds to the gradients of frequencies and phases, given that of the tokens.
    pub fn backward(
        &mut self,
        neighbours: &Neighbours,
        edge: usize,
        time: TimeWeights<'_>,
        grad: &PaddedRows,
        [of_freq, of_phase]: [&mut [f32]; 2],
    ) {
        let (width, tasks) = (time.freq.len(), neighbours.roots.div_ceil(TILE));
        self.partial.clear();
        self.partial.resize(tasks * 2 * width, 0.0);
        self.sine.resize(tasks * width, 0.0);
        let (sums, sines) = (DisjointRows::new(&mut self.partial, 2 * width), DisjointRows::new(&mut self.sine, width));
        in_chunks(neighbours.roots, TILE, |tile| {
            let task = tile.start / TILE;
            // SAFETY: each task has rows of its own.
            let (sum, sine) = unsafe { (sums.rows(task..task + 1), sines.rows(task..task + 1)) };
            let (freq, phase) = sum.split_at_mut(width);
            for centre in tile {
                for at in centre * neighbours.k..centre * neighbours.k + neighbours.count[centre] as usize {
                    sin_row(sine, neighbours.dt[at], time.freq, time.phase);
                    add_time_gradient(freq, phase, neighbours.dt[at], sine, &grad.row(at)[edge..]);
                }
            }
        });
        sum_rows(&self.partial, [of_freq, of_phase]);
    }
}

/// Transposes each group of `group` rows: `[C group, W]` becomes `[C W, group]`.
pub fn transpose_groups(x: &PaddedRows, group: usize, out: &mut PaddedRows) {
    let (width, apart) = (x.columns(), x.stride());
    out.resize(x.rows() / group.max(1) * width, group);
    let stride = out.stride();
    in_groups(out, width, |centre, rows| {
        let own = &x.values[centre * group * apart..(centre + 1) * group * apart];
        for (column, row) in rows.chunks_exact_mut(stride).enumerate() {
            let (numbers, rest) = row.split_at_mut(group);
            numbers.iter_mut().zip(own.chunks_exact(apart)).for_each(|(y, token)| *y = token[column]);
            rest.fill(0.0);
        }
    });
}

/// Writes the mean of each group of `group` rows: `[C group, W]` becomes `[C, W]`.
pub fn group_means(x: &PaddedRows, group: usize, out: &mut PaddedRows) {
    let (columns, share) = (x.columns(), 1.0 / group.max(1) as f32);
    out.zeros(x.rows() / group.max(1), columns);
    in_groups(out, 1, |centre, row| {
        let row = &mut row[..columns];
        (centre * group..(centre + 1) * group).for_each(|token| add(row, x.row(token)));
        row.iter_mut().for_each(|y| *y *= share);
    });
}

/// Writes the gradient of `x` in [`group_means`], given that of the means.
pub fn group_means_backward(grad: &PaddedRows, group: usize, of_x: &mut PaddedRows) {
    let (columns, share) = (grad.columns(), 1.0 / group.max(1) as f32);
    of_x.resize(grad.rows() * group, columns);
    let stride = of_x.stride();
    in_groups(of_x, group, |centre, rows| {
        for row in rows.chunks_exact_mut(stride) {
            let (own, rest) = row.split_at_mut(columns);
            own.iter_mut().zip(grad.row(centre)).for_each(|(x, y)| *x = y * share);
            rest.fill(0.0);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, columns: usize) -> PaddedRows {
        let mut rows = PaddedRows::default();
        rows.zeros(count, columns);
        for row in 0..count {
            rows.row_mut(row).iter_mut().enumerate().for_each(|(i, x)| *x = ((row * 31 + i * 17) as f32).sin());
        }
        rows
    }

    fn shown() -> Neighbours {
        Neighbours {
            roots: 7,
            k: 3,
            count: vec![3, 0, 1, 2, 3, 3, 2],
            row: vec![0; 21],
            event: (0..21).collect(),
            dt: (0..21).map(|i| i as f32 * 0.7).collect(),
        }
    }

    #[test]
    fn a_token_is_the_features_and_the_time_of_its_event_and_zeros_where_there_is_none() {
        let (neighbours, freq, phase) = (shown(), [0.5, 0.1], [0.0, 0.3]);
        let mut out = rows(30, 20);
        token_rows(&neighbours, None, 1, TimeWeights { freq: &freq, phase: &phase }, &mut out);
        assert_eq!((out.rows(), out.columns()), (21, 3));
        for at in 0..21 {
            let dt = neighbours.dt[at];
            let seen = (at % 3) < neighbours.count[at / 3] as usize;
            let expected = if seen { [0.0, (dt * 0.5).cos(), (dt * 0.1 + 0.3).cos()] } else { [0.0; 3] };
            for (found, expected) in out.row(at).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "token {at}");
            }
            assert!(out.values[at * out.stride() + 3..(at + 1) * out.stride()].iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn the_gradient_of_the_time_encoding_is_that_of_finite_differences() {
        let (neighbours, freq, phase) = (shown(), [0.5, 0.1], [0.2, 0.3]);
        let grad = rows(21, 3);
        let value = |freq: &[f32], phase: &[f32]| -> f32 {
            let mut out = PaddedRows::default();
            token_rows(&neighbours, None, 1, TimeWeights { freq, phase }, &mut out);
            (0..21).flat_map(|at| out.row(at).iter().zip(grad.row(at)).map(|(y, g)| y * g).collect::<Vec<_>>()).sum()
        };
        let (mut of_freq, mut of_phase) = ([1.0; 2], [2.0; 2]);
        let time = TimeWeights { freq: &freq, phase: &phase };
        TokenTimeGradients::default().backward(&neighbours, 1, time, &grad, [&mut of_freq, &mut of_phase]);
        for i in 0..2 {
            let moved = |numbers: &[f32; 2], by: f32| {
                let mut numbers = *numbers;
                numbers[i] += by;
                numbers
            };
            let by = |by: f32| value(&moved(&freq, by), &phase);
            assert!((of_freq[i] - 1.0 - (by(1e-3) - by(-1e-3)) / 2e-3).abs() < 2e-2, "frequency {i}");
            let by = |by: f32| value(&freq, &moved(&phase, by));
            assert!((of_phase[i] - 2.0 - (by(1e-3) - by(-1e-3)) / 2e-3).abs() < 5e-3, "phase {i}");
        }
    }

    #[test]
    fn groups_are_transposed_and_come_back() {
        let x = rows(15, 7);
        let (mut turned, mut back) = (rows(40, 3), PaddedRows::default());
        transpose_groups(&x, 5, &mut turned);
        assert_eq!((turned.rows(), turned.columns()), (21, 5));
        for (centre, column, slot) in (0..3).flat_map(|c| (0..7).flat_map(move |w| (0..5).map(move |i| (c, w, i)))) {
            assert_eq!(turned.row(centre * 7 + column)[slot], x.row(centre * 5 + slot)[column]);
        }
        transpose_groups(&turned, 7, &mut back);
        assert_eq!(back.values, x.values);
    }

    #[test]
    fn the_mean_of_a_group_is_shared_out_in_its_gradient() {
        let x = rows(12, 5);
        let (mut means, mut of_x) = (PaddedRows::default(), PaddedRows::default());
        group_means(&x, 4, &mut means);
        group_means_backward(&means, 4, &mut of_x);
        for centre in 0..3 {
            for column in 0..5 {
                let mean = (0..4).map(|i| x.row(centre * 4 + i)[column]).sum::<f32>() / 4.0;
                assert!((means.row(centre)[column] - mean).abs() < 1e-6);
                assert_eq!(of_x.row(centre * 4 + 2)[column], means.row(centre)[column] / 4.0);
            }
        }
    }
}
