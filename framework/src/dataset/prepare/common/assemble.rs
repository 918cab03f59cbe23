//! From the events of a source to a dataset: sorted by time, nodes renumbered, features in the same order.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tempograph_kernels::Rows;

use crate::dataset::prepare::common::columns::{self, Column, Role};
use crate::dataset::prepare::common::dates;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::events::RawEvents;
use crate::dataset::prepare::common::features::Reordered;
use crate::dataset::prepare::common::ids::Own;
use crate::dataset::prepare::common::options::{Format, PrepareOptions};
use crate::dataset::{Dataset, DatasetContent, Extras, IdMap, Sides, Table, TimeUnit};
use crate::settings::count::{counted, were};
use crate::{EventLog, NodeId};

/// The output of a format's reader.
pub(crate) struct RawSource {
    pub(crate) events: RawEvents,
    /// Features of the events beside their own columns, if there are any.
    pub(crate) features: Option<Features>,
    /// Features of the nodes: row `i` is of the node with the own id `i`.
    pub(crate) node_features: Option<NodeRows>,
    pub(crate) space: IdSpace,
    /// The format in words.
    pub(crate) how: String,
    pub(crate) notices: Vec<String>,
}

/// Rows of edge features; event `i` has row `i`, or row `index[i]` where the source has an index.
pub(crate) struct Features {
    pub(crate) table: Table,
    pub(crate) indexed: bool,
}

/// Rows of node features by own id, and their file.
pub(crate) struct NodeRows {
    pub(crate) table: Table,
    pub(crate) path: std::path::PathBuf,
    /// Whether row 0 is padding.
    pub(crate) padded: bool,
    /// The id of the node of each row, where that is text.
    pub(crate) names: Option<Vec<String>>,
}

/// Whether equal ids of a source and a destination mean one node.
#[derive(Clone, Debug)]
pub(crate) enum IdSpace {
    /// They do; the set is bipartite if no id is on both sides.
    Shared,
    /// They do, and the set is of one kind of nodes, for this reason.
    One(String),
    /// They do not: user 7 and item 7 are two nodes, for this reason.
    Separate(String),
    /// The columns of these names do not tell.
    Ask(String, String),
}

/// A set's name, and the unit of its times.
pub(crate) struct DatasetInfo {
    pub(crate) name: String,
    pub(crate) time_unit: String,
}

/// How a source was understood.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The format.
    pub format: Format,
    /// The format in words, such as what separates the fields.
    pub how: String,
    /// The name of each column, its role, and why it has it; the reason is empty for features.
    pub columns: Vec<(String, &'static str, &'static str)>,
    /// Rows that were read.
    pub rows: u64,
    /// Nodes and sides in words, with the reason.
    pub nodes: String,
    /// The times from the first to the last in words, with their unit.
    pub time: String,
    /// Equal times in words.
    pub ties: String,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format:  {}, {}", self.format.name(), self.how)?;
        let mut stated: Vec<String> = Vec::new();
        for (name, role, why) in self.columns.iter().filter(|(_, role, _)| *role != columns::words(Role::Feature)) {
            let name = if name.is_empty() { "(no name)" } else { name };
            stated.push(if why.is_empty() { format!("{name}: {role}") } else { format!("{name}: {role} ({why})") });
        }
        let features: Vec<&str> = self
            .columns
            .iter()
            .filter(|(_, role, _)| *role == columns::words(Role::Feature))
            .map(|(name, ..)| name.as_str())
            .collect();
        match features.len() {
            0 => {}
            1..=12 => stated.push(format!("features: {}", features.join(", "))),
            count => {
                stated.push(format!("{count} features: {}, ..., {}", features[..3].join(", "), features[count - 1]))
            }
        }
        writeln!(f, "columns: {}", stated.join("; "))?;
        writeln!(f, "rows:    {}", self.rows)?;
        writeln!(f, "nodes:   {}", self.nodes)?;
        writeln!(f, "time:    {}", self.time)?;
        write!(f, "ties:    {}", self.ties)
    }
}

