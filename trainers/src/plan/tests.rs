//! Compares the plan with the rules in words, for all small plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::timetable;
use crate::{Lane, LaneTask, Plan};

/// Plans of up to four in each way, with every number of global batches that is enough for its histories.
fn worlds() -> impl Iterator<Item = (Plan, usize)> {
    let axis = 1..=4usize;
    let plans = axis.clone().flat_map(move |minibatch| {
        let axis = axis.clone();
        axis.clone().flat_map(move |epoch| axis.clone().map(move |memory| Plan { minibatch, epoch, memory }))
    });
    plans.flat_map(|plan| (plan.memory..=9).map(move |batches| (plan, batches)))
}

/// Simulates the epoch lanes of one history. A lane without work, or done with its batch, takes the history's next
/// batch.
struct Actor {
    history: usize,
    next: usize,
    sweep: u64,
    /// What each lane holds, and how often it has trained it.
    held: Vec<Option<LaneTask>>,
}

impl Actor {
    fn new(plan: &Plan, history: usize, batches: usize) -> Actor {
        Actor { history, next: history * batches / plan.memory, sweep: 0, held: vec![None; plan.epoch] }
    }

    /// Simulates one step. Gives what each lane trains in it.
    fn step(&mut self, step: u64, batches: usize) -> Vec<Option<LaneTask>> {
        let sets = self.held.len();
        let done = |held: &Option<LaneTask>| held.is_none_or(|turn| turn.set + 1 == sets);
        let free = self.held.iter().position(done).expect("one lane comes free in each step");
        for turn in self.held.iter_mut().flatten() {
            turn.set += 1;
        }
        self.held[free] = Some(LaneTask {
            history: self.history,
            sweep: self.sweep,
            batch: self.next,
            set: 0,
            shard: 0,
            begun: step,
        });
        self.next += 1;
        if self.next == batches {
            (self.next, self.sweep) = (0, self.sweep + 1);
        }
        self.held.clone()
    }
}

#[test]
fn the_plan_is_the_rules_acted_out() {
    for (plan, batches) in worlds() {
        for history in 0..plan.memory {
            let mut actor = Actor::new(&plan, history, batches);
            for step in 0..(3 * batches + plan.epoch) as u64 {
                for (epoch, acted) in actor.step(step, batches).into_iter().enumerate() {
                    for shard in 0..plan.minibatch {
                        let found = plan.lane_task(plan.rank(Lane { history, epoch, shard }), step, batches);
                        assert_eq!(
                            found,
                            acted.map(|turn| LaneTask { shard, ..turn }),
                            "{plan}, {batches} batches, step {step}"
                        );
                    }
                }
            }
        }
    }
}

/// Every turn of every lane in `steps`.
fn turns(plan: &Plan, batches: usize, steps: Range<u64>) -> impl Iterator<Item = (u64, usize, LaneTask)> {
    steps.flat_map(move |step| {
        (0..plan.lanes()).filter_map(move |rank| Some((step, rank, plan.lane_task(rank, step, batches)?)))
    })
}

#[test]
fn one_pass_trains_each_history_shard_batch_and_set_of_negatives_once() {
    for (plan, batches) in worlds() {
        let mut met: BTreeMap<[usize; 4], usize> = BTreeMap::new();
        // A pass of every history is as many steps as there are batches; its last batches are trained on a little
        // longer.
        let pass = batches as u64;
        for (_, _, turn) in
            turns(&plan, batches, 0..pass + plan.epoch as u64 - 1).filter(|(_, _, turn)| turn.begun < pass)
        {
            *met.entry([turn.history, turn.shard, turn.batch, turn.set]).or_default() += 1;
        }
        assert_eq!(
            met.len(),
            plan.memory * plan.minibatch * batches * plan.epoch,
            "{plan}, {batches} batches: all of them"
        );
        assert!(met.values().all(|&times| times == 1), "{plan}, {batches} batches: {met:?}");
    }
}

#[test]
fn one_lane_at_a_time_reads_and_writes_a_history() {
    for (plan, batches) in worlds() {
        for step in 0..3 * batches as u64 {
            for history in 0..plan.memory {
                let begin = turns(&plan, batches, step..step + 1)
                    .filter(|(_, _, turn)| turn.history == history && turn.set == 0);
                let begin: BTreeSet<usize> = begin.map(|(_, rank, _)| plan.lane(rank).epoch).collect();
                assert_eq!(begin, BTreeSet::from([plan.epoch_lane_at(step)]), "{plan}, {batches} batches, step {step}");
            }
        }
    }
}

#[test]
fn a_history_meets_all_batches_in_order_and_is_emptied_before_the_first() {
    for (plan, batches) in worlds() {
        for history in 0..plan.memory {
            let stands: Vec<_> = (0..3 * batches as u64).map(|step| plan.position_at(history, step, batches)).collect();
            assert_eq!((stands[0].batch, stands[0].sweep), (history * batches / plan.memory, 0));
            for pair in stands.windows(2) {
                let wraps = pair[0].batch + 1 == batches;
                assert_eq!(pair[1].batch, if wraps { 0 } else { pair[0].batch + 1 });
                assert_eq!(
                    pair[1].sweep - pair[0].sweep,
                    u64::from(wraps),
                    "{plan}, {batches} batches: emptied at batch 0 alone"
                );
            }
        }
        // No two histories are at one position.
        let places: BTreeSet<usize> =
            (0..plan.memory).map(|history| plan.position_at(history, 0, batches).batch).collect();
        assert_eq!(places.len(), plan.memory);
    }
}

