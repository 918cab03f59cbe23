//! TensorBoard's event files, by the records and messages of `tensorboard-rs`.
//!
//! Its own writer has a thread that panics where the disk is full; here an error is returned.

use std::fs::File;
use std::io::{BufWriter, Error, Result};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use protobuf::Message;
use tensorboard_proto::event::Event;
use tensorboard_proto::summary::Summary;
use tensorboard_rs::record_writer::RecordWriter;
use tensorboard_rs::summary::{histogram_raw, scalar};

/// An event file that is being written.
pub(crate) struct EventFile {
    to: RecordWriter<BufWriter<File>>,
}

/// A histogram of counts: `counts[i]` values are at most `limits[i]` and above the limit before.
pub(crate) struct Histogram<'a> {
    pub range: [f64; 2],
    pub sum: f64,
    pub sum_of_squares: f64,
    pub limits: &'a [f64],
    pub counts: &'a [f64],
}

impl EventFile {
    /// Begins a file of this process in `folder`, which is made where it is not there.
    pub fn create(folder: &Path) -> Result<EventFile> {
        std::fs::create_dir_all(folder)?;
        let (seconds, process) = (now() as u64, std::process::id());
        // Names of one second and process differ in the last number.
        let free = (0..).map(|n| folder.join(format!("{PREFIX}{seconds:010}.{}.{process}.{n}", host())));
        let mut file = Err(std::io::ErrorKind::AlreadyExists.into());
        for path in free.take(1000) {
            file = File::options().write(true).create_new(true).open(path);
            if !file.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        let mut file = EventFile { to: RecordWriter::new(BufWriter::new(file?)) };
        let mut first = Event::new();
        first.set_file_version("brain.Event:2".into());
        file.record(first)?;
        file.flush()?;
        Ok(file)
    }

    /// One number.
    pub fn scalar(&mut self, tag: &str, value: f32, step: usize) -> Result<()> {
        self.summary(scalar(tag, value), step)
    }

    /// Counts of values.
    pub fn histogram(&mut self, tag: &str, histogram: &Histogram<'_>, step: usize) -> Result<()> {
        let Histogram { range: [least, most], sum, sum_of_squares, limits, counts } = *histogram;
        let all = counts.iter().sum();
        self.summary(histogram_raw(tag, least, most, all, sum, sum_of_squares, limits, counts), step)
    }

    pub fn flush(&mut self) -> Result<()> {
        self.to.flush()
    }

    fn summary(&mut self, summary: Summary, step: usize) -> Result<()> {
        let mut event = Event::new();
        event.set_step(step as i64);
        event.set_summary(summary);
        self.record(event)
    }

    fn record(&mut self, mut event: Event) -> Result<()> {
        event.set_wall_time(now());
        self.to.write(&event.write_to_bytes().map_err(Error::other)?)
    }
}

/// How the names of event files begin.
pub(crate) const PREFIX: &str = "events.out.tfevents.";

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The machine's name as far as a file's name can have it.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if plain.is_empty() { "host".into() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_record_for_each_number() {
        let folder = std::env::temp_dir().join(format!("tempograph-event-file-{}", std::process::id()));
        let mut file = EventFile::create(&folder).unwrap();
        file.scalar("loss", 0.5, 300).unwrap();
        file.flush().unwrap();
        let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let written = std::fs::read(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < written.len() {
            let length: [u8; 8] = written[at..at + 8].try_into().unwrap();
            let data = &written[at + 12..at + 12 + u64::from_le_bytes(length) as usize];
            at += 12 + data.len();
            at += 4;
            records.push(data);
        }
        assert!(records[0].ends_with(b"brain.Event:2"));
        // Step 300, then the summary: tag and value.
        let scalar = [b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15".as_slice(), &0.5f32.to_le_bytes()].concat();
        assert_eq!(records[1][9..], scalar);
    }
}
