//! Buffers of requests, reused by later requests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tempograph_framework::{NodeId, Timestamp, Waves};

use crate::artifact::names::NewNodes;
use crate::engine::EmbeddingBatch;
use crate::engine::state::pass::Pass;
use crate::request::incoming::Incoming;

/// Most pairs of a pass; more are read in parts. Bounds the memory of a request, and how long events wait for it. A
/// score does not depend on the other pairs of its pass.
pub(crate) const A_PASS: usize = 4096;

/// The buffers of one request.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Events of the request.
    pub incoming: Incoming,
    /// Ids among them that are new.
    pub new_nodes: NewNodes,
    pub waves: Waves,
    /// Queried nodes and times.
    pub pairs: Vec<(NodeId, NodeId, Timestamp)>,
    /// Whether the request is answered from embeddings.
    pub embedded: bool,
    pub scores: Vec<f32>,
    pub buffers: ViewBuffers,
}

/// The view of a request.
#[derive(Debug, Default)]
pub(crate) struct ViewBuffers {
    /// Embeddings, where the model's can be cached.
    pub gathered: EmbeddingBatch,
    pub pass: Pass,
}

/// A pool with as many workspaces as there were ever requests at once. The last returned is lent first, since it is
/// probably in the CPU's cache.
#[derive(Debug, Default)]
pub(crate) struct Workspaces {
    idle: Mutex<Vec<Workspace>>,
}

impl Workspaces {
    /// Lends a workspace to `task`.
    pub fn with<R>(&self, task: impl FnOnce(&mut Workspace) -> R) -> R {
        let mut space = self.take();
        let result = task(&mut space);
        // An idle workspace must not hold features that are given back.
        space.buffers.pass.view.edge_features = None;
        self.give(space);
        result
    }

    /// Takes a workspace, to be [given](Self::give) back.
    pub fn take(&self) -> Workspace {
        self.idle().pop().unwrap_or_default()
    }

    pub fn give(&self, space: Workspace) {
        self.idle().push(space);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Workspace>> {
        // No code that runs under this lock can panic half-way.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
