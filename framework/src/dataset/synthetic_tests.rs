use std::collections::{HashMap, HashSet, VecDeque};

use super::*;
use crate::{Event, EventId};

/// Average precision of scores in which each event has one true and one random destination; ties share their precision.
fn average_precision(mut scored: Vec<(f64, bool)>) -> f64 {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = scored.iter().filter(|(_, positive)| *positive).count() as f64;
    let (mut seen, mut hits, mut sum) = (0.0, 0.0, 0.0);
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        let new_hits = tied.iter().filter(|(_, positive)| *positive).count() as f64;
        (seen, hits) = (seen + tied.len() as f64, hits + new_hits);
        sum += new_hits / positives * (hits / seen);
    }
    sum
}

/// Runs a scorer over the stream, each event scored before it is observed, and returns the AP of the last 15 % against
/// random destinations.
fn last_part_ap(set: &Dataset, scorer: &mut dyn Scorer) -> f64 {
    let destinations = set.log.destinations();
    let mut scored = Vec::new();
    for event in set.log.batch(0..set.log.len()).events() {
        if event.id.index() >= set.log.len() * 85 / 100 {
            let negative = destinations[below(mix(event.id.0), destinations.len() as u64) as usize];
            scored.push((scorer.score(&event, event.dst), true));
            scored.push((scorer.score(&event, negative), false));
        }
        scorer.tell(&event);
    }
    average_precision(scored)
}

trait Scorer {
    fn score(&self, event: &Event, dst: NodeId) -> f64;
    fn tell(&mut self, event: &Event);
}

/// Was the pair ever seen?
#[derive(Default)]
struct EdgeBank(HashSet<(NodeId, NodeId)>);

impl Scorer for EdgeBank {
    fn score(&self, event: &Event, dst: NodeId) -> f64 {
        f64::from(u8::from(self.0.contains(&(event.src, dst))))
    }
    fn tell(&mut self, event: &Event) {
        self.0.insert((event.src, event.dst));
    }
}

/// Is the destination among the source's last few at this time of day, and has it been used by anyone lately?
#[derive(Default)]
struct Habits {
    recent: HashMap<(NodeId, i64), VecDeque<NodeId>>,
    last_use: HashMap<NodeId, Timestamp>,
}

impl Habits {
    fn half(event: &Event) -> i64 {
        event.time.0 % PERIOD * 2 / PERIOD
    }
}

impl Scorer for Habits {
    fn score(&self, event: &Event, dst: NodeId) -> f64 {
        let habit = self.recent.get(&(event.src, Self::half(event))).is_some_and(|recent| recent.contains(&dst));
        let idle = self.last_use.get(&dst).map_or(f64::INFINITY, |last| (event.time.0 - last.0) as f64);
        f64::from(u8::from(habit)) + 1.0 / (1.0 + idle)
    }
    fn tell(&mut self, event: &Event) {
        let recent = self.recent.entry((event.src, Self::half(event))).or_default();
        recent.retain(|&dst| dst != event.dst);
        recent.push_back(event.dst);
        if recent.len() > 5 {
            recent.pop_front();
        }
        self.last_use.insert(event.dst, event.time);
    }
}

/// The generator's own probabilities.
struct Oracle {
    spec: SyntheticSpec,
    users: Vec<User>,
}

impl Oracle {
    fn new(spec: &SyntheticSpec) -> Self {
        Self { spec: spec.clone(), users: (0..spec.users as u64).map(|user| User::new(spec, user)).collect() }
    }
}

impl Scorer for Oracle {
    fn score(&self, event: &Event, dst: NodeId) -> f64 {
        let user = &self.users[event.src.index()];
        let ring = &user.rings[Habits::half(event) as usize];
        let item = (dst.index() - self.spec.users) as u64;
        let next = f64::from(u8::from(ring.items[ring.next] == item));
        let any = ring.items.iter().filter(|&&other| other == item).count() as f64 / ring.items.len() as f64;
        let window = (self.spec.items as u64 / ITEMS_PER_FASHIONABLE).max(1);
        let first = self.spec.fashionable(user.taste, event.time.0, 0);
        let fashion = f64::from(u8::from((item + self.spec.items as u64 - first) % (self.spec.items as u64) < window))
            / window as f64;
        let habit = HABIT_PERCENT as f64 / 100.0;
        self.spec.explore * fashion + (1.0 - self.spec.explore) * (habit * next + (1.0 - habit) * any)
    }
    fn tell(&mut self, event: &Event) {
        let draws = Draws { seed: self.spec.seed, subject: event.id.0 };
        let item = self.users[event.src.index()].next_item(&self.spec, event.time.0, draws);
        assert_eq!(item as usize + self.spec.users, event.dst.index());
    }
}

#[test]
fn remembering_pairs_is_not_enough_and_habits_are() {
    for seed in 1..4 {
        let spec = SyntheticSpec { seed, ..Default::default() };
        let set = spec.generate();
        let edgebank = last_part_ap(&set, &mut EdgeBank::default());
        let habits = last_part_ap(&set, &mut Habits::default());
        let oracle = last_part_ap(&set, &mut Oracle::new(&spec));
        assert!((0.75..0.85).contains(&edgebank), "seed {seed}: EdgeBank {edgebank}");
        assert!(habits > edgebank + 0.12, "seed {seed}: habits {habits}, EdgeBank {edgebank}");
        assert!(oracle > 0.97, "seed {seed}: oracle {oracle}");
    }
}

#[test]
fn a_seed_is_a_stream() {
    let set = |text: &str| text.parse::<SyntheticSpec>().unwrap().generate();
    let first = set("events=500,features=2");
    assert_eq!(first.checksum, set("synthetic:features=2,events=500,seed=1").checksum);
    assert_ne!(first.checksum, set("events=500,features=2,seed=2").checksum);
    assert_eq!((first.log.len(), first.nodes, first.edge_width()), (500, 700, 2));
    // Any machine, any version: the stream of a seed is part of what a report means.
    assert_eq!(first.checksum, "d9e06d25e858b3d0d4c9bc3006a8ab9ed683965c679d000622fe9a827e7c9db3");
}

#[test]
fn a_longer_stream_begins_with_the_shorter() {
    let long = SyntheticSpec { events: 300, ..Default::default() }.generate();
    let short = SyntheticSpec { events: 200, ..Default::default() }.generate();
    assert!((0..200).map(EventId).all(|id| long.log.event(id) == short.log.event(id)));
}

#[test]
fn a_written_spec_is_parsed_back() {
    let spec = SyntheticSpec { events: 7, users: 2, items: 9, seed: u64::MAX, features: 3, tastes: 2, explore: 0.5 };
    assert_eq!(spec.to_string().parse(), Ok(spec));
    assert_eq!("".parse(), Ok(SyntheticSpec::default()));
}

#[test]
fn smallest_streams_are_generated() {
    let set = "events=1,users=1,items=2,tastes=9".parse::<SyntheticSpec>().unwrap().generate();
    assert_eq!((set.log.len(), set.nodes), (1, 3));
}

#[test]
fn mistakes_are_named() {
    let message = |text: &str| text.parse::<SyntheticSpec>().unwrap_err().to_string();
    assert!(message("evnets=5").contains("unknown key `evnets` (did you mean `events`?)"), "{}", message("evnets=5"));
    assert!(message("events").contains("`events` is not of the form key=value"));
    assert!(message("events=many").contains("events = `many`"));
    assert!(message("items=1").contains("items = `1`"));
    assert!(message("explore=1.5").contains("a share from 0 to 1"));
}
