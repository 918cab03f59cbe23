//! Printing to a pipe whose reader may have ended. Nothing else in this crate prints.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Context as _, Result};

/// Prints `text` and a newline. A reader that has ended, such as `| head`, is no error.
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

/// Prints `text` and a newline to standard error. Work goes on when nobody reads it.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Quoted as one word for a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-=/:,".contains(c);
    let bare = !word.is_empty() && word.chars().all(plain);
    if bare { word.to_string() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
