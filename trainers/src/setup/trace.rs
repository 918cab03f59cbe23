//! A trace of the stages of each batch over time, in Chrome's trace format.
//!
//! Open the file in `chrome://tracing` or <https://ui.perfetto.dev>.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Deserialize;

/// A stage of training a batch, as a trace names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Drawing negatives, sampling neighbours, numbering the distinct nodes. Features are not copied: the forward pass
    /// reads them in place.
    Sample,
    /// Reading memories and mail.
    Memory,
    /// Waiting for a batch that is not ready.
    Wait,
    /// Reading the memories that were not written yet when the others were read.
    Complete,
    /// Forward pass and backward pass; the optimiser's step.
    Compute,
    /// Summing the gradients of all lanes and processes, with the wait for the other processes.
    Exchange,
    /// Writing memories, mail and neighbours.
    WriteBack,
}

impl Stage {
    /// Its name in a trace.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Sample => "sample",
            Stage::Memory => "memory",
            Stage::Wait => "wait",
            Stage::Complete => "complete",
            Stage::Compute => "compute",
            Stage::Exchange => "exchange",
            Stage::WriteBack => "write back",
        }
    }
}

/// Records a stage, if the run is traced.
pub(crate) fn note(trace: &Option<Arc<Trace>>, stage: Stage, step: u64, from: Instant) {
    if let Some(trace) = trace {
        trace.note(stage, step, from);
    }
}

/// A timeline, written to its file during the run.
#[derive(Debug)]
pub struct Trace {
    began: Instant,
    process: usize,
    file: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    to: BufWriter<File>,
    /// Names of the threads that have recorded something; a thread's number is its index.
    threads: Vec<String>,
    /// The first error.
    failed: Result<()>,
}

impl Trace {
    /// A timeline of process number `process` for the file at `path`, which is made if it is not there. What is in it stays until
    /// [`begin`](Trace::begin).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(path: &Path, process: usize) -> Result<Trace> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        let mut to = BufWriter::new(file);
        to.write_all(b"[")?;
        Ok(Trace {
            began: Instant::now(),
            process,
            file: Mutex::new(Lines { to, threads: Vec::new(), failed: Ok(()) }),
        })
    }

    /// Empties the file, for the timeline to go there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(&self) -> Result<()> {
        let lines = self.lines();
        let file = lines.to.get_ref();
        // A pipe or a device has no length.
        if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
    }

    /// Records that this thread worked in `stage` on the batch begun at `step`, from `from` until now.
    pub fn note(&self, stage: Stage, step: u64, from: Instant) {
        let until = Instant::now();
        let [from, until] =
            [from, until].map(|moment| moment.saturating_duration_since(self.began).as_secs_f64() * 1e6);
        let mut lines = self.lines();
        let thread = lines.thread(self.process);
        let (name, process, lasted) = (stage.name(), self.process, until - from);
        lines.write(&format!(
            r#"{{"name":"{name}","ph":"X","ts":{from:.3},"dur":{lasted:.3},"pid":{process},"tid":{thread},"args":{{"step":{step}}}}}"#
        ));
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The first write error since the file was created.
    pub fn finish(&self) -> Result<()> {
        let Lines { to, failed, .. } = &mut *self.lines();
        std::mem::replace(failed, Ok(()))?;
        to.write_all(b"\n]\n")?;
        to.flush()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// The number of the calling thread.
    fn thread(&mut self, process: usize) -> usize {
        let thread = std::thread::current();
        // The threads of the trainer's pool share one timeline.
        let name = thread.name().filter(|name| ["sample", "memory"].contains(name)).unwrap_or("train");
        if let Some(number) = self.threads.iter().position(|known| known == name) {
            return number;
        }
        let number = self.threads.len();
        self.write(&format!(
            r#"{{"name":"thread_name","ph":"M","pid":{process},"tid":{number},"args":{{"name":"{name}"}}}}"#
        ));
        self.threads.push(name.into());
        number
    }

    fn write(&mut self, line: &str) {
        if self.failed.is_ok() {
            let before = if self.threads.is_empty() { "\n" } else { ",\n" };
            self.failed = self.to.write_all(before.as_bytes()).and_then(|()| self.to.write_all(line.as_bytes()));
        }
    }
}

/// The work of one thread for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The name of its stage.
    pub stage: String,
    /// The step whose batch it worked on.
    pub step: u64,
    /// Number of the thread.
    pub thread: u64,
    /// Start and end, in microseconds since the trace began.
    pub time: Range<f64>,
}

/// A trace that was read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Ordered by their ends.
    pub spans: Vec<Span>,
}

/// A line of a trace.
#[derive(Deserialize)]
struct Line {
    name: String,
    ph: String,
    tid: u64,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    args: Arguments,
}

#[derive(Deserialize)]
struct Arguments {
    #[serde(default)]
    step: u64,
}

impl Timeline {
    /// Reads the file of a finished [`Trace`].
    ///
    /// # Errors
    /// If the file cannot be read, or is not such a trace.
    pub fn read(path: &Path) -> Result<Timeline> {
        let lines: Vec<Line> = serde_json::from_slice(&std::fs::read(path)?)?;
        let span = |Line { name, tid, ts, dur, args, .. }| Span {
            stage: name,
            step: args.step,
            thread: tid,
            time: ts..ts + dur,
        };
        Ok(Timeline { spans: lines.into_iter().filter(|line| line.ph == "X").map(span).collect() })
    }

    /// Seconds of sampling and reading, and how many of them passed while the trainer computed, exchanged or wrote
    /// back.
    pub fn hidden(&self) -> (f64, f64) {
        let of = |stages: &[Stage]| {
            let named = |span: &&Span| stages.iter().any(|stage| stage.name() == span.stage);
            self.spans.iter().filter(named).map(|span| span.time.clone()).collect::<Vec<_>>()
        };
        let ready = of(&[Stage::Sample, Stage::Memory, Stage::Complete]);
        // In sequence: the trainer does one thing at a time.
        let trained = of(&[Stage::Compute, Stage::Exchange, Stage::WriteBack]);
        let beside = |time: &Range<f64>| {
            let first = trained.partition_point(|other| other.end <= time.start);
            let meeting = trained[first..].iter().take_while(|other| other.start < time.end);
            meeting.map(|other| other.end.min(time.end) - other.start.max(time.start)).sum::<f64>()
        };
        let all: f64 = ready.iter().map(|time| time.end - time.start).sum();
        (all / 1e6, ready.iter().map(beside).sum::<f64>() / 1e6)
    }
}
