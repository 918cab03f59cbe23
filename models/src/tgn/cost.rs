//! What a training step of a TGN costs, from shapes alone: the arithmetic and the traffic no implementation can do without.
//!
//! Counted are matrix products and the attention's dots and sums, a multiplication and an addition as two operations; gates, softmax and
//! cosines are a row's width each and left out. The algebra is the cheapest known to be exact:
//!
//! - each distinct node and each distinct (node, time) is computed once;
//! - a message's own-memory columns and `W_hh` read the same row, so for the gates that add their products they are one matrix;
//! - keys and values are never made: `q . (x Wk) = (Wk q) . x` and `sum a (x Wv) = (sum a x) Wv`, `x = [row | e | phi(dt)]`;
//! - what is the same for all rows, `phi(0)` in a query, is multiplied once;
//! - stored memories, mails and features are constants: no gradient runs to them.
//!
//! ```text
//! memory     forward  R (2D + E + T) G + R D A + S D G        G = 3D, A = D (GRU); G = D, A = 0 (RNN)
//!            backward the same again for the weights, and R T G for the time encoding
//! attention  forward  C W O + 2 C O X + 2 N H X               X = W + E + T, W = D (+ S, static memory behind it) or, above the first layer, O
//!            backward 2 C W O + 4 C O X + 2 N H X + 2 N H (W + T)
//!   paper    forward  C O O + C (O + W) O + C O O,  backward twice that
//!   conv     forward  C W O,  backward twice that
//! decoder    forward  (P_src + P_dst) O O + P O,  backward twice that
//! static     forward  U S D where it is added,  backward that, or where it is tuned twice that
//! ```
//!
//! in products of one multiplication and one addition: `R` receivers of mail, `S` nodes updated without, `C` centres, `N` neighbours shown,
//! `P_src`, `P_dst` distinct rows among the pairs' ends.
//!
//! Bytes are those that have to come from memory and go back when nothing is left in the caches from the step before: weights, both moments
//! and gradients read and written once, memory rows and mail of the distinct nodes read and of the batch's nodes written, neighbours, and
//! each feature row once. What lives only within a step is not counted.

use rustc_hash::FxHashSet;
use tempograph_framework::{Batch, MailView, Queries, View};

use super::FeatureWidths;
use super::decoder::PAIR_COLUMNS;
use super::spec::{Attention, Embedding, Message, TgnSpec, Updater};
use crate::disttgl::{StaticSpec, Wiring};

/// Operations of Adam's step on one weight: two moving averages, a root, a quotient, a difference.
const ADAM: f64 = 14.0;
/// A waiting mail without the other end's memory: event, other end, time, time of the last update.
const MAIL_BYTES: f64 = 28.0;
/// A neighbour: node, event, time.
const LINK_BYTES: f64 = 20.0;
const F32: f64 = 4.0;

/// The sizes of a step that its cost depends on. All costs are linear in them, so the mean step has the mean cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepSizes {
    /// Distinct nodes read, `U`.
    pub nodes: f64,
    /// Distinct nodes whose memory and mail are written.
    pub written: f64,
    /// Nodes that read mail.
    pub receivers: f64,
    /// Nodes updated without mail.
    pub silent: f64,
    /// Mails read.
    pub mails: f64,
    /// One for each hop, the roots' own first.
    pub hops: Vec<HopSizes>,
    /// Distinct events among mails and neighbours.
    pub feature_rows: f64,
    /// Pairs scored, `P`.
    pub pairs: f64,
    /// Distinct rows among the pairs' sources.
    pub sources: f64,
    /// Distinct rows among the pairs' destinations.
    pub destinations: f64,
}

/// The sizes of a hop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HopSizes {
    /// Centres, `C`.
    pub centres: f64,
    /// Neighbours shown to all of them together.
    pub neighbours: f64,
}

/// What a step costs: operations, and bytes to and from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepCost {
    /// Operations of the forward pass.
    pub forward: f64,
    /// Operations of the backward pass.
    pub backward: f64,
    /// Operations of the optimiser's step.
    pub optimiser: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

impl StepCost {
    /// Floating-point operations of the whole step.
    pub fn flops(&self) -> f64 {
        self.forward + self.backward + self.optimiser
    }
}

