//! The waiting reads of each tenant, and whose turn it is.
//!
//! Deficit round robin in seconds of work. In each round, every tenant with waiting reads gets a share of credit, and
//! is served while it has credit left. A tenant that overdraws its credit pays in later rounds. The groups of streams
//! with waiting reads get equal parts of a round, and the tenants of a group equal parts of that. Among the tenants
//! with credit, the first job in order is next, so within a round the order is by deadline.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::schedule::policy::job::{Job, Key, ReadKind};
use crate::schedule::policy::job_queue::JobQueue;
use crate::schedule::policy::stream::ArrivalStats;

/// Seconds of work that a round distributes.
const ROUND: f64 = 0.004;
/// Most seconds of work by which a tenant can be in debt: a tenant that had the server to itself does not wait for ever
/// when others come.
const DEBT: f64 = 5.0 * ROUND;
/// Most tenants remembered. A new tenant replaces the one that has been idle for longest. If none is idle, it shares
/// the queue of reads without a tenant.
const MOST: usize = 1024;

/// One tenant: its queues and its credit.
#[derive(Debug)]
pub(crate) struct Tenant<T> {
    name: Arc<str>,
    lines: [JobQueue<T>; ReadKind::COUNT],
    pub stream: ArrivalStats,
    /// In seconds; below zero if the tenant was served more than its share.
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

    /// Predicted seconds of waiting work.
    pub fn backlog(&self) -> f64 {
        self.lines.iter().map(JobQueue::backlog).sum()
    }

    /// Predicted seconds of waiting work before `key`.
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

/// Tenant, kind and key of a waiting job.
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
    /// Indices of tenants with waiting jobs.
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

    /// The index of a tenant. A new tenant is added.
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

    /// All remembered tenants.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tenant<T>)> {
        self.all.iter().map(|tenant| (&*tenant.name, tenant))
    }

    /// Tenants with waiting jobs, with their indices.
    pub fn active(&self) -> impl Iterator<Item = (usize, &Tenant<T>)> {
        self.active.iter().map(|&place| (place, &self.all[place]))
    }

    pub fn push(&mut self, location: JobLocation, job: Job<T>, cost: f64) {
        let tenant = &mut self.all[location.tenant];
        if tenant.waiting() == 0 {
            self.active.push(location.tenant);
            // An idle tenant loses the rest of its credit but keeps its debt.
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

    /// Subtracts `seconds` of work from a tenant's credit.
    pub fn charge(&mut self, tenant: usize, seconds: f64) {
        self.all[tenant].credit -= seconds;
    }

    /// Subtracts a chunk of a long job. The debt of a tenant grows no further than to [`DEBT`].
    pub fn charge_chunk(&mut self, tenant: usize, seconds: f64) {
        let credit = &mut self.all[tenant].credit;
        *credit = (*credit - seconds).max(credit.min(-DEBT));
    }

    /// A tenant's remaining credit in this round, in seconds.
    pub fn credit(&self, tenant: usize) -> f64 {
        self.all[tenant].credit
    }

    /// The first job in order of the kinds `wanted`, of any tenant.
    pub fn first(&self, wanted: impl Fn(ReadKind) -> bool) -> Option<JobLocation> {
        self.firsts(&wanted).min_by_key(|location| location.key)
    }

    /// The first job in order of the kinds `wanted`, among tenants with credit.
    pub fn first_with_credit(&self, wanted: impl Fn(ReadKind) -> bool) -> Option<JobLocation> {
        self.firsts(&wanted)
            .filter(|location| self.all[location.tenant].credit > 0.0)
            .min_by_key(|location| location.key)
    }

    fn firsts<'a>(&'a self, wanted: &'a impl Fn(ReadKind) -> bool) -> impl Iterator<Item = JobLocation> + 'a {
        self.active()
            .filter_map(move |(tenant, of)| of.first(wanted).map(|(key, kind)| JobLocation { tenant, kind, key }))
    }

    /// Adds rounds until one of the waiting tenants, or `also`, has credit.
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

    /// Each group's share of a round per tenant, among the waiting tenants and `also`.
    pub fn parts(&self, also: Option<usize>) -> Parts {
        let also = also.filter(|place| !self.active.contains(place));
        let mut alike = [0_usize; 2];
        self.active.iter().copied().chain(also).for_each(|place| alike[self.all[place].stream.group() as usize] += 1);
        let groups = alike.iter().filter(|&&tenants| tenants > 0).count().max(1);
        Parts { seconds: alike.map(|tenants| ROUND / (groups * tenants.max(1)) as f64) }
    }

    /// The tenant with most waiting reads.
    pub fn longest(&self) -> Option<(usize, &Tenant<T>)> {
        self.active().max_by_key(|(_, tenant)| tenant.waiting())
    }
}

/// Seconds of a round for a tenant, by the group of its stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    seconds: [f64; 2],
}

impl Parts {
    pub fn of<T>(&self, tenant: &Tenant<T>) -> f64 {
        self.seconds[tenant.stream.group() as usize]
    }
}
