//! Working memory of requests, kept from one to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tempograph_framework::{NodeId, Timestamp, Waves};

use crate::artifact::names::NewNodes;
use crate::engine::EmbeddingBatch;
use crate::engine::state::pass::Pass;
use crate::request::incoming::Incoming;

/// Most pairs of a pass: what is more is read in parts. Bounds the memory a request takes, and how long events wait for it. A score does not
/// depend on what is scored beside it.
pub(crate) const A_PASS: usize = 4096;

/// What one request works in.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Events the request tells.
    pub incoming: Incoming,
    /// Ids among them that are new.
    pub new_nodes: NewNodes,
    pub waves: Waves,
    /// Nodes it asks about.
    pub pairs: Vec<(NodeId, NodeId, Timestamp)>,
    /// Whether it is answered from embeddings.
    pub embedded: bool,
    pub scores: Vec<f32>,
    pub buffers: ViewBuffers,
}

/// What a request is shown of the past.
#[derive(Debug, Default)]
pub(crate) struct ViewBuffers {
    /// Embeddings, where these are kept.
    pub gathered: EmbeddingBatch,
    pub pass: Pass,
}

/// As many workspaces as there were ever requests at once. The one that came back last is lent first: what it holds is likely in cache.
#[derive(Debug, Default)]
pub(crate) struct Workspaces {
    idle: Mutex<Vec<Workspace>>,
}

impl Workspaces {
    /// Lends a workspace for the time of `task`.
    pub fn with<R>(&self, task: impl FnOnce(&mut Workspace) -> R) -> R {
        let mut space = self.take();
        let result = task(&mut space);
        self.give(space);
        result
    }

    /// A workspace, to be [given](Self::give) back.
    pub fn take(&self) -> Workspace {
        self.idle().pop().unwrap_or_default()
    }

    pub fn give(&self, space: Workspace) {
        self.idle().push(space);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Workspace>> {
        // Nothing can break off while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
