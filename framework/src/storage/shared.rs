//! Memory that processes of one machine share: a file without a name, which each of them maps.
//!
//! The file is in `/dev/shm`, or if that is full, in the folder for temporary files. Its name is removed as soon as it
//! is open, so the system frees it when the last process that maps it ends, however that ends. Other processes open it
//! through the list of open files of the process that created it.

use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// Every part begins at a multiple of this many bytes: a cache line of the processor.
const LINE: usize = 64;

/// Memory that several processes of a machine map.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    map: Arc<MmapRaw>,
}

impl SharedMemory {
    /// `bytes` bytes, all zero. The space is allocated at once, so it cannot run out later.
    ///
    /// # Errors
    /// The system's error; [`Unsupported`](io::ErrorKind::Unsupported) on systems other than Linux.
    pub fn zeros(bytes: usize) -> io::Result<SharedMemory> {
        SharedMemory::map(unnamed(|file| {
            io::copy(&mut io::Read::take(io::repeat(0), bytes.max(1) as u64), file).map(|_| ())
        })?)
    }

    /// An address by which another process of this machine can open it.
    ///
    /// # Errors
    /// As [`zeros`](SharedMemory::zeros).
    pub fn address(&self) -> io::Result<String> {
        address(&self.file)
    }

    /// Opens the memory whose [`address`](SharedMemory::address) another process has sent.
    ///
    /// # Errors
    /// The system's error, for instance if that process is in another container, or if the address is of another file
    /// now.
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

    /// An arena over the memory.
    ///
    /// # Safety
    /// The arena's parts are read and written like memory of this process. The caller must make sure, by messages
    /// between the processes, that none reads while another writes; and that each process uses only one arena at a
    /// time.
    pub unsafe fn arena(&self) -> SharedArena {
        SharedArena { map: self.map.clone(), at: 0 }
    }
}

/// The parts of a shared memory, one after the other: processes that request the same parts in the same order get the
/// same memory.
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
    /// If there are not that many left.
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
    /// Offset in bytes.
    start: usize,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: bytemuck::Pod> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the range is in the map, which lives as long as `self`, and is aligned (`SharedArena::part`); any
        // bytes are a valid `T`. Nobody writes while the slice is borrowed: not this process, where parts do not
        // overlap and writing takes `&mut self`, and no other, which the caller of `SharedMemory::arena` has made sure
        // of.
        // while the slice is borrowed: not this process, where parts do not overlap and writing takes `&mut self`, and
        // no other, as whoever called `SharedMemory::arena` has seen to.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start).cast(), self.len) }
    }
}

impl<T: bytemuck::Pod> DerefMut for SharedSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; and nobody reads either.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(self.start).cast(), self.len) }
    }
}

/// A file without a name, filled by `fill`, in the first folder where that succeeds.
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
    // `Relaxed`: the numbers only have to differ, they order no other memory access.
    let path = folder.join(format!(".tempograph-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// An address of an open file for other processes of this machine, with facts that identify the file.
#[cfg(target_os = "linux")]
pub(crate) fn address(file: &File) -> io::Result<String> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    let facts = file.metadata()?;
    Ok(format!("/proc/{}/fd/{} {}:{}:{}", std::process::id(), file.as_raw_fd(), facts.dev(), facts.ino(), facts.len()))
}

/// The file whose address another process has sent.
#[cfg(target_os = "linux")]
pub(crate) fn open(address: &str) -> io::Result<File> {
    let other = || io::Error::other(format!("{address} is not the file that was named"));
    let (path, facts) = address.split_once(' ').ok_or_else(other)?;
    let file = File::options().read(true).write(true).open(path)?;
    // Where processes have other numbers, as in another container, the path may be of any file.
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
