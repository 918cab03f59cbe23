//! Means of any number of rows of a table for each centre, with the centre's own row.
use crate::cpu::product::linear::PaddedRows;
use crate::cpu::vector::groups::Groups;
use crate::cpu::vector::math::add_scaled;
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};

/// Rows per task.
const TILE: usize = 32;

/// Which rows of a table each of `C` centres sees: those at `starts[c]..starts[c + 1]` of `rows`.
#[derive(Clone, Copy, Debug)]
pub struct WindowRows<'a> {
    /// `[C]` the centre's own row.
    pub own: &'a [u32],
    /// `[C + 1]`, never decreasing, from 0 on.
    pub starts: &'a [u32],
    /// The rows that are seen, repeats included.
    pub rows: &'a [u32],
    /// The factor of the mean.
    pub scale: f32,
}

impl WindowRows<'_> {
    fn seen(&self, centre: usize) -> &[u32] {
        &self.rows[self.starts[centre] as usize..self.starts[centre + 1] as usize]
    }

    /// The weight of each row that a centre sees.
    fn share(&self, centre: usize) -> f32 {
        self.scale / (self.starts[centre + 1] - self.starts[centre]).max(1) as f32
    }

    /// Panics if the arrays do not fit together.
    fn check(&self) {
        assert_eq!(self.starts.len(), self.own.len() + 1, "starts is not [{} + 1]", self.own.len());
        assert_eq!(
            self.starts.last().map(|&end| end as usize),
            Some(self.rows.len()),
            "starts ends elsewhere than rows"
        );
    }
}

/// `z_c = x_c + scale * mean of x_v`, over the rows `v` that centre `c` sees; `x_c` alone where it sees none.
#[derive(Clone, Debug, Default)]
pub struct WindowMeans {
    /// By row of the table, the positions in `rows` that contain it.
    places: Groups,
    /// By row of the table, the centres whose own it is.
    centres: Groups,
    /// `[rows]` the centre of each position.
    centre_of: Vec<u32>,
}

impl WindowMeans {
    /// Writes `z` `[C, W]` from `x` `[U, W]`.
    ///
    /// # Panics
    /// If shapes do not fit together.
    pub fn forward(&mut self, window: &WindowRows<'_>, x: &PaddedRows, z: &mut PaddedRows) {
        window.check();
        z.zeros(window.own.len(), x.columns());
        let (columns, stride) = (z.columns(), z.stride());
        if columns == 0 {
            return;
        }
        let all = DisjointRows::new(&mut z.values, stride);
        in_chunks(window.own.len(), TILE, |tile| {
            // SAFETY: tiles do not overlap.
            let out = unsafe { all.rows(tile.clone()) };
            for (centre, out) in tile.zip(out.chunks_exact_mut(stride)) {
                let out = &mut out[..columns];
                window.seen(centre).iter().for_each(|&row| add_scaled(out, 1.0, x.row(row as usize)));
                let share = window.share(centre);
                out.iter_mut().zip(x.row(window.own[centre] as usize)).for_each(|(z, own)| *z = *z * share + own);
            }
        });
    }

