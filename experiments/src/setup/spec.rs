//! The TOML spec of an experiment: [`RunSpec`] is what the file says, with defaults for what it leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tempograph_framework::{Needs, apply_override, explain_toml};
use tempograph_models::{FeatureWidths, ModelSpec, PretrainSpec, Program};
use tempograph_trainers::{EvalSpec, ParallelSpec, TrainSpec, TrainingData};

/// The contents of a spec file. Every key except `data.path` has a default. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Name of the run and of its folder (the file's own name).
    #[serde(default)]
    pub name: String,
    /// Seed of weights, negatives and dropout (0).
    #[serde(default)]
    pub seed: u64,
    /// Threads that compute; 0 takes all cores (0).
    #[serde(default)]
    pub threads: usize,
    /// The device of tensors: `cpu`, `cuda:N`, or `cuda:N,M` and `cuda:all` for several GPUs, which divide the lanes of
    /// a plan (`cpu`).
    #[serde(default = "cpu")]
    pub device: String,
    /// The executor: `auto`, the fastest that supports the model, or `burn`, Burn's tensors and tape (`auto`).
    #[serde(default)]
    pub executor: ExecutorKind,
    /// Write a servable artifact into the run's folder at the end (true).
    #[serde(default = "yes")]
    pub export: bool,
    /// The events.
    pub data: DataSpec,
    /// The model.
    #[serde(default)]
    pub model: ModelSpec,
    /// The training of static memory, before the run.
    #[serde(default)]
    pub pretrain: PretrainSpec,
    /// Training.
    #[serde(default)]
    pub train: TrainSpec,
    /// How trainers share the work.
    #[serde(default)]
    pub parallel: ParallelSpec,
    /// Evaluation.
    #[serde(default)]
    pub eval: EvalSpec,
}

/// The events and their split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// A folder made by `tempograph prepare`, or `synthetic:key=value,…` for the built-in stream.
    pub path: String,
    /// Share of the events for validation (0.15), split at a quantile of the times.
    #[serde(default = "share")]
    pub val: f64,
    /// Share of the events for the test (0.15), the last ones.
    #[serde(default = "share")]
    pub test: f64,
    /// Which edge features the model reads: `real` (those the set has, if any), `none`, or `zeros:N` for `N` columns of
    /// zeros (`real`).
    #[serde(default = "real")]
    pub edge_features: String,
    /// Whether the model reads the set's node features (true).
    #[serde(default = "yes")]
    pub node_features: bool,
    /// Share of the nodes hidden from training with all their training events, as in TGN's inductive protocol (0). The
    /// new-node metrics are then about these nodes, and about nodes that first appear later.
    #[serde(default)]
    pub hold_out: f64,
    /// Fixed evaluation negatives, `[val, test]`, in files of TGB (`.pkl`) or of this program (`.safetensors`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negatives: Option<[PathBuf; 2]>,
    /// The file of static memory that `tempograph pretrain` wrote, for models that read it. The default is
    /// `static.safetensors` in the data's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_memory: Option<PathBuf>,
}

/// The executor of training on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecutorKind {
    /// The fastest that supports the model.
    #[default]
    Auto,
    /// Burn's tensors and its tape: slow; the others are tested against it.
    Burn,
}

fn cpu() -> String {
    "cpu".into()
}
fn real() -> String {
    "real".into()
}
fn yes() -> bool {
    true
}
fn share() -> f64 {
    0.15
}

