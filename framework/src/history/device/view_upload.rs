//! The upload of views from host memory to a device.

use std::sync::Arc;

use tempograph_kernels::Rows;
use tempograph_kernels::cube::{DeviceView, HostHop, HostRows, HostView, NodeRows, TooLarge, ViewUploader};
use tempograph_kernels::tensor::CubeRuntime;

use crate::history::device::resident::raw;
use crate::{EventLog, History, Hop, HostFallback, MailView, NodeId, Placement, Queries, View};

/// Sends views of histories in host memory to a device, each in one upload. Constant features are on the device
/// already if they fit.
pub struct HostViewSource<R: CubeRuntime>(ViewUploader<R>);

/// Where a model on a device gets its views from.
pub trait DeviceViewSource<R: CubeRuntime>: Sized {
    /// A source for histories like `history`, which has the right needs and features, and the events of `log`.
    /// `columns` are those of the features and vectors that nodes have besides their memory; `room` is the limit in
    /// bytes of `device` for all of it.
    ///
    /// # Panics
    /// If [`Needs::on_device`](crate::Needs::on_device) is an error.
    fn new(device: &R::Device, history: &History, log: &EventLog, columns: [usize; 2], room: u64) -> Self;

    /// The features and vectors of nodes, as declared in `columns`.
    fn node_rows(&self, device: &R::Device, history: &History, columns: [usize; 2]) -> [Option<NodeRows<R>>; 2];

    /// Where the inputs of a step are.
    fn placement(&self) -> Placement;
}

impl<R: CubeRuntime> DeviceViewSource<R> for HostViewSource<R> {
    fn new(device: &R::Device, history: &History, log: &EventLog, columns: [usize; 2], room: u64) -> Self {
        let (brought, left) = remaining_bytes(history, columns, room).map_or((true, room), |left| (false, left));
        let rows = constants(history);
        let brought = brought.then(|| [0, 1].map(|i| HostRows { rows: rows[i].clone(), columns: columns[i] }));
        Self(ViewUploader::new(
            device,
            history.needs().widths(),
            (history.features.edges.clone(), log.len()),
            brought,
            left,
        ))
    }

    fn node_rows(&self, device: &R::Device, history: &History, columns: [usize; 2]) -> [Option<NodeRows<R>>; 2] {
        node_rows(device, history, columns, self.0.streams_node_rows())
    }

    fn placement(&self) -> Placement {
        Placement {
            fallback: Some(HostFallback::Viewed),
            features: self.0.features_are_resident(),
            pinned: self.0.uses_pinned_memory(),
        }
    }
}

impl<R: CubeRuntime> HostViewSource<R> {
    /// Sends a view that was read for `queries` and contains the `touched` nodes, ascending, which are marked on the
    /// device.
    ///
    /// # Panics
    /// If it does not contain them, or has several mails a node.
    pub fn send(&self, queries: &Queries, view: &View, touched: &[NodeId]) -> DeviceView<R> {
        let row = |node| {
            view.nodes.binary_search(node).unwrap_or_else(|_| unreachable!("a view has the nodes of the batch in hand"))
        };
        let rows: Vec<u32> = touched.iter().map(|node| row(node) as u32).collect();
        let MailView::Last(mail) = &view.mail else { unreachable!("a device is sent the last mail of each node") };
        let hops = view.hops.iter().rev().map(|Hop { centres, neighbours, idle, age }| HostHop {
            centres,
            neighbours,
            idle,
            age,
        });
        let hops: Vec<HostHop<'_>> = hops.collect();
        let ends = &view.roots[queries.ends()];
        self.0.send(&HostView { nodes: &raw(&view.nodes), touched: &rows, mail, hops: &hops, ends })
    }
}

/// Features and vectors of nodes in host memory.
fn constants(history: &History) -> [&Option<Arc<dyn Rows>>; 2] {
    [&history.features.nodes, &history.features.static_memory]
}

/// The bytes that are left of `room` after `columns` numbers of each node.
pub(crate) fn remaining_bytes(history: &History, columns: [usize; 2], room: u64) -> Result<u64, TooLarge> {
    let bytes = 4 * (history.nodes() * columns.iter().sum::<usize>()) as u64;
    room.checked_sub(bytes).ok_or(TooLarge { bytes, room })
}

pub(crate) fn node_rows<R: CubeRuntime>(
    device: &R::Device,
    history: &History,
    columns: [usize; 2],
    brought: bool,
) -> [Option<NodeRows<R>>; 2] {
    let rows = constants(history);
    [0, 1].map(|i| {
        let all = || match rows[i] {
            Some(rows) => NodeRows::send(device, rows.as_ref(), history.nodes()),
            None => NodeRows::zeros(device, history.nodes(), columns[i]),
        };
        (columns[i] > 0).then(|| if brought { NodeRows::streamed(columns[i]) } else { all() })
    })
}
