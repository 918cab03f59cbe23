//! Elementwise parts of the recurrent cells, one row at a time.
//!
//! Every loop writes one array: that keeps the aliasing question small enough for the compiler to vectorise.
use super::math::{sigmoid, tanh};
use super::simd::vectorised;

/// `[b_ih, b_hh]`.
pub(super) type Biases<'a> = [&'a [f32]; 2];

vectorised! {
    /// New memory `out` `[D]` of a GRU, from `input` `[3D]` (for r and z the sum of both products, for n that of the
    /// message), `recurrent` `[D]` (`W_hn h`) and the memory `h` `[D]`. Keeps r, z, n and `W_hn h + b_hn` in `kept` `[4D]`.
    pub(super) fn gru<I>(out: &mut [f32], kept: &mut [f32], input: &[f32], recurrent: &[f32], biases: Biases<'_>, h: &[f32]) {
        let d = h.len();
        let [b_ih, b_hh] = biases;
        let (gates, rest) = kept.split_at_mut(2 * d);
        let (n, hidden) = rest.split_at_mut(d);
        for (((gate, &x), &b), &c) in gates.iter_mut().zip(input).zip(b_ih).zip(b_hh) {
            *gate = sigmoid::<I>(x + b + c);
        }
        let (r, z) = gates.split_at(d);
        for ((hidden, &x), &c) in hidden.iter_mut().zip(recurrent).zip(&b_hh[2 * d..]) {
            *hidden = x + c;
        }
        for ((((n, &x), &b), &r), &hidden) in n.iter_mut().zip(&input[2 * d..]).zip(&b_ih[2 * d..]).zip(r).zip(&*hidden) {
            *n = tanh::<I>(I::mul_add(r, hidden, x + b));
        }
        for (((out, &n), &z), &h) in out.iter_mut().zip(&*n).zip(z).zip(h) {
            *out = I::mul_add(z, h - n, n);
        }
    }
}

vectorised! {
    /// Gradients of the arguments of [`gru`]: `input` `[3D]` and `recurrent` `[D]`, from the gradient of the new memory.
    pub(super) fn gru_backward<I>(input: &mut [f32], recurrent: &mut [f32], kept: &[f32], h: &[f32], grad: &[f32]) {
        let d = h.len();
        let (gates, rest) = kept.split_at(2 * d);
        let (r, z) = gates.split_at(d);
        let (n, hidden) = rest.split_at(d);
        let (into_gates, into_n) = input.split_at_mut(2 * d);
        let (into_r, into_z) = into_gates.split_at_mut(d);
        for (((into_n, &n), &z), &grad) in into_n.iter_mut().zip(n).zip(z).zip(grad) {
            *into_n = grad * (1.0 - z) * (1.0 - n * n);
        }
        for ((recurrent, &into_n), &r) in recurrent.iter_mut().zip(&*into_n).zip(r) {
            *recurrent = into_n * r;
        }
        for (((into_r, &into_n), &r), &hidden) in into_r.iter_mut().zip(&*into_n).zip(r).zip(hidden) {
            *into_r = into_n * hidden * r * (1.0 - r);
        }
        for ((((into_z, &n), &z), &h), &grad) in into_z.iter_mut().zip(n).zip(z).zip(h).zip(grad) {
            *into_z = grad * (h - n) * z * (1.0 - z);
        }
    }
}

vectorised! {
    /// New memory `out` `[D]` of a plain recurrent cell, from the sum of both products.
    pub(super) fn rnn<I>(out: &mut [f32], kept: &mut [f32], input: &[f32], biases: Biases<'_>) {
        let [b_ih, b_hh] = biases;
        for (((out, &x), &b), &c) in out.iter_mut().zip(input).zip(b_ih).zip(b_hh) {
            *out = tanh::<I>(x + b + c);
        }
        kept.copy_from_slice(out);
    }
}

vectorised! {
    /// Gradient of the argument `input` `[D]` of [`rnn`], from the gradient of the new memory.
    pub(super) fn rnn_backward<I>(input: &mut [f32], kept: &[f32], grad: &[f32]) {
        for ((input, &out), &grad) in input.iter_mut().zip(kept).zip(grad) {
            *input = grad * (1.0 - out * out);
        }
    }
}
