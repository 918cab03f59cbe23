//! `SHA256SUMS`: the checksum each file had when it was first fetched, in the format of `sha256sum`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::fetch::FetchError;
use crate::fetch::part::with_suffix;

const FILE: &str = "SHA256SUMS";

/// The result of a comparison with the recorded checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The file is the one that was fetched first.
    Same,
    /// No checksum was recorded before: it is recorded now.
    FirstUse,
}

/// The checksums of a folder, by file name.
#[derive(Debug)]
pub struct Sums {
    dir: PathBuf,
    digests: BTreeMap<String, String>,
}

impl Sums {
    /// Reads the folder's checksums; none if it has no such file.
    pub fn open(dir: &Path) -> Result<Self, FetchError> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(FetchError::reading(&path, source)),
        };
        let mut digests = BTreeMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (digest, file) = parse(line).ok_or_else(|| FetchError::SumsLine {
                path: path.clone(),
                line: index + 1,
                text: line.to_owned(),
            })?;
            digests.insert(file.to_owned(), digest.to_ascii_lowercase());
        }
        Ok(Self { dir: dir.to_path_buf(), digests })
    }

    /// Compares `file` with its recorded checksum, or records `digest` if it has none.
    pub fn check_or_record(&mut self, file: &str, digest: &str) -> Result<Verdict, FetchError> {
        match self.digests.get(file) {
            Some(recorded) if recorded == digest => Ok(Verdict::Same),
            Some(recorded) => Err(FetchError::Checksum {
                path: self.dir.join(file),
                recorded: recorded.clone(),
                found: digest.to_owned(),
            }),
            None => {
                self.digests.insert(file.to_owned(), digest.to_owned());
                Ok(Verdict::FirstUse)
            }
        }
    }

    /// Removes the checksum of `file`.
    pub fn forget(&mut self, file: &str) {
        self.digests.remove(file);
    }

    /// Writes the checksums, all or nothing.
    pub fn save(&self) -> Result<(), FetchError> {
        let path = self.dir.join(FILE);
        let draft = with_suffix(&path, ".part");
        let text: String = self.digests.iter().map(|(file, digest)| format!("{digest}  {file}\n")).collect();
        fs::write(&draft, text).map_err(|source| FetchError::writing(&draft, source))?;
        fs::rename(&draft, &path).map_err(|source| FetchError::writing(&path, source))
    }
}

/// A line is 64 hexadecimal digits, a space, a space or `*`, and the name.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (digest, file) = line.split_once(' ')?;
    let file = file.strip_prefix([' ', '*'])?;
    let is_sha256 = digest.len() == 64 && digest.bytes().all(|digit| digit.is_ascii_hexdigit());
    (is_sha256 && !file.is_empty()).then_some((digest, file))
}

/// The SHA-256 of the file at `path`, in lower-case hexadecimal.
pub fn digest(path: &Path) -> Result<String, FetchError> {
    let file = File::open(path).map_err(|source| FetchError::reading(path, source))?;
    digest_of(file, path)
}

/// The SHA-256 of what is left to read of `file`, which is the one at `path`.
pub fn digest_of(mut file: impl Read, path: &Path) -> Result<String, FetchError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(|source| FetchError::reading(path, source))?;
        if count == 0 {
            return Ok(hex(hasher));
        }
        hasher.update(&buffer[..count]);
    }
}

/// The hasher's result in lower-case hexadecimal.
pub fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_broken_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), format!("{}  good.csv\nabc  bad.csv\n", "0".repeat(64))).unwrap();
        let error = Sums::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("SHA256SUMS line 2") && error.contains("abc  bad.csv"), "{error}");
    }

    #[test]
    fn a_saved_table_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut sums = Sums::open(dir.path()).unwrap();
        let digest = "a".repeat(64);
        assert_eq!(sums.check_or_record("with space.csv", &digest).unwrap(), Verdict::FirstUse);
        sums.save().unwrap();
        let mut again = Sums::open(dir.path()).unwrap();
        assert_eq!(again.check_or_record("with space.csv", &digest).unwrap(), Verdict::Same);
    }
}
