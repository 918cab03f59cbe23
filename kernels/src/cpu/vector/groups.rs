//! Positions grouped by the row they refer to. With them, gradients of rows are summed in a fixed order without
//! atomics.

/// For every row the positions that refer to it, ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    /// `[rows + 1]` end of each row's positions; they begin at the end of the row before.
    ends: Vec<u32>,
    positions: Vec<u32>,
}

impl Groups {
    /// Groups `positions`, which ascend, by their rows in `row_of`; rows are below `rows`.
    pub(crate) fn fill(&mut self, rows: usize, positions: impl Iterator<Item = u32> + Clone, row_of: &[u32]) {
        self.ends.clear();
        self.ends.resize(rows + 1, 0);
        for position in positions.clone() {
            self.ends[row_of[position as usize] as usize + 1] += 1;
        }
        for row in 0..rows {
            self.ends[row + 1] += self.ends[row];
        }
        // entry `row` is now where that row begins: filling moves it to where it ends
        self.positions.resize(self.ends[rows] as usize, 0);
        for position in positions {
            let next = &mut self.ends[row_of[position as usize] as usize];
            self.positions[*next as usize] = position;
            *next += 1;
        }
    }

    /// The positions that refer to `row`.
    pub(crate) fn of(&self, row: usize) -> &[u32] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.positions[start as usize..self.ends[row] as usize]
    }
}