impl StepSizes {
    /// The sizes of the step that learns from `batch`, asked and shown as it is.
    pub fn of(queries: &Queries, view: &View, batch: &Batch<'_>) -> StepSizes {
        let mut events: FxHashSet<u64> = FxHashSet::default();
        let [receivers, silent] = match &view.mail {
            MailView::Last(plan) => {
                let with_mail = plan.event.iter().zip(&plan.empty).filter(|(_, empty)| !**empty);
                events.extend(with_mail.map(|(event, _)| event));
                let silent = plan.empty.iter().filter(|empty| **empty).count();
                [plan.rows.len() - silent, silent]
            }
            MailView::Many(mails) => {
                events.extend(&mails.event);
                let silent = mails.starts.windows(2).filter(|ends| ends[0] == ends[1]).count();
                [mails.rows.len() - silent, silent]
            }
        };
        let mails = match &view.mail {
            MailView::Last(_) => receivers,
            MailView::Many(mails) => mails.event.len(),
        };
        for hop in &view.hops {
            let near = &hop.neighbours;
            for (events_of, &count) in near.event.chunks(near.k.max(1)).zip(&near.count) {
                events.extend(&events_of[..count as usize]);
            }
        }
        let rows = |end: fn(&tempograph_framework::Pair) -> u32| {
            let distinct: FxHashSet<u32> = queries.pairs().iter().map(|pair| view.roots[end(pair) as usize]).collect();
            distinct.len() as f64
        };
        let written: FxHashSet<u32> = batch.src.iter().chain(batch.dst).map(|node| node.0).collect();
        let hops = view.hops.iter().map(|hop| HopSizes {
            centres: hop.centres.len() as f64,
            neighbours: hop.neighbours.count.iter().map(|&count| f64::from(count)).sum(),
        });
        StepSizes {
            nodes: view.nodes.len() as f64,
            written: written.len() as f64,
            receivers: receivers as f64,
            silent: silent as f64,
            mails: mails as f64,
            hops: hops.collect(),
            feature_rows: events.len() as f64,
            pairs: queries.pairs().len() as f64,
            sources: rows(|pair| pair.src),
            destinations: rows(|pair| pair.dst),
        }
    }

    /// The mean of some steps of one model; nothing for no steps.
    pub fn mean(steps: &[StepSizes]) -> StepSizes {
        let mut mean = StepSizes::default();
        let share = 1.0 / steps.len().max(1) as f64;
        for step in steps {
            mean.hops.resize(step.hops.len(), HopSizes::default());
            for (sum, one) in mean.numbers_mut().into_iter().zip(step.clone().numbers_mut()) {
                *sum += share * *one;
            }
        }
        mean
    }

    fn numbers_mut(&mut self) -> Vec<&mut f64> {
        let StepSizes { nodes, written, receivers, silent, mails, hops, feature_rows, pairs, sources, destinations } =
            self;
        let hops = hops.iter_mut().flat_map(|HopSizes { centres, neighbours }| [centres, neighbours]);
        [nodes, written, receivers, silent, mails, feature_rows, pairs, sources, destinations]
            .into_iter()
            .chain(hops)
            .collect()
    }
}

/// What a training step of these sizes costs, by the formulas at the top of `cost.rs`.
pub fn step_cost(spec: &TgnSpec, features: FeatureWidths, sizes: &StepSizes) -> StepCost {
    let mut products = Products::default();
    products.memory(spec, features.edge, sizes);
    products.map(sizes.nodes, features.node, spec.memory, 0);
    products.static_map(spec, sizes.nodes);
    for (i, hop) in sizes.hops.iter().enumerate() {
        let input = if i + 1 == sizes.hops.len() { spec.hidden_width() } else { spec.width };
        products.layer(spec, input, features.edge, *hop);
    }
    products.decoder(spec, sizes);
    let weights = parameters(spec, features) as f64;
    StepCost {
        forward: 2.0 * products.forward,
        backward: 2.0 * products.backward,
        optimiser: ADAM * weights,
        bytes: bytes(spec, features, sizes, weights),
    }
}

/// Products of one multiplication and one addition.
#[derive(Default)]
struct Products {
    forward: f64,
    backward: f64,
}

impl Products {
    /// A linear map of `rows` rows. Its backward pass gives the gradients of the weights and of `learned` of the inputs.
    fn map(&mut self, rows: f64, inputs: usize, outputs: usize, learned: usize) {
        self.forward += rows * (inputs * outputs) as f64;
        self.backward += rows * ((inputs + learned) * outputs) as f64;
    }

    fn memory(&mut self, spec: &TgnSpec, edge: usize, sizes: &StepSizes) {
        let StepSizes { receivers, silent, mails, .. } = *sizes;
        let TgnSpec { memory, time, .. } = *spec;
        let raw = 2 * memory + edge + time;
        let (gates, apart) = match spec.updater {
            Updater::Gru => (3 * memory, memory),
            Updater::Rnn => (memory, 0),
        };
        self.map(silent, memory, gates, 0);
        match spec.message {
            Message::Identity => {
                self.map(receivers, raw, gates, time);
                self.map(receivers, memory, apart, 0);
            }
            Message::Mlp => {
                self.map(mails, raw, raw / 2, time);
                self.map(mails, raw / 2, memory, raw / 2);
                self.map(receivers, memory, gates, memory);
                self.map(receivers, memory, gates, 0);
            }
        }
    }

