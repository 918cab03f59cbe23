//! A table that grows without moving.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

/// Reserved addresses in bytes: more than any table uses on any machine. They cost nothing until they are written to.
const ADDRESSES: usize = 1 << 38;

/// A `[T]` in its own reserved address range, with so much free space after it that it never has to move.
///
/// A `Vec` that outgrows its capacity is moved, page by page if it is large, and nobody can read it meanwhile.
pub(crate) struct ReservedVec<T> {
    /// Zeros after the first `len` entries.
    map: MmapMut,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: bytemuck::Pod> ReservedVec<T> {
    /// A copy of `values`, if the system reserves the addresses: it may not where addresses are limited, or on systems
    /// other than 64-bit Linux.
    pub fn of(values: &[T]) -> Option<ReservedVec<T>> {
        if !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
            return None;
        }
        let bytes = ADDRESSES.max(2 * size_of_val(values));
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().ok()?;
        let mut table = ReservedVec { map, len: values.len(), kind: PhantomData };
        table.copy_from_slice(values);
        Some(table)
    }

    /// Resizes the table to `len`, if that is possible without moving; new entries are `value`. Returns whether it
    /// was.
    pub fn resize(&mut self, len: usize, value: T) -> bool {
        if len * size_of::<T>() > self.map.len() {
            return false;
        }
        let zero = T::zeroed();
        let before = self.len;
        self.len = before.max(len);
        if len < before {
            self[len..].fill(zero);
        } else if bytemuck::bytes_of(&value) != bytemuck::bytes_of(&zero) {
            self[before..].fill(value);
        }
        self.len = len;
        true
    }
}

impl<T: bytemuck::Pod> Deref for ReservedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: a map begins at a page, which is aligned for any number; it has `len` entries (`of`, `resize`); any
        // bytes are a valid `T`.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }
}

impl<T: bytemuck::Pod> DerefMut for ReservedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_vec_that_never_moves() {
        let mut table = ReservedVec::of(&[1u64, 2]).unwrap();
        let mut vec = vec![1u64, 2];
        let at = table.as_ptr();
        for (len, value) in [(3, 7), (70_000, 0), (5, 1), (6, 0), (90_000, 9), (0, 0), (10, 0)] {
            assert!(table.resize(len, value));
            vec.resize(len, value);
            assert_eq!(table[..], vec[..], "{len} {value}");
        }
        table[9] = 4;
        assert_eq!((table[9], table.as_ptr()), (4, at));
        assert!(!table.resize(ADDRESSES, 0) && table.len() == 10, "there are no addresses for that");
    }
}
