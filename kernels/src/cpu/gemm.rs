//! Matrix products over views of slices.

/// A matrix read in place.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    elements: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, rows `stride` apart.
    pub(crate) fn new(elements: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(elements.len(), rows, columns, stride);
        Self { elements, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// A row-major matrix written in place.
pub(crate) struct MatrixMut<'a> {
    elements: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Rows `stride` apart.
    pub(crate) fn new(elements: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(elements.len(), rows, columns, stride);
        Self { elements, rows, columns, stride }
    }
}

fn check(length: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride || rows <= 1, "rows of {columns} are {stride} apart");
    let needed = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(needed <= length, "[{rows}, {columns}] with rows {stride} apart needs {needed} numbers of {length}");
}

/// What happens to the numbers already there.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Into {
    Replace,
    Add,
}

/// `out = lhs rhs` or `out += lhs rhs`, on this thread.
pub(crate) fn multiply(out: MatrixMut<'_>, into: Into, lhs: Matrix<'_>, rhs: Matrix<'_>) {
    assert_eq!((out.rows, out.columns, lhs.columns), (lhs.rows, rhs.columns, rhs.rows), "a matrix product with unequal sides");
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    // SAFETY: every view was checked to lie in its slice when it was made, and the sides agree.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            lhs.columns,
            out.elements.as_mut_ptr(),
            1,
            out.stride as isize,
            into == Into::Add,
            lhs.elements.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.elements.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_are_sums_over_the_shared_side() {
        let (m, n, k) = (5, 7, 9);
        let a: Vec<f32> = (0..m * 11).map(|i| (i % 13) as f32 - 6.0).collect();
        let b: Vec<f32> = (0..n * 10).map(|i| (i % 7) as f32 - 3.0).collect();
        let mut out = vec![1.0; m * 8];
        multiply(MatrixMut::new(&mut out, m, n, 8), Into::Add, Matrix::new(&a, m, k, 11), Matrix::new(&b, n, k, 10).t());
        multiply(MatrixMut::new(&mut out, 1, n, 8), Into::Replace, Matrix::new(&a, 1, 0, 11), Matrix::new(&b, n, 0, 10).t());
        for (i, row) in out.chunks(8).enumerate() {
            for (j, &value) in row.iter().enumerate() {
                let dot: f32 = (0..k).map(|x| a[i * 11 + x] * b[(j % n) * 10 + x]).sum();
                let expected = if j == 7 {
                    1.0
                } else if i == 0 {
                    0.0
                } else {
                    1.0 + dot
                };
                assert_eq!(value, expected, "[{i}, {j}]");
            }
        }
    }
}
