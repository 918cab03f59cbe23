//! Roles of callers, over HTTP and gRPC.

use std::time::{Duration, Instant};

use crate::common::grpc::Grpc;
use crate::common::service::with_ids;
use crate::common::{Running, SEEN, World, small};
use serde_json::{Value, json};
use tempograph_serving::proto::tempograph::{DrainRequest, EventsRequest, ModelRequest, ReloadRequest, RetractRequest};
use tempograph_serving::{Role, ServeSpec, TokenSpec};
use tonic::Code;

/// `TOKEN-of-the-NAME`, stored hashed.
fn token(name: &str, roles: &[Role]) -> TokenSpec {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(secret(name));
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    TokenSpec { name: name.into(), roles: roles.to_vec(), sha256: Some(sha256), ..TokenSpec::default() }
}

fn secret(name: &str) -> String {
    format!("TOKEN-of-the-{name}")
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer {}\r\n", secret(name))
}

fn spec() -> ServeSpec {
    let mut spec = ServeSpec::default();
    spec.auth.tokens = vec![
        token("collector", &[Role::Ingest]),
        token("dashboard", &[Role::Read]),
        token("chief", &[Role::Admin]),
        token("eraser", &[Role::Retract]),
        token("prometheus", &[Role::Metrics]),
    ];
    spec
}

#[test]
fn a_token_opens_the_routes_of_its_roles_and_no_others() {
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec());
    let events = json!({ "events": world.new_events(SEEN..SEEN + 1) }).to_string();
    let routes = [
        ("POST", "/v1/events", events.as_str(), "collector"),
        ("POST", "/v1/score", r#"{"queries":[{"src":1,"dst":2}]}"#, "dashboard"),
        ("GET", "/v1/model", "", "dashboard"),
        (
            "POST",
            "/v2/models/score/infer",
            r#"{"inputs":[{"name":"src","datatype":"INT64","shape":[1],"data":[1]},{"name":"dst","datatype":"INT64","shape":[1],"data":[2]}]}"#,
            "dashboard",
        ),
        ("POST", "/admin/drain", "", "chief"),
    ];
    for (method, path, body, holder) in routes {
        let (status, answer) = server.send_with(method, path, "", body.as_bytes());
        assert_eq!(status, 401, "{path}: {answer}");
        assert!(answer.contains("unauthenticated"), "{answer}");
        for other in ["collector", "dashboard", "chief", "eraser", "prometheus"] {
            if other != holder {
                let (status, answer) = server.send_with(method, path, &bearer(other), body.as_bytes());
                assert_eq!(status, 403, "{path} by {other}: {answer}");
            }
        }
        let (status, answer) = server.send_with(method, path, &bearer("stranger"), body.as_bytes());
        assert_eq!(status, 401, "{path}: {answer}");
        let (status, answer) = server.send_with(method, path, &bearer(holder), body.as_bytes());
        assert_eq!(status, 200, "{path}: {answer}");
    }
    // Health and metadata are open.
    for path in ["/health/live", "/openapi.json", "/v2/health/live", "/v2/models/score/ready"] {
        assert!([200, 503].contains(&server.get(path).0), "{path}");
    }
    let (status, _) = server.send_with("GET", "/health/live", &bearer("stranger"), b"");
    assert_eq!(status, 200, "a probe with a token of elsewhere is answered");
}

#[test]
fn nobody_is_admin_by_default() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    for path in ["reload", "rollback", "snapshot", "drain", "expire"] {
        assert_eq!(server.send_text("POST", &format!("/admin/{path}"), "").0, 401, "{path}");
    }
    let mut grpc = Grpc::connect(server.address);
    assert_eq!(
        grpc.admin(|mut admin| async move { admin.drain(DrainRequest {}).await }).unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(server.get("/health/ready").0, 200);
}

#[test]
fn tokens_and_roles_hold_over_grpc_too() {
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec());
    let code = |name: Option<&str>| {
        let mut grpc = Grpc::connect(server.address);
        grpc.token = name.map(secret);
        let read = grpc
            .reads(|mut reads| async move { reads.model(ModelRequest {}).await })
            .map_err(|status| status.code())
            .err();
        let submitted = grpc
            .events(|mut events| async move { events.send(EventsRequest::default()).await })
            .map_err(|status| status.code())
            .err();
        (read, submitted)
    };
    let (nobody, refused) = (Some(Code::Unauthenticated), Some(Code::PermissionDenied));
    assert_eq!(code(None), (nobody, nobody));
    assert_eq!(code(Some("stranger")), (nobody, nobody));
    assert_eq!(code(Some("dashboard")), (None, refused));
    assert_eq!(code(Some("collector")), (refused, None));
    assert_eq!(code(Some("chief")), (refused, refused));
}

