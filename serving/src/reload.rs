//! Reads again what can be read again while the server runs: tokens, certificates, and what web pages may do.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::access::live::Access;
use crate::interface::server::Server;
use crate::spec::ServeSpec;

/// Reads the settings again, from where they came.
pub(crate) type Reread = Arc<dyn Fn() -> Result<ServeSpec, String> + Send + Sync>;

/// The sections that are read again. The others need a restart.
const LIVE: [&str; 3] = ["auth", "web", "tls"];

/// How long before the end of a certificate the log warns of it, and how often.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps tokens and certificates of a server as they are in their files.
pub(crate) struct Reloader {
    server: Arc<Server>,
    spec: ServeSpec,
    reread: Reread,
    /// The files as they were when they were last read.
    seen: Vec<Option<(SystemTime, u64)>>,
    warned: Option<Instant>,
}

impl Reloader {
    pub fn new(server: Arc<Server>, spec: &ServeSpec, reread: Reread) -> Reloader {
        let seen = watched(spec);
        Reloader { server, spec: spec.clone(), reread, seen, warned: None }
    }

    /// Looks at the files at intervals, and at SIGHUP reads the settings too. A fault is logged, and what was read
    /// before stays. Never ends.
    pub async fn run(mut self, mut hangup: Hangup) {
        loop {
            self.warn_of_expiry();
            let asked = tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(self.spec.tls.reload_seconds)) => false,
                () = hangup.recv() => true,
            };
            if asked {
                self.read_settings();
                self.server.audit.reopen();
            }
            let now = watched(&self.spec);
            if asked || now != self.seen {
                self.seen = now;
                self.read_files();
            }
        }
    }

    fn read_settings(&mut self) {
        tracing::info!("SIGHUP: settings, tokens and certificates are read again");
        match (self.reread)() {
            Ok(spec) => {
                let changed = needing_restart(&self.spec, &spec);
                if !changed.is_empty() {
                    let sections = changed.into_iter().collect::<Vec<_>>().join(", ");
                    tracing::warn!(sections, "these settings have changed too, and need a restart");
                }
                (self.spec.auth, self.spec.web, self.spec.tls) = (spec.auth, spec.web, spec.tls);
            }
            Err(error) => tracing::error!(error, "the settings cannot be read; those before are used still"),
        }
    }

    /// Tokens are taken although the certificates have a fault, and the other way round: a token that leaked must not
    /// stay because of another file.
    fn read_files(&mut self) {
        match Access::open(&self.spec.auth, &self.spec.web) {
            Ok(access) => {
                self.server.access.replace(access);
                tracing::info!(tokens = self.spec.auth.tokens.len(), "the tokens are read");
            }
            Err(error) => tracing::error!(error, "the tokens cannot be read; those before are used still"),
        }
        let Some(tls) = &self.server.tls else {
            if self.spec.tls.cert.is_some() {
                tracing::warn!("tls.cert and tls.key are new, and need a restart");
            }
            return;
        };
        match tls.read_again(&self.spec.tls) {
            Ok(()) => {
                self.warned = None;
                tracing::info!("the certificate is read; new connections use it");
            }
            Err(error) => tracing::error!(error, "the certificate will not do; the one before is used still"),
        }
    }

    fn warn_of_expiry(&mut self) {
        let Some(tls) = &self.server.tls else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(tls.not_after()).saturating_sub(now);
        if left > WARN_BEFORE || self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        if left.is_zero() {
            tracing::error!("the certificate has expired; clients that check it cannot connect");
        } else {
            tracing::warn!(hours = left.as_secs() / 3600, "the certificate expires soon");
        }
    }
}

/// Time and size of the files that certificates and tokens come from; `None` where there is no file.
fn watched(spec: &ServeSpec) -> Vec<Option<(SystemTime, u64)>> {
    let tls = [&spec.tls.cert, &spec.tls.key, &spec.tls.client_ca];
    let tokens = spec.auth.tokens.iter().map(|token| &token.file);
    let facts = |path: &PathBuf| fs::metadata(path).and_then(|facts| Ok((facts.modified()?, facts.len()))).ok();
    tls.into_iter().chain(tokens).flatten().map(facts).collect()
}

/// The sections that differ and are not read again.
fn needing_restart(before: &ServeSpec, after: &ServeSpec) -> BTreeSet<String> {
    let table = |spec| toml::Table::try_from(spec).unwrap_or_default();
    let (before, after) = (table(before), table(after));
    let names = before.keys().chain(after.keys()).filter(|name| !LIVE.contains(&name.as_str()));
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// SIGHUP, where the system has it. From its creation on the signal does not end the process.
pub(crate) struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    pub fn listen() -> Hangup {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = signal(SignalKind::hangup());
        // Without the signal, the files are still looked at.
        Hangup { signal: signal.inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be received")).ok() }
    }

    #[cfg(not(unix))]
    pub fn listen() -> Hangup {
        Hangup {}
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