impl RunSpec {
    /// Reads a spec file and overrides it with `sets`, `key=value` with dotted keys.
    ///
    /// # Errors
    /// Names the file, the place and the value, and for an unknown key the nearest known one.
    pub fn read(path: &Path, sets: &[String]) -> Result<RunSpec> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the spec {}", path.display()))?;
        let mut spec = RunSpec::parse(&text, sets).with_context(|| format!("in the spec {}", path.display()))?;
        if spec.name.is_empty() {
            spec.name = path.file_stem().map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned());
        }
        Ok(spec)
    }

    /// Reads a spec's text and overrides it with `sets`.
    ///
    /// # Errors
    /// As [`read`](RunSpec::read), without the file.
    pub fn parse(text: &str, sets: &[String]) -> Result<RunSpec> {
        // The text is parsed alone first: its errors have line numbers.
        let mut table: toml::Table = toml::from_str(text).map_err(reported)?;
        toml::from_str::<RunSpec>(text).map_err(reported)?;
        for set in sets {
            apply_override(&mut table, set).map_err(anyhow::Error::msg).with_context(|| format!("--set {set}"))?;
        }
        let laid: Result<RunSpec> = table.try_into().map_err(reported);
        if sets.is_empty() {
            laid?.checked()
        } else {
            laid.with_context(|| format!("after --set {}", sets.join(" --set ")))?.checked()
        }
    }

    /// The spec with every default filled in.
    ///
    /// # Errors
    /// Never in practice: every value has a TOML form.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// The model's program for the data of `training_data`, which scores links.
    ///
    /// # Errors
    /// Settings that do not fit together, or a head other than a link decoder.
    pub fn program(&self, training_data: &TrainingData) -> Result<Arc<Program>> {
        let program = self.model.program(crate::setup::data::widths(training_data)).map_err(anyhow::Error::msg)?;
        program.links().map_err(anyhow::Error::msg)?;
        Ok(program)
    }

    /// What a history stores for the model.
    ///
    /// # Errors
    /// As [`program`](Self::program).
    pub fn needs(&self) -> Result<Needs> {
        Ok(self.model.program(FeatureWidths::default()).map_err(anyhow::Error::msg)?.needs().clone())
    }

    fn checked(self) -> Result<RunSpec> {
        // Before a model of these sizes is recorded.
        self.check_sizes().map_err(anyhow::Error::msg)?;
        let checks = [
            self.model.check(),
            self.pretrain.check(),
            self.train.check(),
            self.parallel.check(),
            self.eval.check(),
            self.eval.check_batch(self.train.batch),
            self.data.check(),
        ];
        let wrong = checks.into_iter().find_map(Result::err);
        match wrong {
            Some(wrong) => bail!(wrong),
            None => Ok(self),
        }
    }
}

