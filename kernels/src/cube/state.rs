//! Memories and waiting mail of all nodes on a device: reading those of some rows, and writing after a batch.
use super::neighbours::{EndSpans, Ends, since};
use super::plans::{EMPTY, MailSpans, NONE};
use super::span::{Device, Span, UNITS, units};
use super::unique::Unique;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// What mail is and who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    /// Width of a memory.
    pub(super) d: usize,
    /// Whether the other end's memory is that of the moment of reading, not of the event.
    pub(super) other_at_read: bool,
    /// Whether a node without mail reads a zero message.
    pub(super) update_without_mail: bool,
}

/// Mail that waits, at most one a node: `[N]`, and `[N, D]` memories of other ends where mail carries them.
#[derive(CubeType, CubeLaunch)]
struct Mail {
    /// [`NONE`] where nothing waits.
    event: Array<u32>,
    node: Array<u32>,
    time: Array<u32>,
    since: Array<u32>,
    other: Array<f32>,
}

/// Rows that are read: as [`MailSpans`] has them.
#[derive(CubeType, CubeLaunch)]
struct Rows {
    memory: Array<f32>,
    other: Array<f32>,
    mail_of: Array<u32>,
    rows: Array<u32>,
    dt: Array<f32>,
    feature: Array<u32>,
}

/// Every row has a mail of its own number; one that is not to be read is [`NONE`], as is the node behind the last row.
#[cube(launch)]
fn read_kernel(nodes: &Array<u32>, starts: &Array<u32>, memory: &Array<f32>, mail: &Mail, out: &mut Rows, #[comptime] rule: Rule) {
    let d = comptime!(rule.d);
    let row = ABSOLUTE_POS / d;
    let column = ABSOLUTE_POS % d;
    if row < nodes.len() {
        let exists = (row as u32) < starts[starts.len() - 1];
        let node = select(exists, nodes[row], 0u32) as usize;
        let event = mail.event[node];
        let waits = exists && event != NONE;
        let mut other = 0.0f32;
        if waits {
            if comptime!(rule.other_at_read) {
                other = memory[mail.node[node] as usize * d + column];
            } else {
                other = mail.other[node * d + column];
            }
        }
        out.memory[ABSOLUTE_POS] = select(exists, memory[node * d + column], 0.0f32);
        out.other[ABSOLUTE_POS] = other;
        if column == 0 {
            let mut mark = NONE.runtime();
            if comptime!(rule.update_without_mail) {
                mark = select(exists, row as u32 | EMPTY, NONE);
            }
            mark = select(waits, row as u32, mark);
            out.rows[row] = mark;
            out.mail_of[row] = select(mark == NONE, NONE, row as u32);
            out.dt[row] = select(waits, since(mail.time[node], mail.since[node]), 0.0f32);
            out.feature[row] = select(waits, event, 0u32);
        }
    }
}

/// 1 where an end is its node's last, from the `first` end on.
#[cube(launch)]
fn last_kernel(ends: &Ends, first: u32, last: &mut Array<u32>) {
    let j = ABSOLUTE_POS + first as usize;
    if j < ends.node.len() {
        let mut is_last = 1u32;
        for i in j + 1..ends.node.len() {
            if ends.node[i] == ends.node[j] {
                is_last = 0u32;
            }
        }
        last[ABSOLUTE_POS] = is_last;
    }
}

/// Writes the memories of the nodes touched, `rows` of `new`, and when the mail was written that they have read.
#[cube(launch)]
fn write_kernel(
    ends: &Ends,
    first: u32,
    last: &Array<u32>,
    rows: &Array<u32>,
    new: &Array<f32>,
    memory: &mut Array<f32>,
    mail: &Mail,
    updated: &mut Array<u32>,
    #[comptime] d: usize,
) {
    let j = ABSOLUTE_POS / d;
    let column = ABSOLUTE_POS % d;
    if j < last.len() && last[j] == 1 {
        let node = ends.node[first as usize + j] as usize;
        memory[node * d + column] = new[rows[j] as usize * d + column];
        if column == 0 && mail.event[node] != NONE {
            updated[node] = mail.time[node];
        }
    }
}

