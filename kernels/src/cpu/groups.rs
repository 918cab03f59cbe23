//! Positions grouped by the row they name, to add up gradients of rows in a fixed order without atomics.

/// For every row the positions that name it, ascending.
pub(super) struct Groups {
    /// `[rows + 1]`
    starts: Vec<u32>,
    positions: Vec<u32>,
}

impl Groups {
    /// Groups `positions`, which ascend, by the row each names in `row_of`; rows are below `rows`.
    pub(super) fn new(rows: usize, positions: impl Iterator<Item = u32> + Clone, row_of: &[u32]) -> Self {
        let mut starts = vec![0u32; rows + 1];
        for position in positions.clone() {
            starts[row_of[position as usize] as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut grouped = vec![0; starts[rows] as usize];
        for position in positions {
            let next = &mut next[row_of[position as usize] as usize];
            grouped[*next as usize] = position;
            *next += 1;
        }
        Self { starts, positions: grouped }
    }

    /// The positions that name `row`.
    pub(super) fn of(&self, row: usize) -> &[u32] {
        &self.positions[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}
