//! How much work a read will be, before it is done.

use tempograph_framework::Side;

use crate::engine::Engine;
use crate::request::PairQuery;

impl Engine {
    /// Neighbours that the ends of pairs have, as many as each look shows; ends that are not known have none.
    pub(crate) fn neighbours_of(&self, queries: &[PairQuery]) -> usize {
        let Ok(state) = self.state() else { return 0 };
        let needs = state.history.needs();
        let looks = [needs.neighbours, needs.window_spec().map_or(0, |look| look.neighbours)].map(|most| most as u64);
        let shown = |degree: u64| looks.iter().map(|&most| degree.min(most)).sum::<u64>();
        let of = |side, id| state.names.find(side, id).map_or(0, |node| shown(state.history.degree(node)));
        queries.iter().map(|query| of(Side::Source, query.src) + of(Side::Destination, query.dst)).sum::<u64>() as usize
    }

    /// Destinations that are ranked where no candidates are named.
    pub(crate) fn destinations(&self) -> usize {
        self.state().map_or(0, |state| state.names.destinations().len())
    }
}
