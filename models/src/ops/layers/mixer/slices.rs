//! The token mixer on slices.

use tempograph_kernels::cpu::{
    Activation, InputGradient, Linear, PaddedRows, TokenTimeGradients, add, group_means, group_means_backward,
    token_rows, transpose_groups,
};

use crate::operation::{Context, Gradients, Stage, TableGradients, Tables};
use crate::ops::layers::mixer::{FeedForwardStage, Scratch, TokenMixer};

#[derive(Debug)]
pub(crate) struct MixerStage {
    op: TokenMixer,
    /// `[C K, E + T]`
    tokens: PaddedRows,
    of_tokens: PaddedRows,
    times: TokenTimeGradients,
    input: Linear,
    layers: Vec<[FeedForwardStage; 2]>,
    /// For maps over tokens, and over columns.
    scratch: [Scratch; 2],
    /// `[C K, W]` the tokens; in the backward pass their gradient.
    mixed: PaddedRows,
    /// `[C K, W]` what a block adds to the tokens.
    added: PaddedRows,
    /// `[C W, K]` the transposed tokens, and what a block adds to them.
    turned: [PaddedRows; 2],
}

impl MixerStage {
    pub fn new(op: TokenMixer) -> MixerStage {
        MixerStage {
            tokens: PaddedRows::default(),
            of_tokens: PaddedRows::default(),
            times: TokenTimeGradients::default(),
            input: Linear::default(),
            layers: op.layers.iter().map(|_| Default::default()).collect(),
            scratch: Default::default(),
            mixed: PaddedRows::default(),
            added: PaddedRows::default(),
            turned: Default::default(),
            op,
        }
    }
}

impl Stage for MixerStage {
    fn forward(&mut self, cx: &Context<'_>, _: Tables<'_>, out: &mut PaddedRows) {
        let MixerStage { op, tokens, input, layers, scratch: [of_tokens, of_channels], mixed, added, turned, .. } =
            self;
        let (k, width) = (op.tokens, op.settings.channels);
        let neighbours = &cx.view.hops[op.hop].neighbours;
        token_rows(neighbours, cx.view.edge_features.as_deref(), op.edge, op.time.weights(cx.weights), tokens);
        input.forward(tokens, cx.weights.linear(&op.input), Activation::None, mixed);
        for ([over_tokens, over_channels], maps) in layers.iter_mut().zip(&op.layers) {
            let [columns, mixed_columns] = &mut *turned;
            transpose_groups(mixed, k, columns);
            over_tokens.forward(&maps[0], cx, columns, of_tokens, mixed_columns);
            transpose_groups(mixed_columns, width, added);
            add(&mut mixed.values, &added.values);
            over_channels.forward(&maps[1], cx, mixed, of_channels, added);
            add(&mut mixed.values, &added.values);
        }
        group_means(mixed, k, out);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        _: Tables<'_>,
        grad: &mut PaddedRows,
        _: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let MixerStage { op, tokens, input, layers, scratch: [of_tokens, of_channels], mixed, added, turned, .. } =
            self;
        let (k, width) = (op.tokens, op.settings.channels);
        group_means_backward(grad, k, mixed);
        for ([over_tokens, over_channels], maps) in layers.iter_mut().zip(&op.layers).rev() {
            over_channels.backward(&maps[1], cx, mixed, of_channels, gradients, added);
            add(&mut mixed.values, &added.values);
            let [columns, mixed_columns] = &mut *turned;
            transpose_groups(mixed, k, mixed_columns);
            over_tokens.backward(&maps[0], cx, mixed_columns, of_tokens, gradients, columns);
            transpose_groups(columns, width, added);
            add(&mut mixed.values, &added.values);
        }
        let weight = cx.weights.values(op.input.weight);
        let Some(time) = op.time.learned() else {
            return input.backward(tokens, weight, mixed, gradients.map(&op.input), InputGradient::Unwanted);
        };
        let into = InputGradient::Replace(&mut self.of_tokens);
        input.backward(tokens, weight, mixed, gradients.map(&op.input), into);
        let neighbours = &cx.view.hops[op.hop].neighbours;
        let of_time = gradients.params_mut([time.freq, time.phase]);
        self.times.backward(neighbours, op.edge, time.weights(cx.weights), &self.of_tokens, of_time);
    }
}
