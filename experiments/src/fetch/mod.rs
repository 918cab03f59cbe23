//! `tempograph fetch NAME`: downloads a public temporal graph and prints how to prepare it.
//!
//! A download survives being stopped. Bytes go to `FILE.part`, and `FILE.part.version` keeps what the server said of
//! the file's version; the next fetch asks for the rest with HTTP `Range` and `If-Range`, and starts again where the
//! server does not honour that or its file has changed. A finished file takes its name by a rename, so a file under
//! its own name is whole.
//!
//! No checksums are published for these sets. The SHA-256 of what was first fetched is therefore recorded in
//! `SHA256SUMS` beside the data (the format of `sha256sum`) and every later fetch is held to it.

mod archive;
mod download;
mod error;
mod http;
mod part;
mod progress;
mod sets;
mod sums;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use download::Download;
use progress::Progress;
use sums::{Sums, Verdict};

use crate::terminal::interrupt::stop_on_signal;
use crate::terminal::print::{print, quoted};

pub use error::FetchError;
pub use progress::ProgressMode;
pub use sets::{Packing, SETS, Set};

/// Download a public temporal graph, resuming where an earlier download stopped.
#[derive(Args, Debug, Clone, Default)]
#[command(after_help = "Examples:\n  \
    tempograph fetch wikipedia\n  \
    tempograph fetch tgbl-wiki --out /data/tgbl-wiki\n  \
    tempograph fetch reddit --base-url http://mirror.example/jodie\n  \
    tempograph fetch --list")]
pub struct FetchArgs {
    /// Which set; `--list` names them all
    #[arg(required_unless_present = "list")]
    pub name: Option<String>,
    /// Folder the files go to [default: downloads/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Fetch the same file name from this address instead of the set's own
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// List the sets and stop
    #[arg(long)]
    pub list: bool,
    /// Download again, forgetting what is there and its recorded checksum
    #[arg(long, conflicts_with = "offline")]
    pub force: bool,
    /// Use no network: only verify what was fetched before
    #[arg(long)]
    pub offline: bool,
}

/// How to fetch: everything except the set and the folder.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to fetch the set's file from in place of its own; the file's name stays.
    pub base_url: Option<String>,
    /// Download even if the files are there, and record new checksums.
    pub force: bool,
    /// Refuse to use the network.
    pub offline: bool,
    /// Attempts in a row that may fail without gaining a byte before the fetch gives up.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each further one.
    pub first_wait: Duration,
    /// Silence after which a connection counts as lost.
    pub patience: Duration,
    /// Where progress is shown.
    pub reporting: ProgressMode,
    /// Set to true from elsewhere, stops the fetch and keeps its part file.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            base_url: None,
            force: false,
            offline: false,
            attempts: 6,
            first_wait: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            reporting: ProgressMode::Lines,
            stop: Arc::default(),
        }
    }
}

/// How a set came to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every file was there and agrees with its recorded checksum.
    AlreadyThere,
    /// The files were downloaded now.
    Downloaded,
}

/// Runs `tempograph fetch`: lists the sets, or fetches one and prints the `prepare` command to run next.
///
/// # Errors
/// Whatever [`fetch`] reports, and a failure to watch for Ctrl-C.
pub fn run(args: &FetchArgs) -> anyhow::Result<()> {
    let name = match &args.name {
        Some(name) if !args.list => name,
        _ => {
            print(sets::table().trim_end())?;
            return Ok(());
        }
    };
    let set = Set::find(name)?;
    let dir = args.out.clone().unwrap_or_else(|| Path::new("downloads").join(set.name));
    let options = Options {
        base_url: args.base_url.clone(),
        force: args.force,
        offline: args.offline,
        reporting: if io::stderr().is_terminal() { ProgressMode::Bar } else { ProgressMode::Lines },
        stop: stop_on_signal("stopping; what came is kept for the next time")?,
        ..Options::default()
    };
    let outcome = fetch(set, &dir, &options)?;
    print(completion_message(set, &dir, outcome).trim_end())?;
    Ok(())
}

