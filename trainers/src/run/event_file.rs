//! TensorBoard's event files: records of protocol buffers, each with its length and two checksums.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file that is being written.
pub(crate) struct EventFile {
    to: BufWriter<File>,
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
        // Names of one second and process are told apart by the last number.
        let free = (0..).map(|n| folder.join(format!("{PREFIX}{seconds:010}.{}.{process}.{n}", host())));
        let mut file = Err(std::io::ErrorKind::AlreadyExists.into());
        for path in free.take(1000) {
            file = File::options().write(true).create_new(true).open(path);
            if !file.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        let mut file = EventFile { to: BufWriter::new(file?) };
        let mut first = Vec::new();
        double(&mut first, 1, now());
        bytes(&mut first, 3, b"brain.Event:2");
        file.record(&first)?;
        file.flush()?;
        Ok(file)
    }

    /// One number.
    pub fn scalar(&mut self, tag: &str, value: f32, step: usize) -> Result<()> {
        let mut told = Vec::new();
        bytes(&mut told, 1, tag.as_bytes());
        key(&mut told, 2, 5);
        told.extend(value.to_le_bytes());
        self.summary(&told, step)
    }

    /// Counts of values.
    pub fn histogram(&mut self, tag: &str, histogram: &Histogram<'_>, step: usize) -> Result<()> {
        let Histogram { range: [least, most], sum, sum_of_squares, limits, counts } = *histogram;
        let mut counted = Vec::new();
        let all = counts.iter().sum();
        for (field, value) in (1..).zip([least, most, all, sum, sum_of_squares]) {
            double(&mut counted, field, value);
        }
        for (field, values) in [(6, limits), (7, counts)] {
            let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            bytes(&mut counted, field, &packed);
        }
        let mut told = Vec::new();
        bytes(&mut told, 1, tag.as_bytes());
        bytes(&mut told, 5, &counted);
        self.summary(&told, step)
    }

    pub fn flush(&mut self) -> Result<()> {
        self.to.flush()
    }

    fn summary(&mut self, value: &[u8], step: usize) -> Result<()> {
        let (mut summary, mut event) = (Vec::new(), Vec::new());
        bytes(&mut summary, 1, value);
        double(&mut event, 1, now());
        key(&mut event, 2, 0);
        varint(&mut event, step as u64);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        for part in [&length[..], &masked(&length), data, &masked(data)] {
            self.to.write_all(part)?;
        }
        Ok(())
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

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn key(to: &mut Vec<u8>, field: u64, kind: u64) {
    varint(to, field << 3 | kind);
}

fn double(to: &mut Vec<u8>, field: u64, value: f64) {
    key(to, field, 1);
    to.extend(value.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(to, field, 2);
    varint(to, value.len() as u64);
    to.extend(value);
}

/// CRC-32C, turned and shifted as the format wants it.
fn masked(data: &[u8]) -> [u8; 4] {
    let crc = crc32c(data);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_record_has_its_length_and_its_checksums() {
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
            assert_eq!(written[at + 8..at + 12], masked(&length));
            at += 12 + data.len();
            assert_eq!(written[at..at + 4], masked(data));
            at += 4;
            records.push(data);
        }
        assert!(records[0].ends_with(b"brain.Event:2"));
        // Step 300, then the summary: tag and value.
        let scalar = [b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15".as_slice(), &0.5f32.to_le_bytes()].concat();
        assert_eq!(records[1][9..], scalar);
    }
}
