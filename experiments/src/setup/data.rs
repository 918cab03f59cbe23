//! Opens, splits and indexes the data of a spec.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};
use tempograph_framework::{
    Dataset, Draw, EventId, EventLog, Features, FixedNegatives, NegativeRule, NegativeSet, NegativesError, Purpose,
    Split, StaticMemory, Table, hold_out_nodes, sha256_hex, tgb_negatives,
};
use tempograph_kernels::Rows;
use tempograph_models::{DatasetStats, FeatureWidths, StaticSpec};
use tempograph_trainers::{DataReport, Exchange, Part, SingleProcess, TrainingData, once_per_machine};

use crate::setup::spec::{DataSpec, RunSpec, flat};

/// Opens the dataset of a spec and indexes it for training.
///
/// # Errors
/// A folder that is missing or not prepared, a damaged set, an empty split.
pub fn open(spec: &DataSpec) -> Result<TrainingData> {
    open_distributed(&mut SingleProcess, spec)
}

/// As [`open`], in several processes, which all call it. Data that is not in mapped files is in memory once on each
/// machine.
///
/// # Errors
/// As [`open`], and if another process is gone.
pub fn open_distributed(exchange: &mut dyn Exchange, spec: &DataSpec) -> Result<TrainingData> {
    let (dataset, split) = if spec.path.starts_with("synthetic:") || spec.hold_out > 0.0 {
        once_per_machine(exchange, || events(spec), |events| lend(events), borrow)?
    } else {
        events(spec)?
    };
    let features = features(spec, &dataset)?;
    let fixed = spec.negatives.as_ref().map(|files| fixed_negatives(spec, files, &dataset, &split)).transpose()?;
    let mut training_data = TrainingData::distributed(exchange, dataset, features, split)?;
    training_data.fixed = fixed;
    for (key, file) in NEGATIVES.into_iter().zip(spec.negatives.iter().flatten()) {
        let read = file_sha256(file).with_context(|| format!("data.negatives: {}", file.display()))?;
        training_data.sources.insert(key, read);
    }
    Ok(training_data)
}

/// The keys of the files of negatives among what a run's data was read from. They change what is asked and neither the model nor the past.
pub(crate) const NEGATIVES: [&str; 2] = ["data.negatives[0]", "data.negatives[1]"];

