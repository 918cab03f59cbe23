//! Which stage worked on which batch when, in Chrome's trace format.
//!
//! Open the file in `chrome://tracing` or <https://ui.perfetto.dev>.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A stage of training a batch, as a trace names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Drawing negatives, looking up neighbours, numbering the distinct nodes.
    Sample,
    /// Reading the features of what was sampled.
    Features,
    /// Reading memories and mail.
    Memory,
    /// Waiting for a batch that is not ready.
    Wait,
    /// Reading again what was written since the memories were read.
    Refresh,
    /// Forward pass, backward pass and the optimiser's step.
    Compute,
    /// Writing memories, mail and neighbours.
    WriteBack,
}

impl Stage {
    /// Its name in a trace.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Sample => "sample",
            Stage::Features => "features",
            Stage::Memory => "memory",
            Stage::Wait => "wait",
            Stage::Refresh => "refresh",
            Stage::Compute => "compute",
            Stage::WriteBack => "write back",
        }
    }
}

/// A timeline that is written as it comes about.
#[derive(Debug)]
pub struct Trace {
    began: Instant,
    process: usize,
    file: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    to: BufWriter<File>,
    /// Names of the threads that have noted something; a thread's number is its place.
    threads: Vec<String>,
    /// What has gone wrong first.
    failed: Result<()>,
}

impl Trace {
    /// Begins a timeline of process number `process` in the file at `path`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path, process: usize) -> Result<Trace> {
        let mut to = BufWriter::new(File::create(path)?);
        to.write_all(b"[")?;
        Ok(Trace { began: Instant::now(), process, file: Mutex::new(Lines { to, threads: Vec::new(), failed: Ok(()) }) })
    }

    /// Notes that this thread has worked in `stage` on the batch begun at `step` from `from` until now.
    pub fn note(&self, stage: Stage, step: u64, from: Instant) {
        let until = Instant::now();
        let [from, until] = [from, until].map(|moment| moment.saturating_duration_since(self.began).as_secs_f64() * 1e6);
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
    /// The first that went wrong since it was begun.
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
        // The threads of the trainer's pool take turns at one timeline.
        let name = thread.name().filter(|name| ["sample", "memory"].contains(name)).unwrap_or("train");
        if let Some(number) = self.threads.iter().position(|known| known == name) {
            return number;
        }
        let number = self.threads.len();
        self.write(&format!(r#"{{"name":"thread_name","ph":"M","pid":{process},"tid":{number},"args":{{"name":"{name}"}}}}"#));
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
