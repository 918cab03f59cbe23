//! Memory that processes of one machine see together: a file without a name, which each of them maps.
//!
//! The file lies in `/dev/shm`, or where there is no room in the folder for temporary files, and its name is taken away as soon as it is
//! open: the system frees it with the last process that maps it, however that ends. Other processes find it among the open files of the
//! one that made it.

use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// Every part begins at a multiple of so many bytes: a line of the processor's cache.
const LINE: usize = 64;

/// Memory that several processes of a machine map.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    map: Arc<MmapRaw>,
}

impl SharedMemory {
    /// So many bytes, all zero. The room for them is taken at once: there is no running out of it later.
    ///
    /// # Errors
    /// What the system says; [`Unsupported`](io::ErrorKind::Unsupported) on systems other than Linux.
    pub fn zeros(bytes: usize) -> io::Result<SharedMemory> {
        SharedMemory::map(unnamed(|file| {
            io::copy(&mut io::Read::take(io::repeat(0), bytes.max(1) as u64), file).map(|_| ())
        })?)
    }

    /// How another process of this machine finds it.
    ///
    /// # Errors
    /// As [`zeros`](SharedMemory::zeros).
    pub fn address(&self) -> io::Result<String> {
        address(&self.file)
    }

    /// What another process gave the [`address`](SharedMemory::address) of.
    ///
    /// # Errors
    /// What the system says, for instance where that process is in another container, or that there is another file now.
    pub fn open(address: &str) -> io::Result<SharedMemory> {
        SharedMemory::map(open(address)?)
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "there is always a byte")]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    fn map(file: File) -> io::Result<SharedMemory> {
        let map = Arc::new(MmapOptions::new().map_raw(&file)?);
        Ok(SharedMemory { file, map })
    }

    /// Hands out the memory.
    ///
    /// # Safety
    /// What is kept in the room may be read and written like memory of this process's own. So whoever calls this has to see to it, by what
    /// the processes tell each other, that none reads while another writes; and that in one process only one room of it is in use.
    pub unsafe fn arena(&self) -> SharedArena {
        SharedArena { map: self.map.clone(), at: 0 }
    }
}

/// The parts of a shared memory, one after the other: who asks for the same parts in the same order gets the same.
#[derive(Debug)]
pub struct SharedArena {
    map: Arc<MmapRaw>,
    at: usize,
}

impl SharedArena {
    /// Bytes that a part of `len` numbers takes.
    pub(crate) fn needed<T>(len: usize) -> usize {
        (len * size_of::<T>()).next_multiple_of(LINE)
    }

    /// The next `len` numbers.
    ///
    /// # Panics
    /// If there are not so many left.
    pub(crate) fn part<T: bytemuck::Pod>(&mut self, len: usize) -> SharedSlice<T> {
        let start = self.at;
        assert!(
            start + len * size_of::<T>() <= self.map.len(),
            "{len} numbers from byte {start} on in {} bytes",
            self.map.len()
        );
        assert!(align_of::<T>() <= LINE, "parts begin at multiples of {LINE} bytes");
        self.at += SharedArena::needed::<T>(len);
        SharedSlice { map: self.map.clone(), start, len, kind: PhantomData }
    }
}

/// Numbers in shared memory.
pub(crate) struct SharedSlice<T> {
    map: Arc<MmapRaw>,
    /// In bytes.
    start: usize,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: bytemuck::Pod> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the range lies in the map, which lives as long as `self`, and is aligned (`SharedArena::part`); any bytes are a `T`. Nobody writes
        // while the slice is borrowed: not this process, where parts do not overlap and writing takes `&mut self`, and no other, as
        // whoever called `SharedMemory::arena` has seen to.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start).cast(), self.len) }
    }
}

impl<T: bytemuck::Pod> DerefMut for SharedSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; and nobody reads either.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(self.start).cast(), self.len) }
    }
}

/// A file that has no name, filled by `fill`, in the first folder where that succeeds.
pub(crate) fn unnamed(fill: impl Fn(&mut File) -> io::Result<()>) -> io::Result<File> {
    let make = |folder: PathBuf| {
        let mut file = create(folder)?;
        fill(&mut file)?;
        file.flush()?;
        Ok(file)
    };
    make(PathBuf::from("/dev/shm")).or_else(|_| make(std::env::temp_dir()))
}

/// An empty file without a name, on the file system of `folder`.
#[cfg(target_os = "linux")]
fn create(folder: PathBuf) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let path = folder.join(format!(".tempograph-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Where another process of this machine finds an open file, and what tells it from any other.
#[cfg(target_os = "linux")]
pub(crate) fn address(file: &File) -> io::Result<String> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    let facts = file.metadata()?;
    Ok(format!("/proc/{}/fd/{} {}:{}:{}", std::process::id(), file.as_raw_fd(), facts.dev(), facts.ino(), facts.len()))
}

/// The file that another process told the address of.
#[cfg(target_os = "linux")]
pub(crate) fn open(address: &str) -> io::Result<File> {
    let other = || io::Error::other(format!("{address} is not the file that was told of"));
    let (path, facts) = address.split_once(' ').ok_or_else(other)?;
    let file = File::options().read(true).write(true).open(path)?;
    // Where processes are numbered otherwise, as in another container, the path may be of any file.
    match self::address(&file)?.split_once(' ') {
        Some((_, found)) if found == facts => Ok(file),
        _ => Err(other()),
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use crate::*;

    pub(crate) fn create(_: PathBuf) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn address(_: &File) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn open(_: &str) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
#[cfg(not(target_os = "linux"))]
use elsewhere::create;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{address, open};