/// SHA-256 of a file.
fn file_sha256(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a part is asked: negatives, and what they are called.
pub(crate) struct Questions {
    /// A rule's name as a spec has it, or `fixed` and the file's name.
    pub name: String,
    pub negatives: NegativeSet,
}

/// What a part is asked: under each of the spec's rules, or from the file that lists its negatives.
pub(crate) fn questions(spec: &RunSpec, training_data: &TrainingData, part: Part) -> Vec<Questions> {
    let asked = |rule, name| Questions { name, negatives: training_data.negatives(part, rule, &spec.eval) };
    match (&training_data.fixed, &spec.data.negatives) {
        (Some(_), files) => {
            let file = files.as_ref().and_then(|files| files[part as usize].file_name());
            vec![asked(spec.eval.rules[0], format!("fixed {}", file.unwrap_or_default().to_string_lossy()))]
        }
        _ => spec.eval.rules.iter().map(|&rule| asked(rule, rule_name(rule))).collect(),
    }
}

/// The rule's name as a spec has it.
fn rule_name(rule: NegativeRule) -> String {
    serde_json::to_value(rule).ok().and_then(|value| value.as_str().map(String::from)).unwrap_or_default()
}

/// The columns of a prepared set, watched while a run has them mapped: a file that is cut short or written anew is found before each epoch.
pub(crate) struct ColumnsWatch {
    file: std::fs::File,
    path: PathBuf,
    state: (u64, Option<std::time::SystemTime>),
}

impl ColumnsWatch {
    /// Watches the set of `spec`; nothing for a generated one.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn of(spec: &DataSpec) -> Result<Option<ColumnsWatch>> {
        let path = Path::new(&spec.path).join("columns.safetensors");
        if spec.path.starts_with("synthetic:") {
            return Ok(None);
        }
        let watched = || {
            let file = std::fs::File::open(&path)?;
            Ok::<_, std::io::Error>(ColumnsWatch { state: state(&file)?, file, path: path.clone() })
        };
        watched().map(Some).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Whether the file is as it was. One that was moved or replaced is: what is mapped stays.
    ///
    /// # Errors
    /// Another length or time of its last change.
    pub fn check(&self) -> Result<()> {
        let (length, _) = self.state;
        let now = state(&self.file).with_context(|| format!("cannot read {}", self.path.display()))?;
        if now == self.state {
            return Ok(());
        }
        bail!(
            "{} was changed while the run reads it: it had {length} bytes and has {}; prepare the set again, then go on with --resume",
            self.path.display(),
            now.0
        )
    }
}

fn state(file: &std::fs::File) -> std::io::Result<(u64, Option<std::time::SystemTime>)> {
    let facts = file.metadata()?;
    Ok((facts.len(), facts.modified().ok()))
}

/// Puts events that are in this process's memory where others can map them, and says how they are cut as well.
fn lend((dataset, split): &(Dataset, Split)) -> Option<(std::fs::File, String)> {
    let (file, text) = dataset.share().ok()?;
    Some((file, format!("{} {}\n{text}", split.train.end, split.val.end)))
}

/// Events that another process shares.
fn borrow(text: &str) -> Option<(Dataset, Split)> {
    let (cuts, text) = text.split_once('\n')?;
    let (train, val) = cuts.split_once(' ')?;
    let (train, val) = (train.parse().ok()?, val.parse().ok()?);
    let dataset = Dataset::open_shared(text).ok()?;
    let split = Split { train: 0..train, val: train..val, test: val..dataset.log.len() };
    Some((dataset, split))
}

/// The events of a spec, and their split.
fn events(spec: &DataSpec) -> Result<(Dataset, Split)> {
    let path = Path::new(&spec.path);
    if path.exists() && !path.join("dataset.json").exists() {
        bail!(
            "{0} is not a prepared dataset; make one with `tempograph prepare {0} --out DIR` and put DIR in data.path",
            spec.path
        );
    }
    let named = || format!("data.path = \"{}\"", spec.path);
    let dataset = Dataset::from_spec(&spec.path).with_context(named)?;
    if !spec.path.starts_with("synthetic:") {
        // Reads every byte once; what is trained on then has the checksum that is reported.
        dataset.verify().with_context(named)?;
    }
    let split = Split::by_time(dataset.log.time(), spec.val, spec.test)?;
    let (dataset, split) =
        if spec.hold_out > 0.0 { without_held_out(dataset, split, spec.hold_out)? } else { (dataset, split) };
    for (name, range) in [("training", &split.train), ("validation", &split.val), ("test", &split.test)] {
        if range.is_empty() {
            bail!(
                "the {name} split of {} is empty: its {} events have too few distinct times for data.val and data.test",
                spec.path,
                dataset.log.len()
            );
        }
    }
    if split.val.len() < 2 {
        bail!(
            "the validation split of {} is one event, and no epoch is the best by one event; raise data.val = {}",
            spec.path,
            spec.val
        );
    }
    Ok((dataset, split))
}

/// Fills in the widths that a spec leaves to the data, and opens static memory if the model reads it.
///
/// # Errors
/// Static memory that is missing, is damaged, has another width, or was trained on events other than those of the
/// training split.
pub fn resolve(spec: &mut RunSpec, training_data: &mut TrainingData) -> Result<()> {
    let facts =
        DatasetStats::of(&training_data.dataset.log, training_data.split.train.clone(), training_data.dataset.nodes);
    spec.model = spec.model.completed(&facts);
    if let Some(reads) = spec.program(training_data)?.static_memory() {
        let (vectors, sha256) = static_memory(&spec.data, reads, training_data)?;
        training_data.features.static_memory = Some(Arc::new(vectors));
        training_data.sources.insert("data.static_memory", sha256);
    }
    training_data.sources.insert(SETTINGS, settings_sha256(spec)?);
    Ok(())
}

/// The key of the settings that make a model what it is, among what a run was trained from.
const SETTINGS: &str = "spec.toml (model, seed, train, parallel)";

/// SHA-256 of these settings, without those that may change while a run goes on.
fn settings_sha256(spec: &RunSpec) -> Result<String> {
    let free = ["train.epochs", "train.checkpoint_minutes", "parallel.threads"];
    let settings = flat(&spec.to_toml()?.parse()?).into_iter().filter(|(key, _)| {
        let section = key.split('.').next().unwrap_or_default();
        ["model", "seed", "train", "parallel"].contains(&section) && !free.contains(&key.as_str())
    });
    Ok(sha256_hex(settings.map(|(key, value)| format!("{key} = {value}\n"))))
}

/// The path of a spec's static memory.
///
/// # Errors
/// A generated stream: it has no folder for it.
pub fn static_path(spec: &DataSpec) -> Result<PathBuf> {
    match &spec.static_memory {
        Some(path) => Ok(path.clone()),
        None if spec.path.starts_with("synthetic:") => {
            bail!(
                "data.path = \"{}\" is generated and has no folder: name a file for its static memory in data.static_memory",
                spec.path
            )
        }
        None => Ok(Path::new(&spec.path).join("static.safetensors")),
    }
}

fn static_memory(spec: &DataSpec, reads: &StaticSpec, training_data: &TrainingData) -> Result<(Table, String)> {
    let path = static_path(spec)?;
    if !path.exists() {
        bail!("there is no static memory in {}; learn it with `tempograph pretrain` and the same spec", path.display());
    }
    let found = StaticMemory::read(&path)?;
    let hint = || {
        format!(
            "{} does not go with this run; learn it anew with `tempograph pretrain` and the same spec",
            path.display()
        )
    };
    found.check(&training_data.dataset, training_data.split.train.clone()).with_context(hint)?;
    if found.vectors.width() != reads.width {
        let width = found.vectors.width();
        bail!("{} is {width} wide, but model.static.width = {}", path.display(), reads.width);
    }
    Ok((found.vectors, found.origin.vectors_sha256))
}

/// Widths of the features that a model reads in this training data.
pub fn widths(training_data: &TrainingData) -> FeatureWidths {
    let width = |rows: &Option<Arc<dyn Rows>>| rows.as_ref().map_or(0, |rows| rows.width());
    FeatureWidths { edge: width(&training_data.features.edges), node: width(&training_data.features.nodes) }
}

/// The report's section on the data.
pub fn report(training_data: &TrainingData) -> DataReport {
    let (dataset, split, widths) = (&training_data.dataset, &training_data.split, widths(training_data));
    let new = |part| {
        let touched = |&i: &usize| training_data.new_nodes.touched_by(dataset.log.src()[i], dataset.log.dst()[i]);
        training_data.range(part).filter(touched).count()
    };
    DataReport {
        name: dataset.name.clone(),
        checksum: dataset.checksum.clone(),
        sources: training_data.sources.clone(),
        events: dataset.log.len(),
        nodes: dataset.nodes,
        edge_features: widths.edge,
        node_features: widths.node,
        static_memory: training_data.features.static_memory.as_ref().map_or(0, |rows| rows.width()),
        split: [split.val.start, split.test.start],
        new_node_events: [new(Part::Val), new(Part::Test)],
    }
}

/// The log without the training events of held-out nodes (TGN's `get_data`). The draw is fixed, so that all runs hide
/// the same nodes.
///
/// Differs: TGN's code shows the hidden events to the neighbour finder of validation and test. Here they are removed
/// entirely.
fn without_held_out(dataset: Dataset, split: Split, share: f64) -> Result<(Dataset, Split)> {
    let log = &dataset.log;
    let train_end = split.train.end;
    let mut chance = Draw::new(2020).of(Purpose::Generator).at(0, 0);
    let hidden = hold_out_nodes(log.src(), log.dst(), EventId(train_end as u64), share, &mut chance);
    let kept: Vec<u64> = (0..log.len()).filter(|&i| i >= train_end || hidden.train[i]).map(|i| i as u64).collect();
    let features =
        log.features().map(|rows| Arc::new(Picked { rows: rows.clone(), kept: kept.clone() }) as Arc<dyn Rows>);
    fn pick<T: Copy>(column: &[T], kept: &[u64]) -> Vec<T> {
        kept.iter().map(|&i| column[i as usize]).collect()
    }
    let log = EventLog::new(
        pick(log.src(), &kept),
        pick(log.dst(), &kept),
        pick(log.time(), &kept),
        pick(log.label(), &kept),
        features,
    )?;
    let gone = split.test.end - kept.len();
    let earlier = |range: Range<usize>| range.start - gone..range.end - gone;
    let split = Split { train: 0..train_end - gone, val: earlier(split.val), test: earlier(split.test) };
    Ok((Dataset { log, ..dataset }, split))
}

/// Some rows of a table, in new order.
#[derive(Debug)]
struct Picked {
    rows: Arc<dyn Rows>,
    kept: Vec<u64>,
}

impl Rows for Picked {
    fn width(&self) -> usize {
        self.rows.width()
    }
    fn row(&self, id: u64) -> &[f32] {
        self.rows.row(self.kept[id as usize])
    }
}

fn features(spec: &DataSpec, dataset: &Dataset) -> Result<Features> {
    let edges: Option<Arc<dyn Rows>> = match spec.edge_columns().map_err(anyhow::Error::msg)? {
        None => dataset.log.features().cloned(),
        Some(0) => None,
        Some(columns) => Some(Arc::new(Zeros(vec![0.0; columns]))),
    };
    let nodes =
        dataset.node_features.clone().filter(|_| spec.node_features).map(|table| Arc::new(table) as Arc<dyn Rows>);
    Ok(Features { edges, nodes, static_memory: None })
}

/// Every row is zero, for peers that cannot run without features.
#[derive(Debug)]
struct Zeros(Vec<f32>);

impl Rows for Zeros {
    fn width(&self) -> usize {
        self.0.len()
    }
    fn row(&self, _: u64) -> &[f32] {
        &self.0
    }
}

fn fixed_negatives(
    spec: &DataSpec,
    files: &[PathBuf; 2],
    dataset: &Dataset,
    split: &Split,
) -> Result<[NegativeSet; 2]> {
    let read = |file: &Path, range: &Range<usize>| -> Result<NegativeSet> {
        let fixed = if is_of_tgb(file) { read_tgb(file, spec, dataset, range)? } else { FixedNegatives::read(file)? };
        fixed.check(range.clone(), dataset.log.dst(), dataset.nodes, dataset.sides)?;
        let (first, events) = (fixed.first().index(), fixed.events());
        if first > range.start || first.saturating_add(events) < range.end {
            bail!(
                "{} lists events {first}..{}, but events {}..{} are asked about",
                file.display(),
                first.saturating_add(events),
                range.start,
                range.end
            );
        }
        Ok(NegativeSet::Fixed(fixed))
    };
    let named = |file: &Path, range| read(file, range).with_context(|| format!("data.negatives: {}", file.display()));
    Ok([named(&files[0], &split.val)?, named(&files[1], &split.test)?])
}

/// Whether a run is asked about the negatives of TGB in both parts.
pub(crate) fn asks_tgb(spec: &RunSpec) -> bool {
    spec.data.negatives.as_ref().is_some_and(|files| files.iter().all(|file| is_of_tgb(file)))
}

/// Whether a file of negatives is one of TGB.
fn is_of_tgb(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "pkl")
}

fn read_tgb(file: &Path, spec: &DataSpec, dataset: &Dataset, range: &Range<usize>) -> Result<FixedNegatives> {
    // TGB numbers nodes as they appear in the whole log.
    let whole = if spec.hold_out > 0.0 { Some(Dataset::from_spec(&spec.path)?) } else { None };
    let whole = whole.as_ref().map_or(&dataset.log, |whole| &whole.log);
    let (event, src, dst, time) = match tgb_negatives(file, dataset, whole, range.clone()) {
        Err(NegativesError::NotListed { event, src, dst, time }) => (event, src, dst, time),
        other => return Ok(other?),
    };
    let (src, dst, time) = (dataset.ids.name(src), dataset.ids.name(dst), dataset.time_unit.from_ticks(time));
    let advice = if dataset.time_unit.scale > 1 {
        ". The times of the set have fractions, and those of TGB's files have none: prepare the edge list with --format tgb"
    } else {
        ""
    };
    bail!(
        "event {event}: the file has no negatives for source {src}, destination {dst} at time {time}: it is of other data, or of another \
         split, or the edge list was not in the order of its times{advice}"
    )
}
