//! Whose reads wait, and whose turn it is.
//!
//! Deficit round robin in seconds of work: in a round every tenant with waiting reads gets a share, and is served while it has some
//! left; who overdraws pays in the rounds after. The groups of streams that wait get the same part of a round, and within a group
//! its tenants do. Among those with credit the first in order is next, so a round is by deadline.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::schedule::policy::job::{Job, Key, ReadKind};
use crate::schedule::policy::job_queue::JobQueue;
use crate::schedule::policy::stream::ArrivalStats;

/// Seconds of work handed out in a round.
const ROUND: f64 = 0.004;
/// Tenants remembered. The one idle for longest is forgotten for a new one; while all wait, a new one waits in the line of the nameless.
const MOST: usize = 1024;

/// One tenant: its lines and what it may still take.
#[derive(Debug)]
pub(crate) struct Tenant<T> {
    name: Arc<str>,
    lines: [JobQueue<T>; ReadKind::COUNT],
    pub stream: ArrivalStats,
    /// Seconds; below zero where it was served more than its share.
    credit: f64,
}

impl<T> Tenant<T> {
    fn new(name: Arc<str>) -> Tenant<T> {
        Tenant {
            name,
            lines: std::array::from_fn(|_| JobQueue::default()),
            stream: ArrivalStats::default(),
            credit: 0.0,
        }
    }

    pub fn waiting(&self) -> usize {
        self.lines.iter().map(JobQueue::len).sum()
    }

    /// Seconds of work that wait.
    pub fn backlog(&self) -> f64 {
        self.lines.iter().map(JobQueue::backlog).sum()
    }

    /// Seconds of work that wait before `key`.
    pub fn backlog_before(&self, key: Key) -> f64 {
        self.lines.iter().map(|line| line.backlog_before(key)).sum()
    }

    pub fn queue(&self, kind: ReadKind) -> &JobQueue<T> {
        &self.lines[kind as usize]
    }

    fn first(&self, wanted: impl Fn(ReadKind) -> bool) -> Option<(Key, ReadKind)> {
        let lines = ReadKind::ALL.into_iter().filter(|&kind| wanted(kind));
        lines.filter_map(|kind| Some((self.queue(kind).first()?.0, kind))).min()
    }
}

/// The place of a job that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobLocation {
    pub tenant: usize,
    pub kind: ReadKind,
    pub key: Key,
}

/// All tenants.
#[derive(Debug)]
pub(crate) struct Tenants<T> {
    all: Vec<Tenant<T>>,
    places: FxHashMap<Arc<str>, usize>,
    /// Tenants with waiting jobs.
    active: Vec<usize>,
    waiting: usize,
}

impl<T> Default for Tenants<T> {
    fn default() -> Tenants<T> {
        let nameless: Arc<str> = "".into();
        Tenants {
            all: vec![Tenant::new(nameless.clone())],
            places: [(nameless, 0)].into_iter().collect(),
            active: Vec::new(),
            waiting: 0,
        }
    }
}

