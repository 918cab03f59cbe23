//! A service takes events in one order, each once.
mod common;

use std::time::{Duration, Instant};

use common::{EVENTS, SEEN, World, small};
use tempograph_serving::{Ack, Granularity, IngestRequest, Late, Readiness, Service, ServiceSpec};

#[test]
fn what_a_service_is_told_its_engine_sees() {
    let world = World::new(&small(), 3);
    let engine = world.engine();
    let service = Service::open(&world.folder(), &ServiceSpec { late: Late::Reject, ..ServiceSpec::default() }).unwrap();
    assert_eq!(service.wait_until_ready(Instant::now() + Duration::from_secs(20)), Readiness::Ready);
    for (i, event) in world.told(SEEN..EVENTS).into_iter().enumerate() {
        let receipt = service.ingest(IngestRequest { events: vec![event], granularity: Granularity::Event, ack: Ack::Applied }).unwrap();
        assert_eq!((receipt.first_seq, receipt.position.log_seq), ((SEEN + i) as u64, (SEEN + i) as u64 + 1));
    }
    engine.observe(&world.told(SEEN..EVENTS), Granularity::Event).unwrap();
    assert_eq!(service.engine().history().to_store(), engine.history().to_store());
    assert!(service.drain(Instant::now() + Duration::from_secs(20)));
}
