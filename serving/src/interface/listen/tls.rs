//! TLS with certificates that may be renewed while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{CertificateError, RootCertStore, ServerConfig};

use crate::access::live::Live;

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
    /// How often the files of certificates and tokens are checked for newer ones, in seconds.
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

/// The certificates of a server, read again while it runs.
#[derive(Debug)]
pub(crate) struct Tls(Live<Loaded>);

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    not_after: u64,
}

impl Tls {
    /// Reads the files; `None` where the spec names none.
    ///
    /// # Errors
    /// A sentence naming the file and its fault, such as a certificate that has expired.
    pub fn open(spec: &TlsSpec) -> Result<Option<Tls>, String> {
        Ok(load(spec)?.map(|loaded| Tls(Live::new(loaded))))
    }

    /// Reads the files again. Connections that are open go on as they are.
    ///
    /// # Errors
    /// As [`open`](Tls::open), or that the spec names no files any more; the certificates before stay.
    pub fn read_again(&self, spec: &TlsSpec) -> Result<(), String> {
        let loaded = load(spec)?.ok_or("tls.cert and tls.key are gone; connections are encrypted until a restart")?;
        self.0.replace(loaded);
        Ok(())
    }

    /// How new connections are accepted.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.now().config.clone())
    }

    /// When the certificate expires, in seconds since 1970.
    pub fn not_after(&self) -> u64 {
        self.0.now().not_after
    }
}

fn load(spec: &TlsSpec) -> Result<Option<Loaded>, String> {
    spec.check()?;
    let (Some(cert), Some(key)) = (&spec.cert, &spec.key) else { return Ok(None) };
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(cert)?;
    let not_after = expiry(&chain, &provider).map_err(|fact| format!("tls.cert {}: {fact}", cert.display()))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = match &spec.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| format!("tls.client_ca {}: {error}", path.display());
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(&error))?)
        }
    };
    let own = Arc::new(SingleCertAndKey::from(certified(cert, chain, key, &provider)?));
    let mut config = builder.with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Loaded { config: Arc::new(config), not_after }))
}

/// When the first certificate of a chain expires, in seconds since 1970.
///
/// # Errors
/// That it has expired, is not valid yet, or is no certificate.
fn expiry(chain: &[CertificateDer<'static>], provider: &Arc<CryptoProvider>) -> Result<u64, String> {
    let [own, others @ ..] = chain else { return Err("holds no certificate".into()) };
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).map_err(|error| error.to_string())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    // The library reads the certificate, and looks at its times before anything else. Other faults, such as another
    // name or an unknown authority, are for clients to judge.
    let faults_at = |time: UnixTime| -> Result<Option<CertificateError>, String> {
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        match verifier.verify_server_cert(own, others, &name, &[], time) {
            Err(rustls::Error::InvalidCertificate(fault)) => Ok(Some(fault)),
            _ => Ok(None),
        }
    };
    let after_all = UnixTime::since_unix_epoch(Duration::from_secs(u64::from(u32::MAX) * 60));
    let not_after = match faults_at(after_all)? {
        Some(CertificateError::ExpiredContext { not_after, .. }) => not_after.as_secs(),
        Some(CertificateError::BadEncoding) => return Err("is no certificate".into()),
        // It is valid for some thousand years.
        _ => after_all.as_secs(),
    };
    let days = |from: u64, to: u64| to.saturating_sub(from) / (24 * 60 * 60);
    match faults_at(UnixTime::now())? {
        Some(CertificateError::ExpiredContext { time, not_after }) => Err(format!(
            "the certificate expired {} days ago; clients that check it cannot connect: give a newer one",
            days(not_after.as_secs(), time.as_secs())
        )),
        Some(CertificateError::NotValidYetContext { time, not_before }) => Err(format!(
            "the certificate is valid only in {} days and some hours; is the clock right?",
            days(time.as_secs(), not_before.as_secs())
        )),
        _ => Ok(not_after),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |fact: String| format!("{}: {fact}", path.display());
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?.collect();
    let read = read.map_err(|error| wrong(error.to_string()))?;
    if read.is_empty() { Err(wrong("holds no certificate".into())) } else { Ok(read) }
}

fn certified(
    cert: &Path,
    chain: Vec<CertificateDer<'static>>,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let wrong = |fact: String| format!("{}: {fact}", key.display());
    let der = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(error.to_string()))?;
    // Refuses a key that does not belong to the certificate.
    CertifiedKey::from_der(chain, der, provider)
        .map_err(|error| wrong(format!("does not go with {}: {error}", cert.display())))
}
