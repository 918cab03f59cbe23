//! `tempograph prepare`: converts event files to the prepared form.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::terminal::print::print;
use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tempograph_framework::{
    ColumnRoles, Dataset, Delimiter, Encoding, Format, Missing, PrepareOptions, Prepared, Reading, Sides, counted,
    prepare_files,
};

/// Read events from a file or folder, check them, and write them in the prepared, memory-mapped form.
#[derive(Args, Debug)]
#[command(after_help = "Formats, recognised by name and first lines unless --format says:
  csv            a header that names the columns; commas, tabs, semicolons, bars or blanks; quotes;
                 edge_feat.npy and node_feat.npy beside it
  jodie          user_id,item_id,timestamp,state_label,features…
  tgn            ml_X.csv, ml_X.npy, ml_X_node.npy (TGN, TGAT, DyGLib)
  tgl            edges.csv with ext_roll, features in .npy
  parquet        the columns of csv
  snap           lines of `u v t`
  konect         lines of `u v`, `u v w`, `u v w t` or `u v t w`
  sociopatterns  lines of `t i j`
  recbole        .inter files, whose header has types
  arrow          Arrow IPC and Feather, the columns of csv; in builds with --features arrow
  tgb            edge lists of the Temporal Graph Benchmark, as fetch brings them
Text may be packed with gzip or zstd. Ids are whole numbers or text; times are numbers or dates of ISO 8601.
The roles of columns may also be in a TOML file beside the events (events.toml for events.csv), with the names of the options as keys.

Examples:
  tempograph prepare downloads/wikipedia.csv --out data/wikipedia
  tempograph prepare log.csv --src user --dst item --ts when --categorical action --out data/mine
  tempograph prepare log.csv --dry-run
  zcat 2024-*.csv.gz | tempograph prepare - --out data/mine")]
