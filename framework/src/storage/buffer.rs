//! A table of numbers, in memory of this process or in memory that several processes share.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::storage::reserved::ReservedVec;
use crate::storage::shared::{SharedArena, SharedSlice};

/// A writable `[T]`. A clone is always in memory of this process.
pub(crate) struct Buffer<T> {
    kept: Backing<T>,
}

enum Backing<T> {
    Own(Vec<T>),
    ReservedVec(ReservedVec<T>),
    Shared(SharedSlice<T>),
}

impl<T: bytemuck::Pod> Buffer<T> {
    /// The next `len` numbers of a shared arena, with their current values.
    pub fn in_room(room: &mut SharedArena, len: usize) -> Buffer<T> {
        Buffer { kept: Backing::Shared(room.part(len)) }
    }

    /// Resizes the table to `len`; new entries are `value`. A shared table whose length changes moves to memory of
    /// this process.
    pub fn resize(&mut self, len: usize, value: T) {
        let done = match &mut self.kept {
            Backing::Own(values) => {
                values.resize(len, value);
                true
            }
            Backing::ReservedVec(values) => values.resize(len, value),
            Backing::Shared(part) => part.len() == len,
        };
        if !done {
            let mut values = self.to_vec();
            values.resize(len, value);
            self.kept = Backing::Own(values);
        }
    }
}

/// A table of any element type.
pub(crate) trait AnyBuffer {
    /// Number of entries.
    fn held(&self) -> usize;

    /// Bytes that `len` entries take in a shared arena.
    fn needed(&self, len: usize) -> usize;

    /// Moves the table to the next `len` entries of `room`. With `keep` its own values are copied there; otherwise it
    /// uses the values that are there.
    ///
    /// # Panics
    /// With `keep`, if its length is not `len`.
    fn move_into(&mut self, room: &mut SharedArena, len: usize, keep: bool);

    /// Makes the table grow without moving from here on, if the system reserves the addresses. It is then in memory of
    /// this process.
    fn reserve_addresses(&mut self);
}

impl<T: bytemuck::Pod> AnyBuffer for Buffer<T> {
    fn held(&self) -> usize {
        self.len()
    }

    fn needed(&self, len: usize) -> usize {
        SharedArena::needed::<T>(len)
    }

    fn move_into(&mut self, room: &mut SharedArena, len: usize, keep: bool) {
        let mut entries = Buffer::in_room(room, len);
        if keep {
            entries.copy_from_slice(self);
        }
        *self = entries;
    }

    fn reserve_addresses(&mut self) {
        if let Some(values) = ReservedVec::of(self) {
            self.kept = Backing::ReservedVec(values);
        }
    }
}

impl<T: bytemuck::Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.kept {
            Backing::Own(values) => values,
            Backing::ReservedVec(values) => values,
            Backing::Shared(part) => part,
        }
    }
}

impl<T: bytemuck::Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.kept {
            Backing::Own(values) => values,
            Backing::ReservedVec(values) => values,
            Backing::Shared(part) => part,
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(values: Vec<T>) -> Self {
        Buffer { kept: Backing::Own(values) }
    }
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: bytemuck::Pod> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl<T: bytemuck::Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: bytemuck::Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::shared::SharedMemory;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_shared_mapping_is_read_by_another_process_and_has_no_name() {
        let tables = |shared: &SharedMemory| {
            // SAFETY: only this thread writes, and it reads afterwards.
            let mut room = unsafe { shared.arena() };
            (Buffer::<f32>::in_room(&mut room, 3), Buffer::<u64>::in_room(&mut room, 5))
        };
        let bytes = SharedArena::needed::<f32>(3) + SharedArena::needed::<u64>(5);
        let first = SharedMemory::zeros(bytes).unwrap();
        let second = SharedMemory::open(&first.address().unwrap()).unwrap();
        let ((mut numbers, mut counts), (seen, counted)) = (tables(&first), tables(&second));
        assert!(seen.iter().all(|&number| number == 0.0) && counted[..] == [0; 5]);
        numbers.copy_from_slice(&[1.5, -0.0, f32::MAX]);
        counts[4] = u64::MAX;
        assert_eq!(seen, numbers);
        assert_eq!(counted[..], [0, 0, 0, 0, u64::MAX]);

        let own = seen.clone();
        numbers[0] = 2.0;
        assert_eq!((own[0], seen[0]), (1.5, 2.0), "a clone is a copy");
        let named = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().starts_with(&format!(".tempograph-{}-", std::process::id()))
        };
        assert!(!std::fs::read_dir("/dev/shm").unwrap().any(named));
    }

    #[test]
    fn an_address_of_something_else_is_refused() {
        for address in ["", "/nowhere 1:2:3", "/dev/null 1:2:3"] {
            assert!(SharedMemory::open(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_table_grows_wherever_it_is() {
        let mut own = Buffer::from(vec![1u64]);
        own.resize(3, 7);
        assert_eq!(own[..], [1, 7, 7]);
        let Ok(shared) = SharedMemory::zeros(64) else { return };
        // SAFETY: no other process or arena has it.
        let mut shared = Buffer::<u64>::in_room(&mut unsafe { shared.arena() }, 1);
        shared.resize(1, 7);
        assert_eq!(shared[..], [0]);
        shared.resize(2, 7);
        assert_eq!(shared[..], [0, 7]);
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn a_table_that_stands_grows_without_moving() {
        let mut table = Buffer::from(vec![1u64, 2, 3]);
        table.reserve_addresses();
        let at = table.as_ptr();
        for len in (3..1_000_000).step_by(100_000) {
            table.resize(len, 7);
            assert_eq!((table.as_ptr(), table.len()), (at, len));
        }
        assert_eq!((&table[..4], table.last()), ([1, 2, 3, 7].as_slice(), Some(&7)));
    }
}
