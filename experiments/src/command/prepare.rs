//! `tempograph prepare`: converts event files to the prepared form.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tempograph_framework::{Format, PrepareOptions, Sides, prepare};

/// Read events from a file or folder, check them, and write them in the prepared, memory-mapped form.
#[derive(Args, Debug)]
#[command(after_help = "Formats, told by name and first line unless --format says:
  csv      src,dst,ts,label[,features…], edge_feat.npy and node_feat.npy beside it
  jodie    user_id,item_id,timestamp,state_label,features…
  tgn      ml_X.csv, ml_X.npy, ml_X_node.npy (TGN, TGAT, DyGLib)
  tgl      edges.csv with ext_roll, features in .npy
  parquet  the columns of csv
  snap     lines of `u v t`
Text may be packed with gzip or zstd.

Examples:
  tempograph prepare downloads/wikipedia.csv --out data/wikipedia
  tempograph prepare events.parquet --out data/mine --time-unit ms --strict")]
pub struct PrepareArgs {
    /// The file or folder to read.
    source: PathBuf,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
    /// The format [default: detected].
    #[arg(long)]
    format: Option<Format>,
    /// Refuse times that are not sorted. Without this, they are sorted.
    #[arg(long)]
    strict: bool,
    /// Ticks in one unit of the source's times [default: the smallest power of ten that makes all times whole numbers].
    #[arg(long)]
    time_scale: Option<u64>,
    /// The name of the source's unit of time.
    #[arg(long)]
    time_unit: Option<String>,
    /// Whether sources and destinations are two sets of nodes [default: detected].
    #[arg(long)]
    bipartite: Option<bool>,
    /// The name of the set.
    #[arg(long)]
    name: Option<String>,
    /// Replace an existing prepared set.
    #[arg(long)]
    force: bool,
    /// Print a summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Bad input, with file, row and value. A folder that exists already.
pub fn run(args: &PrepareArgs) -> Result<()> {
    if args.out.exists() && !args.force {
        bail!("{} exists; --force replaces it", args.out.display());
    }
    let options = PrepareOptions {
        format: args.format,
        strict: args.strict,
        time_scale: args.time_scale,
        time_unit: args.time_unit.clone(),
        bipartite: args.bipartite,
        name: args.name.clone(),
    };
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template("{msg:>10} {wide_bar} {bytes}/{total_bytes} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_message("reading");
    let dataset = prepare(&args.source, &options, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.set_message("writing");
    dataset.write(&args.out)?;
    bar.finish_and_clear();
    let sides = match dataset.sides {
        Sides::Bipartite { sources } => format!("{sources} sources and {} destinations", dataset.nodes - sources),
        Sides::OneMode => format!("{} nodes", dataset.nodes),
    };
    if args.json {
        let told = serde_json::json!({
            "out": args.out, "name": dataset.name, "events": dataset.log.len(), "nodes": dataset.nodes, "edge_features": dataset.edge_width(),
            "node_features": dataset.node_width(), "checksum": dataset.checksum, "notices": dataset.notices,
        });
        println!("{told:#}");
        return Ok(());
    }
    println!(
        "{}: {} events, {sides}, {} edge and {} node features, written to {}",
        dataset.name,
        dataset.log.len(),
        dataset.edge_width(),
        dataset.node_width(),
        args.out.display()
    );
    dataset.notices.iter().for_each(|notice| println!("note: {notice}"));
    Ok(())
}
