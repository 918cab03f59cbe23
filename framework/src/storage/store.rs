//! Named arrays in one safetensors file, which is written completely or not at all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};
use tempograph_kernels::cpu::first_not_finite;

/// The metadata that holds the checksum of the rest.
const SEAL: &str = "sha256";

/// Arrays by name, and metadata (text by name) that goes into the file's header.
///
/// ```
/// # use tempograph_framework::{Array, Store};
/// let path = std::env::temp_dir().join("tempograph-store-example.safetensors");
/// let mut store = Store::default();
/// store.put("memory", [2, 2], vec![1.0f32, 2.0, 3.0, 4.0]);
/// store.write(&path)?;
/// assert_eq!(Store::read(&path)?.take::<f32>("memory")?, (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]));
/// # Ok::<(), tempograph_framework::StoreError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    arrays: BTreeMap<String, (Vec<usize>, Array)>,
    notes: BTreeMap<String, String>,
}

/// Values of one of the kinds a store holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Unsigned 64-bit integers.
    U64(Vec<u64>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// Bytes.
    U8(Vec<u8>),
}

/// A kind of value a store holds.
pub trait Element: bytemuck::Pod {
    /// Its safetensors name.
    const DTYPE: Dtype;
    /// Wraps values.
    fn wrap(values: Vec<Self>) -> Array;
    /// Unwraps them, if they are of this kind.
    fn unwrap(array: Array) -> Option<Vec<Self>>;
    /// Borrows them, if they are of this kind.
    fn borrow(array: &Array) -> Option<&[Self]>;
}

macro_rules! element {
    ($($type:ty => $variant:ident),*) => { $(
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$variant;
            fn wrap(values: Vec<Self>) -> Array { Array::$variant(values) }
            fn unwrap(array: Array) -> Option<Vec<Self>> { if let Array::$variant(values) = array { Some(values) } else { None } }
            fn borrow(array: &Array) -> Option<&[Self]> { if let Array::$variant(values) = array { Some(values) } else { None } }
        }
    )* };
}
element!(f32 => F32, u32 => U32, u64 => U64, i64 => I64, u8 => U8);

/// Why a stored file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system returned an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Not a whole safetensors file.
    #[error("{} is not a readable safetensors file: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The reader's error.
        source: safetensors::SafeTensorError,
    },
    /// An array of a kind that no store writes.
    #[error("{}: array `{name}` has type {dtype}, which is not used here", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The array.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A number that is NaN or infinite.
    #[error(
        "{}: array `{name}`, row {row}, column {column} is {value}: the file is damaged, or of a run that diverged; nothing \
         was read from it",
        path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The array.
        name: String,
        /// The row, along the first axis.
        row: usize,
        /// The number in the row.
        column: usize,
        /// The number.
        value: f32,
    },
    /// The content is not what was written.
    #[error("{}: {fact}; it was damaged since it was written", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Both checksums.
        fact: String,
    },
    /// An array is missing, or is of another kind or size.
    #[error("array `{name}` {problem}")]
    Array {
        /// The array.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreError {
    /// The same of an array that stands under `prefix` in a larger store.
    pub(crate) fn under(self, prefix: &str) -> StoreError {
        match self {
            StoreError::Array { name, problem } => StoreError::Array { name: format!("{prefix}{name}"), problem },
            other => other,
        }
    }
}

