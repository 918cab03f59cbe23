//! `tempograph completions` and `tempograph man`: shell completions and manual pages.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use clap_complete::Shell;
use tempograph_kernels::cpu::SimdLevel;

use crate::terminal::print::print;

/// Print completions of the command line for a shell.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph completions bash > ~/.local/share/bash-completion/completions/tempograph
  tempograph completions zsh > ~/.zfunc/_tempograph
  tempograph completions fish > ~/.config/fish/completions/tempograph.fish")]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Write the manual: a page for the program and one for each of its commands.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  tempograph man ~/.local/share/man/man1 && man tempograph-train")]
pub struct ManArgs {
    /// The folder. It is created if it does not exist.
    folder: PathBuf,
}

/// Prints completions of `command`.
///
/// # Errors
/// A standard output that cannot be written.
pub fn completions(args: &CompletionsArgs, mut command: clap::Command) -> Result<()> {
    let (name, mut script) = (command.get_name().to_string(), Vec::new());
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(script)
}

/// Writes the manual of `command`.
///
/// # Errors
/// A folder that cannot be written.
pub fn man(args: &ManArgs, mut command: clap::Command) -> Result<()> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot make {}", args.folder.display()))?;
    command.build();
    let pages = pages(&args.folder, &command, "")?;
    print(format!("wrote {pages} pages to {}", args.folder.display()))
}

/// Writes the page of `command`, a command of `above`, and those of its own commands. Gives their number.
fn pages(folder: &Path, command: &clap::Command, above: &str) -> Result<usize> {
    let name =
        if above.is_empty() { command.get_name().to_string() } else { format!("{above}-{}", command.get_name()) };
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.clone())).render(&mut page)?;
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    let own = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    own.map(|command| pages(folder, command, &name)).sum::<Result<usize>>().map(|pages| 1 + pages)
}

/// What `--version` prints after the name: commit, features and the vector instructions that kernels use.
pub fn version() -> String {
    let features = [
        ("cuda", cfg!(feature = "cuda")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("mpi", cfg!(feature = "mpi")),
        ("kafka", cfg!(feature = "kafka")),
        ("otel", cfg!(feature = "otel")),
    ];
    let on: Vec<&str> = features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    let features = if on.is_empty() { "none".to_string() } else { on.join(", ") };
    let level = SimdLevel::chosen().unwrap_or_else(|_| SimdLevel::of_processor());
    let commit = option_env!("TEMPOGRAPH_COMMIT").unwrap_or("not known");
    format!("{}\ncommit: {commit}\nfeatures: {features}\nvector instructions: {level}", env!("CARGO_PKG_VERSION"))
}
