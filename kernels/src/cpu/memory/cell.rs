//! Elementwise parts of the recurrent cells, one row at a time, in place.
use crate::cpu::vector::math::{sigmoid, tanh};
use crate::cpu::vector::simd::vectorised;

/// `[b_ih, b_hh]`.
pub(crate) type Biases<'a> = [&'a [f32]; 2];

vectorised! {
    /// New memory `out` `[D]` of a GRU with memory `h` `[D]`. `gates` `[3D]` hold products on entry (for r and z the
    /// sum of both, for n that of the message) and r, z and n on return. `recurrent` `[D]` holds `W_hn h` on entry; on
    /// return its bias is added.
    pub(crate) fn gru<I>(out: &mut [f32], gates: &mut [f32], recurrent: &mut [f32], biases: Biases<'_>, h: &[f32]) {
        let d = h.len();
        let [b_ih, b_hh] = biases;
        let (gates, n) = gates.split_at_mut(2 * d);
        for ((gate, &b), &c) in gates.iter_mut().zip(b_ih).zip(b_hh) {
            *gate = sigmoid::<I>(*gate + b + c);
        }
        let (r, z) = gates.split_at(d);
        for (recurrent, &c) in recurrent.iter_mut().zip(&b_hh[2 * d..]) {
            *recurrent += c;
        }
        for (((n, &b), &r), &recurrent) in n.iter_mut().zip(&b_ih[2 * d..]).zip(r).zip(&*recurrent) {
            *n = tanh::<I>(I::mul_add(r, recurrent, *n + b));
        }
        for (((out, &n), &z), &h) in out.iter_mut().zip(&*n).zip(z).zip(h) {
            *out = I::mul_add(z, h - n, n);
        }
    }
}

vectorised! {
    /// Converts r, z, n and the recurrent product, as written by [`gru`], into the gradients of the gates' arguments,
    /// given the gradient of the new memory. All `[D]`.
    pub(crate) fn gru_backward<I>(r: &mut [f32], z: &mut [f32], n: &mut [f32], recurrent: &mut [f32], h: &[f32], grad: &[f32]) {
        let d = h.len();
        let (r, z, n, recurrent, grad) = (&mut r[..d], &mut z[..d], &mut n[..d], &mut recurrent[..d], &grad[..d]);
        for i in 0..d {
            let (old_r, old_z, old_n) = (r[i], z[i], n[i]);
            let into_n = grad[i] * (1.0 - old_z) * (1.0 - old_n * old_n);
            z[i] = grad[i] * (h[i] - old_n) * old_z * (1.0 - old_z);
            r[i] = into_n * recurrent[i] * old_r * (1.0 - old_r);
            recurrent[i] = into_n * old_r;
            n[i] = into_n;
        }
    }
}

vectorised! {
    /// New memory `out` `[D]` of a plain recurrent cell. `sum` `[D]` holds the sum of both products on entry and the
    /// memory on return.
    pub(crate) fn rnn<I>(out: &mut [f32], sum: &mut [f32], biases: Biases<'_>) {
        let [b_ih, b_hh] = biases;
        for ((sum, &b), &c) in sum.iter_mut().zip(b_ih).zip(b_hh) {
            *sum = tanh::<I>(*sum + b + c);
        }
        out.copy_from_slice(sum);
    }
}

vectorised! {
    /// Converts the memory written by [`rnn`] into the gradient of its argument.
    pub(crate) fn rnn_backward<I>(memory: &mut [f32], grad: &[f32]) {
        for (memory, &grad) in memory.iter_mut().zip(grad) {
            *memory = grad * (1.0 - *memory * *memory);
        }
    }
}
