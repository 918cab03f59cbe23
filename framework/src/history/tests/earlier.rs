//! Reads of an earlier moment while the history goes on.
use crate::history::tests::*;
use crate::{UndoLog, View};

/// A change between two batches.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// One of the earlier events is retracted.
    TakeBack(prop::sample::Index),
    /// Nodes that have been idle for this long are forgotten.
    Forget(i64),
    /// Updated memories are cached.
    Note,
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        4 => Just(Between::Nothing),
        2 => any::<prop::sample::Index>().prop_map(Between::TakeBack),
        1 => (0i64..4).prop_map(Between::Forget),
        1 => Just(Between::Note),
    ]
}

/// A history with an undo log, and a copy of it at that moment.
struct LookedAt {
    history: History,
    was: Option<(History, UndoLog)>,
}

impl LookedAt {
    fn apply(&mut self, batch: &Batch<'_>) {
        if let Some((_, earlier)) = &mut self.was {
            earlier.save_before_batch(&self.history, batch);
        }
        let update = update_for(batch, self.history.version(), self.history.needs());
        self.history.observe(batch, &update).unwrap();
    }

    fn change(&mut self, between: Between, log: &EventLog) {
        let LookedAt { history, was } = self;
        let earlier = was.as_mut().map(|(_, earlier)| earlier);
        match between {
            Between::TakeBack(which) if history.seen() > 0 => {
                let event =
                    log.batch(0..history.seen() as usize).events().nth(which.index(history.seen() as usize)).unwrap();
                earlier
                    .into_iter()
                    .for_each(|earlier| earlier.save_before_retract(history, [(event.src, event.dst)].into_iter()));
                history.retract(&[(event.id, event.src, event.dst)]);
            }
            Between::Forget(idle) if !history.needs().keeps_all() && history.seen() > 0 => {
                let nodes = history.idle_since(Timestamp(history.newest().unwrap().0 - idle), 0..NODES);
                earlier.into_iter().for_each(|earlier| earlier.save_before_forget(history, &nodes));
                history.forget(&nodes);
            }
            // Nothing of the moment that is looked back at, so that the copy has the same.
            Between::Note if earlier.is_some_and(|earlier| earlier.version() < history.version()) => {
                let nodes: Vec<NodeId> = (0..NODES).map(NodeId).collect();
                let memory = vec![0.5; nodes.len() * history.needs().memory];
                let view = View { before: Timestamp(i64::MAX), version: history.version(), ..View::default() };
                history.cache_updated(&Update { nodes, memory, mail: Vec::new() }, &view);
            }
            _ => {}
        }
    }

    /// Queries every pair, at the newest time of the saved moment and after it.
    fn look(&mut self) {
        let Some((was, earlier)) = &mut self.was else { return };
        let (stands, mut view) = (self.history.to_store(), View::default());
        for (src, dst, after) in
            (0..NODES).flat_map(|src| (0..NODES).flat_map(move |dst| [0, 1].map(|after| (src, dst, after))))
        {
            let mut queries = Queries::none();
            queries.push_pair(NodeId(src), NodeId(dst), Timestamp(was.newest().unwrap_or(ORIGIN).0 + after));
            let expected = was.view(&queries, None, chance());
            self.history.view_snapshot_into(earlier, &queries, None, chance(), &mut view);
            assert_eq!(format!("{view:?}"), format!("{expected:?}"), "{queries:?}");
            assert_eq!(self.history.to_store(), stands, "it is left as it is");
            let mut now = self.history.view(&queries, None, chance());
            if earlier.is_unchanged_in(&now, &self.history) && now.mail.memory() == expected.mail.memory() {
                (now.version, now.memory_version) = (was.version(), was.version());
                assert_eq!(format!("{now:?}"), format!("{expected:?}"), "{queries:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_look_back_shows_what_there_was_and_leaves_what_there_is(
        story in stories(),
        needs in any_needs(),
        begin in 0usize..4,
        changes in prop::collection::vec(between(), 30),
    ) {
        let mut looked_at = LookedAt { history: empty(NODES, &needs), was: None };
        looked_at.history.enable_updated_cache();
        for (i, range) in story.batches.iter().enumerate() {
            if i == begin {
                looked_at.was = Some((looked_at.history.clone(), looked_at.history.begin_undo_log()));
            }
            looked_at.change(changes[i], &story.log);
            looked_at.look();
            looked_at.apply(&story.log.batch(range.clone()));
        }
        looked_at.look();
    }
}