/// Delivers to every node touched the mail of its last event.
#[cube(launch)]
fn deliver_kernel(
    ends: &Ends,
    first: u32,
    last: &Array<u32>,
    memory: &Array<f32>,
    updated: &Array<u32>,
    mail: &mut Mail,
    #[comptime] rule: Rule,
) {
    let d = comptime!(rule.d);
    let j = ABSOLUTE_POS / d;
    let column = ABSOLUTE_POS % d;
    if j < last.len() && last[j] == 1 {
        let end = first as usize + j;
        let node = ends.node[end] as usize;
        let other = ends.other[end];
        if comptime!(!rule.other_at_read) {
            mail.other[node * d + column] = memory[other as usize * d + column];
        }
        if column == 0 {
            mail.event[node] = ends.event[end];
            mail.node[node] = other;
            mail.time[node] = ends.time[end];
            mail.since[node] = updated[node];
        }
    }
}

/// What is kept of every node apart from its neighbours.
pub(super) struct States<R: CubeRuntime> {
    /// `[N, D]`
    pub(super) memory: Span<R>,
    /// `[N]`
    pub(super) updated: Span<R>,
    /// `[N]`
    pub(super) event: Span<R>,
    pub(super) node: Span<R>,
    /// `[N]`
    pub(super) time: Span<R>,
    pub(super) since: Span<R>,
    /// `[N, D]`, or nothing where mail carries no memories.
    pub(super) other: Span<R>,
}

impl<R: CubeRuntime> States<R> {
    /// Zero memories as of time 0 and no mail.
    pub(super) fn new(device: &Device<R>, nodes: usize, rule: Rule) -> Self {
        let zeros = |len: usize| device.filled(len, 0);
        let carried = if rule.other_at_read { 0 } else { nodes * rule.d };
        Self {
            memory: zeros(nodes * rule.d),
            updated: zeros(nodes),
            event: device.filled(nodes, NONE),
            node: zeros(nodes),
            time: zeros(nodes),
            since: zeros(nodes),
            other: zeros(carried),
        }
    }

    fn mail(&self) -> MailLaunch<R> {
        MailLaunch::new(self.event.arg(), self.node.arg(), self.time.arg(), self.since.arg(), self.other.arg())
    }

    /// Memory and mail of `rows`, as the memory update reads them, with the events of the mail in place of feature rows.
    pub(super) fn read(&self, device: &Device<R>, rows: &Unique<R>, rule: Rule) -> MailSpans<R> {
        let capacity = rows.nodes.len();
        let [memory, other] = [(); 2].map(|()| device.empty(capacity * rule.d).part(0, capacity * rule.d));
        let [mail_of, marks, dt, feature] = [(); 4].map(|()| device.empty(capacity).part(0, capacity));
        let out = RowsLaunch::new(memory.arg(), other.arg(), mail_of.arg(), marks.arg(), dt.arg(), feature.arg());
        let (count, dim) = (units(capacity * rule.d), CubeDim::new_1d(UNITS));
        let (nodes, starts) = (rows.nodes.arg(), rows.starts.arg());
        read_kernel::launch::<R>(&device.client, count, dim, nodes, starts, self.memory.arg(), self.mail(), out, rule);
        MailSpans { memory, other, mail_of, rows: marks, dt, feature, table: device.empty(0).part(0, 0) }
    }

    /// After the events whose ends begin at `first`: new memories, which are `rows` of `new`, and new mail.
    pub(super) fn write(&self, device: &Device<R>, ends: &EndSpans<R>, first: usize, rows: &Span<R>, new: &Span<R>, rule: Rule) {
        let touched = ends.node.len() - first;
        let last = device.empty(touched).part(0, touched);
        let (client, dim, first) = (&device.client, CubeDim::new_1d(UNITS), first as u32);
        last_kernel::launch::<R>(client, units(touched), dim, ends.arg(), first, last.arg());
        write_kernel::launch::<R>(
            client,
            units(touched * rule.d),
            dim,
            ends.arg(),
            first,
            last.arg(),
            rows.arg(),
            new.arg(),
            self.memory.arg(),
            self.mail(),
            self.updated.arg(),
            rule.d,
        );
        let (memory, updated) = (self.memory.arg(), self.updated.arg());
        deliver_kernel::launch::<R>(
            client,
            units(touched * rule.d),
            dim,
            ends.arg(),
            first,
            last.arg(),
            memory,
            updated,
            self.mail(),
            rule,
        );
    }
}
