//! The event window of each root.

use std::ops::Range;

/// The event window of `C` centres: the newest events of each, up to
/// [`WindowSpec::neighbours`](crate::WindowSpec::neighbours), newest first.
///
/// The events of centre `c` are at [`of(c)`](Window::of) in each array.
#[derive(Debug, Default, PartialEq)]
pub struct Window {
    /// `[C + 1]` the start of each centre's events, and the end of the last. Empty without a window.
    pub starts: Vec<u32>,
    /// Rows of the view's distinct nodes: the other end of each event.
    pub row: Vec<u32>,
    /// The events.
    pub event: Vec<u64>,
    /// Time differences, as [`Delta`](crate::Delta) says.
    pub dt: Vec<f32>,
}

/// The part that one task fills.
#[derive(Default)]
pub(crate) struct WindowPart {
    pub counts: Vec<u32>,
    pub node: Vec<u32>,
    event: Vec<u64>,
    dt: Vec<f32>,
}

impl Window {
    /// The positions of a centre's events.
    ///
    /// # Panics
    /// If there is no such centre, or no window.
    pub fn of(&self, centre: usize) -> Range<usize> {
        self.starts[centre] as usize..self.starts[centre + 1] as usize
    }

    /// Centres it is shown for.
    pub fn centres(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Empties the window; the memory stays allocated.
    pub(crate) fn clear(&mut self) {
        self.starts.clear();
        self.row.clear();
        self.event.clear();
        self.dt.clear();
    }

    pub(crate) fn append(&mut self, part: &WindowPart) {
        let mut end = self.row.len() as u32;
        self.starts.extend(part.counts.iter().map(|count| {
            end += count;
            end
        }));
        self.row.extend_from_slice(&part.node);
        self.event.extend_from_slice(&part.event);
        self.dt.extend_from_slice(&part.dt);
    }
}

impl WindowPart {
    pub fn clear(&mut self) {
        self.counts.clear();
        self.node.clear();
        self.event.clear();
        self.dt.clear();
    }

    pub fn put(&mut self, node: u32, event: u64, dt: f32) {
        self.node.push(node);
        self.event.push(event);
        self.dt.push(dt);
    }
}
