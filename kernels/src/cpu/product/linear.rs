//! Linear maps of rows.
use std::ops::Range;

use crate::cpu::product::bf16::Precision;
use crate::cpu::product::gemm::{Matrix, Packed, WriteMode, gradient, multiply, padded};
use crate::cpu::product::version::Version;
use crate::cpu::vector::math::{add, column_sums, rectify};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::simd::vectorised;

/// Rows per task.
const TILE: usize = 48;

/// Rows of `columns` numbers, each padded with zeros for whole vectors.
#[derive(Clone, Debug, Default)]
pub struct PaddedRows {
    /// The numbers, rows [`stride`](Self::stride) apart.
    pub values: Vec<f32>,
    rows: usize,
    columns: usize,
    stride: usize,
}

impl PaddedRows {
    /// Resizes for rows that the caller will overwrite. The numbers are arbitrary.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        self.resize_with_stride(rows, columns, padded(columns));
    }

    /// The same with rows `stride` apart, a multiple of a vector.
    pub fn resize_with_stride(&mut self, rows: usize, columns: usize, stride: usize) {
        debug_assert!(stride >= padded(columns) && stride == padded(stride));
        (self.rows, self.columns, self.stride) = (rows, columns, stride);
        self.values.resize(rows * stride, 0.0);
    }

    /// Resizes to rows without padding, like memories and hidden rows. No product reads such rows;
    /// [`gather`](Self::gather) copies those it needs.
    pub fn resize_dense(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns, self.stride) = (rows, columns, columns);
        self.values.resize(rows * columns, 0.0);
    }

    /// Resizes to the shape of `other`. The numbers are arbitrary.
    pub fn resize_like(&mut self, other: &PaddedRows) {
        (self.rows, self.columns, self.stride) = (other.rows, other.columns, other.stride);
        self.values.resize(other.rows * other.stride, 0.0);
    }

    /// As [`resize`](Self::resize), all zero.
    pub fn zeros(&mut self, rows: usize, columns: usize) {
        self.values.clear();
        self.resize(rows, columns);
    }

    /// Copies `rows` of `source`, whose rows are `stride` apart.
    pub fn gather(&mut self, source: &[f32], stride: usize, columns: usize, rows: &[u32]) {
        self.resize(rows.len(), columns);
        let all = DisjointRows::new(&mut self.values, self.stride);
        in_chunks(rows.len(), TILE, |tile| {
            // SAFETY: tiles do not overlap.
            let out = unsafe { all.rows(tile.clone()) };
            for (out, &row) in out.chunks_exact_mut(self.stride.max(1)).zip(&rows[tile]) {
                out[..columns].copy_from_slice(&source[row as usize * stride..][..columns]);
                out[columns..].fill(0.0);
            }
        });
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers per row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// One row, without its padding.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..][..self.columns]
    }

    /// One row, without its padding.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.stride..][..self.columns]
    }

    /// Calls `task` with the index of each row and the row without its padding. It runs on all threads of the pool if
    /// `worth`, otherwise without entering the pool.
    pub fn for_each_row(&mut self, worth: bool, task: impl Fn(usize, &mut [f32]) + Sync) {
        let (rows, columns, stride) = (self.rows, self.columns, self.stride);
        let all = DisjointRows::new(&mut self.values, stride);
        let tile = |tile: Range<usize>| {
            // SAFETY: tiles do not overlap.
            let numbers = unsafe { all.rows(tile.clone()) };
            tile.zip(numbers.chunks_exact_mut(stride.max(1)))
                .for_each(|(row, numbers)| task(row, &mut numbers[..columns]));
        };
        if worth { in_chunks(rows, TILE, tile) } else { tile(0..rows) }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.values, self.rows, self.columns, self.stride)
    }
}

/// The activation after a linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(0, y)`.
    Relu,
}

/// `y = x Wᵀ + b`, `W` `[out, in]`, with an optional activation. Its weights stay packed until their version changes.
#[derive(Clone, Debug, Default)]
pub struct Linear {
    /// For the forward pass, of the weights of `version`.
    weight_t: Packed,
    version: Option<(Version, Precision)>,
    /// For the backward pass.
    weight: Packed,
}

/// Weights of a [`Linear`].
#[derive(Clone, Copy, Debug)]
pub struct LinearWeights<'a> {
    /// `[out, in]`
    pub weight: &'a [f32],
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    /// Version of both.
    pub version: Version,
    /// Precision of the products.
    pub precision: Precision,
}

