//! Features as they are read: kept in memory while they are few, in a file without a name when they are many.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use rustc_hash::FxHashMap;
use tempograph_kernels::Rows;

use crate::dataset::Table;
use crate::dataset::prepare::common::error::PrepareError;
use crate::storage::column::Column;

/// Values kept in memory: 64 MiB of them.
const IN_MEMORY: usize = 16 << 20;
/// Categories that one column may have as columns of their own, and as an index.
pub(crate) const MOST_ONE_HOT: usize = 64;
pub(crate) const MOST_INDEXED: usize = 1 << 16;

/// Rows of features `[rows, width]` that are appended.
pub(crate) struct FeatureSink {
    width: usize,
    values: Vec<f32>,
    spool: Option<BufWriter<File>>,
    written: usize,
    all_zero: bool,
    folder: PathBuf,
}

impl FeatureSink {
    pub(crate) fn new(width: usize, folder: &Path) -> Self {
        Self { width, values: Vec::new(), spool: None, written: 0, all_zero: true, folder: folder.to_owned() }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Appends one row, or several.
    pub(crate) fn push(&mut self, row: &[f32]) -> Result<(), PrepareError> {
        self.all_zero = self.all_zero && row.iter().all(|&value| value == 0.0);
        self.values.extend_from_slice(row);
        if self.values.len() >= IN_MEMORY { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), PrepareError> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            None => {
                let file = nameless(&self.folder).map_err(|error| PrepareError::io(&self.folder, error))?;
                self.spool.insert(BufWriter::with_capacity(1 << 20, file))
            }
        };
        spool.write_all(bytemuck::cast_slice(&self.values)).map_err(|error| PrepareError::io(&self.folder, error))?;
        self.written += self.values.len();
        self.values.clear();
        Ok(())
    }

    /// The rows as a table, and whether all are zero; `None` where there are no features.
    pub(crate) fn finish(mut self) -> Result<Option<(Table, bool)>, PrepareError> {
        if self.width == 0 {
            return Ok(None);
        }
        let folder = self.folder.clone();
        let broken = |error: io::Error| PrepareError::io(&folder, error);
        let column = if self.spool.is_some() {
            self.spill()?;
            let Some(spool) = self.spool.take() else { return Ok(None) };
            let file = spool.into_inner().map_err(|error| broken(error.into_error()))?;
            // SAFETY: the file has no name, so no other process changes it.
            let map = unsafe { Mmap::map(&file) }.map_err(broken)?;
            let bytes = 0..self.written * size_of::<f32>();
            Column::mapped(Arc::new(map), bytes).ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?
        } else {
            std::mem::take(&mut self.values).into()
        };
        let table =
            Table::from_column(column, self.width).map_err(|error| PrepareError::file(&folder, error.to_string()))?;
        Ok(Some((table, self.all_zero)))
    }
}

/// A file in `folder` that is gone with this process, however that ends.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!(".tempograph-features-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Rows of a table in another order, without a copy.
#[derive(Debug)]
pub(crate) struct Reordered {
    pub(crate) table: Table,
    /// The row of each event.
    pub(crate) rows: Vec<u32>,
}

impl Rows for Reordered {
    fn width(&self) -> usize {
        self.table.width()
    }

    fn row(&self, id: u64) -> &[f32] {
        self.table.row(u64::from(self.rows[id as usize]))
    }
}

/// The distinct values of a categorical column, numbered from 1 as they appear.
#[derive(Default)]
pub(crate) struct Categories {
    known: FxHashMap<Box<str>, u32>,
}

impl Categories {
    /// The number of a value; 0 for a missing one. The error says what is wrong with it.
    pub(crate) fn number(&mut self, text: &[u8], most: usize) -> Result<u32, String> {
        let text =
            std::str::from_utf8(text).map_err(|_| format!("`{}` is not UTF-8", String::from_utf8_lossy(text)))?;
        if let Some(&number) = self.known.get(text) {
            return Ok(number);
        }
        let number = self.known.len() as u32 + 1;
        if self.known.len() >= most {
            let other = if most == MOST_ONE_HOT { "--encoding index makes one column of them, or " } else { "" };
            return Err(format!(
                "`{text}` is value {number} of a categorical column, {most} are the most; {other}leave it out with --drop"
            ));
        }
        self.known.insert(text.into(), number);
        Ok(number)
    }

    /// The values in ascending order, and for each number the place of its value counted from 1.
    pub(crate) fn sorted(&self) -> (Vec<String>, Vec<u32>) {
        let mut known: Vec<(&str, u32)> = self.known.iter().map(|(text, &number)| (&**text, number)).collect();
        known.sort_unstable();
        let mut places = vec![0; known.len() + 1];
        known.iter().zip(1..).for_each(|(&(_, number), place)| places[number as usize] = place);
        (known.into_iter().map(|(text, _)| text.to_owned()).collect(), places)
    }
}
