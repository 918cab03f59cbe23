//! A file of named arrays that is written part by part, so that nobody holds the whole in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::storage::store::write_atomic_with;
use crate::{Store, StoreError};

/// A [`Store`] given in parts, in any order, and written as one file. Memory holds only the current part, and three
/// numbers for each earlier part; the parts themselves are in a file of their own until the end.
///
/// ```
/// # use tempograph_framework::{Store, StoreParts};
/// let path = std::env::temp_dir().join("tempograph-parts-example.safetensors");
/// let part = |values: &[f32]| {
///     let mut store = Store::default();
///     store.put("memory", [values.len()], values.to_vec());
///     store
/// };
/// let mut parts = StoreParts::create(&path.with_extension("parts"))?;
/// parts.put(1, &part(&[3.0]))?;
/// parts.put(0, &part(&[1.0, 2.0]))?;
/// parts.write(&path)?;
/// assert_eq!(Store::read(&path)?, part(&[1.0, 2.0, 3.0]));
/// # Ok::<(), tempograph_framework::StoreError>(())
/// ```
#[derive(Debug)]
pub struct StoreParts {
    path: PathBuf,
    file: BufWriter<File>,
    /// Key of each part, its start and its end.
    parts: Vec<(u64, u64, u64)>,
}

/// An array of the resulting file, as far as it is known or written.
struct MergedArray {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where its next part is written.
    at: u64,
}

impl StoreParts {
    /// Collects parts in the file `path`, which is removed when they are written or dropped.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create(path: &Path) -> Result<StoreParts, StoreError> {
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(io_error(path))?;
        Ok(StoreParts { path: path.into(), file: BufWriter::new(file), parts: Vec::new() })
    }

    /// Adds a part: for each array in it, rows along the first axis.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put(&mut self, key: u64, part: &Store) -> Result<(), StoreError> {
        let bytes = part.to_bytes().map_err(format(&self.path))?;
        let start = self.parts.last().map_or(0, |&(.., end)| end);
        self.file.write_all(&bytes).map_err(io_error(&self.path))?;
        self.parts.push((key, start, start + bytes.len() as u64));
        Ok(())
    }

    /// Writes the file that [`Store::write`] writes for the concatenated arrays of the parts, in the order of their
    /// keys.
    ///
    /// # Errors
    /// [`StoreError`] for arrays of one name that differ in kind or in more than their rows; the old file is then
    /// still at `path`.
    pub fn write(mut self, path: &Path) -> Result<(), StoreError> {
        if self.parts.is_empty() {
            return Store::default().write(path);
        }
        self.file.flush().map_err(io_error(&self.path))?;
        // SAFETY: only this value has the file, and nothing writes to it while it is mapped.
        let bytes = unsafe { Mmap::map(self.file.get_ref()) }.map_err(io_error(&self.path))?;
        let mut parts = std::mem::take(&mut self.parts);
        parts.sort_by_key(|&(key, ..)| key);
        let part = |&(_, start, end): &(u64, u64, u64)| SafeTensors::deserialize(&bytes[start as usize..end as usize]);
        let mut arrays = BTreeMap::new();
        for place in &parts {
            let part = part(place).map_err(format(&self.path))?;
            part.iter().try_for_each(|(name, view)| join(&mut arrays, name, view.dtype(), view.shape()))?;
        }
        let header = lay_out(&mut arrays).map_err(format(path))?;
        let written = write_atomic_with(path, |file| {
            file.write_all(&header)?;
            for place in &parts {
                let part = part(place).map_err(io::Error::other)?;
                for (name, view) in part.iter() {
                    let Some(array) = arrays.get_mut(name) else { continue };
                    file.seek(SeekFrom::Start(array.at))?;
                    file.write_all(view.data())?;
                    array.at += view.data().len() as u64;
                }
            }
            Ok(())
        });
        written.map_err(io_error(path))
    }
}

