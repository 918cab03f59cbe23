//! The log of record in a topic, with the client library's own mock of a cluster.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;

use common::service::{ingest, open, saved, soon, with_ids, without_snapshots};
use common::{EVENTS, SEEN, World, small};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tempograph_serving::{Granularity, KafkaLog, Log, LogKind, LogSpec, Service, ServiceSpec};

fn topic(cluster: &MockCluster<'_, DefaultProducerContext>) -> LogSpec {
    cluster.create_topic("events", 2, 1).unwrap();
    LogSpec {
        kind: LogKind::Kafka,
        brokers: cluster.bootstrap_servers(),
        topic: "events".into(),
        partition: 1,
        ..LogSpec::default()
    }
}

#[test]
fn a_service_whose_log_is_a_topic_goes_on_from_its_snapshots_offset() {
    let cluster = MockCluster::new(1).unwrap();
    let world = World::new(&small(), 3);
    let engine = world.engine();
    let spec = ServiceSpec { log: topic(&cluster), ..without_snapshots() };
    let events = with_ids(world.new_events(SEEN..EVENTS));
    let service = open(&world.folder(), &spec);
    ingest(&service, &events[..40]).unwrap();
    service.snapshot().unwrap();
    ingest(&service, &events[40..60]).unwrap();
    drop(service);
    let service = open(&world.folder(), &spec);
    assert_eq!(service.position().log_seq, SEEN as u64 + 60);
    let receipt = ingest(&service, &events[30..]).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (events.len() as u64 - 60, 30));
    engine.observe(&events, Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
}

#[test]
fn a_log_notices_that_another_writes_to_its_topic() {
    let cluster = MockCluster::new(1).unwrap();
    let spec = topic(&cluster);
    let world = World::new(&small(), 0);
    world.engine();
    let entry = |seq| {
        let mutation = tempograph_serving::Mutation::Events {
            events: world.new_events(SEEN..SEEN + 1),
            granularity: Granularity::Event,
            late: vec![],
        };
        tempograph_serving::Entry { first_seq: seq, mutation }
    };
    let (one, two): (Arc<dyn Log>, Arc<dyn Log>) =
        (Arc::new(KafkaLog::open(&spec).unwrap()), Arc::new(KafkaLog::open(&spec).unwrap()));
    one.append(&[entry(0), entry(1)]).unwrap();
    assert!(two.append(&[entry(0)]).is_err());
    two.reopen().unwrap();
    assert_eq!((two.retained(), two.read(0, 10).unwrap()), (0..3, vec![entry(0), entry(1), entry(0)]));
}

#[test]
fn a_replica_follows_a_topic_and_takes_over() {
    let cluster = MockCluster::new(1).unwrap();
    let world = World::new(&small(), 3);
    let engine = world.engine();
    let topic = topic(&cluster);
    let events = with_ids(world.new_events(SEEN..EVENTS));
    let leader = open(&world.folder(), &ServiceSpec { log: topic.clone(), ..without_snapshots() });
    let artifact = world.folder().with_file_name("replica");
    world.export().write(&artifact).unwrap();
    let replica =
        Service::open(&artifact, &ServiceSpec { log: LogSpec { follow: true, ..topic }, ..without_snapshots() })
            .unwrap();
    ingest(&leader, &events[..40]).unwrap();
    replica.wait_for(SEEN as u64 + 40, soon()).unwrap();
    assert_eq!(saved(&replica.engine()), saved(&leader.engine()));
    ingest(&leader, &events[40..60]).unwrap();
    drop(leader);
    assert_eq!(replica.promote(soon()).unwrap().log_seq, SEEN as u64 + 60);
    let receipt = ingest(&replica, &events[50..]).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (events.len() as u64 - 60, 10));
    engine.observe(&events, Granularity::Event).unwrap();
    assert_eq!(saved(&replica.engine()), saved(&engine));
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let cluster = MockCluster::new(1).unwrap();
    let spec = LogSpec { partition: 7, ..topic(&cluster) };
    let error = KafkaLog::open(&spec).unwrap_err().to_string();
    assert!(error.contains("events[7] at ") && error.contains("cannot be used"), "{error}");
}
