//! Roles of callers, over HTTP and gRPC.

use crate::common::grpc::Grpc;
use crate::common::{Running, SEEN, World, small};
use serde_json::json;
use tempograph_serving::proto::tempograph::{DrainRequest, EventsRequest, ModelRequest};
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
    spec.auth.tokens =
        vec![token("collector", &[Role::Ingest]), token("dashboard", &[Role::Read]), token("chief", &[Role::Admin])];
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
        ("GET", "/metrics", "", "dashboard"),
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
        for other in ["collector", "dashboard", "chief"] {
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
