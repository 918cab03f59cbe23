//! The layout of a model's weights in one array: side by side in blocks that one matrix product reads.
use crate::cube::launch::buffer::padded;

/// A matrix in the array of weights, `[rows, columns]`. Numbers without a weight are 0 and stay 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub(crate) start: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// Blocks and the weights in them.
#[derive(Clone, Debug, Default)]
pub struct WeightLayout {
    pieces: Vec<Piece>,
    end: usize,
}

/// Consecutive numbers of the weights that are rows of a block.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Offset among the weights' numbers.
    from: usize,
    /// Offset in the array.
    start: usize,
    rows: usize,
    columns: usize,
    stride: usize,
}

/// Columns of rows of `columns` numbers followed by a 1, which multiplies the bias in a product, and zeros up to a
/// multiple of the vector width.
pub fn with_one(columns: usize) -> usize {
    (columns + 1).next_multiple_of(4)
}

impl WeightLayout {
    /// Adds a block.
    pub fn block(&mut self, rows: usize, columns: usize) -> Block {
        let start = self.end;
        self.end += padded(rows * columns);
        Block { start, rows, columns }
    }

    /// Assigns the weights' numbers from `from` on to `[rows, columns]` of `block`, the first of them at `corner`: row
    /// and column.
    ///
    /// # Panics
    /// If they do not fit into the block.
    pub fn assign(&mut self, block: Block, corner: [usize; 2], [rows, columns]: [usize; 2], from: usize) {
        let [row, column] = corner;
        assert!(
            row + rows <= block.rows && column + columns <= block.columns,
            "[{rows}, {columns}] at {corner:?} of {block:?}"
        );
        let start = block.start + row * block.columns + column;
        self.pieces.push(Piece { from, start, rows, columns, stride: block.columns });
    }

    /// Length of the array.
    pub(crate) fn len(&self) -> usize {
        self.end
    }

    /// Number of all weights.
    fn weights(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows * piece.columns).sum()
    }

    /// The array, from the numbers of all weights.
    pub(crate) fn pack(&self, weights: &[f32]) -> Vec<f32> {
        assert_eq!(weights.len(), self.weights(), "numbers of all weights");
        let mut array = vec![0.0; self.end];
        self.pieces.iter().flat_map(Piece::rows).for_each(|(from, at, columns)| {
            array[at..at + columns].copy_from_slice(&weights[from..from + columns]);
        });
        array
    }

    /// The numbers of all weights, from the array.
    pub(crate) fn unpack(&self, array: &[f32]) -> Vec<f32> {
        let mut weights = vec![0.0; self.weights()];
        self.pieces.iter().flat_map(Piece::rows).for_each(|(from, at, columns)| {
            weights[from..from + columns].copy_from_slice(&array[at..at + columns]);
        });
        weights
    }
}

impl Piece {
    /// For every row its offset among the weights' numbers, its offset in the array, and its length.
    fn rows(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let Piece { from, start, rows, columns, stride } = *self;
        (0..rows).map(move |row| (from + row * columns, start + row * stride, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_back_as_they_were_put() {
        let mut layout = WeightLayout::default();
        let (map, vector) = (layout.block(2, with_one(3)), layout.block(1, 5));
        layout.assign(map, [0, 0], [2, 3], 0);
        layout.assign(vector, [0, 0], [1, 5], 8);
        layout.assign(map, [0, 3], [2, 1], 6);
        let numbers: Vec<f32> = (1..14).map(|i| i as f32).collect();
        let array = layout.pack(&numbers);
        assert_eq!(array[..8], [1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0]);
        assert_eq!(array.iter().filter(|&&x| x == 0.0).count(), array.len() - numbers.len());
        assert_eq!(layout.unpack(&array), numbers);
    }
}
