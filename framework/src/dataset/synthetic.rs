//! A generated stream, so that everything can run without data.
//!
//! Users act on items. Each user has two small rings of items, one for each half of a period ("day" and "night").
//! Mostly the user takes the next item of the current half's ring: recency, repetition and periodicity. Sometimes a
//! user explores: it takes an item that is in fashion among users of its taste, and that item replaces the ring's next
//! item. Fashions move through the items, so old pairs predict less and less: a memory of pairs (EdgeBank) finds most
//! events, but cannot detect what a user has dropped or what is new. All choices are integers drawn by (seed, event,
//! purpose): a seed gives the same stream on every machine.

use std::str::FromStr;
use std::sync::Arc;

use tempograph_kernels::Rows;

use crate::dataset::{Dataset, DatasetContent, IdMap, Sides, Table, TimeUnit};
use crate::settings::nearest::nearest;
use crate::{EventLog, NodeId, Timestamp};

/// Length of a day and a night in seconds.
const PERIOD: i64 = 86_400;
/// Events of the average user in a period.
const EVENTS_PER_PERIOD: i64 = 8;
/// Periods in which a fashion moves once through all items.
const PERIODS_PER_ROUND: i64 = 12;
/// One of this many items is in fashion at a time.
const ITEMS_PER_FASHIONABLE: u64 = 40;
/// Items in the shortest and the longest ring.
const RING: (u64, u64) = (1, 3);
/// Percentage of the events that do not explore that take the ring's next item; the others take any item of the ring.
const HABIT_PERCENT: u64 = 90;

/// What to generate: `synthetic:events=20000,users=400,items=300,seed=1,features=0,tastes=2,explore=0.3`, each with
/// that default.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticSpec {
    /// Events in the stream.
    pub events: usize,
    /// Sources.
    pub users: usize,
    /// Destinations.
    pub items: usize,
    /// Seed of the stream.
    pub seed: u64,
    /// Width of the events' features, which describe the item with some noise; 0 for none.
    pub features: usize,
    /// Groups of users, each with a fashion of its own.
    pub tastes: usize,
    /// Share of events that explore, `0..=1`.
    pub explore: f64,
}

/// Why the spec of a generated stream is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntheticError {
    /// A part is not `key=value`.
    #[error("synthetic: `{part}` is not of the form key=value")]
    Form {
        /// The part.
        part: String,
    },
    /// A key does not exist.
    #[error("synthetic: unknown key `{key}`{}; the keys are {}", hint(nearest), SyntheticSpec::KEYS.join(", "))]
    Key {
        /// The key.
        key: String,
        /// The nearest known key, if there is one.
        nearest: Option<&'static str>,
    },
    /// A value is not valid for its key.
    #[error("synthetic: {key} = `{value}` is not {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

fn hint(nearest: &Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!(" (did you mean `{name}`?)"))
}

impl Default for SyntheticSpec {
    fn default() -> Self {
        Self { events: 20_000, users: 400, items: 300, seed: 1, features: 0, tastes: 2, explore: 0.3 }
    }
}

impl FromStr for SyntheticSpec {
    type Err = SyntheticError;

    /// Parses `key=value,…`, with or without `synthetic:` before it.
    fn from_str(text: &str) -> Result<Self, SyntheticError> {
        let mut spec = Self::default();
        let options = text.strip_prefix("synthetic:").unwrap_or(text);
        for part in options.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| SyntheticError::Form { part: part.into() })?;
            spec.set(key.trim(), value.trim())?;
        }
        Ok(spec)
    }
}

impl SyntheticSpec {
    const KEYS: [&str; 7] = ["events", "users", "items", "seed", "features", "tastes", "explore"];

    fn set(&mut self, key: &str, value: &str) -> Result<(), SyntheticError> {
        match key {
            "events" => self.events = count("events", value, 1, 1 << 40)?,
            "users" => self.users = count("users", value, 1, 1 << 30)?,
            "items" => self.items = count("items", value, 2, 1 << 30)?,
            "seed" => self.seed = count("seed", value, 0, u64::MAX)? as u64,
            "features" => self.features = count("features", value, 0, 1 << 16)?,
            "tastes" => self.tastes = count("tastes", value, 1, 1 << 16)?,
            "explore" => self.explore = share("explore", value)?,
            _ => return Err(SyntheticError::Key { key: key.into(), nearest: nearest(key, Self::KEYS) }),
        }
        Ok(())
    }

    /// The stream, as a dataset. Users are nodes `0..users` and items the nodes after them; each side's own ids count
    /// from zero.
    pub fn generate(&self) -> Dataset {
        let sides = Sides::Bipartite { sources: self.users };
        let own = (0..self.users as u64).chain(0..self.items as u64).collect();
        Dataset::new(DatasetContent {
            name: "synthetic".into(),
            log: self.stream(),
            time_unit: TimeUnit { description: "s".into(), scale: 1 },
            node_features: None,
            ids: IdMap::new(own, sides),
            source: self.to_string(),
            notices: Vec::new(),
        })
        .expect("the generator numbers its own nodes")
    }

