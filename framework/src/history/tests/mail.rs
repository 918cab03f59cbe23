//! What a view shows of memories and mail, and what observing writes.
use crate::history::tests::*;
use crate::{MailView, View};

/// Mails of a node as (event, time since its last update, the row it carries).
type Mails = Vec<(u64, f32, Vec<f32>)>;

/// The mails of a view by node, whichever form they have: `None` for a node that is not updated.
fn mails_of(view: &View, width: usize) -> Vec<Option<Mails>> {
    let mut found = vec![None; view.nodes.len()];
    match &view.mail {
        MailView::Last(plan) => {
            for (m, &row) in plan.rows.iter().enumerate() {
                let mail = (plan.event[m], plan.dt[m], plan.other[m * width..][..width].to_vec());
                found[row as usize] = Some(if plan.empty[m] { vec![] } else { vec![mail] });
            }
        }
        MailView::Many(mails) => {
            for (m, &row) in mails.rows.iter().enumerate() {
                let of = mails.starts[m] as usize..mails.starts[m + 1] as usize;
                found[row as usize] = Some(
                    of.map(|i| (mails.event[i], mails.dt[i], mails.other[i * width..][..width].to_vec())).collect(),
                );
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn a_view_holds_the_stored_memory_and_the_mail_of_each_nodes_last_batch(story in stories(), needs in needs(Sampler::Recent)) {
        replay(&story, &needs, |history, slow, batch, _| {
            let view = history.view(&everyone(batch), Some(batch), chance());
            let slow = slow.at(view.before);
            let memory: Vec<f32> = view.nodes.iter().flat_map(|node| slow.memory[node.index()].clone()).collect();
            assert_eq!(view.mail.memory(), memory);
            for (&node, found) in view.nodes.iter().zip(mails_of(&view, said_width(&needs))) {
                let waiting = slow.waiting(node);
                let read = needs.memory > 0 && (!waiting.is_empty() || needs.mail.update_without_mail);
                let expected = read.then(|| waiting.into_iter().map(|mail| (mail.event, mail.time.since(mail.since), mail.row)).collect());
                assert_eq!(found, expected, "mail of node {node}");
            }
            if let MailView::Many(mails) = &view.mail {
                let updated = mails.rows.iter().map(|&row| view.nodes[row as usize]);
                let times: Vec<i64> = updated.flat_map(|node| slow.waiting(node)).map(|mail| mail.time.0).collect();
                assert_eq!(mails.time, times);
            }
        });
    }

    #[test]
    fn observing_writes_the_touched_memories_and_the_times_of_the_mail_they_read(story in stories(), needs in needs(Sampler::Recent)) {
        let mut batches = 0;
        let mut last = (Vec::new(), Vec::new());
        let history = replay(&story, &needs, |history, slow, batch, _| {
            assert_eq!(history.memory(), slow.memory.concat());
            assert_eq!(history.updated(), slow.updated);
            assert_eq!((history.version(), history.seen()), (batches, batch.first.0));
            batches += 1;
            last = (batch.src.to_vec(), batch.dst.to_vec());
        });
        assert_eq!((history.version(), history.seen()), (batches, story.log.len() as u64));
        for node in last.0.into_iter().chain(last.1) {
            let row = &history.memory()[node.index() * needs.memory..][..needs.memory];
            assert_eq!(row, written(node, batches - 1, needs.memory));
        }
    }
}
