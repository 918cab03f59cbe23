//! Copies the state as of one position, in parts, while events continue.

use std::collections::BTreeSet;
use std::ops::Range;

use tempograph_framework::{Batch, ListCursor, NodeId, SnapshotExtent, Store};

use crate::artifact::names::NewNodes;
use crate::engine::state::State;

/// Nodes copied together when one of them is about to change.
const NODES_A_PAGE: usize = 16;
/// The same for entries of lists of small numbers.
const PLACES_A_PAGE: usize = 256;
/// A copy in progress, as of the position at which it began.
///
/// The writer's lock guards it. The saving thread takes that lock for a few rows at a time. A writer first copies the
/// rows that it is about to change, if they are not copied yet. So each row is copied once, with its old value, and no
/// thread waits for more than a few rows.
#[derive(Debug)]
pub(crate) struct Capture {
    extent: SnapshotExtent,
    /// State by node: memory, mail, recent neighbours, names.
    nodes: Pages,
    pairs: Pages,
    destinations: Pages,
    free: Pages,
    /// How far the lists of all events are copied.
    lists: ListCursor,
    /// Nodes after `lists` whose lists are copied already.
    lists_copied: BTreeSet<usize>,
    /// Pieces that are copied and not yet taken by [`next`](Capture::next).
    pieces: Vec<Piece>,
    /// Rows copied since the last call of [`rows_copied`](Capture::rows_copied).
    rows: usize,
    /// Most rows to copy in one call where nothing is about to change.
    at_once: usize,
}

/// A copy of some rows.
#[derive(Debug)]
pub(crate) struct Piece {
    pub file: InFile,
    /// Its order among the pieces that hold the same arrays.
    pub key: u64,
    pub part: Store,
}

/// The file of an artifact to which rows belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFile {
    History,
    Ids,
}

/// Lists whose rows are copied by index.
#[derive(Clone, Copy)]
enum List {
    Nodes,
    Pairs,
    Destinations,
    Free,
}

const LISTS: [List; 4] = [List::Nodes, List::Pairs, List::Destinations, List::Free];

impl Capture {
    /// Begins a copy of the current state. At first it holds only what is neither by node nor in a list.
    pub fn begin(state: &State, at_once: usize) -> Capture {
        let extent = state.history.extent();
        let mut capture = Capture {
            nodes: Pages::new(extent.nodes(), NODES_A_PAGE),
            pairs: Pages::new(extent.pairs(), PLACES_A_PAGE),
            destinations: Pages::new(state.names.destinations().len(), PLACES_A_PAGE),
            free: Pages::new(state.names.free().len(), PLACES_A_PAGE),
            lists: ListCursor::default(),
            lists_copied: BTreeSet::new(),
            extent,
            pieces: Vec::new(),
            rows: 0,
            at_once,
        };
        capture.pieces.push(Piece { file: InFile::History, key: 0, part: state.history.header_to_store() });
        // Every artifact has these arrays, even without rows.
        LISTS[..3].iter().for_each(|&list| capture.copy(state, list, 0..0));
        if capture.extent.lists() {
            capture.copy_lists(state, 0, 0);
        }
        capture
    }

    /// Copies rows before a batch, or a wave, of events is observed.
    pub fn before_events(&mut self, state: &State, batch: &Batch<'_>, new_nodes: &NewNodes) {
        // Within the batch, all events but the last may settle.
        let own = batch.src.iter().copied().zip(batch.dst.iter().copied());
        let ends = state.history.flushed_by(batch).chain(own);
        self.keep_ends(state, ends);
        let receivers = state.history.graph().receivers(batch);
        self.keep(state, List::Nodes, receivers.nodes().map(|node| node.index()));
        let (named, free) = (new_nodes.count_until(batch.first.0 + batch.len() as u64), state.names.free().len());
        self.keep(state, List::Free, free.saturating_sub(named)..free);
    }