    /// Writes the gradient of `x` to `of_x`, which has its shape, given that of `z`.
    ///
    /// # Panics
    /// If shapes do not fit together.
    pub fn backward(&mut self, window: &WindowRows<'_>, grad: &PaddedRows, of_x: &mut PaddedRows) {
        window.check();
        let (count, columns, stride) = (of_x.rows(), of_x.columns(), of_x.stride());
        self.centre_of.clear();
        for centre in 0..window.own.len() {
            let seen = window.seen(centre).len();
            self.centre_of.extend(std::iter::repeat_n(centre as u32, seen));
        }
        self.places.fill(count, 0..window.rows.len() as u32, window.rows);
        self.centres.fill(count, 0..window.own.len() as u32, window.own);
        if columns == 0 {
            return;
        }
        let (all, WindowMeans { places, centres, centre_of }) = (DisjointRows::new(&mut of_x.values, stride), &*self);
        in_chunks(count, TILE, |tile| {
            // SAFETY: tiles do not overlap.
            let out = unsafe { all.rows(tile.clone()) };
            for (row, out) in tile.zip(out.chunks_exact_mut(stride)) {
                out.fill(0.0);
                let out = &mut out[..columns];
                centres.of(row).iter().for_each(|&centre| add_scaled(out, 1.0, grad.row(centre as usize)));
                for &place in places.of(row) {
                    let centre = centre_of[place as usize] as usize;
                    add_scaled(out, window.share(centre), grad.row(centre));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, columns: usize) -> PaddedRows {
        let mut rows = PaddedRows::default();
        rows.zeros(count, columns);
        for row in 0..count {
            rows.row_mut(row).iter_mut().enumerate().for_each(|(i, x)| *x = ((row * 13 + i * 7) as f32).cos());
        }
        rows
    }

    /// Five centres of six rows; one sees nothing, one sees a row twice.
    const OWN: [u32; 5] = [0, 5, 2, 2, 1];
    const STARTS: [u32; 6] = [0, 3, 3, 4, 8, 9];
    const SEEN: [u32; 9] = [1, 2, 1, 4, 0, 1, 3, 5, 2];

    fn window(scale: f32) -> WindowRows<'static> {
        WindowRows { own: &OWN, starts: &STARTS, rows: &SEEN, scale }
    }

    #[test]
    fn a_row_is_the_centres_own_and_the_mean_of_what_it_sees() {
        let (x, mut z) = (rows(6, 21), rows(9, 40));
        WindowMeans::default().forward(&window(0.5), &x, &mut z);
        for (centre, &own) in OWN.iter().enumerate() {
            let seen = &SEEN[STARTS[centre] as usize..STARTS[centre + 1] as usize];
            for column in 0..21 {
                let sum: f32 = seen.iter().map(|&row| x.row(row as usize)[column]).sum();
                let expected = x.row(own as usize)[column] + 0.5 * sum / seen.len().max(1) as f32;
                assert!((z.row(centre)[column] - expected).abs() < 1e-6, "centre {centre}");
            }
        }
    }

    #[test]
    fn the_gradient_is_the_transpose() {
        let (x, grad, mut z, mut of_x) = (rows(6, 5), rows(5, 5), PaddedRows::default(), rows(6, 5));
        let mut mean = WindowMeans::default();
        mean.forward(&window(0.7), &x, &mut z);
        mean.backward(&window(0.7), &grad, &mut of_x);
        // z is linear in x: <grad, z(x)> = <of_x, x>
        let dot = |a: &PaddedRows, b: &PaddedRows| -> f32 {
            (0..a.rows())
                .flat_map(|row| a.row(row).iter().zip(b.row(row)).map(|(a, b)| a * b).collect::<Vec<_>>())
                .sum()
        };
        assert!((dot(&grad, &z) - dot(&of_x, &x)).abs() < 1e-5);
        assert!(of_x.row(4).iter().zip(grad.row(2)).all(|(found, grad)| (found - 0.7 * grad).abs() < 1e-6));
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let starts: Vec<u32> = (0..=300).map(|centre| centre * 9).collect();
        let own: Vec<u32> = (0..300).map(|centre| centre * 7 % 100).collect();
        let seen: Vec<u32> = (0..2700).map(|place| place * 31 % 100).collect();
        let window = WindowRows { own: &own, starts: &starts, rows: &seen, scale: 1.0 };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (mut mean, mut z, mut of_x) = (WindowMeans::default(), PaddedRows::default(), rows(100, 30));
            pool.install(|| {
                mean.forward(&window, &rows(100, 30), &mut z);
                mean.backward(&window, &z, &mut of_x);
            });
            of_x.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert!(on(2) == on(1) && on(3) == on(1));
    }
}
