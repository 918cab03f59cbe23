//! The log of record in a topic, against the client library's own mock of a cluster.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;

use common::service::{named, open, quiet, saved, soon, tell};
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
    let spec = ServiceSpec { log: topic(&cluster), ..quiet() };
    let events = named(world.told(SEEN..EVENTS));
    let service = open(&world.folder(), &spec);
    tell(&service, &events[..40]).unwrap();
    service.snapshot().unwrap();
    tell(&service, &events[40..60]).unwrap();
    drop(service);
    let service = open(&world.folder(), &spec);
    assert_eq!(service.position().log_seq, SEEN as u64 + 60);
    let receipt = tell(&service, &events[30..]).unwrap();
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
        let act = tempograph_serving::Act::Events {
            events: world.told(SEEN..SEEN + 1),
            granularity: Granularity::Event,
            late: vec![],
        };
        tempograph_serving::Entry { first_seq: seq, act }
    };
    let (one, two): (Arc<dyn Log>, Arc<dyn Log>) =
        (Arc::new(KafkaLog::open(&spec).unwrap()), Arc::new(KafkaLog::open(&spec).unwrap()));
    one.append(&[entry(0), entry(1)]).unwrap();
    assert!(two.append(&[entry(0)]).is_err());
    two.reopen().unwrap();
    assert_eq!((two.kept(), two.read(0, 10).unwrap()), (0..3, vec![entry(0), entry(1), entry(0)]));
}

#[test]
fn a_replica_follows_a_topic_and_takes_over() {
    let cluster = MockCluster::new(1).unwrap();
    let world = World::new(&small(), 3);
    let engine = world.engine();
    let topic = topic(&cluster);
    let events = named(world.told(SEEN..EVENTS));
    let leader = open(&world.folder(), &ServiceSpec { log: topic.clone(), ..quiet() });
    let artifact = world.folder().with_file_name("replica");
    world.export().write(&artifact).unwrap();
    let replica = Service::open(&artifact, &ServiceSpec { log: LogSpec { follow: true, ..topic }, ..quiet() }).unwrap();
    tell(&leader, &events[..40]).unwrap();
    replica.wait_for(SEEN as u64 + 40, soon()).unwrap();
    assert_eq!(saved(&replica.engine()), saved(&leader.engine()));
    tell(&leader, &events[40..60]).unwrap();
    drop(leader);
    assert_eq!(replica.take_over(soon()).unwrap().log_seq, SEEN as u64 + 60);
    let receipt = tell(&replica, &events[50..]).unwrap();
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
