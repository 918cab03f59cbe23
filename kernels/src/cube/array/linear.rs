//! Linear maps of rows, with their gradients: a bias is the column of the weight that meets a 1 in every row.
use crate::cube::array::matrix::Matrix;
use crate::cube::array::products::product;
use crate::cube::array::weights::Weight;
use crate::cube::launch::buffer::transposed;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

impl<R: CubeRuntime> Weight<R> {
    /// `x Wᵀ`, `[n, rows]`, of `x` `[n, columns]`.
    ///
    /// # Panics
    /// If `x` does not have the weight's columns.
    pub fn forward(&self, x: &Matrix<R>) -> Matrix<R> {
        self.check(x);
        let out = Matrix::new(&x.device, x.rows(), self.rows);
        if x.rows() > 0 {
            product(x.tensor(), transposed(&self.matrix().tensor()), out.tensor());
        }
        out
    }

    /// Writes the gradient of the weight from that of the output of [`forward`](Weight::forward), the first columns of
    /// `grad`.
    pub fn backward(&self, x: &Matrix<R>, grad: &Matrix<R>) {
        self.check(x);
        if x.rows() > 0 {
            let grad = x.device.columns(&grad.buffer, [x.rows(), self.rows], grad.columns());
            product(transposed(&grad), x.tensor(), x.device.tensor(&self.gradient, [self.rows, self.columns]));
        }
    }

    /// The gradient of `x`, `[n, columns]`, also of its 1 and its padding.
    pub fn backward_input(&self, grad: &Matrix<R>) -> Matrix<R> {
        let out = Matrix::new(&grad.device, grad.rows(), self.columns);
        if grad.rows() > 0 {
            let grad = grad.device.columns(&grad.buffer, [grad.rows(), self.rows], grad.columns());
            product(grad, self.matrix().tensor(), out.tensor());
        }
        out
    }

    /// As [`forward`](Weight::forward), with the columns of the result in blocks, written to `out` `[blocks, n, rows /
    /// blocks]`.
    pub(crate) fn forward_by_head(&self, x: &Matrix<R>, heads: usize, out: &CubeTensor<R>) {
        self.check(x);
        if x.rows() > 0 {
            let weights = x.device.blocks(&self.value, [heads, self.rows / heads, self.columns]);
            let x = x.device.blocks(&x.buffer, [1, x.rows(), self.columns]);
            product(x, transposed(&weights), out.clone());
        }
    }

    fn check(&self, x: &Matrix<R>) {
        assert_eq!(x.columns(), self.columns, "columns of a linear map");
    }
}