pub(crate) fn assemble(
    raw: RawSource,
    format: Format,
    file: &Path,
    source: &Path,
    about: DatasetInfo,
    options: &PrepareOptions,
) -> Result<(Dataset, Reading), PrepareError> {
    let RawSource { mut events, features, node_features, space, how, mut notices } = raw;
    if events.len() == 0 {
        let dropped = if events.rows() > 0 { ": values are missing in all rows" } else { "" };
        return Err(PrepareError::file(file, format!("there are no events{dropped}")));
    }
    let refuse = |fact: String| PrepareError::file(file, fact);
    notices.extend(events.notices());
    let scale = events.times.scale();
    let order = time_order(&events, file, options.strict, &mut notices)?;
    let mut extras = Extras { classes: events.take_classes(), ..Extras::default() };
    let features = match features {
        Some(features) => event_features(&mut events, features, order.as_deref(), &mut notices)?,
        None => {
            let own = events.take_features()?;
            if own.table.as_ref().is_some_and(|(_, zero)| !zero) {
                extras.features = own.names;
            }
            own_features(own.table, order.as_deref(), &mut notices)
        }
    };
    let targets = events.take_targets()?;
    if let Some((table, _)) = targets.table {
        extras.target_names = targets.names;
        extras.targets = Some(match order.as_deref() {
            Some(order) => gather(&table, order.iter().map(|&event| event.into())),
            None => table,
        });
    }
    let ends = ordered(events.times.take_ends(), order.as_deref().filter(|_| events.columns().iter().any(is_end)));
    if !ends.is_empty() {
        extras = extras.with_end(ends);
    }
    let nodes = Nodes::number(&events, &space, options.bipartite, &mut notices).map_err(refuse)?;
    let columns = events.columns().iter().map(|column| (column.name.clone(), columns::words(column.role), column.why));
    let columns = columns.collect();
    let rows = events.rows();
    let unit = if about.time_unit.is_empty() { events.times.unit().unwrap_or("").to_owned() } else { about.time_unit };
    let RawEvents { src, dst, times, mut label, .. } = events;
    label.resize(src.len(), 0.0);
    let src = ordered(src.into_iter().map(|id| nodes.source(id)).collect(), order.as_deref());
    let dst = ordered(dst.into_iter().map(|id| nodes.destination(id)).collect(), order.as_deref());
    let time = ordered(times.into_ticks(), order.as_deref());
    let log = EventLog::new(src, dst, time, ordered(label, order.as_deref()), features)
        .map_err(|error| refuse(error.to_string()))?;
    let (unit, time) = span(&log, scale, &unit);
    let reading = Reading { format, how, columns, rows, nodes: nodes.words.clone(), time, ties: ties(&log) };
    let ids = nodes.into_ids().map_err(refuse)?;
    let node_features = node_features.map(|rows| node_rows(&ids, rows, &mut notices)).transpose()?.flatten();
    let content = DatasetContent {
        name: about.name,
        log,
        time_unit: TimeUnit { description: unit, scale },
        node_features,
        ids,
        source: source.display().to_string(),
        notices,
    };
    Ok((Dataset::with_extras(content, extras)?, reading))
}

fn is_end(column: &Column) -> bool {
    column.role == Role::End
}

/// The stable order of the events by time; `None` if they are sorted.
fn time_order(
    events: &RawEvents,
    file: &Path,
    strict: bool,
    notices: &mut Vec<String>,
) -> Result<Option<Vec<u32>>, PrepareError> {
    if events.len() > u32::MAX as usize {
        return Err(PrepareError::file(file, format!("{} events are more than 32 bits number", events.len())));
    }
    let Some(disorder) = events.times.disorder() else { return Ok(None) };
    let row = events.disorder_row.unwrap_or(disorder.event as u64);
    if strict {
        let (time, latest) = (disorder.time, disorder.latest);
        return Err(PrepareError::row(
            file,
            row,
            format!("timestamp {time} comes after {latest}, and unsorted times are refused"),
        ));
    }
    let (count, all) = (disorder.count, events.len());
    notices.push(format!(
        "{count} of {}, the first in row {row}, {} earlier than one before them: sorted by time, ties in the order of the file",
        counted(all, "event"),
        were(count)
    ));
    let mut order: Vec<u32> = (0..events.len() as u32).collect();
    order.sort_by_key(|&event| events.times.ticks()[event as usize]);
    Ok(Some(order))
}

