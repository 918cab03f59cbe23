//! Estimates the work of a read before it is computed.

use tempograph_framework::Side;

use crate::engine::Engine;
use crate::request::PairQuery;
use crate::request::id::ExternalId;

impl Engine {
    /// Number of neighbours that a view shows of the ends of pairs. Unknown ends have none.
    pub(crate) fn neighbours_of(&self, queries: &[PairQuery]) -> usize {
        let Ok(state) = self.state() else { return 0 };
        let needs = state.history.needs();
        let looks = [needs.neighbours, needs.window_spec().map_or(0, |look| look.neighbours)].map(|most| most as u64);
        let shown = |degree: u64| looks.iter().map(|&most| degree.min(most)).sum::<u64>();
        let of = |side, id: &ExternalId| state.names.find(side, id).map_or(0, |node| shown(state.history.degree(node)));
        queries.iter().map(|query| of(Side::Source, &query.src) + of(Side::Destination, &query.dst)).sum::<u64>()
            as usize
    }

    /// Number of destinations that are ranked where the query names no candidates.
    pub(crate) fn destinations(&self) -> usize {
        self.state().map_or(0, |state| state.names.destinations().len())
    }
}
