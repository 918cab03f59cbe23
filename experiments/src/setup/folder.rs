//! The folder of a run: who writes to it, and what becomes of the run that was there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempograph_trainers::RunFiles;

use crate::terminal::print::note;

/// A run's folder while this process writes to it. Its file `lock` names the process, and goes with it.
#[derive(Debug)]
pub(crate) struct FolderLock {
    path: PathBuf,
    /// Open, and thereby locked, as long as this lives.
    _file: File,
}

impl FolderLock {
    /// Locks the folder of `files`, which is there.
    ///
    /// # Errors
    /// Another process that writes to it, by its number and machine; a folder that cannot be written.
    pub fn take(files: &RunFiles) -> Result<FolderLock> {
        let path = files.lock();
        loop {
            let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = open.with_context(|| format!("cannot write {}", path.display()))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {}
                // The process before took its file away in the meantime.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    let named = file.read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
                    let owner = if named { owner.trim() } else { "another process" };
                    bail!(
                        "{} is in use: {owner} trains there; wait for it or stop it, or choose another folder with --out DIR",
                        files.folder.display()
                    );
                }
                Err(TryLockError::Error(error)) => {
                    note(format!("{} cannot be locked ({error}): let no other process use it", files.folder.display()));
                }
            }
            let owner = format!("process {} on {}\n", std::process::id(), host());
            let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
            written
                .and_then(|_| file.write_all(owner.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            return Ok(FolderLock { path, _file: file });
        }
    }
}

/// Whether a process of this machine writes to the folder of `files`.
pub(crate) fn is_in_use(files: &RunFiles) -> bool {
    File::open(files.lock()).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // While it is still locked. Who has opened it in the meantime sees that it is gone, and opens another.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `path` names `file` still.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(file), Ok(path)) if place(file.clone()) == place(path.clone()))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this machine".into() } else { name.trim().into() }
}

/// The files of a run that another one replaces. They come back unless the new run gets through its first epoch.
#[derive(Debug)]
pub(crate) struct Replaced {
    files: RunFiles,
    /// What happens when this is dropped.
    comes_back: bool,
}

impl Replaced {
    /// Moves the files of the run in the folder aside, if there is one.
    ///
    /// # Errors
    /// A file that cannot be moved; those that were moved are back then.
    pub fn set_aside(files: &RunFiles) -> Result<Option<Replaced>> {
        let (folder, aside) = (&files.folder, files.replaced());
        // One that was killed before its first epoch was complete has left the run before it there.
        let kept = holds_run(&RunFiles { folder: aside.clone() });
        let own = own_files(files);
        if own.is_empty() && !kept {
            return Ok(None);
        }
        let replaced = Replaced { files: files.clone(), comes_back: true };
        for file in own {
            let (from, to) = (folder.join(&file), aside.join(&file));
            let cannot = || format!("cannot replace {}", from.display());
            if kept {
                fs::remove_file(&from).with_context(cannot)?;
            } else {
                to.parent().map_or(Ok(()), fs::create_dir_all).with_context(cannot)?;
                fs::rename(&from, &to).with_context(cannot)?;
            }
        }
        remove_empty_folders(folder);
        Ok(Some(replaced))
    }

    /// What a run that is resumed in its first epoch has set aside.
    pub fn of_resumed(files: &RunFiles) -> Option<Replaced> {
        let aside = RunFiles { folder: files.replaced() };
        holds_run(&aside).then(|| Replaced { files: files.clone(), comes_back: false })
    }

    /// Removes them: the new run has something to show.
    pub fn discard(mut self) {
        self.comes_back = false;
        let aside = RunFiles { folder: self.files.replaced() };
        for file in own_files(&aside) {
            if let Err(error) = fs::remove_file(aside.folder.join(&file)) {
                note(format!("{} cannot be removed: {error}", aside.folder.join(&file).display()));
            }
        }
        remove_empty_folders(&aside.folder);
        let _ = fs::remove_dir(&aside.folder);
    }

    /// Leaves them where they are: the new run was stopped and may go on.
    pub fn keep_aside(&mut self) {
        self.comes_back = false;
    }

    /// Whether they come back when this is dropped.
    pub fn comes_back(&self) -> bool {
        self.comes_back
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if !self.comes_back {
            return;
        }
        let (folder, aside) = (&self.files.folder, RunFiles { folder: self.files.replaced() });
        let back = own_files(&aside);
        // Before anything of the older run is back: a name may be in both.
        if aside.report().exists() || aside.spec().exists() {
            own_files(&self.files).iter().for_each(|file| drop(fs::remove_file(folder.join(file))));
        }
        for file in back {
            let (from, to) = (aside.folder.join(&file), folder.join(&file));
            let moved = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::rename(&from, &to));
            if let Err(error) = moved {
                note(format!("{} cannot be moved back: {error}", from.display()));
            }
        }
        remove_empty_folders(folder);
        remove_empty_folders(&aside.folder);
        let _ = fs::remove_dir(&aside.folder);
    }
}

/// Whether a run has written to the folder.
pub(crate) fn holds_run(files: &RunFiles) -> bool {
    [files.report(), files.spec(), files.best(), files.checkpoint()].iter().any(|file| file.exists())
}

/// What runs write into a folder, as far as it is there, by its path in the folder: nothing else is ever removed.
pub(crate) fn own_files(files: &RunFiles) -> Vec<PathBuf> {
    let mut own: Vec<PathBuf> = [files.report(), files.spec(), files.best(), files.checkpoint()].into();
    let names = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    own.extend(names(&files.board()).into_iter().filter(|path| named(path).starts_with("events.out.tfevents.")));
    own.extend(artifact_files(&files.artifact()));
    own.retain(|path| path.is_file());
    own.iter().filter_map(|path| path.strip_prefix(&files.folder).ok().map(Path::to_path_buf)).collect()
}

/// The manifest of an artifact, and the files it names.
fn artifact_files(folder: &Path) -> Vec<PathBuf> {
    let manifest = folder.join("manifest.json");
    let Ok(text) = fs::read(&manifest) else { return Vec::new() };
    let message: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    if message["format"] != "tempograph-artifact" {
        return Vec::new();
    }
    let names = message["files"].as_object().into_iter().flat_map(|files| files.keys());
    // A name with a folder in it is none that was written here.
    let plain = names.filter(|name| Path::new(name).file_name() == Some(name.as_ref()));
    plain.map(|name| folder.join(name)).chain([manifest]).collect()
}

fn named(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Removes the folders that runs make in `folder`, where nothing is in them.
fn remove_empty_folders(folder: &Path) {
    let files = RunFiles { folder: folder.to_path_buf() };
    for made in [files.board(), files.artifact()] {
        let _ = fs::remove_dir(made);
    }
}

/// The names of a run's files as a person reads them: those of a folder together.
pub(crate) fn names_of(own: &[PathBuf]) -> String {
    let mut names: Vec<String> = own
        .iter()
        .map(|file| match file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(folder) => {
                let together = own.iter().filter(|other| other.parent() == Some(folder)).count();
                format!("{}/ ({together} files)", folder.display())
            }
            None => file.display().to_string(),
        })
        .collect();
    names.dedup();
    names.join(", ")
}
