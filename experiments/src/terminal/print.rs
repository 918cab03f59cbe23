//! Printing where a reader may have gone.

use std::io::{self, Write};

use anyhow::{Context as _, Result};

/// Prints `text` and the end of its line. A reader who has seen enough, `| head`, is no error.
///
/// # Errors
/// A standard output that cannot be written for another reason.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_ref()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
