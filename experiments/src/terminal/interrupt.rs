//! Stops long work on a signal.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};

use crate::terminal::print::note;

/// The number of SIGINT, which Ctrl-C sends. What a signal ended has 128 and its number as its status.
const SIGINT: usize = 2;

/// The signal that asked this process to stop; 0 for none.
static ASKED_BY: LazyLock<Arc<AtomicUsize>> = LazyLock::new(|| Arc::new(AtomicUsize::new(0)));

/// A flag that a signal sets: the work then stops at the next good point. `so` is printed on Ctrl-C.
///
/// The second Ctrl-C ends the process at once. SIGTERM sets the flag, too: cluster schedulers send it some time before
/// they kill. A closed terminal does not, so that work under `nohup` goes on.
///
/// # Errors
/// If no handler can be installed.
pub fn stop_on_signal(so: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    {
        use signal_hook::consts::SIGTERM;
        use signal_hook::flag::{register, register_usize};
        let watched = register_usize(SIGTERM, ASKED_BY.clone(), SIGTERM as usize);
        watched.and_then(|_| register(SIGTERM, stop.clone())).context("cannot watch for SIGTERM")?;
    }
    let (flag, mut pressed) = (stop.clone(), false);
    let handler = move || {
        if std::mem::replace(&mut pressed, true) {
            std::process::exit(128 + SIGINT as i32);
        }
        ASKED_BY.store(SIGINT, Ordering::SeqCst);
        flag.store(true, Ordering::SeqCst);
        note(format!("\n{so}; press Ctrl-C again to stop at once"));
    };
    ctrlc::set_handler(handler).context("cannot watch for Ctrl-C")?;
    Ok(stop)
}

/// Work that a signal has stopped: no mistake of anybody, and no success.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Interrupted(pub String);

/// The status of a process whose command failed with `error`: 130 after Ctrl-C and 143 after SIGTERM, as a shell gives it, else 1.
pub(crate) fn exit_status(error: &anyhow::Error) -> ExitCode {
    let interrupted = error.chain().any(|cause| cause.is::<Interrupted>());
    match ASKED_BY.load(Ordering::SeqCst) {
        // Another process of the run was asked.
        0 if interrupted => ExitCode::from(128 + SIGINT as u8),
        0 => ExitCode::FAILURE,
        signal => ExitCode::from(128 + signal as u8),
    }
}

/// Ends the process with a sentence where a file that is mapped was cut short under it, which the system tells by SIGBUS.
pub(crate) fn explain_cut_files() {
    #[cfg(unix)]
    {
        // SIGBUS, whose number differs between systems.
        const SIGBUS: i32 = if cfg!(target_os = "linux") { 7 } else { 10 };
        let text = || {
            end_now(b"error: a file that is mapped was cut short while it was read; prepare the set again, then go on with --resume\n");
        };
        // SAFETY: the handler only writes to a descriptor and ends the process, both of which a handler may.
        let _ = unsafe { signal_hook::low_level::register(SIGBUS, text) };
    }
}

/// Writes to standard error and ends the process, without allocating.
#[cfg(unix)]
pub(crate) fn end_now(text: &[u8]) {
    use std::io::Write as _;
    use std::os::fd::FromRawFd as _;
    // SAFETY: descriptor 2 is standard error; it is not closed here.
    let mut error = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(2) });
    let _ = error.write_all(text);
    signal_hook::low_level::exit(1);
}

#[cfg(not(unix))]
pub(crate) fn end_now(_: &[u8]) {}
