//! Queued jobs of one tenant and kind, in order, and the amount of their work.

use std::collections::BTreeMap;

use crate::schedule::policy::job::{Job, Key};

/// A queue of waiting jobs.
#[derive(Debug)]
pub(crate) struct JobQueue<T> {
    jobs: BTreeMap<Key, QueuedJob<T>>,
    backlog: f64,
}

#[derive(Debug)]
struct QueuedJob<T> {
    job: Job<T>,
    /// Predicted seconds of work.
    cost: f64,
}

impl<T> Default for JobQueue<T> {
    fn default() -> JobQueue<T> {
        JobQueue { jobs: BTreeMap::new(), backlog: 0.0 }
    }
}

impl<T> JobQueue<T> {
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Predicted seconds of work of all waiting jobs.
    pub fn backlog(&self) -> f64 {
        self.backlog
    }

    pub fn push(&mut self, key: Key, job: Job<T>, cost: f64) {
        self.backlog += cost;
        self.jobs.insert(key, QueuedJob { job, cost });
    }

    pub fn first(&self) -> Option<(Key, &Job<T>)> {
        self.jobs.first_key_value().map(|(&key, waiting)| (key, &waiting.job))
    }

    pub fn last(&self) -> Option<Key> {
        self.jobs.last_key_value().map(|(&key, _)| key)
    }

    pub fn take(&mut self, key: Key) -> Option<(Job<T>, f64)> {
        let QueuedJob { job, cost } = self.jobs.remove(&key)?;
        // An empty sum is set to zero, since rounding may leave a rest.
        self.backlog = if self.jobs.is_empty() { 0.0 } else { (self.backlog - cost).max(0.0) };
        Some((job, cost))
    }

    /// Jobs from `key` on, in order, with their predicted seconds.
    pub fn from(&self, key: Key) -> impl Iterator<Item = (&Job<T>, f64)> {
        self.jobs.range(key..).map(|(_, waiting)| (&waiting.job, waiting.cost))
    }

    /// Predicted seconds of work before `key`. Iterates from both ends at once, so its time is that of the shorter
    /// side.
    pub fn backlog_before(&self, key: Key) -> f64 {
        let (mut front, mut back) = (self.jobs.range(..key), self.jobs.range(key..));
        let (mut ahead, mut behind) = (0.0, 0.0);
        loop {
            match front.next() {
                Some((_, waiting)) => ahead += waiting.cost,
                None => return ahead,
            }
            match back.next() {
                Some((_, waiting)) => behind += waiting.cost,
                None => return (self.backlog - behind).max(0.0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schedule::policy::cost::Size;
    use crate::schedule::policy::job::ReadKind;

    fn key(order: u64) -> Key {
        Key { order: Duration::from_millis(order), number: order }
    }

    fn job(order: u64) -> Job<u64> {
        let deadline = Duration::from_millis(order);
        Job {
            read: order,
            kind: ReadKind::Score,
            size: Size::of(1),
            tenant: "".into(),
            arrived: Duration::ZERO,
            deadline,
        }
    }

    #[test]
    fn work_ahead_is_the_same_from_either_side() {
        let mut line = JobQueue::default();
        (0..20).for_each(|order| line.push(key(order), job(order), order as f64));
        for at in 0..=20 {
            let plain: f64 = (0..at).map(|order| order as f64).sum();
            assert!((line.backlog_before(key(at)) - plain).abs() < 1e-9, "{at}");
        }
    }

    #[test]
    fn an_empty_line_is_no_work() {
        let mut line = JobQueue::default();
        (0..50).for_each(|order| line.push(key(order), job(order), 0.1));
        (0..50).for_each(|order| assert_eq!(line.take(key(order)).unwrap().0.read, order));
        assert_eq!((line.len(), line.backlog()), (0, 0.0));
    }
}
