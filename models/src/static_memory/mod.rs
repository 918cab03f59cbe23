//! DistTGL's static memory: "DistTGL: Distributed Memory-Based Temporal Graph Neural Network Training", Zhou et al., SC
//! 2023 (arXiv:2307.07649), section 3.1.
//!
//! A node's memory reads one mail per batch: the larger the batch, the more events it misses. Constant properties of a
//! node do not need the memory. So each node has a second, static memory `c_u` `[S]`, learned beforehand from the
//! static graph and independent of the batch size. It is combined with the memory where embeddings begin. Any kind of
//! model may read it.
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
//! The paper says that static memory is pre-trained with the same task and gives its accuracy. It gives neither the
//! method nor code: its repository downloads the vectors. The choices made here, and why:
//! - **A table and the decoder, nothing between** ([`StaticMemoryTrainer`]). A graph network over the static graph
//!   would pass neighbours what the model's attention over them passes anyway. A table can be stored and needs no graph
//!   when it is read.
//! - **Training events only**, each as often as it occurs, in a new random order each pass: learning the order is the
//!   task of the dynamic memory.
//! - **Negatives** are destinations of the training events, drawn uniformly, excluding the true destination, as for the
//!   model itself. Destinations of the whole log would reveal which nodes appear later.
//! - **Early stopping** uses the last training events, held out, as far as their nodes occur in the other events.
//!   Pre-training runs on the others until the loss of the held-out events rises, then once more over all events for as
//!   many passes. The loss decides and not a ranking, since it rises as soon as vectors memorise pairs, and a model
//!   would trust that: it trains on the same events.
//! - **Weight decay** is strong, `lr * weight_decay` of a vector each time its node is trained: a vector forgets a
//!   single event and keeps what repeats. The rates and decays were chosen by the held-out loss of the training events.
//! - **Adam by row**: a node's vector and its moments change only when the node is trained, with a step count of their
//!   own. So a step costs the rows it trains and not the whole table, and the first steps of a rare node have the right
//!   bias correction.
//! - **Nodes without training events** have zeros, also those that appear in serving. All vectors are divided by one
//!   number, so that the components of trained nodes have size one on average.
//!
//! Differs:
//! - the paper adds static memory to the node features of the input. Here it has an input of its own, so the node
//!   features of a data set do not change and the two can be compared;
//! - a training step hides the vectors of some nodes, drawn anew each step (`hide`). Otherwise only negatives would
//!   lack a vector, and the model would learn that a node without a vector never occurs in an event, which is wrong for
//!   every new node;
//! - fine-tuning learns the difference to the frozen vectors, so weight decay pulls towards the pre-trained vectors and
//!   not to zero. Its gradient is dense, `[N, S]` numbers a step: the moments of all weights are one array, and lazy
//!   steps of rows would make Adam depend on when each node is trained.
mod graph;

pub use graph::StaticMemoryTrainer;