    /// Copies rows before events are retracted; `ends` are the ends of these events.
    pub fn before_retracting(&mut self, state: &State, ends: impl Iterator<Item = (NodeId, NodeId)> + Clone) {
        self.keep_ends(state, ends.clone());
        let history = &state.history;
        let holders = ends.clone().flat_map(|(src, dst)| history.mail_holders(src, dst));
        self.keep(state, List::Nodes, holders.map(|node| node.index()));
        // The last pair moves to the index of a removed pair.
        self.keep(state, List::Pairs, history.pairs().saturating_sub(ends.clone().count())..history.pairs());
        if self.extent.lists() {
            ends.flat_map(|(src, dst)| [src, dst]).for_each(|node| self.keep_list(state, node.index()));
        }
    }

    /// Copies rows before nodes are expired.
    pub fn before_forgetting(&mut self, state: &State, nodes: &[NodeId]) {
        self.keep(state, List::Nodes, nodes.iter().map(|node| node.index()));
        self.keep(state, List::Destinations, state.names.destinations_moved_by_forgetting(nodes));
    }

    /// Copies the nodes that are ends of events, and their pair facts.
    fn keep_ends(&mut self, state: &State, ends: impl Iterator<Item = (NodeId, NodeId)> + Clone) {
        self.keep(state, List::Nodes, ends.clone().flat_map(|(src, dst)| [src.index(), dst.index()]));
        if state.history.needs().pairs {
            self.keep(state, List::Pairs, ends.filter_map(|(src, dst)| state.history.pair_position(src, dst)));
        }
    }

    /// Copies some rows that are not copied yet. Returns the pieces copied by any thread since the last call; empty
    /// once everything is copied.
    pub fn next(&mut self, state: &State) -> Vec<Piece> {
        let at_once = self.at_once;
        let next = LISTS.into_iter().find_map(|list| Some((list, self.pages(list).claim_next(at_once)?)));
        if let Some((list, rows)) = next {
            self.copy(state, list, rows);
        } else if self.extent.lists() && self.lists.node < self.extent.nodes() {
            self.copy_next_lists(state);
        }
        std::mem::take(&mut self.pieces)
    }

    /// Number of rows copied since the last call.
    pub fn rows_copied(&mut self) -> usize {
        std::mem::take(&mut self.rows)
    }

    fn pages(&mut self, list: List) -> &mut Pages {
        match list {
            List::Nodes => &mut self.nodes,
            List::Pairs => &mut self.pairs,
            List::Destinations => &mut self.destinations,
            List::Free => &mut self.free,
        }
    }

    /// Copies the pages of rows that are about to change, if they are not copied yet.
    fn keep(&mut self, state: &State, list: List, rows: impl IntoIterator<Item = usize>) {
        for row in rows {
            if let Some(page) = self.pages(list).claim(row) {
                self.copy(state, list, page);
            }
        }
    }

    fn copy(&mut self, state: &State, list: List, rows: Range<usize>) {
        let (key, names) = (rows.start as u64, &state.names);
        self.rows += rows.len();
        let (file, part) = match list {
            List::Nodes => {
                self.pieces.push(Piece { file: InFile::Ids, key, part: names.nodes_to_store(rows.clone()) });
                (InFile::History, state.history.nodes_to_store(&self.extent, rows))
            }
            List::Pairs => (InFile::History, state.history.pairs_to_store(rows)),
            List::Destinations => (InFile::Ids, names.destinations_to_store(rows)),
            List::Free => (InFile::Ids, names.free_to_store(rows)),
        };
        self.pieces.push(Piece { file, key, part });
    }

    /// Copies the rest of a node's list before an event is retracted from it.
    fn keep_list(&mut self, state: &State, node: usize) {
        let from = ListCursor { node, link: 0 }.max(self.lists);
        if from.node == node && node < self.extent.nodes() && self.lists_copied.insert(node) {
            let (part, _) = state.history.lists_to_store(&self.extent, from, node + 1, usize::MAX);
            self.push_links(from, part);
        }
    }

