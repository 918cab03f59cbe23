//! `tempograph models`: the kinds of models and their programs.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tempograph_models::{FeatureWidths, HopSizes, Kind, ModelSpec, Program, Registry, StepCost, StepSizes};

use crate::bench::aligned;
use crate::terminal::print::print;

/// List the kinds of models, or show the operations of one kind.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph models                                  the kinds, their settings and what computes them
  tempograph models --program tgn                    the operations of a TGN, with shapes, parameters and cost
  tempograph models --program tgn --set layers=2 --edge-features 172
  tempograph models --json")]
pub struct ModelsArgs {
    /// Show the program of this kind: operations, shapes, parameters and FLOPs.
    #[arg(long, value_name = "KIND")]
    program: Option<String>,
    /// A setting of the model, for --program: key=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "program")]
    sets: Vec<String>,
    /// Number of edge features, for --program.
    #[arg(long, value_name = "E", default_value_t = 0)]
    edge_features: usize,
    /// Number of node features, for --program.
    #[arg(long, value_name = "F", default_value_t = 0)]
    node_features: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The executors of a kind with its default settings.
#[derive(Serialize)]
struct Listed<'a> {
    kind: &'a str,
    about: &'a str,
    paper: &'a str,
    /// Trains on slices of host memory.
    cpu: bool,
    /// Trains on a device.
    device: bool,
    /// Why it does not train on a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_why_not: Option<String>,
    /// Can be exported and served.
    served: bool,
    /// Its settings with their defaults.
    settings: toml::Table,
}

/// Runs the command.
///
/// # Errors
/// An unknown kind or setting, with its name.
pub fn run(args: &ModelsArgs) -> Result<()> {
    let registry = Registry::current();
    let Some(name) = &args.program else {
        let listed = registry.kinds().iter().map(list).collect::<Result<Vec<_>>>()?;
        return print(if args.json { serde_json::to_string_pretty(&listed)? } else { listing(&listed)? });
    };
    registry.kind(name).map_err(anyhow::Error::msg)?;
    let mut settings = toml::Table::from_iter([("kind".to_string(), toml::Value::from(name.as_str()))]);
    for set in &args.sets {
        tempograph_framework::apply_override(&mut settings, set).map_err(anyhow::Error::msg)?;
    }
    let spec = registry.read(settings).map_err(anyhow::Error::msg)?;
    spec.check().map_err(anyhow::Error::msg)?;
    let widths = FeatureWidths { edge: args.edge_features, node: args.node_features };
    let program = spec.program(widths).map_err(anyhow::Error::msg)?;
    print(if args.json { serde_json::to_string_pretty(&described(&program))? } else { shown(&program)? })
}

fn list(kind: &Kind) -> Result<Listed<'_>> {
    let spec = kind.settings();
    let program = spec.program(FeatureWidths::default()).map_err(anyhow::Error::msg)?;
    // The commands train, export and serve need a model that scores links.
    let (device, links) = (program.check_device_support(), program.links().is_ok());
    Ok(Listed {
        kind: kind.name,
        about: kind.about,
        paper: kind.paper,
        cpu: links,
        device: device.is_ok(),
        device_why_not: device.err(),
        served: links,
        settings: settings(&spec)?,
    })
}

fn settings(spec: &ModelSpec) -> Result<toml::Table> {
    let mut table = toml::Table::try_from(spec)?;
    table.remove("kind");
    Ok(table)
}

