//! From the events of a source to a dataset: sorted by time, nodes renumbered, features in the same order.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tempograph_kernels::Rows;

use crate::dataset::prepare::common::columns::RawEvents;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::PrepareOptions;
use crate::dataset::{Dataset, DatasetContent, IdMap, Sides, Table, TimeUnit};
use crate::{EventLog, NodeId};

/// The output of a format's reader.
pub(crate) struct RawSource {
    pub(crate) events: RawEvents,
    /// Features of the events, if there are any.
    pub(crate) features: Option<Features>,
    /// Features of the nodes: row `i` is of the node with the own id `i`.
    pub(crate) node_features: Option<NodeRows>,
    pub(crate) id_space: IdSpace,
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
}

/// Whether equal ids of a source and a destination mean one node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdSpace {
    /// They do; the set is bipartite if no id is on both sides.
    Shared,
    /// They do not: user 7 and item 7 are two nodes.
    Separate,
}

/// A set's name, and the unit of its times.
pub(crate) struct DatasetInfo {
    pub(crate) name: String,
    pub(crate) time_unit: String,
}

pub(crate) fn assemble(
    raw: RawSource,
    file: &Path,
    source: &Path,
    about: DatasetInfo,
    options: &PrepareOptions,
) -> Result<Dataset, PrepareError> {
    let RawSource { mut events, features, node_features, id_space, mut notices } = raw;
    if events.len() == 0 {
        return Err(PrepareError::file(file, "there are no events"));
    }
    notices.extend(events.times.notices());
    let scale = events.times.scale();
    let order = time_order(&events, file, options.strict, &mut notices)?;
    let features = event_features(&mut events, features, order.as_deref(), &mut notices)?;
    let nodes = Nodes::number(&events, id_space, options.bipartite).map_err(|fact| PrepareError::file(file, fact))?;
    let node_features = node_features.map(|rows| nodes.features(rows, &mut notices)).transpose()?.flatten();
    let RawEvents { src, dst, times, mut label, .. } = events;
    label.resize(src.len(), 0.0);
    let log = EventLog::new(
        ordered(src.iter().map(|&id| nodes.source(id)).collect(), order.as_deref()),
        ordered(dst.iter().map(|&id| nodes.destination(id)).collect(), order.as_deref()),
        ordered(times.into_ticks(), order.as_deref()),
        ordered(label, order.as_deref()),
        features,
    )
    .map_err(|error| PrepareError::file(file, error.to_string()))?;
    Ok(Dataset::new(DatasetContent {
        name: about.name,
        log,
        time_unit: TimeUnit { description: about.time_unit, scale },
        node_features,
        ids: nodes.into_ids(),
        source: source.display().to_string(),
        notices,
    })?)
}

/// The stable order of the events by time; `None` if they are sorted.
fn time_order(
    events: &RawEvents,
    file: &Path,
    strict: bool,
    notices: &mut Vec<String>,
) -> Result<Option<Vec<usize>>, PrepareError> {
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
        "{count} of {all} events, the first in row {row}, were earlier than one before them: sorted by time, ties in the order of the file"
    ));
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|&event| events.times.ticks()[event]);
    Ok(Some(order))
}

fn ordered<T: Copy>(values: Vec<T>, order: Option<&[usize]>) -> Vec<T> {
    match order {
        Some(order) => order.iter().map(|&event| values[event]).collect(),
        None => values,
    }
}

/// The features in the order of the log, unless they carry no information.
fn event_features(
    events: &mut RawEvents,
    features: Option<Features>,
    order: Option<&[usize]>,
    notices: &mut Vec<String>,
) -> Result<Option<Arc<dyn Rows>>, PrepareError> {
    let Some(Features { table, indexed }) = features else { return Ok(None) };
    if is_all_zero(&table) {
        notices.push(format!("the {} edge features are all zero and were dropped", table.width()));
        return Ok(None);
    }
    let index = std::mem::take(&mut events.index);
    let identity = order.is_none()
        && (!indexed || (table.rows() == index.len() && index.iter().enumerate().all(|(i, &row)| row == i as u64)));
    if identity {
        return Ok(Some(Arc::new(table)));
    }
    let event = |i: usize| order.map_or(i, |order| order[i]);
    let row = |i: usize| if indexed { index[event(i)] } else { event(i) as u64 };
    Ok(Some(Arc::new(gather(&table, (0..events.len()).map(row)))))
}

fn is_all_zero(table: &Table) -> bool {
    table.values().iter().all(|&value| value == 0.0)
}

fn gather(table: &Table, rows: impl Iterator<Item = u64>) -> Table {
    let values = rows.flat_map(|row| table.row(row)).copied().collect();
    Table::new(values, table.width()).expect("whole rows were gathered")
}