fn ordered<T: Copy>(values: Vec<T>, order: Option<&[u32]>) -> Vec<T> {
    match order {
        Some(order) => order.iter().map(|&event| values[event as usize]).collect(),
        None => values,
    }
}

/// The features in the order of the log, unless they carry no information.
fn event_features(
    events: &mut RawEvents,
    features: Features,
    order: Option<&[u32]>,
    notices: &mut Vec<String>,
) -> Result<Option<Arc<dyn Rows>>, PrepareError> {
    let Features { table, indexed } = features;
    if is_all_zero(&table) {
        notices.push(zero_features("edge", table.width()));
        return Ok(None);
    }
    let index = std::mem::take(&mut events.index);
    let identity = order.is_none()
        && (!indexed || (table.rows() == index.len() && index.iter().enumerate().all(|(i, &row)| row == i as u64)));
    if identity {
        return Ok(Some(Arc::new(table)));
    }
    let event = |i: usize| order.map_or(i, |order| order[i] as usize);
    let rows = (0..events.len()).map(|i| if indexed { index[event(i)] as u32 } else { event(i) as u32 }).collect();
    Ok(Some(Arc::new(Reordered { table, rows })))
}

/// Features of the events' own columns in the order of the log, unless they carry no information.
fn own_features(
    table: Option<(Table, bool)>,
    order: Option<&[u32]>,
    notices: &mut Vec<String>,
) -> Option<Arc<dyn Rows>> {
    let (table, zero) = table?;
    if zero {
        notices.push(zero_features("edge", table.width()));
        return None;
    }
    match order {
        Some(order) => Some(Arc::new(Reordered { table, rows: order.to_vec() })),
        None => Some(Arc::new(table)),
    }
}

fn zero_features(what: &str, count: usize) -> String {
    format!("{} dropped, which {} zero in all rows", counted(count, &format!("{what} feature")), were(count as u64))
}

fn is_all_zero(table: &Table) -> bool {
    table.values().iter().all(|&value| value == 0.0)
}

/// The nodes of a source: dense numbers in ascending order of own id, sources before destinations when they are apart.
struct Nodes {
    sources: Side,
    /// Their own numbering when the set is bipartite.
    destinations: Option<Side>,
    /// Ids that are on both sides, and whether that is one kind of nodes, in words.
    words: String,
}

/// Ids in ascending order, and the place of each number among them.
struct Side {
    own: Own,
    places: Vec<u32>,
}

