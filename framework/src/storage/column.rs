//! One column of numbers, in memory or in a mapped file, shared by reference count.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

#[cfg(target_endian = "big")]
compile_error!("prepared datasets are mapped as little-endian numbers; this host is big-endian");

/// A read-only `[T]` that is cheap to clone, whether it is owned or in a mapped file.
pub(crate) struct Column<T> {
    store: ColumnData<T>,
}

enum ColumnData<T> {
    Owned(Arc<Vec<T>>),
    Mapped { map: Arc<Mmap>, bytes: Range<usize> },
}

impl<T: bytemuck::Pod> Column<T> {
    /// The numbers at `bytes` of a mapped file; `None` when the range does not hold whole, aligned `T`s.
    pub(crate) fn mapped(map: Arc<Mmap>, bytes: Range<usize>) -> Option<Self> {
        bytemuck::try_cast_slice::<u8, T>(map.get(bytes.clone())?).ok()?;
        Some(Self { store: ColumnData::Mapped { map, bytes } })
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        Self { store: ColumnData::Owned(Arc::new(values)) }
    }
}

impl<T: bytemuck::Pod> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.store {
            ColumnData::Owned(values) => values,
            // Range and alignment were checked when the column was made; the map never moves.
            ColumnData::Mapped { map, bytes } => bytemuck::cast_slice(&map[bytes.clone()]),
        }
    }
}

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        let store = match &self.store {
            ColumnData::Owned(values) => ColumnData::Owned(Arc::clone(values)),
            ColumnData::Mapped { map, bytes } => ColumnData::Mapped { map: Arc::clone(map), bytes: bytes.clone() },
        };
        Self { store }
    }
}

impl<T: bytemuck::Pod> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Column({} × {})", self.len(), std::any::type_name::<T>())
    }
}
