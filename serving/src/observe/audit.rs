//! The audit log: who administered the server or retracted events, from where and with what outcome, and who was
//! refused.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The section `audit` of a server's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSpec {
    /// A file to which the lines are appended as JSON; left out, they are only among the other lines of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// One line of the audit log.
#[derive(Debug, Serialize)]
pub(crate) struct AuditEntry<'a> {
    /// The path of HTTP, or the method of gRPC.
    pub action: &'a str,
    /// The name of the token, if one was known.
    pub by: Option<&'a str>,
    /// The address of the client.
    pub address: Option<String>,
    /// `done`, `refused`, `denied` (no token or no role), or `abandoned` (the client left; the work may be done still).
    pub outcome: &'static str,
    /// The status over HTTP, or the code over gRPC.
    pub status: Option<String>,
    /// The reason of a refusal.
    pub error: Option<String>,
    /// What the request named, such as an artifact.
    #[serde(flatten)]
    pub details: Map<String, Value>,
    pub micros: u64,
}

/// What a handler adds to the audit log about its request.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditDetails(Arc<Mutex<Map<String, Value>>>);

impl AuditDetails {
    pub fn note(&self, name: &str, value: impl Into<Value>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), value.into());
    }

    pub fn take(&self) -> Map<String, Value> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes the audit log.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Lines for the file's thread; a line without text asks it to open the file again.
    file: Option<mpsc::Sender<Option<String>>>,
    denied: Mutex<Denied>,
}

/// Most lines a second about callers who were denied, so that they cannot fill the disk. The others are counted.
const DENIED: u32 = 20;

#[derive(Debug)]
struct Denied {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Audit {
    /// Opens the file, if the settings name one.
    ///
    /// # Errors
    /// A sentence naming the file.
    pub fn open(spec: &AuditSpec) -> Result<Audit, String> {
        let denied = Mutex::new(Denied { since: Instant::now(), lines: 0, left_out: 0 });
        let Some(path) = spec.file.clone() else { return Ok(Audit { file: None, denied }) };
        let file = open(&path)?;
        let (lines, waiting) = mpsc::channel();
        let write = move || write_lines(&path, file, &waiting);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(write)
            .map_err(|error| format!("audit.file: {error}"))?;
        Ok(Audit { file: Some(lines), denied })
    }

    /// Opens the file again, as a program wants that has moved it away.
    pub fn reopen(&self) {
        self.write_line(None);
    }

    pub fn record(&self, entry: &AuditEntry<'_>) {
        let denied = entry.outcome == "denied";
        if denied && !self.has_room() {
            return;
        }
        let details = Value::Object(entry.details.clone()).to_string();
        let AuditEntry { action, by, address, outcome, status, error, micros, .. } = entry;
        let (address, status, error) = (address.as_deref(), status.as_deref(), error.as_deref());
        if denied {
            tracing::warn!(target: "audit", action, by, address, outcome, status, error, "a caller was denied");
        } else {
            tracing::info!(target: "audit", action, by, address, outcome, status, error, details, micros, "a privileged request");
        }
        if self.file.is_some()
            && let Ok(Value::Object(fields)) = serde_json::to_value(entry)
        {
            self.write_fields(fields);
        }
    }

    /// Whether a line about a denied caller may be written in this second.
    fn has_room(&self) -> bool {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        if denied.since.elapsed() >= Duration::from_secs(1) {
            let left_out = std::mem::take(&mut denied.left_out);
            (denied.since, denied.lines) = (Instant::now(), 0);
            if left_out > 0 {
                tracing::warn!(target: "audit", left_out, "more callers were denied than lines are written");
                let fields = [("outcome", "denied".into()), ("left_out", left_out.into())];
                self.write_fields(
                    fields.map(|(name, value): (_, Value)| (name.to_string(), value)).into_iter().collect(),
                );
            }
        }
        denied.lines += 1;
        let room = denied.lines <= DENIED;
        denied.left_out += u64::from(!room);
        room
    }

    fn write_fields(&self, fields: Map<String, Value>) {
        let time = [("time".to_string(), Value::String(now()))];
        // Empty fields say nothing.
        let all: Map<String, Value> = time.into_iter().chain(fields).filter(|(_, value)| !value.is_null()).collect();
        self.write_line(Some(Value::Object(all).to_string()));
    }

    fn write_line(&self, line: Option<String>) {
        if let Some(file) = &self.file {
            // The thread lives as long as the sender.
            let _ = file.send(line);
        }
    }
}

/// The time of day in UTC, as RFC 3339 has it.
fn now() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn open(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| format!("audit.file {}: {error}", path.display()))
}

fn write_lines(path: &Path, mut file: File, waiting: &mpsc::Receiver<Option<String>>) {
    while let Ok(line) = waiting.recv() {
        let Some(line) = line else {
            match open(path) {
                Ok(again) => file = again,
                Err(error) => tracing::error!(error, "the audit log goes on in the file that was open"),
            }
            continue;
        };
        // One write a line, so that lines of several writers do not mix.
        if let Err(error) = file.write_all((line + "\n").as_bytes()) {
            tracing::error!(%error, file = %path.display(), "a line of the audit log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(outcome: &'static str) -> AuditEntry<'static> {
        let details = [("artifact".to_string(), Value::from("/a"))].into_iter().collect();
        AuditEntry {
            action: "/admin/reload",
            by: Some("chief"),
            address: None,
            outcome,
            status: Some("200".into()),
            error: None,
            details,
            micros: 7,
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn until(path: &Path, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        while lines(path).len() < count {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", lines(path));
            std::thread::sleep(Duration::from_millis(5));
        }
        lines(path)
    }

    #[test]
    fn a_line_has_what_the_request_named_and_a_moved_file_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&AuditSpec { file: Some(path.clone()) }).unwrap();
        audit.record(&entry("done"));
        let line = &until(&path, 1)[0];
        assert_eq!((&line["artifact"], &line["by"], &line["outcome"]), (&"/a".into(), &"chief".into(), &"done".into()));
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line.get("error").is_none(), "{line}");
        let moved = folder.path().join("audit.1");
        std::fs::rename(&path, &moved).unwrap();
        audit.reopen();
        audit.record(&entry("refused"));
        while !path.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(until(&path, 1)[0]["outcome"], "refused");
        assert_eq!(lines(&moved).len(), 1);
        let missing = AuditSpec { file: Some(folder.path().join("no/such/folder")) };
        assert!(Audit::open(&missing).unwrap_err().contains("audit.file"));
    }

    #[test]
    fn denied_callers_cannot_fill_the_disk_and_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&AuditSpec { file: Some(path.clone()) }).unwrap();
        for _ in 0..1000 {
            audit.record(&entry("denied"));
        }
        std::thread::sleep(Duration::from_millis(1100));
        audit.record(&entry("denied"));
        audit.record(&entry("done"));
        let mut said = until(&path, 2);
        while said.last().unwrap()["outcome"] != "done" {
            said = lines(&path);
        }
        let left_out: u64 = said.iter().filter_map(|line| line["left_out"].as_u64()).sum();
        let denied = said.iter().filter(|line| line["action"].is_string() && line["outcome"] == "denied").count();
        assert_eq!((denied as u64 + left_out, denied < 100), (1001, true), "{} lines", said.len());
    }
}
