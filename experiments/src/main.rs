//! The `tempograph` binary: reads the command line and hands over to the subcommand.

use clap::{Parser, Subcommand};
use tempograph_experiments::fetch;

/// Train temporal graph networks with node memory, and serve them.
#[derive(Parser)]
#[command(name = "tempograph", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fetch(fetch::FetchArgs),
}

fn main() -> anyhow::Result<()> {
    match CommandLine::parse().command {
        Command::Fetch(args) => fetch::run(&args),
    }
}
