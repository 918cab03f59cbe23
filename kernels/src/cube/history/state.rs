//! Memories and waiting mail of all nodes on a device, and reading those of some rows.
use crate::cube::history::neighbours::since;
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, units};
use crate::cube::launch::plans::{EMPTY, MailBuffers, NONE};
use crate::cube::launch::unique::Unique;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// The settings of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MailConfig {
    /// Width of a memory.
    pub(crate) d: usize,
    /// Width of a mail's payload.
    pub(crate) mail_width: usize,
    /// Whether the payload is given, and is not the other end's memory.
    pub(crate) given: bool,
    /// Whether the other end's memory is read with the mail, and not stored at the event.
    pub(crate) other_at_read: bool,
    /// Whether a node without mail reads a zero message.
    pub(crate) update_without_mail: bool,
}

impl MailConfig {
    /// Columns of a row that a kernel visits: those of a memory, those of a mail, and one for the counts by row.
    pub(crate) fn width(&self) -> usize {
        self.d.max(self.mail_width).max(1)
    }
}

/// Waiting mail, at most one per node: `[N]`, and payloads `[N, said]` if mail carries any.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Mail {
    /// [`NONE`] if no mail waits.
    pub(crate) event: Array<u32>,
    pub(crate) node: Array<u32>,
    pub(crate) time: Array<u32>,
    pub(crate) since: Array<u32>,
    pub(crate) other: Array<f32>,
}

/// The rows to read, in the form of [`MailBuffers`].
#[derive(CubeType, CubeLaunch)]
struct Rows {
    memory: Array<f32>,
    other: Array<f32>,
    mail_of: Array<u32>,
    rows: Array<u32>,
    dt: Array<f32>,
    feature: Array<u32>,
}

/// The mail of a row has the row's index. If it is not read, it is [`NONE`], and so is the node after the last row. The
/// claims on the rows' nodes are cleared.
#[allow(clippy::collapsible_if, reason = "the outer condition is the compiler's, the inner one the device's")]
#[cube(launch)]
fn read_kernel(
    nodes: &Array<u32>,
    starts: &Array<u32>,
    memory: &Array<f32>,
    mail: &Mail,
    out: &mut Rows,
    first: &mut Array<u32>,
    #[comptime] rule: MailConfig,
) {
    let d = comptime!(rule.d);
    let said = comptime!(rule.mail_width);
    let row = ABSOLUTE_POS / comptime!(rule.width());
    let column = ABSOLUTE_POS % comptime!(rule.width());
    if row < nodes.len() {
        let exists = (row as u32) < starts[starts.len() - 1];
        let node = select(exists, nodes[row], 0u32) as usize;
        let event = mail.event[node];
        let waits = comptime!(rule.d > 0) && exists && event != NONE;
        if comptime!(rule.mail_width > 0) {
            if column < said {
                let mut other = 0.0f32;
                if waits {
                    if comptime!(rule.other_at_read) {
                        other = memory[mail.node[node] as usize * d + column];
                    } else {
                        other = mail.other[node * said + column];
                    }
                }
                out.other[row * said + column] = other;
            }
        }
        if comptime!(rule.d > 0) {
            if column < d {
                out.memory[row * d + column] = select(exists, memory[node * d + column], 0.0f32);
            }
        }
        if column == 0 {
            if exists {
                first[node] = NONE.runtime();
            }
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

/// The state of every node, except its neighbours.
pub(crate) struct NodeStates<R: CubeRuntime> {
    /// `[N, D]`
    pub(crate) memory: DeviceBuffer<R>,
    /// `[N]`
    pub(crate) updated: DeviceBuffer<R>,
    /// `[N]`
    pub(crate) event: DeviceBuffer<R>,
    pub(crate) node: DeviceBuffer<R>,
    /// `[N]`
    pub(crate) time: DeviceBuffer<R>,
    pub(crate) since: DeviceBuffer<R>,
    /// `[N, said]`, or empty if mail has no payload.
    pub(crate) other: DeviceBuffer<R>,
}

impl<R: CubeRuntime> NodeStates<R> {
    /// Zero memories as of time 0 and no mail.
    pub(crate) fn new(device: &Device<R>, nodes: usize, rule: MailConfig) -> Self {
        let zeros = |len: usize| device.filled(len, 0);
        let carried = if rule.other_at_read { 0 } else { nodes * rule.mail_width };
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

    pub(crate) fn mail(&self) -> MailLaunch<R> {
        MailLaunch::new(self.event.arg(), self.node.arg(), self.time.arg(), self.since.arg(), self.other.arg())
    }

    /// Memory and mail of `rows`, in the form the memory update reads, with the events of the mail instead of feature
    /// rows. Clears the claims on the rows' nodes in `first` `[N]`.
    pub(crate) fn read(
        &self,
        device: &Device<R>,
        rows: &Unique<R>,
        first: &DeviceBuffer<R>,
        rule: MailConfig,
    ) -> MailBuffers<R> {
        let capacity = rows.nodes.len();
        let [memory, other] =
            [rule.d, rule.mail_width].map(|width| device.empty(capacity * width).part(0, capacity * width));
        let [mail_of, marks, dt, feature] = [(); 4].map(|()| device.empty(capacity).part(0, capacity));
        let out = RowsLaunch::new(memory.arg(), other.arg(), mail_of.arg(), marks.arg(), dt.arg(), feature.arg());
        let (count, dim) = (units(capacity * rule.width()), CubeDim::new_1d(UNITS));
        let (nodes, starts, all) = (rows.nodes.arg(), rows.starts.arg(), self.memory.arg());
        read_kernel::launch::<R>(&device.client, count, dim, nodes, starts, all, self.mail(), out, first.arg(), rule);
        MailBuffers { memory, other, mail_of, rows: marks, dt, feature, table: device.empty(0).part(0, 0) }
    }
}
