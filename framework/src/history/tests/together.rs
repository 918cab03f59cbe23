//! A history that several processes share; here the processes are several maps of one memory.
#![cfg(target_os = "linux")]
use crate::SharedMemory;
use crate::history::tests::*;

/// An empty history among several, attached to the log in `follows` if there is one.
fn blank(needs: &Needs, follows: Option<&EventLog>) -> History {
    let mut history = empty(0, needs);
    if let Some(log) = follows {
        history.attach_log(log, 1 << 40);
    }
    history
}

/// `count` histories in one arena; with `keep` the first copies its values there.
fn several(count: usize, first: &SharedMemory, make: impl Fn() -> History, keep: bool) -> Vec<History> {
    let address = first.address().unwrap();
    let enter = |i: usize| {
        let shared = SharedMemory::open(&address).unwrap();
        let mut history = make();
        // SAFETY: one thread writes and reads.
        history.move_to_shared(unsafe { shared.arena() }, NODES as usize, keep && i == 0);
        history
    };
    (0..count).map(enter).collect()
}

proptest! {
    #[test]
    fn histories_in_one_room_are_one_history_whoever_writes(
        story in stories(), needs in any_needs(), follows: bool, count in 1usize..4, turns in prop::collection::vec(0usize..3, 60), restart in 0usize..20,
    ) {
        let make = || blank(&needs, follows.then_some(&story.log));
        let shared = SharedMemory::zeros(make().needed(NODES as usize)).unwrap();
        let mut all = several(count, &shared, make, false);
        all[0].reset();
        let mut alone = empty(NODES, &needs);
        // Part of the log, and after a reset all of it.
        let part = restart.min(story.batches.len());
        for (at, range) in story.batches[..part].iter().chain(&story.batches).enumerate() {
            let (batch, writer) = (story.log.batch(range.clone()), turns[at] % count);
            if at == part {
                alone.reset();
                all[writer].reset();
                (0..count).filter(|&i| i != writer).for_each(|i| all[i].reset_local());
            }
            let update = update_for(&batch, alone.version(), &needs);
            alone.observe(&batch, &update).unwrap();
            (0..count).filter(|&i| i != writer).for_each(|i| all[i].expect_remote(&batch).unwrap());
            all[writer].observe(&batch, &update).unwrap();
            let mail = if all[writer].needs_remote_mail() { &update.mail[..] } else { &[] };
            (0..count).filter(|&i| i != writer).for_each(|i| all[i].apply_remote(&batch, mail).unwrap());
            let queries = everyone(&batch);
            let expected = format!("{:?}", alone.view(&queries, Some(&batch), chance()));
            for history in &all {
                prop_assert_eq!(history.to_store(), alone.to_store());
                prop_assert_eq!(&format!("{:?}", history.view(&queries, Some(&batch), chance())), &expected);
            }
        }
    }

    #[test]
    fn a_restored_history_enters_a_room_with_what_it_holds_and_clones_of_it_are_its_own(story in stories(), needs in any_needs(), follows: bool) {
        let end = replay(&story, &needs, |_, _, _, _| ());
        let make = || {
            let mut stated = History::from_store(end.to_store(), needs.clone(), Features::default()).unwrap();
            if follows {
                stated.attach_log(&story.log, 1 << 40);
            }
            stated
        };
        let needed = make().needed(NODES as usize);
        prop_assert!(!follows || needed == blank(&needs, Some(&story.log)).needed(NODES as usize), "it keeps what an empty one keeps");
        let shared = SharedMemory::zeros(needed).unwrap();
        let mut all = several(2, &shared, make, true);
        prop_assert_eq!(all[1].to_store(), end.to_store());
        let copy = all[1].clone();
        all[0].reset();
        all[1].reset_local();
        prop_assert_eq!(all[1].to_store(), empty(NODES, &needs).to_store());
        prop_assert_eq!(copy.to_store(), end.to_store());
    }
}