    fn copy_next_lists(&mut self, state: &State) {
        while self.lists_copied.remove(&self.lists.node) {
            self.lists = ListCursor { node: self.lists.node + 1, link: 0 };
        }
        let to = self.lists_copied.first().copied().unwrap_or(self.extent.nodes());
        self.copy_lists(state, to, self.at_once);
    }

    fn copy_lists(&mut self, state: &State, to: usize, most: usize) {
        let (part, reached) = state.history.lists_to_store(&self.extent, self.lists, to, most);
        let from = std::mem::replace(&mut self.lists, reached);
        self.push_links(from, part);
    }

    fn push_links(&mut self, from: ListCursor, part: Store) {
        self.rows += part.get::<u64>("link.event").map_or(0, <[u64]>::len);
        self.pieces.push(Piece { file: InFile::History, key: (from.node as u64) << 32 | from.link as u64, part });
    }
}

/// Rows that are each copied once, a page at a time. Rows that are appended to the list later are not part of the copy.
/// Before the list gets shorter, its last rows are copied as rows that change, so no removed row is read.
#[derive(Debug)]
struct Pages {
    rows: usize,
    /// Rows of a page.
    size: usize,
    /// One bit for each page: whether it is copied.
    copied: Vec<u64>,
    /// All pages before this one are copied.
    next: usize,
}

impl Pages {
    fn new(rows: usize, size: usize) -> Pages {
        Pages { rows, size, copied: vec![0; rows.div_ceil(size).div_ceil(64)], next: 0 }
    }

    fn is_copied(&self, page: usize) -> bool {
        self.copied[page / 64] >> (page % 64) & 1 == 1
    }

    fn mark(&mut self, page: usize) {
        self.copied[page / 64] |= 1 << (page % 64);
    }

    fn rows_of(&self, pages: Range<usize>) -> Range<usize> {
        pages.start * self.size..(pages.end * self.size).min(self.rows)
    }

    /// The rows of the page of a row, if the row is part of the copy and not copied yet. Marks the page as copied.
    fn claim(&mut self, row: usize) -> Option<Range<usize>> {
        let page = row / self.size;
        if row >= self.rows || self.is_copied(page) {
            return None;
        }
        self.mark(page);
        Some(self.rows_of(page..page + 1))
    }

    /// The next rows to copy: at most `most`, but at least one page.
    fn claim_next(&mut self, most: usize) -> Option<Range<usize>> {
        let pages = self.rows.div_ceil(self.size);
        while self.next < pages && self.is_copied(self.next) {
            // 64 copied pages are one word of bits, and are skipped together.
            let whole = self.next.is_multiple_of(64) && self.copied[self.next / 64] == u64::MAX;
            self.next += if whole { 64 } else { 1 };
        }
        let start = self.next.min(pages);
        while self.next < pages && self.next - start < (most / self.size).max(1) && !self.is_copied(self.next) {
            self.mark(self.next);
            self.next += 1;
        }
        (start < self.next.min(pages)).then(|| self.rows_of(start..self.next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_row_is_claimed_once_whoever_comes_first_and_never_many_at_a_time(
            rows in 0usize..3000,
            size in prop::sample::select(vec![1usize, 3, 16]),
            touched in prop::collection::vec((0usize..3000, any::<bool>()), 0..200),
        ) {
            let mut pages = Pages::new(rows, size);
            let mut claimed = vec![0; rows];
            let mut note = |found: Option<Range<usize>>| found.inspect(|range| range.clone().for_each(|row| claimed[row] += 1));
            for (row, also_next) in touched {
                let found = note(pages.claim(row));
                prop_assert!(found.is_none_or(|page| page.contains(&row) && page.len() <= size));
                if also_next {
                    let found = note(pages.claim_next(64));
                    prop_assert!(found.is_none_or(|range| range.len() <= 64));
                }
            }
            while note(pages.claim_next(64)).is_some() {}
            prop_assert!(claimed.iter().all(|&times| times == 1));
        }
    }
}
