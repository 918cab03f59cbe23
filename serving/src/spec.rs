//! A server's settings: a TOML file where every key has a default.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tempograph_framework::{apply_override, explain_toml};

use crate::access::auth::AuthSpec;
use crate::access::limits::LimitsSpec;
use crate::access::web::WebSpec;
use crate::engine::EngineSpec;
use crate::interface::listen::ListenSpec;
use crate::interface::listen::tls::TlsSpec;
use crate::log::LogSpec;
use crate::observe::audit::AuditSpec;
use crate::observe::trace::{LoggingSpec, TracesSpec};
use crate::schedule::SchedulerSpec;
use crate::service::{BudgetSpec, EventTimeSpec, Late, ServiceSpec, SnapshotSpec};

/// A server's settings. Unknown keys are refused; [`SERVE_TEMPLATE`] explains every key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSpec {
    /// How events that are older than the newest event are handled.
    pub late: Late,
    /// Bounds on the times of events, and how long they wait.
    pub event_time: EventTimeSpec,
    /// The addresses that the server listens on.
    pub listen: ListenSpec,
    /// Encryption of connections.
    pub tls: TlsSpec,
    /// What each caller may do.
    pub auth: AuthSpec,
    /// What web pages may do.
    pub web: WebSpec,
    /// The audit log.
    pub audit: AuditSpec,
    /// Bounds on the requests of clients.
    pub limits: LimitsSpec,
    /// The log of record.
    pub log: LogSpec,
    /// Snapshots.
    pub snapshots: SnapshotSpec,
    /// Budgets of nodes, memory and disk.
    pub budget: BudgetSpec,
    /// The engine's caches and limits.
    pub engine: EngineSpec,
    /// How reads are scheduled.
    pub scheduler: SchedulerSpec,
    /// Log lines.
    pub logging: LoggingSpec,
    /// Traces.
    pub traces: TracesSpec,
}

/// A spec with every key, its default and its meaning. `tempograph new --serve` writes it.
pub const SERVE_TEMPLATE: &str = include_str!("serve_template.toml");

