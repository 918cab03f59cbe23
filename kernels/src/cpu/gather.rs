//! Copies of rows, and their gradients.
use crate::cpu::vector::groups::Groups;
use crate::cpu::vector::math::add;
use rayon::prelude::*;

/// Rows per task.
const CHUNK: usize = 128;

/// `source[rows]`.
pub(crate) fn gather(source: &[f32], width: usize, rows: &[u32]) -> Vec<f32> {
    let mut out = vec![0.0; rows.len() * width];
    if width > 0 {
        out.par_chunks_mut(CHUNK * width).zip(rows.par_chunks(CHUNK)).for_each(|(out, rows)| {
            for (out, &row) in out.chunks_exact_mut(width).zip(rows) {
                out.copy_from_slice(&source[row as usize * width..][..width]);
            }
        });
    }
    out
}

/// `[count, width]`: row `r` is the sum of the rows of `grad` that were copied from it, in their order.
pub(crate) fn gather_backward(grad: &[f32], width: usize, rows: &[u32], count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count * width];
    if width == 0 {
        return out;
    }
    let mut groups = Groups::default();
    groups.fill(count, 0..rows.len() as u32, rows);
    out.par_chunks_mut(CHUNK * width).enumerate().for_each(|(chunk, out)| {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            for &position in groups.of(chunk * CHUNK + i) {
                add(out, &grad[position as usize * width..][..width]);
            }
        }
    });
    out
}