/// The nodes of a source: dense numbers in ascending order of own id, sources before destinations when they are apart.
struct Nodes {
    sources: Numbering,
    /// Their own numbering when the set is bipartite.
    destinations: Option<Numbering>,
}

impl Nodes {
    fn number(events: &RawEvents, id_space: IdSpace, bipartite: Option<bool>) -> Result<Self, String> {
        let apart = bipartite.unwrap_or_else(|| id_space == IdSpace::Separate || disjoint(&events.src, &events.dst));
        let (sources, destinations) = if apart {
            (Numbering::of(events.src.iter()), Some(Numbering::of(events.dst.iter())))
        } else {
            (Numbering::of(events.src.iter().chain(&events.dst)), None)
        };
        let nodes = sources.own.len() + destinations.as_ref().map_or(0, |side| side.own.len());
        if nodes > u32::MAX as usize {
            return Err(format!("{nodes} nodes are more than 32 bits number"));
        }
        Ok(Self { sources, destinations })
    }

    fn source(&self, id: u64) -> NodeId {
        NodeId(self.sources.number(id) as u32)
    }

    fn destination(&self, id: u64) -> NodeId {
        match &self.destinations {
            Some(side) => NodeId((self.sources.own.len() + side.number(id)) as u32),
            None => self.source(id),
        }
    }

    fn own(&self) -> impl Iterator<Item = u64> {
        self.sources.own.iter().chain(self.destinations.iter().flat_map(|side| &side.own)).copied()
    }

    fn into_ids(self) -> IdMap {
        let sides =
            self.destinations.as_ref().map_or(Sides::OneMode, |_| Sides::Bipartite { sources: self.sources.own.len() });
        IdMap::new(self.own().collect(), sides)
    }

    /// Node features by dense number, unless they carry no information.
    fn features(&self, rows: NodeRows, notices: &mut Vec<String>) -> Result<Option<Table>, PrepareError> {
        let NodeRows { table, path, padded } = rows;
        if is_all_zero(&table) {
            notices.push(format!("the {} node features are all zero and were dropped", table.width()));
            return Ok(None);
        }
        if let Some(id) = self.own().find(|&id| id >= table.rows() as u64) {
            return Err(PrepareError::file(&path, format!("{} rows, but node {id} appears in an event", table.rows())));
        }
        let distinct = self.own().collect::<HashSet<_>>().len();
        if distinct < self.own().count() {
            return Err(PrepareError::file(
                &path,
                "sources and destinations share ids, so a row cannot be told to be of one or the other",
            ));
        }
        let idle = table.rows() - usize::from(padded) - distinct;
        if idle > 0 {
            notices.push(format!("{idle} rows of node features belong to nodes without events and were dropped"));
        }
        if self.own().eq(0..table.rows() as u64) {
            return Ok(Some(table));
        }
        Ok(Some(gather(&table, self.own())))
    }
}

fn disjoint(src: &[u64], dst: &[u64]) -> bool {
    let (sources, destinations) = (Numbering::of(src.iter()), Numbering::of(dst.iter()));
    let (mut left, mut right) = (sources.own.iter().peekable(), destinations.own.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        match a.cmp(b) {
            std::cmp::Ordering::Less => left.next(),
            std::cmp::Ordering::Greater => right.next(),
            std::cmp::Ordering::Equal => return false,
        };
    }
    true
}

/// Distinct ids in ascending order, and the map from an id to its position.
struct Numbering {
    own: Vec<u64>,
    /// Position by id, where ids are dense enough for a table.
    places: Option<Vec<u32>>,
}

impl Numbering {
    /// A table of positions may be this many times longer than the column of ids it is for, or this long in any case.
    const SPARSE: usize = 8;
    const SMALL: usize = 1 << 20;

    fn of<'a>(ids: impl Iterator<Item = &'a u64> + Clone) -> Self {
        let (count, highest) = ids.clone().fold((0, 0), |(count, highest), &id| (count + 1, id.max(highest)));
        if highest >= (count * Self::SPARSE).max(Self::SMALL) as u64 {
            let mut own: Vec<u64> = ids.copied().collect();
            own.sort_unstable();
            own.dedup();
            return Self { own, places: None };
        }
        let mut places = vec![u32::MAX; highest as usize + 1];
        ids.for_each(|&id| places[id as usize] = 0);
        let own: Vec<u64> = (0..=highest).filter(|&id| places[id as usize] == 0).collect();
        own.iter().zip(0..).for_each(|(&id, place)| places[id as usize] = place);
        Self { own, places: Some(places) }
    }

    /// Position of an id that is in the table.
    fn number(&self, id: u64) -> usize {
        match &self.places {
            Some(places) => places[id as usize] as usize,
            None => self.own.partition_point(|&own| own < id),
        }
    }
}
