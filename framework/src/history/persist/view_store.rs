//! A view as named arrays, for checkpoints with begun batches: those that were read and are still being trained.

use std::sync::Arc;

use tempograph_kernels::{MailPlan, Neighbours};

use crate::history::view::pair_fact::{PairFact, Recency};
use crate::history::view::window::Window;
use crate::history::view::{Hop, MailView, ManyMails, View};
use crate::{Features, NodeId, Store, StoreError, Timestamp};

/// Placeholder for a missing position.
const NOWHERE: u32 = u32::MAX;

/// Placeholder for a missing time difference: real ones are never negative.
const NEVER: f32 = -1.0;

impl View {
    /// Everything the view shows except features, as arrays.
    pub fn to_store(&self) -> Store {
        let mut store = Store::default();
        store.put("version", [2], vec![self.version, self.memory_version]);
        store.put("before", [1], vec![self.before.0]);
        put(&mut store, "nodes", self.nodes.iter().map(|node| node.0).collect());
        put(&mut store, "roots", self.roots.clone());
        store_mail(&self.mail, &mut store);
        store.put("hops", [1], vec![self.hops.len() as u64]);
        for (depth, hop) in self.hops.iter().enumerate() {
            store.merge(&format!("hop.{depth}."), store_hop(hop));
        }
        store_pairs(&self.pairs, &mut store);
        store_window(&self.window, &mut store);
        if !self.walks.is_empty() {
            put(&mut store, "walks", self.walks.clone());
        }
        store
    }

    /// The view that [`to_store`](View::to_store) stored, with `features`.
    ///
    /// # Errors
    /// [`StoreError::Array`] naming an array that is missing or of another kind.
    pub fn from_store(mut store: Store, features: &Features) -> Result<View, StoreError> {
        let versions = store.take_len::<u64>("version", 2)?;
        let [version, memory_version] = [versions[0], versions[1]];
        let before = Timestamp(store.take_len::<i64>("before", 1)?[0]);
        let nodes = store.take::<u32>("nodes")?.1.into_iter().map(NodeId).collect();
        let roots = store.take::<u32>("roots")?.1;
        let mail = restore_mail(&mut store, features)?;
        let depth = store.take_len::<u64>("hops", 1)?[0];
        let hops =
            (0..depth).map(|depth| restore_hop(store.split_off(&format!("hop.{depth}.")))).collect::<Result<_, _>>()?;
        let pairs = restore_pairs(&mut store)?;
        let window = restore_window(&mut store)?;
        let walks = if store.get::<f32>("walks").is_some() { store.take("walks")?.1 } else { Vec::new() };
        let Features { edges: edge_features, nodes: node_features, static_memory } = features.clone();
        Ok(View {
            version,
            memory_version,
            before,
            nodes,
            mail,
            hops,
            roots,
            window,
            pairs,
            walks,
            edge_features,
            node_features,
            static_memory,
            ..View::default()
        })
    }
}

/// Puts an array of one axis.
fn put<T: crate::storage::store::Element>(store: &mut Store, name: &str, values: Vec<T>) {
    store.put(name, [values.len()], values);
}

fn store_mail(mail: &MailView, store: &mut Store) {
    match mail {
        MailView::Last(plan) => {
            let MailPlan { unique, memory, rows, empty, other, event, dt, .. } = &**plan;
            put(store, "mail.unique", vec![*unique as u64]);
            put(store, "mail.memory", memory.clone());
            put(store, "mail.rows", rows.clone());
            put(store, "mail.empty", empty.iter().map(|&empty| u32::from(empty)).collect());
            put(store, "mail.other", other.clone());
            put(store, "mail.event", event.clone());
            put(store, "mail.dt", dt.clone());
        }
        MailView::Many(mails) => {
            let ManyMails { unique, memory, rows, starts, other, event, dt, time } = &**mails;
            put(store, "mail.unique", vec![*unique as u64]);
            put(store, "mail.memory", memory.clone());
            put(store, "mail.rows", rows.clone());
            put(store, "mail.starts", starts.clone());
            put(store, "mail.other", other.clone());
            put(store, "mail.event", event.clone());
            put(store, "mail.dt", dt.clone());
            put(store, "mail.time", time.clone());
        }
    }
}