fn listing(kinds: &[Listed<'_>]) -> Result<String> {
    let mut out = String::new();
    for kind in kinds {
        let computed = if kind.device { "CPU and devices" } else { "CPU" };
        let served = if kind.served { "served" } else { "not served" };
        writeln!(out, "{:<12} {}\n{:13}{}; trains on {computed}; {served}", kind.kind, kind.about, "", kind.paper)?;
        let one_line = |(key, value): (&String, &toml::Value)| format!("{key} = {value}");
        let settings = kind.settings.iter().map(one_line).collect::<Vec<_>>().join(", ");
        for line in textwrap(&settings, 107) {
            writeln!(out, "{:13}{line}", "")?;
        }
    }
    write!(out, "\n`tempograph new SPEC --model KIND` writes a spec of a kind with every key explained.")?;
    Ok(out)
}

/// Wraps a line at spaces.
fn textwrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// The sizes of a usual step: 200 events with one negative each, 10 neighbours for each root and hop.
fn usual(program: &Program) -> StepSizes {
    let neighbours = program.needs().neighbours as f64;
    let hops = (0..program.needs().layers as i32).map(|hop| {
        let centres = 600.0 * neighbours.max(1.0).powi(hop);
        HopSizes { centres, neighbours: centres * neighbours }
    });
    StepSizes {
        nodes: 840.0,
        written: 300.0,
        receivers: 700.0,
        mails: 700.0,
        hops: hops.collect(),
        feature_rows: 4000.0,
        pairs: 400.0,
        sources: 200.0,
        destinations: 400.0,
        ..StepSizes::default()
    }
}

/// One operation as it is printed.
struct Row {
    name: String,
    what: String,
    reads: Vec<String>,
    gives: String,
    params: Vec<(String, Vec<usize>)>,
    forward: f64,
    backward: f64,
}

fn rows(program: &Program) -> Vec<Row> {
    let (sizes, declared) = (usual(program), program.declarations());
    let shape = |value| {
        let shape = program.shape(value);
        format!("[{}, {}]", shape.axis, shape.width)
    };
    let param = |i: tempograph_models::Param| {
        let (name, shape) = declared.describe(i);
        (name.to_string(), shape.to_vec())
    };
    let mut rows: Vec<Row> = program
        .steps()
        .iter()
        .map(|step| {
            let cost = program.step_cost(step, &sizes);
            Row {
                name: step.name.clone(),
                what: step.op.describe(),
                reads: step.reads.iter().map(|&value| shape(value)).collect(),
                gives: shape(step.gives),
                params: declared.params().skip(step.params.start).take(step.params.len()).map(param).collect(),
                forward: cost.forward,
                backward: cost.backward,
            }
        })
        .collect();
    let (cost, head) = (program.head_cost(&sizes), program.head());
    let of_ends = head.input().map(|input| format!("[roots, {input}]"));
    let gives = head.rows().map_or("[pairs]".into(), |head| format!("[roots, {}]", head.outputs()));
    rows.push(Row {
        name: "decoder".into(),
        what: head.describe(),
        reads: of_ends.into_iter().chain(head.pairs().map(shape)).collect(),
        gives,
        params: head.maps().iter().flat_map(|map| map.params()).map(param).collect(),
        forward: cost.forward,
        backward: cost.backward,
    });
    rows
}

fn shown(program: &Program) -> Result<String> {
    let mut out = String::new();
    let numbers = program.declarations().numbers();
    writeln!(out, "{}: {numbers} parameters", program.spec().kind())?;
    let cells = rows(program).into_iter().map(|row| {
        let size: usize = row.params.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let mega = |flops: f64| format!("{:.1}", flops / 1e6);
        let reads = if row.reads.is_empty() { "the view".into() } else { row.reads.join(" ") };
        vec![row.name, row.what, reads, row.gives, size.to_string(), mega(row.forward), mega(row.backward)]
    });
    let head =
        ["operation", "", "reads", "gives", "parameters", "MFLOP forward", "backward"].map(String::from).to_vec();
    write!(out, "{}", aligned(&std::iter::once(head).chain(cells).collect::<Vec<_>>()))?;
    writeln!(out, "\nMFLOP are of a step of 200 events with one negative each, 840 nodes, 700 mails. Parameters:")?;
    let declared = program.declarations();
    for param in declared.params() {
        let (name, shape) = declared.describe(param);
        writeln!(out, "  {name} {shape:?}")?;
    }
    let StepCost { bytes, optimiser, .. } = program.cost(&usual(program));
    write!(
        out,
        "a step reads and writes at least {:.1} MB, its optimiser takes {:.1} MFLOP; ",
        bytes / 1e6,
        optimiser / 1e6
    )?;
    match program.check_device_support() {
        Ok(()) => write!(out, "it trains on the CPU and on devices")?,
        Err(why) => write!(out, "it trains on the CPU; not on a device: {why}")?,
    }
    Ok(out)
}

fn described(program: &Program) -> serde_json::Value {
    let operations: Vec<_> = rows(program)
        .into_iter()
        .map(|row| {
            let params: Vec<_> =
                row.params.iter().map(|(name, shape)| json!({ "name": name, "shape": shape })).collect();
            json!({
                "name": row.name, "operation": row.what, "reads": row.reads, "gives": row.gives, "parameters": params,
                "flops_forward": row.forward, "flops_backward": row.backward,
            })
        })
        .collect();
    json!({
        "kind": program.spec().kind(),
        "parameters": program.declarations().numbers(),
        "operations": operations,
        "device": program.check_device_support().is_ok(),
    })
}
