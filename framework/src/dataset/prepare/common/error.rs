//! Why a source cannot be prepared.

use std::path::{Path, PathBuf};

use crate::dataset::DatasetError;

/// A source that cannot be prepared. Rows of text files count from 1 with the header, as editors show them; rows of
/// arrays and Parquet files count from 0.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The system returned an error.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file is invalid.
    #[error("{}: {fact}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its values.
        fact: String,
    },
    /// A row is invalid.
    #[error("{} row {row}: {fact}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row.
        row: u64,
        /// What is wrong, with its values.
        fact: String,
    },
    /// The content is not a valid dataset.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl PrepareError {
    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    pub(crate) fn file(path: &Path, fact: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), fact: fact.into() }
    }

    pub(crate) fn row(path: &Path, row: u64, fact: impl Into<String>) -> Self {
        Self::Row { path: path.to_owned(), row, fact: fact.into() }
    }
}
