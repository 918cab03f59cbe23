//! What has happened, kept on a device: node memories, waiting mail, recent neighbours and edge features.
//!
//! A step sends what is asked and what happens in one transfer, and waits for nothing: how many distinct nodes there are stays on the device,
//! where every array has room for as many as there can be.
use super::grouping::group;
use super::neighbours::{EndSpans, Lookup, Rings, look};
use super::plans::{AttentionSpans, MailSpans};
use super::span::{Device, Parcel, Places, Span};
use super::state::{Rule, States};
use super::unique::unique;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

/// What a history on a device keeps and how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRules {
    /// Width of a node's memory, at least 1.
    pub memory: usize,
    /// Neighbours of a root, at least 1: the most recent ones.
    pub neighbours: usize,
    /// Whether a message has the other end's memory as it is when the mail is read, and not as it was at the event.
    pub other_at_read: bool,
    /// Whether nodes without mail go through the updater with a zero message.
    pub update_without_mail: bool,
    /// Whether a neighbour's time difference is to its last memory update, and not to the query.
    pub since_update: bool,
}

/// Events in the order of the log.
#[derive(Clone, Copy, Debug)]
pub struct DeviceEvents<'a> {
    /// `[B]`
    pub src: &'a [u32],
    /// `[B]`
    pub dst: &'a [u32],
    /// `[B]` ticks, ascending.
    pub time: &'a [i64],
    /// Number of the first event in the log.
    pub first: u64,
}

/// Who is asked about.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRoots<'a> {
    /// `[R]`
    pub node: &'a [u32],
    /// `[R]` ticks.
    pub time: &'a [i64],
    /// `[R]` where given, events of the root's very time are seen as well if they stand before this place in the log.
    pub place: Option<&'a [u64]>,
    /// Whether events of the batch in hand are seen.
    pub sees_batch: bool,
}

/// Node memories, mail, recent neighbours and edge features on a device.
pub struct DeviceHistory<R: CubeRuntime> {
    device: Device<R>,
    nodes: usize,
    origin: i64,
    rules: DeviceRules,
    states: States<R>,
    rings: Rings<R>,
    /// `[N]` working memory.
    first: Span<R>,
    /// Edge features by event, `[events, E]`.
    table: Span<R>,
    edge_width: usize,
    /// Ends of the events of the newest tick, which have not settled into the rings.
    pending: Vec<End>,
}

/// An event as one of its ends sees it.
#[derive(Clone, Copy, Debug)]
struct End {
    node: u32,
    other: u32,
    time: u32,
    event: u32,
}

/// The past of some roots, as it lies on the device.
pub struct DevicePast<R: CubeRuntime> {
    /// Most rows there can be.
    pub(super) capacity: usize,
    /// Slots of a root.
    pub(super) neighbours: usize,
    /// Columns of edge features.
    pub(super) edge_width: usize,
    /// `[P + 1]`, the number of rows last.
    starts: Span<R>,
    nodes: Span<R>,
    /// `[R]`
    pub(super) root_rows: Span<R>,
    /// Rows of the ends of the batch in hand.
    touched_rows: Span<R>,
    pub(super) mail: MailSpans<R>,
    pub(super) attention: AttentionSpans<R>,
    ends: EndSpans<R>,
    all_ends: Vec<End>,
    unsettled: usize,
}

/// The mail of a node, copied to the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostMail {
    /// Whether the message is the zero vector; then the rest means nothing.
    pub empty: bool,
    /// Its event.
    pub event: u32,
    /// Time from the receiver's last update to the event.
    pub dt: f32,
    /// Memory of the other end, `[D]`.
    pub other: Vec<f32>,
}

/// [`DevicePast`] copied to the host: what tests look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostPast {
    /// `[U]` the node of every row, as first named.
    pub nodes: Vec<u32>,
    /// `[U, D]`
    pub memory: Vec<f32>,
    /// `[U]` what every row reads, if anything.
    pub mail: Vec<Option<HostMail>>,
    /// `[R]` row of every root.
    pub roots: Vec<u32>,
    /// `[R]` for every root its neighbours, newest first: row, event and time difference.
    pub neighbours: Vec<Vec<(u32, u32, f32)>>,
    /// `[U]` for every row the slots that name it.
    pub slots: Vec<Vec<u32>>,
}

