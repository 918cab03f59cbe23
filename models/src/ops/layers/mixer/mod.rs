//! Mixing of the events shown to each centre, as MLP-Mixer does (Tolstikhin et al., 2021, arXiv:2105.01601; GraphMixer,
//! Cong et al., ICLR 2023, eq. 1-2).
//!
//! ```text
//! X  = [e_i | phi(t - t_i)] Wᵀ + b            K tokens of a centre, [K, W]; the input of a slot without an event is zeros
//! X  = X + F_t(norm(Xᵀ))ᵀ                     over the tokens of each column
//! X  = X + F_c(norm(X))                       over the columns of each token
//! z  = mean of the K rows of X                behind all layers
//! F(x) = drop(W2 drop(gelu(W1 x + b1)) + b2)
//! ```
//!
//! The position of a token is its slot. The newest event of a centre has the first slot. Empty slots are mixed like any
//! other.
mod feed_forward;
mod slices;
mod tensors;

use tempograph_kernels::tensor::{CpuTape, Tensor};

pub(crate) use feed_forward::{FeedForward, FeedForwardStage, Scratch};

use crate::operation::{Axis, Builder, Map, Operation, Products, Shape, Stage, StepSizes, TensorContext, Value};
use crate::ops::tables::time::AnyTimeEncoding;

/// Settings of a token mixer.
#[derive(Clone, Copy, Debug)]
pub struct MixerSettings {
    /// Columns `W` of a token.
    pub channels: usize,
    /// Layers, each of which mixes tokens, then columns.
    pub layers: usize,
    /// Columns inside the maps over tokens, relative to the number of tokens.
    pub token_expansion: f32,
    /// Columns inside the maps over columns, relative to the number of columns.
    pub channel_expansion: f32,
    /// Share of the numbers that a training step drops, after each map except the first.
    pub dropout: f32,
}

/// Mixes the events shown to the centres of a hop.
#[derive(Clone, Debug)]
pub struct TokenMixer {
    pub(crate) settings: MixerSettings,
    /// Tokens `K` of a centre.
    pub(crate) tokens: usize,
    /// Columns of the edge features.
    pub(crate) edge: usize,
    pub(crate) hop: usize,
    pub(crate) time: AnyTimeEncoding,
    pub(crate) input: Map,
    /// Over tokens and over columns, by layer.
    pub(crate) layers: Vec<[FeedForward; 2]>,
}

impl Builder {
    /// Rows of the centres of `hop`, `[C, W]`, from the events they are shown. Parameters are called `NAME.input…`,
    /// `NAME.layers.0.tokens…` and `NAME.layers.0.channels…`. Call [`Builder::neighbours`] before.
    pub fn token_mixer(
        &mut self,
        name: &str,
        hop: usize,
        time: impl Into<AnyTimeEncoding>,
        settings: MixerSettings,
    ) -> Value {
        let (time, edge) = (time.into(), self.edge_width());
        self.require_neighbours(hop);
        let MixerSettings { channels, layers, token_expansion, channel_expansion, dropout } = settings;
        let tokens = self.needs.neighbours;
        let [inner_tokens, inner_channels] = [(token_expansion, tokens), (channel_expansion, channels)]
            .map(|(expansion, width)| (f64::from(expansion) * width as f64) as usize);
        let columns = [
            ("model.channels", channels),
            ("model.neighbours", tokens),
            ("model.neighbours * model.token_expansion", inner_tokens),
            ("model.channels * model.channel_expansion", inner_channels),
        ];
        if let Some((what, _)) = columns.iter().find(|(_, columns)| *columns == 0) {
            self.fail(format!("{what} is below 1; a token mixer needs at least 1 token and 1 column"));
        }
        let input = self.parameters.linear(&format!("{name}.input"), edge + time.width(), channels, true);
        let mut stream = 0;
        let mut mix = |part: &str, layer: usize, width: usize, inner: usize| {
            stream += 2;
            let name = format!("{name}.layers.{layer}.{part}");
            FeedForward::declare(&mut self.parameters, &name, [width, inner], dropout, stream - 2)
        };
        let layers = (0..layers)
            .map(|i| [mix("tokens", i, tokens, inner_tokens), mix("channels", i, channels, inner_channels)])
            .collect();
        let op = TokenMixer { settings, tokens, edge, hop, time, input, layers };
        let shape = Shape { axis: Axis::Centres(hop), width: channels };
        self.push(name, op, &[], shape)
    }
}

impl Operation for TokenMixer {
    fn describe(&self) -> String {
        let MixerSettings { layers, .. } = self.settings;
        format!("mixer of {} tokens, {layers} layers, {}", self.tokens, self.time.describe())
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(slices::MixerStage::new(self.clone()))
    }

    fn has_dropout(&self) -> bool {
        self.settings.dropout > 0.0
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let (tokens, channels) = (self.tokens as f64, self.settings.channels as f64);
        let centres = sizes.hop(self.hop).centres;
        let learned = if self.time.learned().is_some() { self.time.width() } else { 0 };
        products.map(centres * tokens, self.input.inputs, self.input.outputs, learned);
        for [over_tokens, over_channels] in &self.layers {
            over_tokens.cost(centres * channels, products);
            over_channels.cost(centres * tokens, products);
        }
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, _: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx)
    }
}
