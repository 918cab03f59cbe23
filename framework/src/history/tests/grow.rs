//! Growing the tables for nodes that come later.
use crate::history::tests::*;

proptest! {
    #[test]
    fn a_history_that_grew_is_one_that_had_room_from_the_start(story in stories(), needs in any_needs()) {
        let mut grown = empty(0, &needs);
        let mut room = 0;
        let whole = replay(&story, &needs, |history, _, batch, _| {
            let touched = batch.src.iter().chain(batch.dst).map(|node| node.index() + 1).max().unwrap();
            room = room.max(touched);
            grown.grow(touched);
            assert_eq!(grown.nodes(), room, "growing never shrinks");
            let asked = Queries::of_batch(batch, &[], &vec![0; batch.len() + 1]);
            let (theirs, ours) = (history.view(&asked, Some(batch), chance()), grown.view(&asked, Some(batch), chance()));
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
            grown.observe(batch, &update_for(batch, history.version(), &needs)).unwrap();
        });
        grown.grow(NODES as usize);
        prop_assert_eq!(grown.to_store(), whole.to_store());
        prop_assert_eq!(grown.bytes(), whole.bytes());
    }
}
