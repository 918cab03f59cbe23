//! What a checkpoint holds of lanes: their histories, and the untrained rest of batches that were begun.

use tempograph_framework::{History, Needs, Store, View};

use crate::TrainError;
use crate::parallel::batch_builder::{BatchBuilder, Slot};
use crate::parallel::group::HistoryGroup;
use crate::parallel::lanes::allocate::may_follow;
use crate::parallel::lanes::{Lanes, TrainingHistory};
use crate::parallel::prefetch::{PREFETCH_PREFIX, Prefetch};
use crate::plan::{Lane, Plan};
use crate::transport::exchange::Exchange;

impl Lanes {
    /// This process's histories, and the views still to be trained of the batches begun before `step`.
    pub fn to_store(&self, step: u64) -> Store {
        let mut store = Store::default();
        for TrainingHistory { number, history, .. } in self.owned_histories() {
            store.merge(&format!("history.{number}."), history.to_store());
        }
        for (slot, begun, at) in self.unfinished(step) {
            let input =
                &self.histories[slot.history - self.histories[0].number].begun[at].inputs[slot.place(self.plan)];
            store.merge(&name(slot.history, begun, slot.set, slot.shard), input.view.to_store());
        }
        store.merge("", self.prefetch.as_ref().map_or_else(|| self.restored.clone(), Prefetch::to_store));
        store
    }

    /// The histories that this process writes: each history is written by one process.
    fn owned_histories(&self) -> &[TrainingHistory] {
        if self.group.as_ref().is_none_or(HistoryGroup::is_leader) { &self.histories } else { &[] }
    }

    /// Restores the state that [`to_store`](Lanes::to_store) of all processes gave.
    pub fn restore(
        &mut self,
        step: u64,
        store: &mut Store,
        needs: Needs,
        exchange: &mut dyn Exchange,
    ) -> Result<(), TrainError> {
        let BatchBuilder { features, log, .. } = &*self.builder;
        for TrainingHistory { number, history, .. } in &mut self.histories {
            let mut gathered =
                History::from_store(store.split_off(&format!("history.{number}.")), needs.clone(), features.clone())?;
            if may_follow(*number, self.group.is_some()) {
                gathered.attach_log(log, self.graphs * history.nodes());
            }
            match &self.group {
                Some(group) => group.restore(exchange, history, gathered)?,
                None => *history = gathered,
            }
        }
        self.prefetch = None;
        self.restored = Store::default();
        self.restored.merge(PREFETCH_PREFIX, store.split_off(PREFETCH_PREFIX));
        for (slot, begun, at) in self.unfinished(step).collect::<Vec<_>>() {
            let first = self.histories[0].number;
            let input = &mut self.histories[slot.history - first].begun[at].inputs[slot.place(self.plan)];
            self.builder.form_queries(input, slot)?;
            if !input.part.is_empty() {
                input.view =
                    View::from_store(store.split_off(&name(slot.history, begun, slot.set, slot.shard)), features)?;
            }
        }
        Ok(())
    }

    /// The inputs that this process's lanes still train from `step` on, of batches begun before. With each: the step
    /// its batch was begun at, and its index among the begun batches.
    fn unfinished(&self, step: u64) -> impl Iterator<Item = (Slot, u64, usize)> {
        let Plan { minibatch, epoch, .. } = self.plan;
        let earlier = step.saturating_sub(epoch as u64 - 1)..step;
        let places = self
            .histories
            .iter()
            .map(|trained| trained.number)
            .flat_map(move |number| earlier.clone().map(move |begun| (number, begun)));
        places.flat_map(move |(history, begun)| {
            let (at, position) = (self.plan.epoch_lane_at(begun), self.plan.position_at(history, begun, self.batches));
            let sets = (step - begun) as usize..epoch;
            sets.flat_map(move |set| {
                (0..minibatch).map(move |shard| (Slot { history, position, set, shard }, begun, at))
            })
            .filter(move |(slot, ..)| {
                self.own.contains(&self.plan.rank(Lane { history: slot.history, epoch: at, shard: slot.shard }))
            })
        })
    }

    /// SHA-256 of each history that this process writes, a line each.
    pub fn hashes(&self) -> String {
        self.owned_histories()
            .iter()
            .map(|trained| format!("{} {}\n", trained.number, trained.history.sha256()))
            .collect()
    }
}

fn name(history: usize, begun: u64, set: usize, shard: usize) -> String {
    format!("begun.{history}.{begun}.{set}.{shard}.")
}
