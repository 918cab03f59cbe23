//! TLS with certificates that may be renewed while the server runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// The section `tls` of a server's settings. Without `cert` and `key`, connections are not encrypted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSpec {
    /// PEM file of the server's certificate, followed by the certificates that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// PEM file of the authorities that sign clients' certificates. With it, clients without a certificate are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// How often the files of `cert` and `key` are checked for newer ones, in seconds.
    pub reload_seconds: u64,
}

impl Default for TlsSpec {
    fn default() -> TlsSpec {
        TlsSpec { cert: None, key: None, client_ca: None, reload_seconds: 10 }
    }
}

impl TlsSpec {
    /// # Errors
    /// A sentence naming the key and its value.
    pub(crate) fn check(&self) -> Result<(), String> {
        match (&self.cert, &self.key, &self.client_ca) {
            (Some(_), None, _) => Err("tls.cert is given without tls.key".into()),
            (None, Some(_), _) => Err("tls.key is given without tls.cert".into()),
            (None, None, Some(_)) => Err("tls.client_ca is given without tls.cert and tls.key".into()),
            _ if self.reload_seconds == 0 => Err("tls.reload_seconds = 0; it is at least 1".into()),
            _ => Ok(()),
        }
    }
}

/// A server's certificate, and its renewal.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<ReloadableCertificate>,
    every: Duration,
}

/// The certificate of new connections.
#[derive(Debug)]
struct ReloadableCertificate {
    cert: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Tls {
    /// Reads the files; `None` where the spec names none.
    ///
    /// # Errors
    /// A sentence naming the file and its fault.
    pub fn open(spec: &TlsSpec) -> Result<Option<Tls>, String> {
        spec.check()?;
        let (Some(cert), Some(key)) = (&spec.cert, &spec.key) else { return Ok(None) };
        let provider = Arc::new(ring::default_provider());
        let now = RwLock::new(Arc::new(certified(cert, key, &provider)?));
        let certificate = Arc::new(ReloadableCertificate { cert: cert.clone(), key: key.clone(), now });
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = match &spec.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| format!("tls.client_ca {}: {error}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| format!("tls.client_ca {}: {error}", path.display()))?,
                )
            }
        };
        let mut config = builder.with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Tls { config: Arc::new(config), certificate, every: Duration::from_secs(spec.reload_seconds) }))
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }

    /// Checks for a newer certificate, every few seconds and at SIGHUP. An invalid one is logged, and the current one
    /// stays.
    pub async fn renew(&self) {
        let mut seen = self.certificate.changed();
        let mut hangup = Sighup::listen();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = hangup.recv() => {}
            }
            let now = self.certificate.changed();
            if now == seen {
                continue;
            }
            seen = now;
            match self.certificate.read() {
                Ok(()) => {
                    tracing::info!(cert = %self.certificate.cert.display(), "a newer certificate is used from now on")
                }
                Err(error) => tracing::error!(error, "a newer certificate will not do; the one before is used still"),
            }
        }
    }
}

/// SIGHUP, which asks to check the files at once, where the system has it.
struct Sighup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Sighup {
    #[cfg(unix)]
    fn listen() -> Sighup {
        // Without the signal, the files are still checked at intervals.
        Sighup { signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok() }
    }

    #[cfg(not(unix))]
    fn listen() -> Sighup {
        Sighup {}
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

impl ReloadableCertificate {
    /// The times of the files' last changes; `None` where they are unknown.
    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.cert, &self.key].map(|path| fs::metadata(path).and_then(|facts| facts.modified()).ok())
    }

    fn read(&self) -> Result<(), String> {
        let newer = certified(&self.cert, &self.key, &ring::default_provider())?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
        Ok(())
    }
}

impl ResolvesServerCert for ReloadableCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |fact: String| format!("{}: {fact}", path.display());
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?.collect();
    let read = read.map_err(|error| wrong(error.to_string()))?;
    if read.is_empty() { Err(wrong("holds no certificate".into())) } else { Ok(read) }
}

fn certified(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates(cert)?;
    let wrong = |fact: String| format!("{}: {fact}", key.display());
    let der = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(error.to_string()))?;
    // Refuses a key that does not belong to the certificate.
    CertifiedKey::from_der(chain, der, provider)
        .map_err(|error| wrong(format!("does not go with {}: {error}", cert.display())))
}