impl Nodes {
    fn number(
        events: &RawEvents,
        space: &IdSpace,
        asked: Option<bool>,
        notices: &mut Vec<String>,
    ) -> Result<Self, String> {
        let mut on = vec![0u8; events.ids.len()];
        events.src.iter().for_each(|&id| on[id as usize] |= 1);
        events.dst.iter().for_each(|&id| on[id as usize] |= 2);
        let count = |mask: u8| on.iter().filter(|&&sides| sides == mask).count();
        let (shared, all) = (count(3), on.len() - count(0));
        let side = |mask: u8| {
            let (own, places) = events.ids.sorted(|id| on[id as usize] & mask != 0);
            Side { own, places }
        };
        let both =
            format!("{shared} of {} {} on both sides", counted(all, "id"), if shared == 1 { "is" } else { "are" });
        let (apart, why) = match (asked, space) {
            (Some(true), _) => (true, format!("as asked; {both}")),
            (Some(false), _) => (false, format!("as asked; {both}")),
            (None, IdSpace::Separate(why)) => (true, format!("{why}; {both}")),
            (None, IdSpace::One(why)) => (false, format!("{why}; {both}")),
            (None, _) if shared == 0 => {
                notices.push(
                    "no id is both a source and a destination, so they were taken for two kinds of nodes; --shared-ids takes them for one".into(),
                );
                (true, "a guess: no id is on both sides".into())
            }
            (None, IdSpace::Ask(src, dst)) if matches!(events.ids.sorted(|_| false).0, Own::Whole(_)) => {
                return Err(format!(
                    "{both}, and the columns `{src}` and `{dst}` do not say whether equal ids are one node: --bipartite true keeps them apart, --shared-ids makes them one"
                ));
            }
            (None, _) => (false, both),
        };
        let (sources, destinations) = if apart { (side(1), Some(side(2))) } else { (side(3), None) };
        let nodes = sources.own.len() + destinations.as_ref().map_or(0, |side| side.own.len());
        if nodes > u32::MAX as usize {
            return Err(format!("{nodes} nodes are more than 32 bits number"));
        }
        let words = match &destinations {
            Some(side) => {
                let (sources, destinations) =
                    (counted(sources.own.len(), "source"), counted(side.own.len(), "destination"));
                format!("{sources} and {destinations} ({why})")
            }
            None => format!("{} ({why})", counted(nodes, "node")),
        };
        Ok(Self { sources, destinations, words })
    }

    fn source(&self, id: u32) -> NodeId {
        NodeId(self.sources.places[id as usize])
    }

    fn destination(&self, id: u32) -> NodeId {
        match &self.destinations {
            Some(side) => NodeId(self.sources.own.len() as u32 + side.places[id as usize]),
            None => self.source(id),
        }
    }

    fn into_ids(self) -> Result<IdMap, String> {
        let sides =
            self.destinations.as_ref().map_or(Sides::OneMode, |_| Sides::Bipartite { sources: self.sources.own.len() });
        match (self.sources.own, self.destinations.map(|side| side.own)) {
            (Own::Whole(own), None) => Ok(IdMap::new(own, sides)),
            (Own::Whole(own), Some(Own::Whole(others))) => Ok(IdMap::new([own, others].concat(), sides)),
            (Own::Text(own), None) => IdMap::of_text(&own, sides),
            (Own::Text(own), Some(Own::Text(others))) => IdMap::of_text(&[own, others].concat(), sides),
            _ => Err("the ids of the two sides are of two kinds".into()),
        }
    }
}

/// Node features by dense number, unless they carry no information.
fn node_rows(ids: &IdMap, rows: NodeRows, notices: &mut Vec<String>) -> Result<Option<Table>, PrepareError> {
    let NodeRows { table, path, padded, names } = rows;
    if is_all_zero(&table) {
        notices.push(zero_features("node", table.width()));
        return Ok(None);
    }
    if let Some(names) = names {
        return Ok(Some(named_rows(ids, &table, &names, notices)));
    }
    if ids.is_text() {
        return Err(PrepareError::file(
            &path,
            "row i is of the node with the id i, but the ids of these events are text",
        ));
    }
    let own = || ids.external_ids().iter().copied();
    if let Some(id) = own().find(|&id| id >= table.rows() as u64) {
        return Err(PrepareError::file(&path, format!("{} rows, but node {id} appears in an event", table.rows())));
    }
    let distinct = own().collect::<HashSet<_>>().len();
    if distinct < ids.len() {
        return Err(PrepareError::file(
            &path,
            "sources and destinations share ids, so nothing says whether a row is of a source or of a destination",
        ));
    }
    let idle = (table.rows() - usize::from(padded)).saturating_sub(distinct);
    if idle > 0 {
        notices.push(format!("{} of node features dropped, for nodes without events", counted(idle, "row")));
    }
    if own().eq(0..table.rows() as u64) {
        return Ok(Some(table));
    }
    Ok(Some(gather(&table, own())))
}

