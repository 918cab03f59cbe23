//! Rows of constant features.

use tempograph_kernels::Rows;

use crate::storage::column::Column;

/// Features `[rows, width]` as f32, owned or in a mapped file; a clone shares them.
#[derive(Clone, Debug)]
pub struct Table {
    values: Column<f32>,
    width: usize,
}

/// Values that do not fill whole rows.
#[derive(Debug, thiserror::Error)]
#[error("{values} values do not make rows of width {width}")]
pub struct TableError {
    values: usize,
    width: usize,
}

impl Table {
    /// A table of owned values in row-major order. The width must not be zero and must divide the number of values.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self, TableError> {
        Self::from_column(values.into(), width)
    }

    pub(crate) fn from_column(values: Column<f32>, width: usize) -> Result<Self, TableError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(TableError { values: values.len(), width });
        }
        Ok(Self { values, width })
    }

    /// Rows in the table.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

impl Rows for Table {
    fn width(&self) -> usize {
        self.width
    }

    fn row(&self, id: u64) -> &[f32] {
        let start = id as usize * self.width;
        &self.values[start..start + self.width]
    }
}