#[test]
fn a_batch_is_trained_for_j_consecutive_steps_by_the_lanes_that_began_it() {
    for (plan, batches) in worlds() {
        for (step, rank, turn) in turns(&plan, batches, 0..3 * batches as u64) {
            assert_eq!(step, turn.begun + turn.set as u64);
            let begun = plan.lane_task(rank, turn.begun, batches);
            assert_eq!(begun, Some(LaneTask { set: 0, ..turn }), "{plan}, {batches} batches, step {step}");
        }
    }
}

#[test]
fn lanes_are_numbered_by_history_then_epoch_then_shard() {
    for (plan, _) in worlds() {
        let lanes: Vec<Lane> = (0..plan.lanes()).map(|rank| plan.lane(rank)).collect();
        assert!(lanes.iter().enumerate().all(|(rank, &lane)| plan.rank(lane) == rank));
        assert!(lanes.is_sorted_by_key(|lane| (lane.history, lane.epoch, lane.shard)), "{plan}");
    }
}

#[test]
fn trained_events_of_a_step_are_counted() {
    for (plan, batches) in worlds() {
        for step in 0..2 * batches as u64 {
            let trained: BTreeSet<_> =
                turns(&plan, batches, step..step + 1).map(|(_, _, turn)| (turn.history, turn.begun)).collect();
            assert_eq!(trained.len(), plan.batches_trained_at(step), "{plan}, step {step}");
        }
    }
}

#[test]
fn processes_share_all_lanes_and_split_histories_or_whole_ones() {
    for (plan, _) in worlds() {
        for world in 0..=plan.lanes() + 1 {
            let shares: Result<Vec<Range<usize>>, String> =
                (0..world.max(1)).map(|rank| plan.lanes_of_process(rank, world)).collect();
            let fits = world > 0 && plan.lanes() % world == 0 && (plan.memory % world == 0 || world % plan.memory == 0);
            let Ok(shares) = shares else {
                let error = plan.lanes_of_process(0, world).expect_err("it was one");
                assert!(
                    !fits
                        && error.contains(&plan.to_string().replace('x', " x "))
                        && error.contains(&world.to_string()),
                    "{error}"
                );
                continue;
            };
            assert!(fits, "{plan} on {world} processes");
            assert_eq!(shares.iter().cloned().flatten().collect::<Vec<_>>(), (0..plan.lanes()).collect::<Vec<_>>());
            let histories =
                |share: &Range<usize>| share.clone().map(|rank| plan.lane(rank).history).collect::<BTreeSet<_>>();
            let whole = |share: &Range<usize>| share.len().is_multiple_of(plan.epoch * plan.minibatch);
            assert!(
                shares.iter().all(|share| histories(share).len() == 1 || whole(share)),
                "{plan} on {world} processes"
            );
        }
    }
}

#[test]
fn plans_that_make_no_sense_are_refused_by_key_and_value() {
    let error = Plan { memory: 0, ..Plan::ONE }.check(5).expect_err("no history");
    assert!(error.contains("parallel.memory is 0"), "{error}");
    let error = Plan { memory: 6, ..Plan::ONE }.check(5).expect_err("too many histories");
    assert!(error.contains("parallel.memory = 6") && error.contains('5'), "{error}");
    assert_eq!(Plan { memory: 5, ..Plan::ONE }.check(5), Ok(()));
}

/// The drawn timetables of the documentation. `UPDATE_DOCS=1` draws them anew.
#[test]
fn the_documented_timetables_are_those_of_the_plan() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("parallelism.md");
    let written = fs::read_to_string(&path).expect("the page is there");
    let (mut drawn, mut timetables) = (String::new(), 0);
    for (place, part) in written.split("```").enumerate() {
        let fresh = part.strip_prefix("text\n").filter(|_| place % 2 == 1).and_then(redrawn);
        timetables += usize::from(fresh.is_some());
        drawn += if place == 0 { "" } else { "```" };
        drawn += &fresh.map_or(part.to_string(), |fresh| format!("text\n{fresh}"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, &drawn).expect("the page can be written");
    }
    assert_eq!(timetables, 5, "1x1x1, one of each axis, and all together");
    assert!(
        drawn == written,
        "{} is out of date; `UPDATE_DOCS=1 cargo test -p tempograph-trainers` draws it anew",
        path.display()
    );
}

/// Redraws the timetable of the plan named first in `old`, of five batches, with the same number of columns.
fn redrawn(old: &str) -> Option<String> {
    let (name, columns) = old.lines().next()?.split_once(" step ")?;
    let mut axes = name.trim().split('x').map(|axis| axis.parse::<usize>().ok());
    let plan = Plan { minibatch: axes.next()??, epoch: axes.next()??, memory: axes.next()?? };
    Some(timetable(&plan, 5, columns.split_whitespace().count() as u64))
}