impl ServeSpec {
    /// Reads a spec file, or the defaults without one, and overrides its keys with `sets`: `key=value` with dotted
    /// keys.
    ///
    /// # Errors
    /// Names the file, the position and the value, and for an unknown key the nearest known key.
    pub fn read(path: Option<&Path>, sets: &[String]) -> Result<ServeSpec, String> {
        let Some(path) = path else { return ServeSpec::parse("", sets) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the spec {}: {error}", path.display()))?;
        ServeSpec::parse(&text, sets).map_err(|error| format!("in the spec {}: {error}", path.display()))
    }

    /// Parses a spec's text and overrides its keys with `sets`.
    ///
    /// # Errors
    /// As [`read`](ServeSpec::read).
    pub fn parse(text: &str, sets: &[String]) -> Result<ServeSpec, String> {
        // The file is parsed alone first, so that its errors name line and column.
        let spec: ServeSpec = toml::from_str(text).map_err(|error| explain_toml(&error))?;
        if sets.is_empty() {
            return spec.checked();
        }
        let mut table: toml::Table = toml::from_str(text).map_err(|error| explain_toml(&error))?;
        for set in sets {
            apply_override(&mut table, set).map_err(|error| format!("--set {set}: {error}"))?;
        }
        let laid: Result<ServeSpec, _> = table.try_into();
        let after = |error: String| format!("after --set {}: {error}", sets.join(" --set "));
        laid.map_err(|error| after(explain_toml(&error)))?.checked().map_err(after)
    }

    /// The part of the settings that the service reads.
    pub fn service(&self) -> ServiceSpec {
        ServiceSpec {
            log: self.log.clone(),
            snapshots: self.snapshots.clone(),
            late: self.late,
            event_time: self.event_time.clone(),
            budget: self.budget.clone(),
            engine: self.engine.clone(),
        }
    }

    fn checked(self) -> Result<ServeSpec, String> {
        self.auth.check()?;
        self.tls.check()?;
        self.web.check()?;
        self.limits.check()?;
        self.engine.check()?;
        self.event_time.check()?;
        self.logging.check()?;
        self.traces.check()?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    #[test]
    fn the_template_says_the_defaults() {
        // The keys without a default are commented out in the template.
        assert_eq!(ServeSpec::parse(SERVE_TEMPLATE, &[]).unwrap(), ServeSpec::default());
    }

    #[test]
    fn the_template_explains_every_key() {
        let all = toml::Table::try_from(ServeSpec::default()).unwrap();
        let lines: Vec<&str> = SERVE_TEMPLATE.lines().map(|line| line.trim_start_matches("# ")).collect();
        let submitted_text = |key: &str| lines.iter().any(|line| line.starts_with(&format!("{key} =")));
        for (section, value) in &all {
            let Some(keys) = value.as_table() else {
                assert!(submitted_text(section), "{section} is not in the template");
                continue;
            };
            assert!(SERVE_TEMPLATE.contains(&format!("[{section}]")), "[{section}] is not in the template");
            keys.keys().for_each(|key| assert!(submitted_text(key), "{section}.{key} is not in the template"));
        }
        for optional in [
            "cert",
            "key",
            "client_ca",
            "grpc",
            "dir",
            "endpoint",
            "anonymous",
            "sha256",
            "env",
            "file",
            "probes",
            "hosts",
        ] {
            assert!(submitted_text(optional), "{optional} is not in the template");
        }
    }

    #[test]
    fn settings_commented_out_in_the_template_are_valid() {
        let shown = SERVE_TEMPLATE.replace("# [[auth", "[[auth");
        let keys = ["name", "roles", "sha256", "grpc", "cert", "key", "client_ca", "dir", "anonymous"];
        let lines: Vec<String> = shown
            .lines()
            .map(|line| {
                let bare = line.trim_start_matches("# ");
                let is_key = keys.iter().any(|key| bare.starts_with(&format!("{key} =")));
                if is_key { bare.to_string() } else { line.to_string() }
            })
            .collect();
        let spec = ServeSpec::parse(&lines.join("\n"), &[]).unwrap();
        assert!(spec.tls.cert.is_some() && spec.listen.grpc.is_some() && !spec.auth.tokens.is_empty());
    }

    #[test]
    fn settings_lie_over_the_file_and_what_is_written_reads_back() {
        let sets =
            ["listen.http=0.0.0.0:80", "limits.events=10", "late=apply-now", "logging.format=json"].map(String::from);
        let spec = ServeSpec::parse("[limits]\nevents = 20\npairs = 30\n", &sets).unwrap();
        assert_eq!((spec.limits.events, spec.limits.pairs, spec.listen.http.port()), (10, 30, 80));
        assert_eq!(ServeSpec::parse(&toml::to_string(&spec).unwrap(), &[]).unwrap(), spec);
    }

    proptest! {
        #[test]
        fn spoilt_settings_are_read_or_refused_and_never_a_panic(at in any::<Index>(), cut in 0usize..30, put in "[ -~\n]{0,12}") {
            let mut text: Vec<char> = SERVE_TEMPLATE.replace("\n# ", "\n").chars().collect();
            let from = at.index(text.len());
            text.splice(from..(from + cut).min(text.len()), put.chars());
            let _ = ServeSpec::parse(&text.into_iter().collect::<String>(), &[]);
            let _ = ServeSpec::parse("", &[put]);
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        for (text, near) in
            [("[limits]\nevnets = 1", "events"), ("[lisen]\n", "listen"), ("late = \"rejct\"", "reject")]
        {
            let error = ServeSpec::parse(text, &[]).unwrap_err();
            assert!(error.contains(&format!("did you mean `{near}`?")), "{error}");
        }
        let error = ServeSpec::parse("", &["limits.boddy_bytes=1".into()]).unwrap_err();
        assert!(
            error.contains("did you mean `body_bytes`?") && error.contains("--set limits.boddy_bytes=1"),
            "{error}"
        );
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (text, says) in [
            ("[limits]\nevents = 0", "limits.events = 0"),
            ("[limits]\npairs = 50001", "limits.pairs = 50001"),
            ("[limits]\nwait_ms = 0", "limits.wait_ms = 0"),
            ("[tls]\ncert = \"x\"", "tls.cert is given without tls.key"),
            ("[auth]\nanonymous = [\"admin\"]", "auth.anonymous"),
            ("[listen]\nhttp = \"nowhere\"", "invalid socket address"),
        ] {
            let error = ServeSpec::parse(text, &[]).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