fn restore_mail(store: &mut Store, features: &Features) -> Result<MailView, StoreError> {
    let unique = store.take_len::<u64>("mail.unique", 1)?[0] as usize;
    let memory = store.take::<f32>("mail.memory")?.1;
    let rows = store.take::<u32>("mail.rows")?.1;
    let other = store.take::<f32>("mail.other")?.1;
    let event = store.take::<u64>("mail.event")?.1;
    let dt = store.take::<f32>("mail.dt")?.1;
    if store.names().any(|name| name == "mail.starts") {
        let starts = store.take_len::<u32>("mail.starts", rows.len() + 1)?;
        let time = store.take_len::<i64>("mail.time", event.len())?;
        return Ok(MailView::Many(Arc::new(ManyMails { unique, memory, rows, starts, other, event, dt, time })));
    }
    let empty = store.take_len::<u32>("mail.empty", rows.len())?.into_iter().map(|empty| empty != 0).collect();
    let features = features.edges.clone();
    Ok(MailView::Last(Arc::new(MailPlan { unique, memory, rows, empty, other, event, dt, features })))
}

fn store_hop(hop: &Hop) -> Store {
    let mut store = Store::default();
    let Neighbours { roots, k, count, row, event, dt } = &hop.neighbours;
    put(&mut store, "shape", vec![*roots as u64, *k as u64]);
    put(&mut store, "centres", hop.centres.clone());
    put(&mut store, "idle", hop.idle.clone());
    put(&mut store, "age", hop.age.clone());
    put(&mut store, "count", count.clone());
    put(&mut store, "row", row.clone());
    put(&mut store, "event", event.clone());
    put(&mut store, "dt", dt.clone());
    store
}

fn restore_hop(mut store: Store) -> Result<Hop, StoreError> {
    let shape = store.take_len::<u64>("shape", 2)?;
    let [roots, k] = [shape[0] as usize, shape[1] as usize];
    let neighbours = Neighbours {
        roots,
        k,
        count: store.take_len("count", roots)?,
        row: store.take_len("row", roots * k)?,
        event: store.take_len("event", roots * k)?,
        dt: store.take_len("dt", roots * k)?,
    };
    let (idle, age) = (store.take("idle")?.1, store.take("age")?.1);
    Ok(Hop { centres: store.take("centres")?.1, idle, age, neighbours })
}

fn store_pairs(pairs: &[PairFact], store: &mut Store) {
    if pairs.is_empty() {
        return;
    }
    let count = pairs.len();
    let counts = |fact: &PairFact| {
        let [of_src, of_dst] =
            [fact.in_src, fact.in_dst].map(|recency| [recency.count, recency.first.unwrap_or(NOWHERE)]);
        [fact.count, of_src[0], of_src[1], of_dst[0], of_dst[1], fact.common]
    };
    let times = |fact: &PairFact| [fact.since_last, fact.idle[0], fact.idle[1]].map(|ticks| ticks.unwrap_or(NEVER));
    store.put("pair.counts", [count, 6], pairs.iter().flat_map(counts).collect());
    store.put("pair.times", [count, 3], pairs.iter().flat_map(times).collect());
    store.put("pair.degrees", [count, 2], pairs.iter().flat_map(|fact| fact.degrees).collect());
}

fn restore_pairs(store: &mut Store) -> Result<Vec<PairFact>, StoreError> {
    if !store.names().any(|name| name == "pair.counts") {
        return Ok(Vec::new());
    }
    let counts = store.take::<u32>("pair.counts")?.1;
    let pairs = counts.len() / 6;
    let times = store.take_len::<f32>("pair.times", 3 * pairs)?;
    let degrees = store.take_len::<u64>("pair.degrees", 2 * pairs)?;
    let each = counts.chunks_exact(6).zip(times.chunks_exact(3)).zip(degrees.chunks_exact(2));
    let recency = |count: u32, first: u32| Recency { count, first: (first != NOWHERE).then_some(first) };
    let ticks = |ticks: f32| (ticks >= 0.0).then_some(ticks);
    Ok(each
        .map(|((counts, times), degrees)| PairFact {
            count: counts[0],
            since_last: ticks(times[0]),
            in_src: recency(counts[1], counts[2]),
            in_dst: recency(counts[3], counts[4]),
            common: counts[5],
            degrees: [degrees[0], degrees[1]],
            idle: [ticks(times[1]), ticks(times[2])],
        })
        .collect())
}

/// The event window, if there is one.
fn store_window(window: &Window, store: &mut Store) {
    let Window { starts, row, event, dt } = window;
    if !starts.is_empty() {
        put(store, "window.starts", starts.clone());
        put(store, "window.row", row.clone());
        put(store, "window.event", event.clone());
        put(store, "window.dt", dt.clone());
    }
}

fn restore_window(store: &mut Store) -> Result<Window, StoreError> {
    if !store.names().any(|name| name == "window.starts") {
        return Ok(Window::default());
    }
    let starts = store.take::<u32>("window.starts")?.1;
    let count = starts.last().map_or(0, |&end| end as usize);
    let row = store.take_len("window.row", count)?;
    Ok(Window { starts, row, event: store.take_len("window.event", count)?, dt: store.take_len("window.dt", count)? })
}
