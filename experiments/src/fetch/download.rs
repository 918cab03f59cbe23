//! One file over HTTP, with as many attempts as it takes while they get anywhere.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::HumanBytes;

use crate::fetch::http::{Client, Reply};
use crate::fetch::part::Part;
use crate::fetch::progress::Progress;
use crate::fetch::{FetchError, Options};

const CHUNK: usize = 128 * 1024;
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A download to be made.
pub struct Download<'a> {
    /// Address of the file.
    pub url: &'a str,
    /// Its length by the table of sets.
    pub expected: Option<u64>,
    /// How to go about it.
    pub options: &'a Options,
    /// The observer of the progress.
    pub progress: &'a Progress,
}

impl Download<'_> {
    /// Brings the part file of `target` to its full length.
    pub fn complete(&self, target: &Path) -> Result<Part, FetchError> {
        let mut part = Part::open(target)?;
        if self.options.force {
            part.restart(None)?;
        }
        let client = Client::new(self.url, self.options.patience);
        let mut furthest = part.len();
        let mut fruitless = 0;
        while let Err(error) = self.attempt(&client, &mut part) {
            // Only new ground counts: a server that always starts over and always breaks off must not be asked forever.
            fruitless = if part.len() > furthest { 1 } else { fruitless + 1 };
            furthest = furthest.max(part.len());
            if !error.is_transient() {
                return Err(error);
            }
            if fruitless >= self.options.attempts {
                self.report_kept_bytes(&part);
                return Err(error);
            }
            self.pause(fruitless, &error, &part)?;
        }
        Ok(part)
    }

    /// One request and as much of its body as arrives.
    fn attempt(&self, client: &Client, part: &mut Part) -> Result<(), FetchError> {
        let mut reply = match client.get(self.url, part.resume())? {
            Some(reply) => reply,
            None => self.start_over(client, part)?,
        };
        let total = reply.length.map(|length| reply.from + length);
        if reply.from == 0 {
            if part.len() > 0 {
                self.progress.note(
                    "the server does not go on from where the last download stopped: starting from the first byte",
                );
            }
            part.restart(reply.version.take())?;
            self.compare_with_table(total);
        }
        self.progress.begin(self.name(), part.len(), total);
        let received = self.receive(&mut *reply.body, total, part);
        self.progress.end();
        received
    }

    fn start_over(&self, client: &Client, part: &mut Part) -> Result<Reply, FetchError> {
        self.progress.note("the file has changed on the server since the last download: starting from the first byte");
        part.restart(None)?;
        client.get(self.url, None)?.ok_or_else(|| FetchError::Protocol {
            url: self.url.to_owned(),
            reason: "the server answered with a part, though asked for the whole file".to_owned(),
        })
    }

    fn receive(&self, body: &mut dyn Read, total: Option<u64>, part: &mut Part) -> Result<(), FetchError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            self.check_stop(part)?;
            let count = body.read(&mut buffer).map_err(|error| self.truncated(part, total, error.to_string()))?;
            if count == 0 {
                break;
            }
            part.append(&buffer[..count])?;
            self.progress.advance(part.len());
        }
        match total {
            Some(total) if part.len() != total => Err(self.truncated(part, Some(total), String::new())),
            _ => Ok(()),
        }
    }

    /// Waits before the next attempt, twice as long after each one that gained nothing.
    fn pause(&self, fruitless: u32, error: &FetchError, part: &Part) -> Result<(), FetchError> {
        let wait = self.options.first_wait.saturating_mul(1 << (fruitless - 1).min(16)).min(LONGEST_WAIT);
        self.progress.note(&format!("{error}; trying again in {:.1} s", wait.as_secs_f64()));
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.check_stop(part)?;
            thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    fn check_stop(&self, part: &Part) -> Result<(), FetchError> {
        if self.options.stop.load(Ordering::Relaxed) {
            return Err(FetchError::Interrupted { part: part.path().to_path_buf(), kept: part.len() });
        }
        Ok(())
    }

    fn report_kept_bytes(&self, part: &Part) {
        if let Some(resume) = part.resume() {
            let kept = HumanBytes(resume.from);
            self.progress
                .note(&format!("{kept} are kept in {}: the same command goes on from there", part.path().display()));
        }
    }

    fn compare_with_table(&self, total: Option<u64>) {
        if let (Some(expected), Some(total)) = (self.expected, total)
            && expected != total
        {
            let (expected, total) = (HumanBytes(expected), HumanBytes(total));
            self.progress.note(&format!(
                "the server offers {total} where {expected} were known: the set may have been replaced"
            ));
        }
    }

    fn truncated(&self, part: &Part, expected: Option<u64>, reason: String) -> FetchError {
        FetchError::Truncated { url: self.url.to_owned(), received: part.len(), expected, reason }
    }

    fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(self.url)
    }
}