impl<R: CubeRuntime> DeviceHistory<R> {
    /// An empty history of `nodes` nodes. `origin` is the time memories count from; `features` `[events, E]` are the edge features of all events
    /// to come, and `E`.
    ///
    /// # Panics
    /// Where `rules` ask for no memory or no neighbours.
    pub fn new(device: &R::Device, nodes: usize, origin: i64, rules: DeviceRules, (features, edge_width): (&[f32], usize)) -> Self {
        assert!(rules.memory > 0 && rules.neighbours > 0, "a history on a device keeps memories and neighbours");
        let device = Device { client: R::client(device), device: device.clone() };
        let slots = nodes * rules.neighbours;
        let mut parcel = Parcel::default();
        parcel.floats(features.iter().copied());
        Self {
            nodes,
            origin,
            rules,
            states: States::new(&device, nodes, rules.rule()),
            rings: Rings {
                degree: device.filled(nodes, 0),
                node: device.filled(slots, 0),
                time: device.filled(slots, 0),
                event: device.filled(slots, 0),
            },
            first: device.filled(nodes, 0),
            table: device.send(parcel),
            edge_width,
            pending: Vec::new(),
            device,
        }
    }

    /// Reads the past of `roots` while `during` is in hand. Nothing is waited for.
    ///
    /// # Panics
    /// Where a node is not below the number of nodes, or a time is further than `2^31` ticks from the origin.
    pub fn look(&self, roots: &DeviceRoots<'_>, during: &DeviceEvents<'_>) -> DevicePast<R> {
        let mut ends = self.pending.clone();
        let unsettled = ends.len();
        ends.extend(self.ends(during));
        assert!(
            roots.node.iter().chain(ends.iter().map(|end| &end.node)).all(|&node| (node as usize) < self.nodes),
            "a node is not below {}",
            self.nodes
        );
        let (count, k) = (roots.node.len(), self.rules.neighbours);
        let touched = ends.len() - unsettled;
        let skipped = count + touched;
        let names = skipped + count * k;

        let mut parcel = Parcel::default();
        parcel.integers(ends.iter().map(|end| end.node));
        parcel.integers(ends.iter().map(|end| end.other));
        parcel.integers(ends.iter().map(|end| end.time));
        parcel.integers(ends.iter().map(|end| end.event));
        parcel.integers(roots.time.iter().map(|&time| self.tick(time)));
        parcel.integers((0..count).map(|root| roots.place.map_or(0, |place| u32::try_from(place[root]).unwrap_or(u32::MAX))));
        // the slots are filled in on the device
        let named = roots.node.iter().copied().chain(ends[unsettled..].iter().map(|end| end.node));
        parcel.integers(named.chain(std::iter::repeat_n(0, count * k)));
        let sent = self.device.send(parcel);
        let mut places = Places::default();
        let mut next = |len: usize| sent.part(places.next(len), len);
        let spans = EndSpans { node: next(ends.len()), other: next(ends.len()), time: next(ends.len()), event: next(ends.len()) };
        let [time, place, named] = [count, count, names].map(next);

        let [found, event, dt] = [count, count * k, count * k].map(|len| self.device.empty(len).part(0, len));
        if count > 0 {
            let visible = if roots.sees_batch { ends.len() } else { unsettled };
            let clock = [&self.states.updated, &self.states.event, &self.states.time];
            let lookup = Lookup { k, since_update: self.rules.since_update };
            let roots = [&named.part(0, count), &time, &place];
            look(&self.device, roots, &spans, visible, &self.rings, clock, [&found, &named, &event, &dt], skipped, lookup);
        }
        self.assemble(Looked { ends: spans, all_ends: ends, unsettled, named, skipped, found, event, dt })
    }

    /// Gives distinct nodes a row each, reads their state, and groups the slots by row.
    fn assemble(&self, looked: Looked<R>) -> DevicePast<R> {
        let Looked { ends, all_ends, unsettled, named, skipped, found, event, dt } = looked;
        let capacity = named.len().min(self.nodes);
        let (roots, k) = (found.len(), self.rules.neighbours);
        let rows = unique(&self.device, &named, &self.first, capacity);
        let mail = self.states.read(&self.device, &rows, &self.table, self.rules.rule());
        let part = |start: usize, end: usize| self.device.copied(&rows.rows, start, end - start);
        let [root_rows, touched_rows, slots] = [(0, roots), (roots, skipped), (skipped, named.len())].map(|(start, end)| part(start, end));
        let groups = group(&self.device, &slots, capacity);
        let attention = AttentionSpans { count: found, row: slots, dt, groups, feature: event, table: self.table.clone() };
        DevicePast {
            capacity,
            neighbours: k,
            edge_width: self.edge_width,
            starts: rows.starts,
            nodes: rows.nodes,
            root_rows,
            touched_rows,
            mail,
            attention,
            ends,
            all_ends,
            unsettled,
        }
    }