    fn stream(&self) -> EventLog {
        let gap = (2 * PERIOD / (EVENTS_PER_PERIOD * self.users as i64)).max(1) as u64;
        let mut users: Vec<User> = (0..self.users as u64).map(|user| User::new(self, user)).collect();
        let (mut src, mut dst, mut time, mut features) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut now = 0;
        for event in 0..self.events as u64 {
            let draws = Draws { seed: self.seed, subject: event };
            now += draws.below(Purpose::Gap, gap + 1) as i64;
            // The smaller of two draws: some users are busier than others.
            let who =
                draws.below(Purpose::User, self.users as u64).min(draws.below(Purpose::BusyUser, self.users as u64));
            let item = users[who as usize].next_item(self, now, draws);
            src.push(NodeId(who as u32));
            dst.push(NodeId((self.users as u64 + item) as u32));
            time.push(Timestamp(now));
            features.extend((0..self.features as u64).map(|column| feature(self.seed, item, event, column)));
        }
        let features = Table::new(features, self.features).ok().map(|table| Arc::new(table) as Arc<dyn Rows>);
        EventLog::new(src, dst, time, vec![0.0; self.events], features)
            .expect("columns grow together and time goes forward")
    }

    /// An item in fashion at `now` in `taste`: fashion is a window that moves through the items, each taste's at its
    /// own position.
    fn fashionable(&self, taste: u64, now: i64, draw: u64) -> u64 {
        let items = self.items as u64;
        let window = (items / ITEMS_PER_FASHIONABLE).max(1);
        let start =
            taste * items / self.tastes as u64 + (now as u64).wrapping_mul(items) / (PERIOD * PERIODS_PER_ROUND) as u64;
        (start + below(draw, window)) % items
    }
}

impl std::fmt::Display for SyntheticSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { events, users, items, seed, features, tastes, explore } = self;
        write!(
            f,
            "synthetic:events={events},users={users},items={items},seed={seed},features={features},tastes={tastes},explore={explore}"
        )
    }
}

/// A user's habits: a ring of items for each half of the period.
struct User {
    taste: u64,
    rings: [Ring; 2],
}

struct Ring {
    items: Vec<u64>,
    next: usize,
}

impl User {
    fn new(spec: &SyntheticSpec, user: u64) -> Self {
        let draws = Draws { seed: spec.seed, subject: user };
        let taste = draws.below(Purpose::Taste, spec.tastes as u64);
        let len = RING.0 + draws.below(Purpose::RingLength, RING.1 - RING.0 + 1);
        let ring = |half: u64| Ring {
            items: (0..len)
                .map(|place| spec.fashionable(taste, 0, mix(draws.get(Purpose::FirstItems) ^ (half * RING.1 + place))))
                .collect(),
            next: 0,
        };
        Self { taste, rings: [ring(0), ring(1)] }
    }

    fn next_item(&mut self, spec: &SyntheticSpec, now: i64, draws: Draws) -> u64 {
        let ring = &mut self.rings[(now % PERIOD * 2 / PERIOD) as usize];
        let place = ring.next;
        ring.next = (place + 1) % ring.items.len();
        if draws.chance(Purpose::Explore, spec.explore) {
            ring.items[place] = spec.fashionable(self.taste, now, draws.get(Purpose::Fashion));
            ring.items[place]
        } else if draws.below(Purpose::Habit, 100) < HABIT_PERCENT {
            ring.items[place]
        } else {
            ring.items[draws.below(Purpose::Whim, ring.items.len() as u64) as usize]
        }
    }
}

/// Column `column` of the features of an event: the item's own number in -1..1, and a fifth as much noise.
fn feature(seed: u64, item: u64, event: u64, column: u64) -> f32 {
    let unit = |bits: u64| (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    let of_item = unit(mix(Draws { seed, subject: item }.get(Purpose::ItemFeature) ^ column));
    let of_event = unit(mix(Draws { seed, subject: event }.get(Purpose::FeatureNoise) ^ column));
    of_item + 0.2 * of_event
}

/// What a number is drawn for: draws for one purpose never move those for another.
#[derive(Clone, Copy)]
enum Purpose {
    Gap,
    User,
    BusyUser,
    Explore,
    Fashion,
    Habit,
    Whim,
    Taste,
    RingLength,
    FirstItems,
    ItemFeature,
    FeatureNoise,
}

/// Random numbers by (seed, subject, purpose).
#[derive(Clone, Copy)]
struct Draws {
    seed: u64,
    subject: u64,
}

impl Draws {
    fn get(self, purpose: Purpose) -> u64 {
        mix(mix(mix(self.seed) ^ self.subject) ^ purpose as u64)
    }

    fn below(self, purpose: Purpose, limit: u64) -> u64 {
        below(self.get(purpose), limit)
    }

    fn chance(self, purpose: Purpose, share: f64) -> bool {
        (self.get(purpose) >> 11) < (share * (1u64 << 53) as f64) as u64
    }
}

/// `bits` as a number below `limit`.
fn below(bits: u64, limit: u64) -> u64 {
    ((u128::from(bits) * u128::from(limit)) >> 64) as u64
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014) after one step from `state`.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn count(key: &'static str, value: &str, min: u64, max: u64) -> Result<usize, SyntheticError> {
    let wanted = if min == 0 { "a whole number from 0" } else { "a whole number from 1 (items: from 2) within reason" };
    let number = value.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
    number.map(|number| number as usize).ok_or_else(|| SyntheticError::Value { key, value: value.into(), wanted })
}

fn share(key: &'static str, value: &str) -> Result<f64, SyntheticError> {
    let number = value.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| SyntheticError::Value { key, value: value.into(), wanted: "a share from 0 to 1" })
}

#[cfg(test)]
#[path = "synthetic_tests.rs"]
mod tests;