/// Node features by the names of their nodes; nodes without a row have zeros.
fn named_rows(ids: &IdMap, table: &Table, names: &[String], notices: &mut Vec<String>) -> Table {
    let row: FxHashMap<&str, u64> = names.iter().map(String::as_str).zip(0..).collect();
    let mut without = 0;
    let mut values = Vec::with_capacity(ids.len() * table.width());
    for node in 0..ids.len() {
        match row.get(&*ids.name(NodeId(node as u32))) {
            Some(&row) => values.extend_from_slice(table.row(row)),
            None => {
                without += 1;
                values.resize(values.len() + table.width(), 0.0);
            }
        }
    }
    if without > 0 {
        notices.push(format!("{} without a row of node features: zeros are taken", counted(without as u64, "node")));
    }
    Table::new(values, table.width()).expect("whole rows were gathered")
}

fn gather(table: &Table, rows: impl Iterator<Item = u64>) -> Table {
    let values = rows.flat_map(|row| table.row(row)).copied().collect();
    Table::new(values, table.width()).expect("whole rows were gathered")
}

/// Nanoseconds of a unit of time by its name.
fn nanoseconds(unit: &str) -> Option<i128> {
    let unit = unit.trim().to_ascii_lowercase();
    Some(match unit.strip_suffix('s').filter(|unit| unit.len() > 2).unwrap_or(&unit) {
        "ns" | "nanosecond" => 1,
        "us" | "µs" | "microsecond" => 1_000,
        "ms" | "millisecond" => 1_000_000,
        "s" | "sec" | "second" => 1_000_000_000,
        "min" | "minute" => 60_000_000_000,
        "h" | "hr" | "hour" => 3_600_000_000_000,
        "d" | "day" => 86_400_000_000_000,
        _ => return None,
    })
}

/// The first and the last time in units, the unit and what they mean.
fn span(log: &EventLog, scale: u64, named: &str) -> (String, String) {
    let (first, last) = (i128::from(log.time()[0].0), i128::from(log.time()[log.len() - 1].0));
    let scale = i128::from(scale.max(1));
    // Seconds since 1970 from 1990 to 2100.
    let clock = |unit: i128| [first, last].map(|time| (time * unit).div_euclid(scale * 1_000_000_000));
    let dated = |seconds: [i128; 2]| seconds.iter().all(|at| (631_152_000..4_102_444_800).contains(at));
    let shown = |time: i128| {
        if time % scale == 0 { (time / scale).to_string() } else { format!("{}", time as f64 / scale as f64) }
    };
    let (mut unit, mut how) = (named.to_owned(), String::new());
    if unit.is_empty() {
        let guess =
            ["s", "ms", "us", "ns"].into_iter().find(|unit| nanoseconds(unit).is_some_and(|unit| dated(clock(unit))));
        let Some(guess) = guess else {
            let text =
                format!("{} to {} in a unit that is not named (--time-unit names it)", shown(first), shown(last));
            return (unit, text);
        };
        unit = guess.into();
        how =
            format!(", a guess that --time-unit overrules: as {guess} since 1970 all times lie between 1990 and 2100");
    }
    let range = format!("{} to {}", shown(first), shown(last));
    let Some(size) = nanoseconds(&unit) else { return (unit.clone(), format!("{range}, unit `{unit}`")) };
    let seconds = clock(size);
    let long = dates::length(i64::try_from(seconds[1] - seconds[0]).unwrap_or(i64::MAX));
    let text = if dated(seconds) {
        format!(
            "{} to {} UTC, {long}; unit {unit}{how}",
            dates::words(seconds[0] as i64),
            dates::words(seconds[1] as i64)
        )
    } else {
        format!("{range}, {long}; unit {unit}")
    };
    (unit, text)
}

/// How many events share their time with another.
fn ties(log: &EventLog) -> String {
    let (mut tied, mut most) = (0, 0);
    for tick in log.time().chunk_by(|a, b| a == b) {
        most = most.max(tick.len());
        tied += if tick.len() > 1 { tick.len() } else { 0 };
    }
    if tied == 0 {
        "no two events of one time".into()
    } else {
        format!("{tied} events share their time with another, {most} at most")
    }
}