    /// Static memory mapped into the memory's width, where it is added.
    fn static_map(&mut self, spec: &TgnSpec, nodes: f64) {
        if let StaticSpec { how: Wiring::Add, width, .. } = spec.static_memory {
            self.map(nodes, width, spec.memory, if spec.static_memory.tuned() > 0 { width } else { 0 });
        }
    }

    fn layer(&mut self, spec: &TgnSpec, input: usize, edge: usize, hop: HopSizes) {
        let HopSizes { centres, neighbours } = hop;
        let TgnSpec { time, width, heads, .. } = *spec;
        let x = input + edge + time;
        match spec.embedding {
            Embedding::Attention => {
                self.map(centres, input, width, input);
                self.map(centres, width, x, width);
                self.attend(neighbours * heads as f64, x, input + time);
                self.map(centres, x, width, x);
                match spec.attention {
                    Attention::Paper => {
                        self.map(1.0, time, width, time);
                        self.map(centres, width, width, width);
                        self.map(centres, width + input, width, width + input);
                        self.map(centres, width, width, width);
                    }
                    Attention::TransformerConv => self.map(centres, input, width, input),
                }
            }
            Embedding::Sum => {
                self.forward += neighbours * x as f64;
                self.backward += neighbours * (input + time) as f64;
                self.map(centres, x, width, input + time);
                self.map(centres, width + input, width, width + input);
                self.map(1.0, time, width, time);
            }
            Embedding::Time | Embedding::Identity => {}
        }
    }

    /// Scores and sums of `reads` rows of `x` columns, `learned` of which have a gradient.
    fn attend(&mut self, reads: f64, x: usize, learned: usize) {
        self.forward += reads * (2 * x) as f64;
        self.backward += reads * (2 * x + 2 * learned) as f64;
    }

    fn decoder(&mut self, spec: &TgnSpec, sizes: &StepSizes) {
        let (input, width) = (spec.embedding_width(), spec.width);
        self.map(sizes.sources + sizes.destinations, input, width, input);
        if spec.pair_features {
            self.map(sizes.pairs, PAIR_COLUMNS, width, 0);
            self.map(sizes.pairs, width, width, width);
        }
        self.map(sizes.pairs, width, 1, width);
    }
}

fn bytes(spec: &TgnSpec, features: FeatureWidths, sizes: &StepSizes, weights: f64) -> f64 {
    let row = F32 * spec.memory as f64;
    let mail = MAIL_BYTES + row;
    let neighbours: f64 = sizes.hops.iter().map(|hop| hop.neighbours).sum();
    // weights, two moments and gradients, each read and written
    let learned = 8.0 * F32 * weights;
    let static_width = spec.static_memory.on().map_or(0, |part| part.width);
    let read = sizes.nodes * (row + F32 * (features.node + static_width) as f64) + sizes.mails * mail;
    let shown = neighbours * LINK_BYTES + sizes.feature_rows * F32 * features.edge as f64;
    learned + read + shown + sizes.written * (row + mail)
}

/// Learned numbers of a model.
fn parameters(spec: &TgnSpec, features: FeatureWidths) -> usize {
    let TgnSpec { memory, time, width, .. } = *spec;
    let linear = |inputs: usize, outputs: usize| (inputs + 1) * outputs;
    let raw = 2 * memory + features.edge + time;
    let gates = if spec.updater == Updater::Gru { 3 * memory } else { memory };
    let (message, input) = match spec.message {
        Message::Identity => (0, raw),
        Message::Mlp => (linear(raw, raw / 2) + linear(raw / 2, memory), memory),
    };
    let updater = 2 * time + message + linear(input, gates) + linear(memory, gates);
    let nodes = if features.node > 0 { linear(features.node, memory) } else { 0 };
    let layer = |depth: usize| {
        let input = if depth == 0 { spec.hidden_width() } else { width };
        let x = input + features.edge + time;
        match (spec.embedding, spec.attention) {
            (Embedding::Attention, Attention::Paper) => {
                linear(input + time, width)
                    + 2 * linear(x, width)
                    + 2 * linear(width, width)
                    + linear(width + input, width)
            }
            (Embedding::Attention, Attention::TransformerConv) => {
                4 * linear(input, width) + (features.edge + time) * width
            }
            (Embedding::Sum, _) => linear(x, width) + linear(width + input + time, width),
            (Embedding::Time, _) => memory,
            (Embedding::Identity, _) => 0,
        }
    };
    let depth = if matches!(spec.embedding, Embedding::Attention | Embedding::Sum) { spec.layers } else { 1 };
    let pair = if spec.pair_features { linear(PAIR_COLUMNS, width) + width * width } else { 0 };
    let decoder = 2 * linear(spec.embedding_width(), width) + pair + linear(width, 1);
    let static_memory = spec.static_memory.on().map_or(0, |part| {
        let map = if part.how == Wiring::Add { linear(part.width, memory) } else { 0 };
        map + part.tuned() * part.width
    });
    updater + nodes + static_memory + (0..depth).map(layer).sum::<usize>() + decoder
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