#[test]
fn only_a_token_that_may_retract_retracts() {
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec());
    let event = with_ids(world.new_events(SEEN..SEEN + 1));
    let events = json!({ "events": event }).to_string();
    assert_eq!(server.send_with("POST", "/v1/events", &bearer("collector"), events.as_bytes()).0, 200);
    let ids = json!({ "ids": [event[0].id] }).to_string();
    for other in ["collector", "dashboard", "chief", "prometheus"] {
        let (status, answer) = server.send_with("POST", "/v1/retract", &bearer(other), ids.as_bytes());
        assert!(status == 403 && answer.contains("does not have the role `retract`"), "{other}: {answer}");
        let mut grpc = Grpc::connect(server.address);
        grpc.token = Some(secret(other));
        let ids = RetractRequest { ids: vec!["a".into()], ..RetractRequest::default() };
        let refused = grpc.events(|mut events| async move { events.retract(ids).await }).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{other}");
    }
    let (status, answer) = server.send_with("POST", "/v1/retract", &bearer("eraser"), ids.as_bytes());
    assert!(status == 200 && answer.contains("\"retracted\":1"), "{answer}");
}

#[test]
fn a_token_for_metrics_reads_metrics_and_status_and_nothing_else() {
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &spec());
    for path in ["/metrics", "/v1/status"] {
        for holder in ["prometheus", "dashboard"] {
            assert_eq!(server.send_with("GET", path, &bearer(holder), b"").0, 200, "{path} by {holder}");
        }
        assert_eq!(server.send_with("GET", path, &bearer("collector"), b"").0, 403, "{path}");
        assert_eq!(server.get(path).0, 401, "{path}");
    }
    assert_eq!(server.send_with("GET", "/v1/model", &bearer("prometheus"), b"").0, 403);
}

#[test]
fn the_audit_log_says_who_did_what_from_where_and_with_which_outcome() {
    let world = World::new(&small(), 0);
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec();
    let file = folder.path().join("audit.jsonl");
    spec.audit.file = Some(file.clone());
    let server = Running::with(&world, &spec);
    let event = with_ids(world.new_events(SEEN..SEEN + 1));
    let events = json!({ "events": event }).to_string();
    let ids = json!({ "ids": [event[0].id] }).to_string();
    for (path, holder, body) in [
        ("/v1/events", "collector", events.as_str()),
        ("/admin/reload", "chief", r#"{"artifact":"/no/such/artifact"}"#),
        ("/admin/expire", "dashboard", ""),
        ("/admin/drain", "stranger", ""),
        ("/v1/retract", "eraser", ids.as_str()),
        ("/v1/retract", "collector", ids.as_str()),
        ("/admin/drain", "chief", ""),
    ] {
        server.send_with("POST", path, &bearer(holder), body.as_bytes());
    }
    let mut grpc = Grpc::connect(server.address);
    grpc.token = Some(secret("chief"));
    let reload = ReloadRequest { artifact: "/nor/this/one".into() };
    grpc.admin(|mut admin| async move { admin.reload(reload).await }).unwrap_err();
    let read = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let begun = Instant::now();
    while read().len() < 7 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let lines = read();
    let told: Vec<[&str; 4]> = lines
        .iter()
        .map(|line| ["action", "by", "outcome", "status"].map(|field| line[field].as_str().unwrap_or("-")))
        .collect();
    let expected = [
        ["/admin/reload", "chief", "refused", "422"],
        ["/admin/expire", "dashboard", "denied", "403"],
        ["/admin/drain", "-", "denied", "401"],
        ["/v1/retract", "eraser", "done", "200"],
        ["/v1/retract", "collector", "denied", "403"],
        ["/admin/drain", "chief", "done", "200"],
        ["/tempograph.v1.Admin/Reload", "chief", "refused", "INVALID_ARGUMENT"],
    ];
    assert_eq!(told, expected, "{lines:?}");
    assert!(lines.iter().all(|line| line["address"].as_str().unwrap().starts_with("127.0.0.1:")), "{lines:?}");
    assert_eq!(lines[0]["artifact"], "/no/such/artifact");
    assert!(lines[0]["error"].as_str().unwrap().contains("/no/such/artifact"), "{}", lines[0]);
    assert_eq!((&lines[3]["ids"], &lines[3]["retracted"]), (&json!(1), &json!(1)));
    assert_eq!(lines[5]["result"]["drained"], true);
    assert!(lines[6]["error"].is_string() && lines[6]["artifact"] == "/nor/this/one", "{}", lines[6]);
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777, 0o600);
}