impl<T> Tenants<T> {
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The place of a tenant, who is remembered from now on.
    pub fn place(&mut self, name: &Arc<str>) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let tenant = Tenant::new(name.clone());
        let place = if self.all.len() < MOST {
            self.all.push(tenant);
            self.all.len() - 1
        } else {
            let idle = (1..MOST).filter(|&place| self.all[place].waiting() == 0);
            let Some(place) = idle.min_by_key(|&place| self.all[place].stream.last()) else { return 0 };
            self.places.remove(&self.all[place].name);
            self.all[place] = tenant;
            place
        };
        self.places.insert(name.clone(), place);
        place
    }

    pub fn get(&self, place: usize) -> &Tenant<T> {
        &self.all[place]
    }

    pub fn get_mut(&mut self, place: usize) -> &mut Tenant<T> {
        &mut self.all[place]
    }

    /// Every tenant heard of.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tenant<T>)> {
        self.all.iter().map(|tenant| (&*tenant.name, tenant))
    }

    /// Tenants with waiting jobs.
    pub fn active(&self) -> impl Iterator<Item = (usize, &Tenant<T>)> {
        self.active.iter().map(|&place| (place, &self.all[place]))
    }

    pub fn push(&mut self, location: JobLocation, job: Job<T>, cost: f64) {
        let tenant = &mut self.all[location.tenant];
        if tenant.waiting() == 0 {
            self.active.push(location.tenant);
            // What an idle tenant had left is gone; what it owes it still owes.
            tenant.credit = tenant.credit.min(0.0);
        }
        tenant.lines[location.kind as usize].push(location.key, job, cost);
        self.waiting += 1;
    }

    pub fn take(&mut self, location: JobLocation) -> Option<(Job<T>, f64)> {
        let tenant = &mut self.all[location.tenant];
        let taken = tenant.lines[location.kind as usize].take(location.key)?;
        self.waiting -= 1;
        if tenant.waiting() == 0 {
            self.active.retain(|&place| place != location.tenant);
        }
        Some(taken)
    }

    /// Takes `seconds` of work off a tenant's share.
    pub fn charge(&mut self, tenant: usize, seconds: f64) {
        self.all[tenant].credit -= seconds;
    }

    /// What a tenant may still take in this round, in seconds.
    pub fn credit(&self, tenant: usize) -> f64 {
        self.all[tenant].credit
    }

    /// The first job of the kinds `wanted` in order, whoever's it is.
    pub fn first(&self, wanted: impl Fn(ReadKind) -> bool) -> Option<JobLocation> {
        self.firsts(&wanted).min_by_key(|location| location.key)
    }

    /// The first job in order among those of tenants with credit.
    pub fn first_with_credit(&self, wanted: impl Fn(ReadKind) -> bool) -> Option<JobLocation> {
        self.firsts(&wanted)
            .filter(|location| self.all[location.tenant].credit > 0.0)
            .min_by_key(|location| location.key)
    }

    fn firsts<'a>(&'a self, wanted: &'a impl Fn(ReadKind) -> bool) -> impl Iterator<Item = JobLocation> + 'a {
        self.active()
            .filter_map(move |(tenant, of)| of.first(wanted).map(|(key, kind)| JobLocation { tenant, kind, key }))
    }

    /// As many rounds as it takes until one of those that wait, or `also`, has credit.
    pub fn next_rounds(&mut self, also: Option<usize>) {
        let parts = self.parts(also);
        let also = also.filter(|place| !self.active.contains(place));
        let places = || self.active.iter().copied().chain(also);
        let rounds_to = |place: usize| (-self.all[place].credit / parts.of(&self.all[place])).max(0.0).floor() + 1.0;
        let rounds = places().map(rounds_to).fold(f64::INFINITY, f64::min);
        for place in places().collect::<Vec<_>>() {
            let tenant = &mut self.all[place];
            let share = parts.of(tenant);
            tenant.credit = (tenant.credit + rounds * share).min(share);
        }
    }

    /// How a round is shared by those that wait, and `also`.
    pub fn parts(&self, also: Option<usize>) -> Parts {
        let also = also.filter(|place| !self.active.contains(place));
        let mut alike = [0_usize; 2];
        self.active.iter().copied().chain(also).for_each(|place| alike[self.all[place].stream.group() as usize] += 1);
        let groups = alike.iter().filter(|&&tenants| tenants > 0).count().max(1);
        Parts { seconds: alike.map(|tenants| ROUND / (groups * tenants.max(1)) as f64) }
    }

    /// The tenant most of whose reads wait.
    pub fn longest(&self) -> Option<(usize, &Tenant<T>)> {
        self.active().max_by_key(|(_, tenant)| tenant.waiting())
    }
}

/// A tenant's seconds of a round, by the group of its stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    seconds: [f64; 2],
}

impl Parts {
    pub fn of<T>(&self, tenant: &Tenant<T>) -> f64 {
        self.seconds[tenant.stream.group() as usize]
    }
}