impl Linear {
    /// Writes `y` `[n, out]` from `x` `[n, in]`.
    ///
    /// # Panics
    /// If shapes do not fit together.
    pub fn forward(&mut self, x: &PaddedRows, weights: LinearWeights<'_>, activation: Activation, y: &mut PaddedRows) {
        y.resize(x.rows, weights.weight.len() / x.columns.max(1));
        self.forward_into(x, weights, activation, y);
    }

    /// As [`forward`](Self::forward), into rows that already have their shape.
    pub fn forward_into(
        &mut self,
        x: &PaddedRows,
        weights: LinearWeights<'_>,
        activation: Activation,
        y: &mut PaddedRows,
    ) {
        let LinearWeights { weight, bias, version, precision } = weights;
        let (inputs, outputs, stride) = (x.columns, y.columns, y.stride);
        assert_eq!((weight.len(), y.rows), (outputs * inputs, x.rows), "the weight is not [{outputs}, {inputs}]");
        if self.version != Some((version, precision)) {
            self.weight_t.transpose(Matrix::new(weight, outputs, inputs, inputs), precision);
            self.version = Some((version, precision));
        }
        let (out, packed) = (DisjointRows::new(&mut y.values, stride), &self.weight_t);
        in_chunks(x.rows, TILE, |tile| {
            // SAFETY: tiles do not overlap.
            let out = unsafe { out.rows(tile.clone()) };
            let input = Matrix::new(&x.values[tile.start * x.stride..], tile.len(), inputs, x.stride);
            multiply(out, stride, WriteMode::Replace, input, packed);
            for row in out.chunks_exact_mut(stride) {
                if let Some(bias) = bias {
                    add(&mut row[..outputs], bias);
                }
                if activation == Activation::Relu {
                    relu(&mut row[..outputs]);
                }
            }
        });
    }

    /// Gradients, given that of `y` before the activation ([`relu_backward`]). `weight` and `bias` are overwritten; `x`
    /// is overwritten or added.
    pub fn backward(
        &mut self,
        x: &PaddedRows,
        weight: &[f32],
        y: &PaddedRows,
        [weight_gradient, bias_gradient]: [&mut [f32]; 2],
        into: InputGradient<'_>,
    ) {
        let mut of_weights = || {
            gradient(weight_gradient, x.columns, WriteMode::Replace, y.matrix(), x.matrix());
            column_sums(bias_gradient, &y.values, y.stride);
        };
        let (into, out) = match into {
            InputGradient::Unwanted => return of_weights(),
            InputGradient::Replace(out) => {
                out.resize(x.rows, x.columns);
                (WriteMode::Replace, out)
            }
            InputGradient::Add(out) => (WriteMode::Add, out),
        };
        assert_eq!((out.rows, out.columns), (x.rows, x.columns), "the gradient of the input is not like the input");
        rayon::join(of_weights, || self.input_gradient(weight, y, into, out));
    }

    fn input_gradient(&mut self, weight: &[f32], y: &PaddedRows, into: WriteMode, out: &mut PaddedRows) {
        let (inputs, outputs, stride) = (out.columns, y.columns, out.stride);
        let precision = self.version.map_or(Precision::F32, |(_, precision)| precision);
        self.weight.rows(Matrix::new(weight, outputs, inputs, inputs), precision);
        let (all, packed) = (DisjointRows::new(&mut out.values, stride), &self.weight);
        in_chunks(y.rows, TILE, |tile| {
            // SAFETY: tiles do not overlap.
            let out = unsafe { all.rows(tile.clone()) };
            let grad = Matrix::new(&y.values[tile.start * y.stride..], tile.len(), outputs, y.stride);
            multiply(out, stride, into, grad, packed);
        });
    }
}

/// The buffer for the gradient of a linear map's input.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// None: the input is constant.
    Unwanted,
    /// Overwritten.
    Replace(&'a mut PaddedRows),
    /// Added to the old numbers.
    Add(&'a mut PaddedRows),
}

vectorised! {
    /// `max(0, x)` in place; a NaN stays one.
    pub(crate) fn relu<I>(x: &mut [f32]) {
        for x in x {
            *x = rectify(*x);
        }
    }
}

vectorised! {
    /// Zeroes the gradient of what was rectified to zero.
    pub fn relu_backward<I>(grad: &mut [f32], rectified: &[f32]) {
        for (grad, &x) in grad.iter_mut().zip(rectified) {
            *grad = if x > 0.0 { *grad } else { 0.0 };
        }
    }
}
