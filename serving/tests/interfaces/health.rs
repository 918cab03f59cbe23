//! gRPC's own services: health and reflection, and the limits of its messages.

use crate::common::grpc::Grpc;
use crate::common::{Running, World, small};
use tempograph_serving::ServeSpec;
use tempograph_serving::proto::tempograph::{Event, EventsRequest, RetractRequest};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[test]
fn health_is_reported_by_service_with_each_change() {
    let world = World::new(&small(), 0);
    let mut server = Running::with(&world, &ServeSpec::parse("[listen]\nlinger_ms = 1500", &[]).unwrap());
    let grpc = Grpc::connect(server.address);
    let mut client = HealthClient::new(grpc.channel());
    for service in ["", "tempograph.v1.Reads", "inference.GRPCInferenceService", "liveness"] {
        let health = grpc.wait(client.check(asked(service))).unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "{service}");
    }
    let refused = grpc.wait(client.check(asked("shop"))).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("tempograph.v1.Events"), "{}", refused.message());
    let mut watched = grpc.wait(client.watch(asked(""))).unwrap().into_inner();
    let mut next = || grpc.wait(watched.next()).unwrap().unwrap().status();
    assert_eq!(next(), ServingStatus::Serving);
    server.ask_to_stop();
    assert_eq!(next(), ServingStatus::NotServing);
}

#[test]
fn clients_without_schemas_find_all_services() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let grpc = Grpc::connect(server.address);
    let mut client = ServerReflectionClient::new(grpc.channel());
    let mut ask = |what: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(what) };
        let mut answers = grpc.wait(client.server_reflection_info(tokio_stream::iter([request]))).unwrap().into_inner();
        grpc.wait(answers.next()).unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())) else {
        panic!("no list");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in
        ["tempograph.v1.Events", "tempograph.v1.Reads", "inference.GRPCInferenceService", "grpc.health.v1.Health"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    let found = ask(MessageRequest::FileContainingSymbol("tempograph.v1.ScoreRequest".into()));
    assert!(matches!(found, MessageResponse::FileDescriptorResponse(file) if !file.file_descriptor_proto.is_empty()));
}

#[test]
fn a_message_over_the_limit_is_refused_as_over_http() {
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &ServeSpec::parse("[limits]\nbody_bytes = 1000", &[]).unwrap());
    let mut grpc = Grpc::connect(server.address);
    let large = || RetractRequest { ids: vec!["x".repeat(2000)], ..Default::default() };
    let refused = grpc.events(|mut events| async move { events.retract(large()).await }).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(refused.metadata().get("tempograph-code").unwrap(), "too_large");
    let event = || Event { id: "x".repeat(2000), ..Event::default() };
    let stream = tokio_stream::iter([EventsRequest { events: vec![event()], ..EventsRequest::default() }]);
    let refused = grpc
        .events(|mut events| async move {
            let mut receipts = events.stream(stream).await?.into_inner();
            receipts.message().await?;
            Ok(tonic::Response::new(()))
        })
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}
