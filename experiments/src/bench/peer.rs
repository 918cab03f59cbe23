//! Other systems' TGN on the same events. Their scripts are part of this program and run in the user's Python or in one
//! installed for them.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use tempograph_framework::EventLog;
use tempograph_models::FeatureWidths;
use tempograph_trainers::TrainingData;

use crate::bench::Peer;
use crate::bench::measure::Measurement;
use crate::setup::spec::RunSpec;

const SCRIPTS: [(&str, &str); 5] = [
    ("tgm_tgn.py", include_str!("../../peers/tgm_tgn.py")),
    ("pyg_tgn.py", include_str!("../../peers/pyg_tgn.py")),
    ("pyg_model.py", include_str!("../../peers/pyg_model.py")),
    ("events.py", include_str!("../../peers/events.py")),
    ("metrics.py", include_str!("../../peers/metrics.py")),
];

/// A ready peer: scripts and events in a folder of their own, removed when it is dropped.
pub(super) struct ReadyPeer {
    script: PathBuf,
    folder: PathBuf,
    python: PathBuf,
    arguments: Vec<String>,
}

impl Peer {
    /// The script that measures it.
    fn script(self) -> &'static str {
        match self {
            Peer::Pyg => "pyg_tgn.py",
            Peer::Tgm => "tgm_tgn.py",
        }
    }

    /// A Python line that fails if the peer cannot run.
    fn imports(self) -> &'static str {
        match self {
            Peer::Pyg => "import torch, torch_geometric, numpy, pandas, sklearn",
            Peer::Tgm => "import torch, torch_geometric, numpy, pandas, sklearn, tgm",
        }
    }
}

impl ReadyPeer {
    /// Writes scripts and events, and makes sure that there is a Python with their packages: `python`, or one installed
    /// for the peer.
    pub fn new(
        peer: Peer,
        python: Option<&Path>,
        spec: &RunSpec,
        training_data: &TrainingData,
        steps: usize,
    ) -> Result<ReadyPeer> {
        let python = match python {
            Some(python) => crate::setup::python::checked(python, peer.imports())?,
            None => crate::setup::python::made(peer.imports())?,
        };
        let folder = std::env::temp_dir().join(format!("tempograph-{}-{}", peer.name(), std::process::id()));
        fs::create_dir_all(folder.join("events"))?;
        let bare = spec.data.edge_features == "real" && training_data.dataset.log.features().is_none();
        let features = if bare { "none" } else { &spec.data.edge_features };
        let ready = ReadyPeer {
            script: folder.join(peer.script()),
            arguments: arguments(spec, features, steps, &folder)?,
            folder,
            python,
        };
        for (name, text) in SCRIPTS {
            fs::write(ready.folder.join(name), text)?;
        }
        write_events(&training_data.dataset.log, &ready.folder.join("events"))?;
        Ok(ready)
    }

    /// One run, and the versions of what it ran.
    pub fn measure(&self) -> Result<(Measurement, Value)> {
        let output = Command::new(&self.python).arg(&self.script).args(&self.arguments).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("the peer failed: {}", said.trim().lines().last().unwrap_or("it says nothing"));
        }
        let report: Value = serde_json::from_slice(&fs::read(self.folder.join("out.json"))?)?;
        Ok((measured(&report)?, report["versions"].clone()))
    }
}

fn measured(report: &Value) -> Result<Measurement> {
    let train = &report["epochs"][0]["train"];
    let number =
        |value: &Value, name: &str| value[name].as_f64().with_context(|| format!("the peer's report has no {name}"));
    let seconds = number(train, "seconds")?;
    let batch = number(&report["settings"], "batch")?;
    let mean = seconds / (number(train, "events")? / batch).ceil();
    Ok(Measurement {
        events_per_second: number(train, "events_per_second")?,
        seconds,
        peak_memory_bytes: number(report, "peak_memory_bytes")? as u64,
        stages: train["stages"].as_object().cloned().unwrap_or_else(Map::new),
        step_seconds: [mean, mean],
        allocations_per_step: None,
        launches_per_step: None,
        busy: None,
        warm_seconds: 0.0,
    })
}

impl Drop for ReadyPeer {
    fn drop(&mut self) {
        // A folder that stays behind in the system's temporary files does no harm.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn arguments(spec: &RunSpec, features: &str, steps: usize, folder: &Path) -> Result<Vec<String>> {
    let program = spec.model.program(FeatureWidths::default()).map_err(anyhow::Error::msg)?;
    let (needs, width) = (program.needs(), program.links().map_err(anyhow::Error::msg)?.width());
    if [needs.memory, program.time_width()] != [width; 2] || (needs.layers, program.attention_heads()) != (1, Some(2)) {
        bail!(
            "the peer has one width, 1 layer and 2 heads; set model.memory, model.time and model.width alike, model.layers=1, model.heads=2"
        );
    }
    let threads =
        if spec.threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { spec.threads };
    let pairs = [
        ("--data", folder.join("events").display().to_string()),
        ("--edge-features", features.to_string()),
        ("--batch", spec.train.batch.to_string()),
        ("--neighbours", needs.neighbours.to_string()),
        ("--width", width.to_string()),
        ("--lr", spec.train.lr.to_string()),
        ("--epochs", "1".into()),
        ("--seed", spec.seed.to_string()),
        ("--threads", threads.to_string()),
        ("--max-batches", steps.to_string()),
        ("--out", folder.join("out.json").display().to_string()),
    ];
    Ok(pairs.into_iter().flat_map(|(key, value)| [key.to_string(), value]).collect())
}

/// The log in the form that the peer's scripts read: `edges.csv`, and `edge_feat.npy` if there are features.
fn write_events(log: &EventLog, folder: &Path) -> Result<()> {
    let mut csv = BufWriter::new(fs::File::create(folder.join("edges.csv"))?);
    writeln!(csv, "src,dst,ts,label")?;
    for event in log.batch(0..log.len()).events() {
        writeln!(csv, "{},{},{},{}", event.src, event.dst, event.time, event.label)?;
    }
    csv.flush()?;
    let Some(features) = log.features() else { return Ok(()) };
    let mut npy = BufWriter::new(fs::File::create(folder.join("edge_feat.npy"))?);
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", log.len(), features.width());
    // The format aligns the data to 64 bytes. 10 bytes precede the header.
    let padding = 63 - (10 + header.len()) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    npy.write_all(b"\x93NUMPY\x01\x00")?;
    npy.write_all(&(header.len() as u16).to_le_bytes())?;
    npy.write_all(header.as_bytes())?;
    for event in 0..log.len() as u64 {
        for value in features.row(event) {
            npy.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(npy.flush()?)
}
