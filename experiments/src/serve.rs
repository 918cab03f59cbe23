//! `tempograph serve`: an artifact over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

/// Serve an artifact over HTTP: events in, scores out.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph serve runs/quickstart/artifact
  tempograph serve wikipedia.artifact --listen 0.0.0.0:8080

POST /v1/events, /v1/score, /v1/rank; GET /v1/embedding, /v1/model, /health/live, /health/ready, /metrics.
Events are applied in memory: a server that stops forgets what came after the export.")]
pub struct ServeArgs {
    /// The artifact's folder.
    artifact: PathBuf,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:7878")]
    listen: SocketAddr,
}

/// Runs the command until SIGTERM or Ctrl-C.
///
/// # Errors
/// An artifact that is damaged, or an address that cannot be listened on.
pub fn run(args: &ServeArgs) -> Result<()> {
    Ok(tempograph_serving::serve(&args.artifact, args.listen)?)
}
