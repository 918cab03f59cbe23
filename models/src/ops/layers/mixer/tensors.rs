//! The token mixer on tensors.

use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::Tensor;

use crate::operation::TensorContext;
use crate::ops::layers::mixer::TokenMixer;

impl TokenMixer {
    /// Rows of the centres, `[C, W]`.
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>) -> Tensor<B, 2> {
        let (neighbours, k, width) = (&cx.view.hops[self.hop].neighbours, self.tokens, self.settings.channels);
        let centres = neighbours.roots;
        let seen = |at: usize| at % k < neighbours.count[at / k] as usize;
        let mut features = vec![0.0; centres * k * self.edge];
        if let Some(rows) = cx.view.edge_features.as_ref().filter(|_| self.edge > 0) {
            for (at, token) in features.chunks_exact_mut(self.edge).enumerate().filter(|(at, _)| seen(*at)) {
                token.copy_from_slice(rows.row(neighbours.event[at]));
            }
        }
        let there = (0..centres * k).map(|at| f32::from(u8::from(seen(at)))).collect();
        let time = self.time.encode(cx, &neighbours.dt) * cx.from_rows(there, [centres * k, 1]);
        let tokens = match self.edge {
            0 => time,
            edge => Tensor::cat(vec![cx.from_rows(features, [centres * k, edge]), time], 1),
        };
        // `[C a, b]` to `[C b, a]`
        let turn =
            |x: Tensor<B, 2>, a: usize, b: usize| x.reshape([centres, a, b]).swap_dims(1, 2).reshape([centres * b, a]);
        let mut x = cx.linear(&self.input, tokens);
        for [over_tokens, over_channels] in &self.layers {
            let mixed = over_tokens.on_tensors(cx, turn(x.clone(), k, width));
            x = x + turn(mixed, width, k);
            x = x.clone() + over_channels.on_tensors(cx, x);
        }
        x.reshape([centres, k, width]).mean_dim(1).squeeze_dim(1)
    }
}
