//! Checks and repairs the storage crate's journal before the crate opens it.
//!
//! The crate drops everything after the first unreadable byte of its journal. It does not open a journal whose last
//! batch has the right length and the wrong bytes. A power cut can leave such a batch, because a file's pages may reach
//! the disk in any order. A log of record allows neither. So this module cuts the end of the journal, but only if no
//! whole batch comes after the damage: a torn write was the last one, and was not acknowledged as durable. Whole
//! batches after the damage mean that the disk has lost acknowledged entries; then the log is not opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// The end of a batch.
const TRAILER: &[u8] = b"FJL\x03";
/// `1, items u32, sequence u64`.
const START: usize = 13;
/// `3, xxh3 u64, trailer`.
const END: usize = 9 + TRAILER.len();

/// Damage in a journal, with whole batches after it.
#[derive(Debug, PartialEq)]
pub(super) struct Damage {
    pub file: PathBuf,
    /// Length of the whole batches before the damage, in bytes.
    pub good: usize,
    /// Offset of the next whole batch.
    pub next: usize,
}

/// Cuts the remains of a torn write from the end of the journals of `dir`. Returns how many bytes were cut, or where
/// there is damage.
pub(super) fn repair(dir: &Path) -> io::Result<Result<u64, Damage>> {
    let mut cut = 0;
    for file in journals(dir)? {
        let bytes = fs::read(&file)?;
        let good = whole(&bytes);
        // The crate allocates its files in advance: bytes that were never written are zero.
        let Some(last) = bytes[good..].iter().rposition(|&byte| byte != 0) else { continue };
        let torn = &bytes[good..good + last + 1];
        if let Some(next) = (1..torn.len()).find(|&at| torn[at] == 1 && batch(&torn[at..]).is_some()) {
            return Ok(Err(Damage { file, good, next: good + next }));
        }
        let journal = fs::File::options().write(true).open(&file)?;
        journal.set_len(good as u64)?;
        journal.sync_all()?;
        cut += torn.len() as u64;
    }
    Ok(Ok(cut))
}

fn journals(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    Ok(files)
}

/// Length of the whole batches at the start of `bytes`.
fn whole(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length) = batch(&bytes[end..]) {
        end += length;
    }
    end
}

/// Length of the whole batch at the start of `bytes`, if there is one.
fn batch(bytes: &[u8]) -> Option<usize> {
    let (1, start) = (*bytes.first()?, bytes.get(..START)?) else { return None };
    let items = u32::from_le_bytes(start[1..5].try_into().ok()?);
    let mut end = START;
    for _ in 0..items {
        end += item(bytes.get(end..)?)?;
    }
    let close = bytes.get(end..end + END)?;
    let sum = u64::from_le_bytes(close[1..9].try_into().ok()?);
    let is_whole = close[0] == 3 && &close[9..] == TRAILER && sum == xxh3_64(&bytes[START..end]);
    is_whole.then_some(end + END)
}

/// Length of the item at the start of `bytes`: `2, kind, compression, keyspace u64, key u16, value u32, stored u32`,
/// key, stored value; or `4, keyspace u64`.
fn item(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        2 => {
            let key = u16::from_le_bytes(bytes.get(11..13)?.try_into().ok()?);
            let stored = u32::from_le_bytes(bytes.get(17..21)?.try_into().ok()?);
            Some(21 + usize::from(key) + stored as usize)
        }
        4 => Some(9),
        _ => None,
    }
}
