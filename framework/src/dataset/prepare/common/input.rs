//! Lines of a text file or of standard input, which may be compressed.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::Progress;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Lines between two reports of progress.
const REPORT_EVERY: u64 = 8192;
/// Bytes of the longest line.
const LONGEST: u64 = 64 << 20;
/// Lines, and bytes of them, that are read ahead to tell what the file is.
const AHEAD: (usize, usize) = (1000, 1 << 20);

/// A text file read line by line and once, unpacked on the way if it is gzip or zstd (known by its first bytes, not its name).
pub(crate) struct Input {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    packed: Option<&'static str>,
    /// Lines that were read ahead, with their rows; the next is at `taken`.
    ahead: Vec<(u64, Vec<u8>)>,
    taken: usize,
    line: Vec<u8>,
    row: u64,
    read: Rc<Cell<u64>>,
    total: u64,
}

/// One line without its end, and its row.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) path: &'a Path,
    pub(crate) row: u64,
    pub(crate) text: &'a [u8],
}

impl Line<'_> {
    pub(crate) fn refuse(&self, fact: impl Into<String>) -> PrepareError {
        PrepareError::row(self.path, self.row, fact)
    }

    pub(crate) fn is_comment(&self) -> bool {
        is_comment(self.text)
    }
}

/// Whether a line begins as comments do.
pub(crate) fn is_comment(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'#' | b'%'))
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, PrepareError> {
        let open = || -> io::Result<Self> {
            let read = Rc::new(Cell::new(0));
            let (file, total): (Box<dyn Read>, u64) = if path == Path::new("-") {
                (Box::new(io::stdin()), 0)
            } else {
                let file = File::open(path)?;
                let total = file.metadata()?.len();
                (Box::new(file), total)
            };
            let mut raw = BufReader::with_capacity(1 << 16, Counted { file, read: Rc::clone(&read) });
            let start = raw.fill_buf()?;
            let (packed, reader): (_, Box<dyn BufRead>) = if start.starts_with(GZIP) {
                (Some("gzip"), Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))))
            } else if start.starts_with(ZSTD) {
                (Some("zstd"), Box::new(BufReader::with_capacity(1 << 16, zstd::Decoder::with_buffer(raw)?)))
            } else {
                (None, Box::new(raw))
            };
            let (ahead, line) = (Vec::new(), Vec::new());
            Ok(Self { path: path.to_owned(), reader, packed, ahead, taken: 0, line, row: 0, read, total })
        };
        open().map_err(|error| PrepareError::io(path, error))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file is packed with.
    pub(crate) fn packed(&self) -> Option<&'static str> {
        self.packed
    }

    /// The first bytes, none of which are taken.
    pub(crate) fn magic(&mut self) -> Result<[u8; 8], PrepareError> {
        let mut magic = [0; 8];
        match self.reader.fill_buf() {
            Ok(start) => {
                let count = start.len().min(8);
                magic[..count].copy_from_slice(&start[..count]);
                Ok(magic)
            }
            Err(error) => {
                self.row = 1;
                Err(self.broken(error))
            }
        }
    }

    /// The first lines that are not blank, which [`next_line`](Self::next_line) gives again.
    pub(crate) fn look_ahead(&mut self) -> Result<Vec<Line<'_>>, PrepareError> {
        let mut bytes = self.ahead.iter().map(|(_, line)| line.len()).sum::<usize>();
        while self.ahead.len() < AHEAD.0 && bytes < AHEAD.1 && self.take_line()? {
            bytes += self.line.len();
            self.ahead.push((self.row, self.line.clone()));
        }
        Ok(self.ahead.iter().map(|(row, text)| Line { path: &self.path, row: *row, text }).collect())
    }

    /// The next line that is not blank.
    pub(crate) fn next_line(&mut self, progress: Progress<'_>) -> Result<Option<Line<'_>>, PrepareError> {
        if self.taken < self.ahead.len() {
            let (row, text) = &self.ahead[self.taken];
            self.taken += 1;
            return Ok(Some(Line { path: &self.path, row: *row, text }));
        }
        if self.row % REPORT_EVERY == REPORT_EVERY - 1 {
            progress(self.read.get(), self.total.max(self.read.get()));
        }
        if self.take_line()? {
            return Ok(Some(Line { path: &self.path, row: self.row, text: &self.line }));
        }
        progress(self.total, self.total);
        Ok(None)
    }

    /// Reads the next line that is not blank into `line`, without its end.
    fn take_line(&mut self) -> Result<bool, PrepareError> {
        loop {
            self.line.clear();
            self.row += 1;
            let mut limited = self.reader.by_ref().take(LONGEST);
            let bytes = limited.read_until(b'\n', &mut self.line).map_err(|error| self.broken(error))?;
            if bytes as u64 == LONGEST && self.line.last() != Some(&b'\n') {
                return Err(PrepareError::row(
                    &self.path,
                    self.row,
                    "the line is longer than 64 MiB; this is no table in text",
                ));
            }
            if bytes == 0 {
                return Ok(false);
            }
            if self.row == 1 {
                if self.line.starts_with(b"\xff\xfe") || self.line.starts_with(b"\xfe\xff") {
                    let fact = "the text is UTF-16; convert it, as with `iconv -f utf-16 -t utf-8`";
                    return Err(PrepareError::file(&self.path, fact));
                }
                if self.line.starts_with(b"\xef\xbb\xbf") {
                    self.line.drain(..3);
                }
            }
            while matches!(self.line.last(), Some(b'\n' | b'\r')) {
                self.line.pop();
            }
            if self.line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(true);
            }
        }
    }

    fn broken(&self, error: io::Error) -> PrepareError {
        match self.packed {
            Some(packing) => PrepareError::row(
                &self.path,
                self.row,
                format!("the {packing} stream is truncated or broken ({error})"),
            ),
            None => PrepareError::io(&self.path, error),
        }
    }
}

/// Counts the bytes that leave a file.
struct Counted {
    file: Box<dyn Read>,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(into)?;
        self.read.set(self.read.get() + bytes as u64);
        Ok(bytes)
    }
}
