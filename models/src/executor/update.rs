//! The update of a batch, from rows of its ends.

use tempograph_framework::{Queries, Update, View};

use crate::program::{MailPayload, MailRows};

/// Writes the payload of each end's mail. `row` returns a row of the roots' table.
pub(super) fn write_mail<'a>(
    said: MailPayload,
    queries: &Queries,
    view: &View,
    row: impl Fn(usize) -> &'a [f32],
    mail: &mut Vec<f32>,
) {
    mail.clear();
    let events = queries.log_positions()[queries.ends()].iter().step_by(2);
    let features = view.edge_features.as_ref().filter(|_| said.features);
    for (ends, event) in view.roots[queries.ends()].chunks_exact(2).zip(events) {
        let [src, dst] = [ends[0], ends[1]].map(|root| row(root as usize));
        // The mail of one end goes to the other.
        for [says, hears] in [[src, dst], [dst, src]] {
            match said.rows {
                MailRows::Other => mail.extend_from_slice(says),
                MailRows::Both => {
                    mail.extend_from_slice(hears);
                    mail.extend_from_slice(says);
                }
                MailRows::Sum => mail.extend(says.iter().zip(hears).map(|(a, b)| a + b)),
            }
            mail.extend(features.into_iter().flat_map(|features| features.row(event.0)));
        }
    }
}

/// Writes each end's row at its last event as its new memory. `order` is a scratch buffer.
pub(super) fn write_memories<'a>(
    queries: &Queries,
    view: &View,
    row: impl Fn(usize) -> &'a [f32],
    order: &mut Vec<usize>,
    update: &mut Update,
) {
    let nodes = queries.nodes();
    order.clear();
    order.extend(queries.ends());
    order.sort_unstable_by_key(|&root| (nodes[root], root));
    update.nodes.clear();
    update.memory.clear();
    for (i, &root) in order.iter().enumerate() {
        if order.get(i + 1).is_none_or(|&next| nodes[next] != nodes[root]) {
            update.nodes.push(nodes[root]);
            update.memory.extend_from_slice(row(view.roots[root] as usize));
        }
    }
}
