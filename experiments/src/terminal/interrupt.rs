//! Stops long work on a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// The status of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

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
    signal_hook::flag::register(signal_hook::consts::SIGTERM, stop.clone()).context("cannot watch for SIGTERM")?;
    let (flag, mut pressed) = (stop.clone(), false);
    let handler = move || {
        if std::mem::replace(&mut pressed, true) {
            std::process::exit(INTERRUPTED);
        }
        flag.store(true, Ordering::SeqCst);
        eprintln!("\n{so}; press Ctrl-C again to stop at once");
    };
    ctrlc::set_handler(handler).context("cannot watch for Ctrl-C")?;
    Ok(stop)
}
