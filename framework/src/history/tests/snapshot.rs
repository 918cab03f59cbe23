//! A history stored and restored.
use crate::Store;
use crate::history::tests::*;

fn again(store: Store, needs: &Needs) -> Result<History, crate::StoreError> {
    History::from_store(store, needs.clone(), Features::default())
}

proptest! {
    #[test]
    fn a_restored_history_shows_and_does_what_the_first_would_have(story in stories(), needs in any_needs(), stop in 0usize..8) {
        let mut restored: Option<History> = None;
        let mut batches = 0;
        let end = replay(&story, &needs, |history, _, batch, _| {
            if batches == stop {
                restored = Some(again(history.to_store(), &needs).unwrap());
            }
            batches += 1;
            if let Some(restored) = &mut restored {
                let queries = everyone(batch);
                let (ours, theirs) = (restored.view(&queries, Some(batch), chance()), history.view(&queries, Some(batch), chance()));
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
                restored.observe(batch, &update_for(batch, history.version(), &needs)).unwrap();
            }
        });
        let restored = restored.unwrap_or_else(|| again(end.to_store(), &needs).unwrap());
        prop_assert_eq!(restored.to_store(), end.to_store());
        prop_assert_eq!((restored.newest(), restored.bytes()), (end.newest(), end.bytes()));
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_never_a_panic(story in stories(), needs in any_needs(), which in 0usize..64, how in 0usize..4) {
        let good = replay(&story, &needs, |_, _, _, _| ()).to_store();
        let names: Vec<String> = good.names().map(String::from).collect();
        let name = names[which % names.len()].as_str();
        let mut bad = good.clone();
        let damaged = match how {
            0 => { bad.split_off(name); true }
            1 => { bad.put(name, [0], Vec::<f32>::new()); !["memory", "pending.label", "mail.rows", "mail.weight"].contains(&name.trim_start_matches("tick.")) }
            2 => shorten(&mut bad, name),
            _ => confuse(&mut bad, name),
        };
        let answer = again(bad, &needs);
        if damaged {
            let error = answer.map(|_| ()).expect_err(name).to_string();
            // Of two arrays that disagree in length either may be the wrong one.
            prop_assert!(how == 2 || error.contains(name), "{name}: {error}");
        }
    }
}

/// Removes the last value of an array, if it has one.
fn shorten(store: &mut Store, name: &str) -> bool {
    fn pop<T: crate::Element>(store: &mut Store, name: &str) -> Option<bool> {
        let (_, mut values) = store.clone().take::<T>(name).ok()?;
        let popped = values.pop().is_some();
        store.put(name, [values.len()], values);
        Some(popped)
    }
    let of_any_kind = pop::<u32>(store, name).or_else(|| pop::<u64>(store, name)).or_else(|| pop::<i64>(store, name));
    of_any_kind.or_else(|| pop::<f32>(store, name)).unwrap()
}

/// Puts invalid numbers in: nodes that do not exist, another format, fewer events than links. Returns whether any were
/// put.
fn confuse(store: &mut Store, name: &str) -> bool {
    let links = store.clone().take::<u64>("link.event").unwrap().1.len();
    if let Ok((_, values)) = store.clone().take::<u32>(name)
        && !["pair.count", "link.outgoing"].contains(&name)
    {
        store.put(name, [values.len()], vec![NODES; values.len()]);
        return !values.is_empty();
    }
    if name == "position" || name == "degree" {
        let values = store.take::<u64>(name).unwrap().1;
        store.put(name, [values.len()], vec![0u64; values.len()]);
        return name == "position" || links > 0;
    }
    false
}

#[test]
fn features_are_not_part_of_a_snapshot() {
    let needs = Needs { neighbours: 2, layers: 1, ..Needs::nothing() };
    let log = EventLog::new(vec![NodeId(0)], vec![NodeId(1)], vec![Timestamp(0)], vec![0.0], None).unwrap();
    let mut first = History::new(2, needs.clone(), ORIGIN, features(1, 1.0));
    first.observe(&log.batch(0..1), &Update::none()).unwrap();
    let other = History::from_store(first.to_store(), needs, features(1, 2.0)).unwrap();
    let row = |history: &History| {
        history.view(&Queries::none(), None, chance()).edge_features.map(|rows| rows.row(0).to_vec())
    };
    assert_eq!((row(&first), row(&other)), (Some(vec![1.0]), Some(vec![2.0])));
    assert_eq!(first.to_store(), other.to_store());
}