impl Store {
    /// Adds an array, replacing one of that name.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    pub fn put<T: Element>(&mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>, values: Vec<T>) {
        let (name, shape) = (name.into(), shape.into());
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values of `{name}` for shape {shape:?}");
        self.arrays.insert(name, (shape, T::wrap(values)));
    }

    /// The values of an array, if there is one of that name and kind.
    pub fn get<T: Element>(&self, name: &str) -> Option<&[T]> {
        T::borrow(&self.arrays.get(name)?.1)
    }

    /// Removes an array and returns it.
    ///
    /// # Errors
    /// [`StoreError::Array`] if there is none of that name and kind.
    pub fn take<T: Element>(&mut self, name: &str) -> Result<(Vec<usize>, Vec<T>), StoreError> {
        let wrong = |problem: &str| StoreError::Array { name: name.into(), problem: problem.into() };
        let (shape, array) = self.arrays.remove(name).ok_or_else(|| wrong("is missing"))?;
        let values = T::unwrap(array).ok_or_else(|| wrong(&format!("is not of type {:?}", T::DTYPE)))?;
        Ok((shape, values))
    }

    /// As [`take`](Store::take), for an array that must have `len` values.
    ///
    /// # Errors
    /// [`StoreError::Array`] as in [`take`](Store::take), or if the length differs.
    pub fn take_len<T: Element>(&mut self, name: &str, len: usize) -> Result<Vec<T>, StoreError> {
        let (_, values) = self.take::<T>(name)?;
        if values.len() != len {
            let problem = format!("has {} values where {len} are expected", values.len());
            return Err(StoreError::Array { name: name.into(), problem });
        }
        Ok(values)
    }

    /// Checks that every float is finite; `from` is named in errors.
    ///
    /// # Errors
    /// [`StoreError::NotFinite`] for the first that is not, by the order of the names.
    pub fn check_finite(&self, from: &Path) -> Result<(), StoreError> {
        for (name, (shape, array)) in &self.arrays {
            let Array::F32(values) = array else { continue };
            if let Some(at) = first_not_finite(values) {
                let width = shape.iter().skip(1).product::<usize>().max(1);
                return Err(StoreError::NotFinite {
                    path: from.into(),
                    name: name.clone(),
                    row: at / width,
                    column: at % width,
                    value: values[at],
                });
            }
        }
        Ok(())
    }

    /// Moves the arrays under `prefix` to a new store and removes the prefix from their names.
    pub fn split_off(&mut self, prefix: &str) -> Store {
        let (under, rest) =
            std::mem::take(&mut self.arrays).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.arrays = rest;
        let under: BTreeMap<String, _> = under;
        Store {
            arrays: under.into_iter().map(|(name, array)| (name[prefix.len()..].to_string(), array)).collect(),
            notes: BTreeMap::new(),
        }
    }

    /// Moves all arrays of `other` in, with `prefix` before their names.
    pub fn merge(&mut self, prefix: &str, other: Store) {
        self.arrays.extend(other.arrays.into_iter().map(|(name, array)| (format!("{prefix}{name}"), array)));
    }

    /// Names of the arrays, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// Sets a metadata text.
    pub fn set_metadata(&mut self, name: &str, text: String) {
        self.notes.insert(name.into(), text);
    }

    /// A metadata text.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.notes.get(name).map(String::as_str)
    }

    /// Writes a temporary file next to `path`, flushes it to the disk and renames it: a reader sees the old file or
    /// the new one.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the old file is then still at `path`.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        let bytes = self.to_bytes().map_err(|source| StoreError::Format { path: path.into(), source })?;
        write_atomic(path, &bytes).map_err(|source| StoreError::Io { path: path.into(), source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`StoreError`] naming the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Store, StoreError> {
        let bytes = std::fs::read(path).map_err(|source| StoreError::Io { path: path.into(), source })?;
        Store::from_bytes(&bytes, path)
    }

    /// As [`write`](Store::write), with a SHA-256 of all arrays and all metadata in the metadata `sha256`.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn write_sealed(mut self, path: &Path) -> Result<(), StoreError> {
        self.notes.remove(SEAL);
        let seal = self.seal();
        self.notes.insert(SEAL.into(), seal);
        self.write(path)
    }

    /// Reads what [`write_sealed`](Store::write_sealed) wrote.
    ///
    /// # Errors
    /// As [`read`](Store::read); [`StoreError::Seal`] if any value is not the one that was written.
    pub fn read_sealed(path: &Path) -> Result<Store, StoreError> {
        let mut store = Store::read(path)?;
        let stated = store.notes.remove(SEAL).unwrap_or_else(|| "none".into());
        let found = store.seal();
        if stated != found {
            let fact = format!("its content has the SHA-256 {found}, and the file states {stated}");
            return Err(StoreError::Seal { path: path.into(), fact });
        }
        Ok(store)
    }

    /// SHA-256 of arrays and metadata.
    fn seal(&self) -> String {
        let notes = self.notes.iter().flat_map(|(name, text)| [name, "\0", text, "\0"].map(str::to_string));
        sha256_hex(notes.chain([self.sha256()]))
    }

    /// The file's content, byte for byte.
    ///
    /// # Errors
    /// Never in practice: shapes are checked when arrays are put.
    pub fn to_bytes(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let views = self.arrays.iter().map(|(name, (shape, array))| {
            TensorView::new(array.dtype(), shape.clone(), array.bytes()).map(|view| (name.as_str(), view))
        });
        let views: Vec<_> = views.collect::<Result<_, _>>()?;
        let notes = (!self.notes.is_empty()).then(|| self.notes.clone().into_iter().collect());
        safetensors::serialize(views, notes)
    }

    /// The store that [`to_bytes`](Store::to_bytes) wrote; `from` is named in errors.
    ///
    /// # Errors
    /// [`StoreError`] naming `from` and what is wrong with it.
    pub fn from_bytes(bytes: &[u8], from: &Path) -> Result<Store, StoreError> {
        let format = |source| StoreError::Format { path: from.into(), source };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let file = SafeTensors::deserialize(bytes).map_err(format)?;
        let mut store =
            Store { notes: header.metadata().clone().unwrap_or_default().into_iter().collect(), ..Store::default() };
        for (name, view) in file.iter() {
            let data = view.data();
            let array = match view.dtype() {
                Dtype::F32 => Array::F32(bytemuck::pod_collect_to_vec(data)),
                Dtype::U32 => Array::U32(bytemuck::pod_collect_to_vec(data)),
                Dtype::U64 => Array::U64(bytemuck::pod_collect_to_vec(data)),
                Dtype::I64 => Array::I64(bytemuck::pod_collect_to_vec(data)),
                Dtype::U8 => Array::U8(data.to_vec()),
                other => {
                    return Err(StoreError::Kind { path: from.into(), name: name.into(), dtype: format!("{other:?}") });
                }
            };
            store.arrays.insert(name.into(), (view.shape().to_vec(), array));
        }
        Ok(store)
    }

    /// SHA-256 of all arrays with their names, kinds and shapes, in hexadecimal, without metadata.
    pub fn sha256(&self) -> String {
        let parts = self.arrays.iter().flat_map(|(name, (shape, array))| {
            let head = format!("{name}\0{:?}\0{shape:?}\0", array.dtype());
            [Cow::Owned(head.into_bytes()), Cow::Borrowed(array.bytes())]
        });
        sha256_hex(parts)
    }
}

impl Array {
    fn dtype(&self) -> Dtype {
        match self {
            Array::F32(_) => Dtype::F32,
            Array::U32(_) => Dtype::U32,
            Array::U64(_) => Dtype::U64,
            Array::I64(_) => Dtype::I64,
            Array::U8(_) => Dtype::U8,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Array::F32(values) => bytemuck::cast_slice(values),
            Array::U32(values) => bytemuck::cast_slice(values),
            Array::U64(values) => bytemuck::cast_slice(values),
            Array::I64(values) => bytemuck::cast_slice(values),
            Array::U8(values) => values,
        }
    }
}

/// SHA-256 of all `parts`, one after the other, in hexadecimal.
pub fn sha256_hex(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `bytes` to a temporary file next to `path`, flushes it to the disk, and renames it to `path`.
///
/// # Errors
/// The file system's error; `path` is then unchanged.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`], with what `write` writes. A pipe or a device cannot be replaced, so it is written directly.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return write(&mut File::options().write(true).open(path)?);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = File::create(&partial).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&partial, path)) {
        // No partial file stays; the first error is the one to report.
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
