//! Files that a command writes where the user says: only its own earlier files are replaced.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A kind of file that a command writes.
pub(crate) struct OwnFile {
    /// What it is, in messages.
    pub what: &'static str,
    /// Text near the beginning of each such file, and of no other.
    pub begins: &'static [&'static str],
}

/// What `train --trace` writes.
pub(crate) const TRACE: OwnFile = OwnFile { what: "a trace", begins: &["[\n{\"name\":\"thread_name\""] };
/// What `eval --scores` writes.
pub(crate) const SCORES: OwnFile = OwnFile {
    what: "a file of scores",
    begins: &["event,src,dst,time,positive,score\n", "{\"dst\":{\"dtype\":\"U64\",\"shape\":["],
};
/// What `report` writes.
pub(crate) const PAGE: OwnFile = OwnFile { what: "a page of runs", begins: &["<!-- tempograph report -->"] };
/// What `pretrain` writes.
pub(crate) const STATIC_MEMORY: OwnFile =
    OwnFile { what: "a file of static memory", begins: &["\\\"format\\\":\\\"tempograph-static-memory\\\""] };

/// How much of a file is read to know it.
const BEGINNING: u64 = 256;

impl OwnFile {
    /// Refuses a place where something else is. A place that is free, an empty file and a pipe can be written to.
    ///
    /// # Errors
    /// A folder, a file of another kind, a file that cannot be read, or a place in no folder, by its name.
    pub fn check(&self, path: &Path) -> Result<()> {
        let what = self.what;
        let Ok(found) = path.metadata() else {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            return match folder.filter(|folder| !folder.is_dir()) {
                Some(folder) => bail!("cannot write {}: there is no folder {}", path.display(), folder.display()),
                None => Ok(()),
            };
        };
        if found.is_dir() {
            bail!("{} is a folder, and {what} is a file: name the file", path.display());
        }
        if !found.is_file() || found.len() == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut bytes));
        read.with_context(|| format!("cannot read {}, which is there already", path.display()))?;
        let beginning = String::from_utf8_lossy(&bytes);
        if !self.begins.iter().any(|begins| beginning.contains(begins)) {
            bail!("{} is there already and is not {what}: it is left alone; name another file", path.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_same_kind_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for own in [TRACE, SCORES, PAGE, STATIC_MEMORY] {
            let _ = std::fs::remove_file(&path);
            own.check(&path).unwrap();
            std::fs::write(&path, "").unwrap();
            own.check(&path).unwrap();
            std::fs::write(&path, "src,dst,ts\n1,2,3\n").unwrap();
            let refused = own.check(&path).unwrap_err().to_string();
            assert!(refused.contains("it is left alone") && refused.contains(own.what), "{refused}");
            for begins in own.begins {
                std::fs::write(&path, format!("{begins} and more")).unwrap();
                own.check(&path).unwrap();
            }
            assert!(own.check(folder.path()).unwrap_err().to_string().contains("is a folder"));
            assert!(own.check(&folder.path().join("no/file")).unwrap_err().to_string().contains("there is no folder"));
        }
    }
}