/// Brings `set` into `dir`, creating the folder, and holds every file to its recorded checksum.
///
/// # Errors
/// [`FetchError`] says what failed and with which values; unless it says otherwise, a part file is left behind and the
/// next fetch goes on from it.
pub fn fetch(set: &Set, dir: &Path, options: &Options) -> Result<Outcome, FetchError> {
    fs::create_dir_all(dir).map_err(|source| FetchError::writing(dir, source))?;
    let mut sums = Sums::open(dir)?;
    let progress = Progress::new(options.reporting);
    if !options.force && set.files.iter().all(|file| dir.join(file).is_file()) {
        verify(set, dir, &mut sums, &progress)?;
        return Ok(Outcome::AlreadyThere);
    }
    if options.offline {
        return Err(FetchError::Offline { name: set.name, dir: dir.to_path_buf() });
    }
    let url = set.url_from(options.base_url.as_deref())?;
    let download = Download { url: &url, expected: set.size, options, progress: &progress };
    match set.packing {
        Packing::Plain => fetch_plain(set, dir, &download, &mut sums)?,
        Packing::Zip => fetch_zip(set, dir, &download, &mut sums)?,
    }
    sums.save()?;
    Ok(Outcome::Downloaded)
}

/// Holds the files that are there to their checksums, and records the checksum of those that have none.
fn verify(set: &Set, dir: &Path, sums: &mut Sums, progress: &Progress) -> Result<(), FetchError> {
    for file in set.files {
        let digest = sums::digest(&dir.join(file))?;
        verify_or_record(file, digest, false, sums, progress)?;
    }
    sums.save()
}

fn fetch_plain(set: &Set, dir: &Path, download: &Download, sums: &mut Sums) -> Result<(), FetchError> {
    let file = set.remote_name();
    let mut part = download.complete(&dir.join(file))?;
    let digest = part.digest()?;
    // The checksum comes first: a file that fails it never takes the name.
    match verify_or_record(file, digest, download.options.force, sums, download.progress) {
        Ok(()) => part.finish(),
        Err(mismatch) => {
            part.discard()?;
            Err(mismatch)
        }
    }
}

/// Downloads the archive, unpacks it and drops it: the checksums that last are those of the files inside.
fn fetch_zip(set: &Set, dir: &Path, download: &Download, sums: &mut Sums) -> Result<(), FetchError> {
    let options = download.options;
    let archive = dir.join(set.remote_name());
    // An archive under its own name is whole: an earlier fetch was stopped while unpacking it.
    if options.force || !archive.is_file() {
        download.complete(&archive)?.finish()?;
    }
    let accept = |file: &str, digest| verify_or_record(file, digest, options.force, sums, download.progress);
    let unpacked = archive::unpack(&archive, dir, set.files, &options.stop, download.progress, accept);
    // Interrupted or out of space, the archive is still good; otherwise the next fetch had better start from a new one.
    if unpacked.as_ref().err().is_none_or(|error| !error.keeps_download()) {
        fs::remove_file(&archive).map_err(|source| FetchError::writing(&archive, source))?;
    }
    unpacked
}

/// Compares a file's checksum with the recorded one, or records it when there is none (or the user said to forget it).
fn verify_or_record(
    file: &str,
    digest: String,
    forget: bool,
    sums: &mut Sums,
    progress: &Progress,
) -> Result<(), FetchError> {
    if forget {
        sums.forget(file);
    }
    if sums.check_or_record(file, &digest)? == Verdict::FirstUse {
        progress.note(&format!(
            "{file}: sha256 {digest} recorded on first use (no published checksum is known to compare it with)"
        ));
    }
    Ok(())
}

fn completion_message(set: &Set, dir: &Path, outcome: Outcome) -> String {
    let there = match outcome {
        Outcome::AlreadyThere => "is already there and agrees with SHA256SUMS",
        Outcome::Downloaded => "fetched",
    };
    let source = dir.join(set.source());
    let mut text = format!("{} {there}: {}\nTerms: {}\nCite:  {}\n", set.name, dir.display(), set.terms, set.citation);
    let prepared = Path::new("data").join(set.name);
    let (source, prepared) = (quoted(&source.display().to_string()), quoted(&prepared.display().to_string()));
    text.push_str(&format!("Next:  tempograph prepare {source} --out {prepared}\n"));
    if let Some(files) = set.negatives() {
        let [val, test] = files.map(|file| dir.join(file));
        let files = format!("data.negatives=[{:?}, {:?}]", val.display().to_string(), test.display().to_string());
        text.push_str(&format!(
            "Then:  tempograph train SPEC.toml --set data.path={prepared} --set {}\n       (`tempograph new SPEC.toml` writes a spec; \
             the fixed negatives are read as they are)\n",
            quoted(&files)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn farewell_names_the_file_that_prepare_reads() {
        for set in SETS {
            let text = completion_message(set, Path::new("some/where"), Outcome::Downloaded);
            let command = format!("tempograph prepare some/where/{} --out data/{}", set.source(), set.name);
            assert!(text.contains(&command), "{}: {text}", set.name);
            assert!(text.contains(set.citation));
        }
    }
}