    /// Lets the batch happen that `past` was read for. `memory` `[rows, D]` are the rows' new memories. Nothing is waited for.
    ///
    /// # Panics
    /// Where `memory` has not a row for each of the past's.
    pub fn observe<B: Backend<FloatTensorPrimitive = CubeTensor<R>>>(&mut self, past: &DevicePast<R>, memory: Tensor<B, 2>) {
        assert_eq!(memory.dims(), [past.capacity, self.rules.memory], "new memories");
        let new = self.device.span(&memory.into_primitive().tensor());
        if past.touched_rows.len() > 0 {
            self.states.write(&self.device, &past.ends, past.unsettled, &past.touched_rows, &new, self.rules.rule());
        }
        let newest = past.all_ends.last().map(|end| end.time);
        let settled = past.all_ends.partition_point(|end| Some(end.time) != newest);
        self.rings.insert(&self.device, &past.ends, settled, self.rules.neighbours);
        self.pending = past.all_ends[settled..].to_vec();
    }

    /// All stored memories, `[N, D]`. Waits for the device.
    pub fn memory(&self) -> Vec<f32> {
        self.device.floats(&self.states.memory)
    }

    /// A tensor of the rows' stored memories, `[rows, D]`.
    pub fn memory_of<B: Backend<FloatTensorPrimitive = CubeTensor<R>>>(&self, past: &DevicePast<R>) -> Tensor<B, 2> {
        let tensor = self.device.tensor(&past.mail.memory, [past.capacity, self.rules.memory]);
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    /// Copies a past to the host. Waits for the device.
    pub fn fetch(&self, past: &DevicePast<R>) -> HostPast {
        let (integers, floats) = (|span: &Span<R>| self.device.integers(span), |span: &Span<R>| self.device.floats(span));
        let (d, k) = (self.rules.memory, self.rules.neighbours);
        let unique = *integers(&past.starts).last().expect("the number of rows") as usize;
        let (marks, events, times, others) =
            (integers(&past.mail.rows), integers(&past.mail.feature), floats(&past.mail.dt), floats(&past.mail.other));
        let mail = |row: usize| {
            let other = others[row * d..][..d].to_vec();
            let empty = marks[row] & super::plans::EMPTY != 0;
            (marks[row] != super::plans::NONE).then(|| HostMail { empty, event: events[row], dt: times[row], other })
        };
        let (rows, counts, event, dt) =
            (integers(&past.attention.row), integers(&past.attention.count), integers(&past.attention.feature), floats(&past.attention.dt));
        let neighbour = |slot: usize| (rows[slot], event[slot], dt[slot]);
        let [starts, slots] = past.attention.groups.each_ref().map(integers);
        HostPast {
            nodes: integers(&past.nodes)[..unique].to_vec(),
            memory: floats(&past.mail.memory)[..unique * d].to_vec(),
            mail: (0..unique).map(mail).collect(),
            roots: integers(&past.root_rows),
            neighbours: (0..counts.len()).map(|root| (root * k..root * k + counts[root] as usize).map(neighbour).collect()).collect(),
            slots: (0..unique).map(|row| slots[starts[row] as usize..starts[row + 1] as usize].to_vec()).collect(),
        }
    }

    fn tick(&self, time: i64) -> u32 {
        let ticks = time - self.origin;
        assert!((0..1 << 31).contains(&ticks), "time {time} is not within 2^31 ticks after {}", self.origin);
        ticks as u32
    }

    /// Both ends of every event; a self-loop is one event of its node.
    fn ends(&self, events: &DeviceEvents<'_>) -> impl Iterator<Item = End> {
        (0..events.src.len()).flat_map(move |i| {
            let event = u32::try_from(events.first + i as u64).expect("fewer than 2^32 events");
            let (src, dst, time) = (events.src[i], events.dst[i], self.tick(events.time[i]));
            let from = End { node: src, other: dst, time, event };
            std::iter::once(from).chain((src != dst).then_some(End { node: dst, other: src, ..from }))
        })
    }
}

/// What a lookup found, not yet by row.
struct Looked<R: CubeRuntime> {
    ends: EndSpans<R>,
    all_ends: Vec<End>,
    unsettled: usize,
    named: Span<R>,
    skipped: usize,
    found: Span<R>,
    event: Span<R>,
    dt: Span<R>,
}

impl DeviceRules {
    fn rule(&self) -> Rule {
        Rule { d: self.memory, other_at_read: self.other_at_read, update_without_mail: self.update_without_mail }
    }
}