pub struct PrepareArgs {
    /// The files to read, in order, or a folder, or - for standard input.
    #[arg(required = true)]
    source: Vec<PathBuf>,
    /// The folder to write.
    #[arg(long, required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Read and check everything and print what was understood, but write nothing.
    #[arg(long)]
    dry_run: bool,
    /// The column of the source. Columns without names are called 1, 2, 3.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    src: Option<String>,
    /// The column of the destination.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    dst: Option<String>,
    /// The column of the time.
    #[arg(long, alias = "time", value_name = "COLUMN", help_heading = "Columns")]
    ts: Option<String>,
    /// The column of the label.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    label: Option<String>,
    /// The column of the time at which the edge of the event ends.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    end: Option<String>,
    /// Columns of numbers to predict: kept apart from the features.
    #[arg(long, alias = "targets", value_name = "COLUMNS", value_delimiter = ',', help_heading = "Columns")]
    target: Vec<String>,
    /// The only features [default: every column of numbers that has no other role].
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Columns")]
    features: Option<Vec<String>>,
    /// Columns to leave out.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Columns")]
    drop: Vec<String>,
    /// Features whose values are names: each value becomes a column of zeros and ones.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', help_heading = "Columns")]
    categorical: Vec<String>,
    /// How categorical columns become features: one-hot, up to 64 values, or index, up to 65536 [default: one-hot].
    #[arg(long, help_heading = "Columns")]
    encoding: Option<Encoding>,
    /// Rows with missing values: refuse, drop, or zero, which reads missing features and labels as 0 [default: refuse].
    #[arg(long, help_heading = "Columns")]
    missing: Option<Missing>,
    /// A TOML file with these options [default: the one beside the events, if it is there].
    #[arg(long, value_name = "FILE", help_heading = "Columns")]
    columns: Option<PathBuf>,
    /// What separates the fields of text: comma, tab, semicolon, bar, spaces, or one sign [default: detected].
    #[arg(long, help_heading = "Columns")]
    delimiter: Option<Delimiter>,
    /// auto, or text, which keeps ids as they are written where all are whole numbers, too.
    #[arg(long, default_value = "auto", value_parser = ["auto", "text"])]
    ids: String,
    /// The events have no time: take the order of the rows.
    #[arg(long)]
    row_order: bool,
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
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    bipartite: Option<bool>,
    /// Equal ids of a source and a destination are one node, as with --bipartite false.
    #[arg(long, conflicts_with = "bipartite")]
    shared_ids: bool,
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
    if let Some(out) = args.out.as_ref().filter(|out| !args.dry_run && out.exists() && !args.force) {
        bail!("{} exists; --force replaces it", out.display());
    }
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template("{msg:>10} {wide_bar} {bytes}/{total_bytes} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_message("reading");
    let Prepared { dataset, reading } = prepare_files(&args.source, &options(args), &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    let out = args.out.as_ref().filter(|_| !args.dry_run);
    if let Some(out) = out {
        bar.set_message("writing");
        dataset.write(out)?;
    }
    bar.finish_and_clear();
    if args.json { print_json(out, &dataset, &reading) } else { print_text(out, &dataset, &reading) }
}

fn options(args: &PrepareArgs) -> PrepareOptions {
    let named = |names: &Vec<String>| names.iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>();
    let folder = args.out.as_deref().and_then(Path::parent);
    let folder = folder.map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
    PrepareOptions {
        format: args.format,
        strict: args.strict,
        time_scale: args.time_scale,
        time_unit: args.time_unit.clone(),
        bipartite: if args.shared_ids { Some(false) } else { args.bipartite },
        name: args.name.clone(),
        columns: ColumnRoles {
            src: args.src.clone(),
            dst: args.dst.clone(),
            time: args.ts.clone(),
            label: args.label.clone(),
            end: args.end.clone(),
            targets: named(&args.target),
            features: args.features.as_ref().map(named),
            drop: named(&args.drop),
            categorical: named(&args.categorical),
        },
        delimiter: args.delimiter,
        missing: args.missing,
        encoding: args.encoding,
        text_ids: args.ids == "text",
        row_order: args.row_order,
        columns_file: args.columns.clone(),
        // Features that do not fit memory go next to the set that is written, which has to have room for them anyway.
        scratch: folder.filter(|folder| folder.is_dir() && !args.dry_run).map(Path::to_owned),
    }
}

fn print_json(out: Option<&PathBuf>, dataset: &Dataset, reading: &Reading) -> Result<()> {
    let columns: Vec<_> = reading
        .columns
        .iter()
        .map(|(name, role, why)| serde_json::json!({ "name": name, "role": role, "why": why }))
        .collect();
    let message = serde_json::json!({
        "out": out, "name": dataset.name, "format": reading.format.name(), "read_as": reading.how, "columns": columns,
        "rows": reading.rows, "events": dataset.log.len(), "nodes": dataset.nodes, "sides": reading.nodes, "time": reading.time,
        "ties": reading.ties, "targets": dataset.extras.target_names, "ends": dataset.extras.end().is_some(), "edge_features": dataset.edge_width(), "node_features": dataset.node_width(),
        "checksum": dataset.checksum, "notices": dataset.notices,
    });
    print(format!("{message:#}"))
}

fn print_text(out: Option<&PathBuf>, dataset: &Dataset, reading: &Reading) -> Result<()> {
    let sides = match dataset.sides {
        Sides::Bipartite { sources } => {
            format!("{} and {}", counted(sources, "source"), counted(dataset.nodes - sources, "destination"))
        }
        Sides::OneMode => counted(dataset.nodes, "node"),
    };
    let written = out.map_or("nothing written".into(), |out| format!("written to {}", out.display()));
    print(reading.to_string())?;
    print(format!(
        "{}: {}, {sides}, {} edge and {} node features, {written}",
        dataset.name,
        counted(dataset.log.len(), "event"),
        dataset.edge_width(),
        dataset.node_width(),
    ))?;
    dataset.notices.iter().try_for_each(|notice| print(format!("note: {notice}")))
}
