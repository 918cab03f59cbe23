//! DistTGL's static memory: "DistTGL: Distributed Memory-Based Temporal Graph Neural Network Training", Zhou et al., SC 2023
//! (arXiv:2307.07649), section 3.1.
//!
//! A node's memory sees one mail of a batch: the larger the batch, the more of what happened is lost on it. What a node is like all the
//! time need not be read from there. So each node has a second, static memory `c_u` `[S]`, learned beforehand from the static graph, that
//! no batch size can touch, and it stands beside the memory where embeddings begin. Any kind of model may read it.
//!
//! ```text
//! h_u     = s_u(t) + W c_u + b                       how = "add"
//! h_u     = [s_u(t) | c_u]                           how = "concat"
//! z_u(t)  = emb(h_u, {h_v, e_uv, phi(t - t_e)})      as TGN's, of h in the place of s
//! c_u     = p_u + d_u                                p from the static graph, frozen; d learned with the model (train), zero at first
//!
//! p       = argmin  mean -ln sigmoid(y_uv) + mean -ln(1 - sigmoid(y_uw))      over the training events (u, v), w at random
//! y_uv    = f2 relu(f1 [p_u | p_v])                  the link decoder of the model
//! ```
//!
//! The paper says that static memory is pre-trained with the same task and gives its accuracy, but neither how, nor code: its repository
//! downloads the vectors. What was chosen here, and why:
//! - **A table and the decoder, nothing between** ([`StaticMemoryTrainer`]). A graph network over the static graph would tell neighbours what
//!   attention over them tells the model anyway; a table is what can be stored and needs no graph when it is read.
//! - **Training events only**, each as often as it happened, in a new random order each pass: the order is what the memory is for.
//! - **Negatives** are destinations of the events learned from, evenly, the event's own left out, as the model's own; those of the whole log
//!   would tell which nodes are still to come.
//! - **When to stop** is told by the last of the training events, held out, as far as they are between nodes the others name: pre-training
//!   runs on the others until the loss of these rises, then once more over all of them for as many passes. The loss and not a ranking decides, since it rises as soon as vectors know pairs by heart,
//!   and a model would trust that: it trains on the same events.
//! - **Weight decay** is strong, `lr * weight_decay` of a vector each time it is named: what one event said of a node is forgotten, what
//!   comes up again is kept. Of the rates and decays tried, the held-out loss of the training events chose.
//! - **Adam by row**: a node's vector and its moments move when the node is named, by a count of their own, so a step costs what it names
//!   and not the table, and a rare node's first steps are first steps.
//! - **Nodes that no training event names** have zeros, and so have those that appear in service. All vectors are divided by one number, so
//!   that those of known nodes have components of size one on the average.
//!
//! Differs:
//! - the paper adds static memory as node features of the input; here it has an entrance of its own, so a set's node features stay what
//!   they are, and the two can be compared;
//! - a training step hides the vectors of some nodes, drawn anew each step (`hide`): else only negatives would ever be without, and the model
//!   would learn that whoever has no vector comes up in no event, which is wrong of every new node;
//! - fine-tuning learns the difference to the frozen vectors, so weight decay pulls towards what the static graph said and not to zero. Its
//!   gradient is dense, `[N, S]` numbers a step: moments of all weights are one array, and stepping rows lazily would make of Adam something
//!   that depends on who is named when.
mod graph;
mod spec;

pub use graph::StaticMemoryTrainer;
pub use spec::{PretrainSpec, StaticMemoryMode, StaticSpec};

use tempograph_framework::{Draw, NodeId, Purpose, PurposeDraw};

/// Which nodes a training step shows without their static vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StaticMemoryMask {
    share: f32,
    /// Nothing where nothing is dropped out.
    chance: Option<PurposeDraw>,
}

impl StaticMemoryMask {
    pub fn new(spec: &StaticSpec, dropout: Option<u64>) -> StaticMemoryMask {
        StaticMemoryMask {
            share: spec.hide,
            chance: dropout.filter(|_| spec.hide > 0.0).map(|seed| Draw::new(seed).of(Purpose::Dropout)),
        }
    }

    pub fn masks(&self, node: NodeId) -> bool {
        self.chance.is_some_and(|chance| chance.at(0, u64::from(node.0)).uniform() < self.share)
    }
}
