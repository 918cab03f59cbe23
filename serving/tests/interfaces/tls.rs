//! Encrypted connections, with certificates that the test creates.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Running, World, small};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempograph_serving::ServeSpec;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for `localhost` and its key.
fn issue(authority: &Authority, folder: &Path, name: &str) {
    issue_for(authority, folder, name, 2000, 4000);
}

/// The same, valid from the year `from` to the year `to`.
fn issue_for(authority: &Authority, folder: &Path, name: &str, from: i32, to: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
}

fn spec(folder: &Path) -> ServeSpec {
    let mut spec = ServeSpec::default();
    spec.tls.cert = Some(folder.join("server.pem"));
    spec.tls.key = Some(folder.join("server.key"));
    spec.tls.reload_seconds = 1;
    spec
}

/// The answer of `GET /health/live` to a client that trusts `authority` and has the certificate `own`.
fn ask(address: SocketAddr, authority: &Authority, own: Option<&Path>) -> std::io::Result<String> {
    ask_for(address, authority, own, "/health/live")
}

fn ask_for(address: SocketAddr, authority: &Authority, own: Option<&Path>, path: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(folder) => {
            let chain = vec![CertificateDer::from_pem_file(folder.join("client.pem")).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(folder.join("client.key")).unwrap())
                .unwrap()
        }
    };
    let mut connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(address)?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(crate::common::request("GET", path, "").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_server_with_a_certificate_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (known, stranger) = (authority(), authority());
    issue(&known, folder.path(), "server");
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec(folder.path()));
    assert!(ask(server.address, &known, None).unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(server.address, &stranger, None).unwrap_err().to_string().contains("invalid peer certificate"));
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.write_all(crate::common::request("GET", "/health/live", "").as_bytes()).unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));
}

#[test]
fn a_newer_certificate_is_taken_while_the_server_runs_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (authority(), authority());
    issue(&first, folder.path(), "server");
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec(folder.path()));
    assert!(ask(server.address, &first, None).is_ok());
    fs::write(folder.path().join("server.pem"), "no certificate").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(ask(server.address, &first, None).is_ok(), "the one before is used still");
    issue(&second, folder.path(), "server");
    let begun = Instant::now();
    while ask(server.address, &second, None).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the newer certificate is not used");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(ask(server.address, &first, None).is_err());
}

#[test]
fn clients_without_a_certificate_are_refused_where_one_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    issue(&authority, folder.path(), "server");
    issue(&authority, folder.path(), "client");
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let mut spec = spec(folder.path());
    spec.tls.client_ca = Some(folder.path().join("ca.pem"));
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec);
    assert!(ask(server.address, &authority, Some(folder.path())).unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(server.address, &authority, None).is_err());
}

#[test]
fn certificates_that_will_not_do_are_named_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let one = authority();
    issue(&one, folder.path(), "server");
    issue(&one, folder.path(), "other");
    let world = World::new(&small(), 0);
    world.engine();
    let refusal = |cert: &str, key: &str| {
        let mut spec = spec(folder.path());
        spec.listen.http = "127.0.0.1:0".parse().unwrap();
        spec.log.kind = tempograph_serving::LogKind::Memory;
        (spec.tls.cert, spec.tls.key) = (Some(folder.path().join(cert)), Some(folder.path().join(key)));
        tempograph_serving::serve(&world.folder(), &spec).unwrap_err().to_string()
    };
    assert!(refusal("missing.pem", "server.key").contains("missing.pem"));
    assert!(refusal("server.key", "server.key").contains("server.key: holds no certificate"));
    assert!(refusal("server.pem", "other.key").contains("does not go with"));
}

#[test]
fn a_certificate_that_has_expired_or_is_not_valid_yet_is_refused_and_one_that_will_expire_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    issue_for(&authority, folder.path(), "server", 2001, 2002);
    let world = World::new(&small(), 0);
    world.engine();
    let mut spec = spec(folder.path());
    spec.listen.http = "127.0.0.1:0".parse().unwrap();
    spec.log.kind = tempograph_serving::LogKind::Memory;
    let error = tempograph_serving::serve(&world.folder(), &spec).unwrap_err().to_string();
    assert!(error.contains("server.pem") && error.contains("expired") && error.contains("days ago"), "{error}");
    issue_for(&authority, folder.path(), "server", 3001, 3002);
    let error = tempograph_serving::serve(&world.folder(), &spec).unwrap_err().to_string();
    assert!(error.contains("valid only in"), "{error}");
    issue_for(&authority, folder.path(), "server", 2001, 2100);
    let server = Running::with(&world, &spec);
    let metrics = ask_for(server.address, &authority, None, "/metrics").unwrap();
    // The first second of the year 2100.
    assert!(metrics.contains("tempograph_certificate_not_after_seconds 4102444800"), "{metrics}");
    // While it runs, an expired one is not taken.
    issue_for(&authority, folder.path(), "server", 2001, 2003);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(ask(server.address, &authority, None).is_ok(), "the one before is used still");
}

#[test]
fn newer_authorities_of_clients_are_taken_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (authority(), authority());
    issue(&first, folder.path(), "server");
    issue(&second, folder.path(), "client");
    fs::write(folder.path().join("ca.pem"), first.pem()).unwrap();
    let mut spec = spec(folder.path());
    spec.tls.client_ca = Some(folder.path().join("ca.pem"));
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec);
    assert!(ask(server.address, &first, Some(folder.path())).is_err());
    fs::write(folder.path().join("ca.pem"), second.pem() + &first.pem()).unwrap();
    let begun = Instant::now();
    while ask(server.address, &first, Some(folder.path())).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the newer authority is not used");
        std::thread::sleep(Duration::from_millis(50));
    }
}
