//! Writing what has happened as an artifact again, while reads go on.

use std::collections::BTreeMap;
use std::path::Path;

use tempograph_framework::{Features, History, Store};
use tempograph_kernels::Rows;

use super::Engine;
use crate::export::{Parts, referred_to};
use crate::manifest::{ArtifactError, Manifest};

impl Engine {
    /// Writes the model and all that has happened, as of one position, as an artifact: the folder `dir` appears whole or not at all, and
    /// only if it can be opened again. An artifact that stands there is replaced. The manifest that is returned names the position.
    ///
    /// Reads go on all the time. Events wait while the state is copied in memory, not while it is written.
    ///
    /// # Errors
    /// [`ArtifactError`]; what stood at `dir` then still stands. [`ArtifactError::Inconsistent`] of a [broken](Engine::is_broken) engine.
    pub fn save(&self, dir: &Path) -> Result<Manifest, ArtifactError> {
        let broken = || ArtifactError::Inconsistent { fact: "the engine broke off in the middle of an event".into() };
        let (manifest, ids, history, constant) = {
            let _turn = self.turn.lock().map_err(|_| broken())?;
            let state = self.state().map_err(|_| broken())?;
            (
                self.manifest_of(&state.history, state.names.len()),
                state.names.to_store(),
                state.history.to_store(),
                state.history.features().clone(),
            )
        };
        let features = self.features_of(&history, &constant, manifest.nodes);
        let parts = Parts { manifest, spec: self.model.spec(), weights: self.model.weights(), ids, history, features };
        parts.write(dir, true)
    }

    fn manifest_of(&self, history: &History, nodes: usize) -> Manifest {
        Manifest {
            tempograph: env!("CARGO_PKG_VERSION").into(),
            log_position: history.seen(),
            newest: history.newest().map(|time| time.0),
            nodes,
            files: BTreeMap::new(),
            ..self.manifest.clone()
        }
    }

    /// The features of all nodes, and of the events a history still refers to.
    fn features_of(&self, history: &Store, constant: &Features, nodes: usize) -> Option<Store> {
        let mut store = Store::default();
        if let Some(rows) = &self.edges {
            let events = referred_to(history);
            store.put("edge.row", [events.len(), rows.width()], events.iter().flat_map(|&event| rows.row(event)).copied().collect());
            store.put("edge.event", [events.len()], events);
        }
        for (name, rows) in [("node", &constant.nodes), ("static", &constant.static_memory)] {
            if let Some(rows) = rows {
                let values = (0..nodes as u64).flat_map(|node| rows.row(node)).copied().collect();
                store.put(name, [nodes, rows.width()], values);
            }
        }
        let any = store.names().next().is_some();
        any.then_some(store)
    }
}
