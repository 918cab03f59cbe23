//! Lines of a text file that may be compressed.

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

/// A text file read line by line, unpacked on the way if it is gzip or zstd (known by its first bytes, not its name).
pub(crate) struct Input {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    packed: Option<&'static str>,
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

impl<'a> Line<'a> {
    pub(crate) fn refuse(&self, fact: impl Into<String>) -> PrepareError {
        PrepareError::row(self.path, self.row, fact)
    }

    pub(crate) fn is_comment(&self) -> bool {
        matches!(self.text.first(), Some(b'#' | b'%'))
    }

    pub(crate) fn by_comma(self) -> impl Iterator<Item = &'a [u8]> {
        self.text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
    }

    pub(crate) fn by_blank(self) -> impl Iterator<Item = &'a [u8]> {
        self.text.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
    }
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Self, PrepareError> {
        let open = || -> io::Result<Self> {
            let file = File::open(path)?;
            let total = file.metadata()?.len();
            let read = Rc::new(Cell::new(0));
            let mut raw = BufReader::with_capacity(1 << 16, Counted { file, read: Rc::clone(&read) });
            let start = raw.fill_buf()?;
            let (packed, reader): (_, Box<dyn BufRead>) = if start.starts_with(GZIP) {
                (Some("gzip"), Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))))
            } else if start.starts_with(ZSTD) {
                (Some("zstd"), Box::new(BufReader::with_capacity(1 << 16, zstd::Decoder::with_buffer(raw)?)))
            } else {
                (None, Box::new(raw))
            };
            Ok(Self { path: path.to_owned(), reader, packed, line: Vec::new(), row: 0, read, total })
        };
        open().map_err(|error| PrepareError::io(path, error))
    }

    /// The next line that is not blank.
    pub(crate) fn next_line(&mut self, progress: Progress<'_>) -> Result<Option<Line<'_>>, PrepareError> {
        loop {
            self.line.clear();
            self.row += 1;
            if self.row.is_multiple_of(REPORT_EVERY) {
                progress(self.read.get(), self.total);
            }
            let bytes = self.reader.read_until(b'\n', &mut self.line).map_err(|error| self.broken(error))?;
            if bytes == 0 {
                progress(self.total, self.total);
                return Ok(None);
            }
            let text =
                if self.row == 1 { self.line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.line) } else { &self.line };
            let blanks = text.len() - text.trim_ascii_start().len();
            let start = self.line.len() - text.len() + if blanks == text.len() { blanks } else { 0 };
            if start < self.line.len() {
                return Ok(Some(Line { path: &self.path, row: self.row, text: self.line[start..].trim_ascii_end() }));
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
    file: File,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(into)?;
        self.read.set(self.read.get() + bytes as u64);
        Ok(bytes)
    }
}
