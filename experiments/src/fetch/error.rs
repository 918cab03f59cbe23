//! What can go wrong with a fetch, each with its place and its values.

use std::io;
use std::path::{Path, PathBuf};

/// A fetch that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No set has that name.
    #[error("there is no set `{name}`{}; known sets: {known}", nearest.map(|known| format!(" (did you mean `{known}`?)")).unwrap_or_default())]
    UnknownSet {
        /// What was asked for.
        name: String,
        /// The known name most like it.
        nearest: Option<&'static str>,
        /// All known names.
        known: String,
    },
    /// The address given with `--base-url` is no http address.
    #[error("--base-url `{url}` does not begin with http:// or https://")]
    BaseUrl {
        /// What was given.
        url: String,
    },
    /// Files are missing and the network was forbidden.
    #[error("{name} is not complete in {}, and --offline forbids fetching it", dir.display())]
    Offline {
        /// The set.
        name: &'static str,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The server could not be reached, or went silent.
    #[error("cannot reach {url}: {reason} (is there a network?)")]
    Unreachable {
        /// The address.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// The server knows no such file.
    #[error("{url} is not there (HTTP {code}); the set may have moved: try --base-url")]
    NotFound {
        /// The address.
        url: String,
        /// 404 or 410.
        code: u16,
    },
    /// The server answered with a status that is of no use here.
    #[error("{url} answered HTTP {code}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        code: u16,
    },
    /// The exchange with the server failed in a way that trying again will not mend.
    #[error("{url}: {reason}")]
    Protocol {
        /// The address.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// The body ended early.
    #[error("{url}: the body ended after {received} of {} bytes{}", announced(*expected), because(reason))]
    Truncated {
        /// The address.
        url: String,
        /// Bytes of the file that have arrived.
        received: u64,
        /// Bytes the server announced, if it did.
        expected: Option<u64>,
        /// What the system said; empty if the connection just ended.
        reason: String,
    },
    /// Another fetch holds the part file.
    #[error("{} is being written by another fetch", part.display())]
    Busy {
        /// The part file.
        part: PathBuf,
    },
    /// The user stopped the fetch.
    #[error("stopped; {} holds {kept} bytes and the same command goes on from there", part.display())]
    Interrupted {
        /// What can be gone on from.
        part: PathBuf,
        /// Its length in bytes.
        kept: u64,
    },
    /// No space is left for a file.
    #[error("the disk is full: {} could not be written further ({reason}); free some space and run the same command to go on", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written, renamed or removed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not the one that was fetched first.
    #[error(
        "{}: sha256 is {found}, but SHA256SUMS records {recorded}; run with --force to download it and record its checksum anew",
        path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The checksum in `SHA256SUMS`.
        recorded: String,
        /// The checksum of what is there or was downloaded.
        found: String,
    },
    /// A line of `SHA256SUMS` is not a checksum and a file name.
    #[error("{} line {line}: `{text}` is not a sha256 and a file name", path.display())]
    SumsLine {
        /// The file of checksums.
        path: PathBuf,
        /// Line, from one.
        line: usize,
        /// What it says.
        text: String,
    },
    /// The archive is broken or of a kind that is not read.
    #[error("{}: {reason}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// An entry of the archive would be written outside the folder, or is no plain file. Nothing was unpacked.
    #[error("{}: entry `{entry}` {why}; nothing was unpacked", archive.display())]
    UnsafeEntry {
        /// The archive.
        archive: PathBuf,
        /// The entry's name.
        entry: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An entry does not have the length that the archive declares.
    #[error("{}: entry `{entry}` declares {declared} bytes but holds {}{found}", archive.display(), if found > declared { "at least " } else { "" })]
    EntrySize {
        /// The archive.
        archive: PathBuf,
        /// The entry's name.
        entry: String,
        /// Bytes declared.
        declared: u64,
        /// Bytes unpacked when the difference showed.
        found: u64,
    },
    /// The archive lacks a file of the set.
    #[error("{} holds {found}, but not {missing}", archive.display())]
    MissingEntry {
        /// The archive.
        archive: PathBuf,
        /// What it holds.
        found: String,
        /// The file it should hold.
        missing: &'static str,
    },
}

fn announced(expected: Option<u64>) -> String {
    expected.map_or_else(|| "an unknown number of".to_owned(), |bytes| bytes.to_string())
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

impl FetchError {
    /// A failure to write `path`, distinguished from a full disk.
    pub(super) fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, reason: source.to_string() }
            }
            _ => Self::Write { path, source },
        }
    }

    /// A failure to read `path`.
    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_path_buf(), source }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Truncated { .. } => true,
            Self::Status { code, .. } => matches!(code, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether what was downloaded is not to blame and should be kept.
    pub(super) fn keeps_download(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::DiskFull { .. } | Self::Write { .. } | Self::Read { .. })
    }
}