impl RunSpec {
    /// Refuses sizes that no machine has room for, before something is made of them.
    fn check_sizes(&self) -> Result<(), String> {
        let most = most_threads();
        for (key, value) in [("threads", self.threads), ("parallel.threads", self.parallel.threads)] {
            if value > most {
                return Err(format!(
                    "{key} = {value}; at most {most} are started: 256, or four for each core where that is more"
                ));
            }
        }
        let text = toml::to_string(&Sizes { model: &self.model, pretrain: &self.pretrain }).unwrap_or_default();
        for (key, value) in flat(&text.parse().unwrap_or_default()) {
            // A window is a time.
            match value {
                toml::Value::Integer(size) if size > MOST && !key.ends_with("window") => {
                    return Err(format!("{key} = {size}; it is at most {MOST}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a size of a model may be at the most.
const MOST: i64 = 1 << 20;

#[derive(Serialize)]
struct Sizes<'a> {
    model: &'a ModelSpec,
    pretrain: &'a PretrainSpec,
}

/// Threads that a process starts at the most.
fn most_threads() -> usize {
    256.max(4 * std::thread::available_parallelism().map_or(1, usize::from))
}

/// A key that two specs have different values for.
pub(crate) struct Difference {
    pub key: String,
    pub was: String,
    pub is: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference { key, was, is } = self;
        write!(to, "{key} is {is} and was {was}")
    }
}

/// Which keys of two specs differ, with their values.
///
/// # Errors
/// Text that is no TOML.
pub(crate) fn differences(before: &str, now: &str) -> Result<Vec<Difference>> {
    let keys = |text: &str| anyhow::Ok(flat(&text.parse().map_err(reported)?));
    let (was, is) = (keys(before)?, keys(now)?);
    let value = |keys: &BTreeMap<String, toml::Value>, key: &str| {
        keys.get(key).map_or("left out".into(), |value| value.to_string())
    };
    let all: BTreeSet<&String> = was.keys().chain(is.keys()).filter(|key| was.get(*key) != is.get(*key)).collect();
    Ok(all.into_iter().map(|key| Difference { key: key.clone(), was: value(&was, key), is: value(&is, key) }).collect())
}

/// The keys of a table and of those in it, dotted.
pub(crate) fn flat(table: &toml::Table) -> BTreeMap<String, toml::Value> {
    let mut keys = BTreeMap::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                keys.extend(flat(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => _ = keys.insert(key.clone(), value.clone()),
        }
    }
    keys
}

impl DataSpec {
    fn check(&self) -> Result<(), String> {
        if !(self.val > 0.0 && self.test > 0.0 && self.val + self.test < 1.0) {
            return Err(format!(
                "data.val = {} and data.test = {} must be positive and leave something to train on",
                self.val, self.test
            ));
        }
        if !(0.0..1.0).contains(&self.hold_out) {
            return Err(format!("data.hold_out = {}; it lies in 0 <= hold_out < 1", self.hold_out));
        }
        self.edge_columns().map(|_| ())
    }

    /// `Some(n)` for `n` columns of zeros, `Some(0)` for none, `None` for those of the set.
    ///
    /// # Errors
    /// A sentence naming the value.
    pub fn edge_columns(&self) -> Result<Option<usize>, String> {
        match self.edge_features.as_str() {
            "real" => Ok(None),
            "none" => Ok(Some(0)),
            other => {
                let columns = other.strip_prefix("zeros:").and_then(|columns| columns.parse().ok());
                columns
                    .map(Some)
                    .ok_or_else(|| format!("data.edge_features = \"{other}\"; it is \"real\", \"none\" or \"zeros:N\""))
            }
        }
    }
}

/// The parser's message, with the nearest known key where a key is unknown.
fn reported(error: toml::de::Error) -> anyhow::Error {
    anyhow::anyhow!(explain_toml(&error))
}

#[cfg(test)]
mod tests {
    use tempograph_models::TgnSpec;

    use super::*;

    fn tgn(spec: &RunSpec) -> &TgnSpec {
        spec.model.settings().unwrap()
    }

    const MINIMAL: &str = "[data]\npath = \"synthetic:events=100\"\n";

    #[test]
    fn a_missing_key_has_its_default_and_a_resolved_spec_reads_back() {
        let spec = RunSpec::parse(MINIMAL, &[]).unwrap();
        assert_eq!((spec.train.batch, tgn(&spec).memory, spec.eval.negatives), (200, 100, 49));
        assert_eq!(RunSpec::parse(&spec.to_toml().unwrap(), &[]).unwrap(), spec);
    }

    /// A model that gives numbers for each root and scores no links.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Classes {}

    impl tempograph_models::ModelKind for Classes {
        const KIND: &'static str = "classes";
        const ABOUT: &'static str = "";
        const PAPER: &'static str = "";
        const TEMPLATE: &'static str = "";

        fn check(&self) -> Result<(), String> {
            Ok(())
        }

        fn build(&self, g: &mut tempograph_models::Builder) -> tempograph_models::Outputs {
            let rows = g.rows_without_memory(8, &tempograph_models::StaticSpec::default());
            let embedding = g.centres(rows);
            tempograph_models::Outputs { memory: None, embedding, decoder: g.row_head(8, 8, 4), mail_payload: None }
        }
    }

    #[test]
    fn commands_on_links_refuse_a_kind_with_another_head() {
        let mut spec = RunSpec::parse(MINIMAL, &[]).unwrap();
        spec.model = Classes::default().into();
        let mut training_data = crate::setup::data::open(&spec.data).unwrap();
        let expected = "model.kind = \"classes\" has a row head of 4 outputs where a link decoder is needed";
        assert_eq!(spec.program(&training_data).unwrap_err().to_string(), expected);
        assert_eq!(crate::setup::data::resolve(&mut spec, &mut training_data).unwrap_err().to_string(), expected);
    }

    #[test]
    fn settings_lie_over_the_file() {
        let sets = ["train.lr=1e-3", "model.updater=rnn", "seed=7", "model.kind=tgn", "model.sampler={ window = 60 }"]
            .map(String::from);
        let spec = RunSpec::parse(MINIMAL, &sets).unwrap();
        assert_eq!((spec.train.lr, spec.seed), (1e-3, 7));
        assert_eq!(tgn(&spec).updater, tempograph_models::Updater::Rnn);
        assert_eq!(tgn(&spec).sampler, tempograph_framework::Sampler::Window(60));
        assert_eq!(RunSpec::parse(&spec.to_toml().unwrap(), &[]).unwrap(), spec);
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        for (text, near) in [
            ("[train]\nbtach = 1", "batch"),
            ("[model]\nkind = \"tgn\"\nneighbors = 3", "neighbours"),
            ("sed = 1\n", "seed"),
        ] {
            let text = if text.starts_with('[') { format!("{MINIMAL}{text}") } else { format!("{text}{MINIMAL}") };
            let error = RunSpec::parse(&text, &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean `{near}`?")), "{error}");
        }
        let error = format!("{:#}", RunSpec::parse(MINIMAL, &["train.epoch=3".into()]).unwrap_err());
        assert!(error.contains("did you mean `epochs`?"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (set, says) in [
            ("model.heads=3", "heads = 3"),
            ("model.sampler={ window = 0 }", "window = 0"),
            ("model.kind=gpt", "gpt"),
            ("model.static.how=both", "both"),
            ("model.static.hide=1", "hide = 1"),
            ("pretrain.tail=1.5", "tail = 1.5"),
            ("train.lr=-1", "train.lr = -1"),
            ("data.edge_features=all", "\"all\""),
            ("data.val=0.9", "data.val"),
        ] {
            let error = format!("{:#}", RunSpec::parse(MINIMAL, &[set.into()]).unwrap_err());
            assert!(error.contains(says), "{set}: {error}");
        }
    }
}
