//! `tempograph new`: a spec with every key explained.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tempograph_serving::SERVE_TEMPLATE;

/// The spec that is written: complete, every key with its default and what it does.
pub const TEMPLATE: &str = include_str!("new_template.toml");

/// Write a commented spec to start from.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph new mine.toml
  tempograph new --serve serve.toml
  tempograph new - | less")]
pub struct NewArgs {
    /// The file to write; `-` prints it.
    path: PathBuf,
    /// Write a server's spec instead of an experiment's.
    #[arg(long)]
    serve: bool,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// A file that is there already, or cannot be written.
pub fn run(args: &NewArgs) -> Result<()> {
    let template = if args.serve { SERVE_TEMPLATE } else { TEMPLATE };
    if args.path.as_os_str() == "-" {
        return Ok(std::io::stdout().write_all(template.as_bytes())?);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).truncate(true).create(true).create_new(!args.force);
    let mut file = options
        .open(&args.path)
        .with_context(|| format!("cannot write {} (--force replaces a file)", args.path.display()))?;
    file.write_all(template.as_bytes())?;
    if args.serve {
        println!("wrote {0}; then\n  tempograph serve ARTIFACT --spec {0}", args.path.display());
        return Ok(());
    }
    println!("wrote {0}; set data.path in it, then\n  tempograph train {0}", args.path.display());
    Ok(())
}
