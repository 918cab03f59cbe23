//! `tempograph new`: writes a spec with every key explained.

use std::io::Write;
use std::path::PathBuf;

use crate::terminal::print::print;
use anyhow::{Context, Result};
use clap::Args;
use tempograph_models::{Kind, Registry};
use tempograph_serving::SERVE_TEMPLATE;

/// The spec without the model. Its part is inserted at [`MODEL`].
const TEMPLATE: &str = include_str!("new_template.toml");
/// The line that the model's part replaces.
const MODEL: &str = "# MODEL\n";

/// The written spec: complete, with every key, its default and its meaning.
pub fn template(kind: &Kind) -> String {
    TEMPLATE.replacen(MODEL, kind.template, 1)
}

/// Write a commented spec to start from.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph new mine.toml
  tempograph new mine.toml --model jodie
  tempograph new --serve serve.toml
  tempograph new - | less")]
pub struct NewArgs {
    /// The file to write; `-` prints it.
    path: PathBuf,
    /// Write the spec of a server, not of an experiment.
    #[arg(long)]
    serve: bool,
    /// Kind of the experiment's model. `tempograph models` lists the kinds.
    #[arg(long, value_name = "KIND", default_value = "tgn", conflicts_with = "serve")]
    model: String,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// A file that exists already, or that cannot be written.
pub fn run(args: &NewArgs) -> Result<()> {
    let template = match args.serve {
        true => SERVE_TEMPLATE.to_string(),
        false => template(Registry::current().kind(&args.model).map_err(anyhow::Error::msg)?),
    };
    if args.path.as_os_str() == "-" {
        return print(template.trim_end_matches('\n'));
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).truncate(true).create(true).create_new(!args.force);
    let mut file = options
        .open(&args.path)
        .with_context(|| format!("cannot write {} (--force replaces a file)", args.path.display()))?;
    file.write_all(template.as_bytes())?;
    if args.serve {
        print(format!("wrote {0}; then\n  tempograph serve ARTIFACT --spec {0}", args.path.display()))?;
        return Ok(());
    }
    print(format!("wrote {0}; set data.path in it, then\n  tempograph train {0}", args.path.display()))?;
    Ok(())
}
