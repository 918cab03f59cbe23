//! `tempograph serve`: serves an artifact over HTTP and gRPC.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tempograph_serving::ServeSpec;

/// Serve an artifact over HTTP and gRPC: submit events, read scores.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Without a spec it listens on 127.0.0.1:8080, keeps events in ARTIFACT.log beside the artifact and snapshots in
ARTIFACT.snapshots, and anyone on this machine may submit events and query. `--set log.kind=memory` keeps nothing.

Examples:
  tempograph serve runs/quickstart/artifact
  tempograph new --serve serve.toml                 # every key, its default and what it does
  tempograph serve wikipedia.artifact --spec serve.toml --set limits.connections=100
  tempograph serve wikipedia.artifact --listen 0.0.0.0:8080 --grpc 0.0.0.0:8081 --data /var/lib/tempograph

Over HTTP:
  POST /v1/events  /v1/events/stream (one JSON event a line)  /v1/retract
  POST /v1/score  /v1/rank  /v1/explain    GET /v1/embedding  /v1/model  /v1/status
  GET  /health/live  /health/ready  /metrics  /openapi.json (every route with an example)
  /v2/… is the Open Inference Protocol, for its clients.    POST /admin/… needs a token with the role `admin`.
Over gRPC, on the same address: serving/proto/tempograph.proto, and inference.GRPCInferenceService."
)]
pub struct ServeArgs {
    /// The artifact's folder.
    artifact: PathBuf,
    /// A TOML file with settings. Every key has a default.
    #[arg(long)]
    spec: Option<PathBuf>,
    /// Override a setting of the spec, such as limits.events=1000. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The folder for the log of record and the snapshots: `log.dir` and `snapshots.dir`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address to listen on: `listen.http`.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// A second address, for gRPC: `listen.grpc`.
    #[arg(long, value_name = "ADDR")]
    grpc: Option<SocketAddr>,
    /// An address for probes and metrics alone: `listen.probes`.
    #[arg(long, value_name = "ADDR")]
    probes: Option<SocketAddr>,
}

impl ServeArgs {
    /// The spec: the file, overridden by `--set` and the other options.
    fn spec(&self) -> Result<ServeSpec> {
        let mut spec = ServeSpec::read(self.spec.as_deref(), &self.sets).map_err(anyhow::Error::msg)?;
        if let Some(data) = &self.data {
            spec.log.dir = Some(data.join("log"));
            spec.snapshots.dir = Some(data.join("snapshots"));
        }
        spec.listen.http = self.listen.unwrap_or(spec.listen.http);
        spec.listen.grpc = self.grpc.or(spec.listen.grpc);
        spec.listen.probes = self.probes.or(spec.listen.probes);
        Ok(spec)
    }
}

/// Runs the command until SIGTERM or Ctrl-C.
///
/// # Errors
/// A spec that is not valid, an artifact that is damaged, or an address that cannot be listened on.
pub fn run(args: &ServeArgs) -> Result<()> {
    let again = args.clone();
    let reread = move || again.spec().map_err(|error| error.to_string());
    Ok(tempograph_serving::serve_rereading(&args.artifact, &args.spec()?, reread)?)
}