impl Drop for StoreParts {
    fn drop(&mut self) {
        // A file that cannot be removed only takes space on the disk.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Adds an array's rows to the earlier rows of its name.
fn join(
    arrays: &mut BTreeMap<String, MergedArray>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<(), StoreError> {
    let rows = shape.first().copied().unwrap_or(1);
    let wrong = || StoreError::Array { name: name.into(), problem: "has parts that do not go together".into() };
    match arrays.get_mut(name) {
        None => _ = arrays.insert(name.into(), MergedArray { dtype, shape: shape.to_vec(), at: 0 }),
        Some(array) if array.dtype == dtype && !shape.is_empty() && array.shape[1..] == shape[1..] => {
            array.shape[0] += rows
        }
        Some(_) => return Err(wrong()),
    }
    Ok(())
}

/// Assigns each array its offset, as safetensors' own writer does: wide numbers first, then by name. Returns the
/// file's header.
fn lay_out(arrays: &mut BTreeMap<String, MergedArray>) -> Result<Vec<u8>, SafeTensorError> {
    let mut order: Vec<(&String, &mut MergedArray)> = arrays.iter_mut().collect();
    order.sort_by(|(a, one), (b, two)| two.dtype.cmp(&one.dtype).then(a.cmp(b)));
    let mut end = 0;
    let mut infos = Vec::with_capacity(order.len());
    for (name, array) in &mut order {
        let start = end;
        end += array.shape.iter().product::<usize>() * array.dtype.bitsize() / 8;
        array.at = start as u64;
        infos.push((
            name.to_string(),
            TensorInfo { dtype: array.dtype, shape: array.shape.clone(), data_offsets: (start, end) },
        ));
    }
    let mut json = serde_json::to_vec(&Metadata::new(None, infos)?)?;
    json.resize(json.len().next_multiple_of(size_of::<u64>()), b' ');
    let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
    order.iter_mut().for_each(|(_, array)| array.at += header.len() as u64);
    Ok(header)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

fn format(path: &Path) -> impl FnOnce(SafeTensorError) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Format { path, source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Arrays of three kinds, one of them with two axes and one that not every part has.
    fn store(rows: &[(u32, Option<i64>)]) -> Store {
        let mut store = Store::default();
        store.put("b.rows", [rows.len(), 2], rows.iter().flat_map(|&(row, _)| [row as f32, 0.5]).collect());
        store.put("a.number", [rows.len()], rows.iter().map(|&(row, _)| row).collect());
        let times: Vec<i64> = rows.iter().filter_map(|&(_, time)| time).collect();
        if !times.is_empty() {
            store.put("time", [times.len()], times);
        }
        store
    }

    proptest! {
        #[test]
        fn a_file_written_in_parts_is_that_of_the_whole_whatever_order_they_come_in(
            rows in prop::collection::vec((any::<u32>(), any::<Option<i64>>()), 1..40),
            size in 1usize..9,
            backwards in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let [spill, joined, whole] = ["spill", "joined", "whole"].map(|name| folder.path().join(name));
            let mut parts = StoreParts::create(&spill).unwrap();
            let mut chunks: Vec<(usize, &[_])> = rows.chunks(size).enumerate().collect();
            if backwards {
                chunks.reverse();
            }
            for (key, chunk) in chunks {
                parts.put(key as u64, &store(chunk)).unwrap();
            }
            parts.write(&joined).unwrap();
            store(&rows).write(&whole).unwrap();
            prop_assert_eq!(std::fs::read(&joined).unwrap(), std::fs::read(&whole).unwrap());
            prop_assert!(!spill.exists());
        }
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = StoreParts::create(&folder.path().join("spill")).unwrap();
        for width in [2, 3] {
            let mut store = Store::default();
            store.put("memory", [1, width], vec![0.0f32; width]);
            parts.put(width as u64, &store).unwrap();
        }
        let error = parts.write(&folder.path().join("file")).unwrap_err().to_string();
        assert!(error.contains("`memory`"), "{error}");
    }
}
