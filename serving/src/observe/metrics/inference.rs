//! What the Open Inference Protocol calls the statistics of a model.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// A count, and the time of all together.
#[derive(Debug, Default)]
struct Timed {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Timed {
    fn record(&self, took: Duration) {
        self.count.fetch_add(1, Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Relaxed);
    }

    fn now(&self) -> (u64, u64) {
        (self.count.load(Relaxed), self.nanos.load(Relaxed))
    }
}

/// Counters of one model.
#[derive(Debug, Default)]
pub(crate) struct InferenceCounts {
    success: Timed,
    fail: Timed,
    input: Timed,
    infer: Timed,
    output: Timed,
    queries: AtomicU64,
    last_ms: AtomicU64,
}

/// The times of an answered request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InferenceTimes {
    /// Converting the tensors of the request.
    pub input: Duration,
    /// Waiting and computing.
    pub infer: Duration,
    /// Converting the answer.
    pub output: Duration,
    /// Pairs, rankings and embeddings.
    pub queries: u64,
}

/// The counters at one time; each pair is a count and nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InferenceStatistics {
    pub success: (u64, u64),
    pub fail: (u64, u64),
    pub input: (u64, u64),
    pub infer: (u64, u64),
    pub output: (u64, u64),
    pub queries: u64,
    /// Milliseconds since 1970; 0 before the first request.
    pub last_ms: u64,
}

impl InferenceCounts {
    /// Records a request; `times` are those of an answered one.
    pub fn record(&self, took: Duration, times: Option<InferenceTimes>) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_ms.store(since.as_millis() as u64, Relaxed);
        let Some(InferenceTimes { input, infer, output, queries }) = times else { return self.fail.record(took) };
        self.success.record(took);
        self.input.record(input);
        self.infer.record(infer);
        self.output.record(output);
        self.queries.fetch_add(queries, Relaxed);
    }

    pub fn now(&self) -> InferenceStatistics {
        InferenceStatistics {
            success: self.success.now(),
            fail: self.fail.now(),
            input: self.input.now(),
            infer: self.infer.now(),
            output: self.output.now(),
            queries: self.queries.load(Relaxed),
            last_ms: self.last_ms.load(Relaxed),
        }
    }
}
