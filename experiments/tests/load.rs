//! `tempograph load` against a server process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{DATA, Server, fails, succeeds};
use serde_json::Value;

fn number(value: &Value, at: &str) -> f64 {
    value.pointer(at).and_then(Value::as_f64).unwrap_or_else(|| panic!("{at} in {value:#}"))
}

#[test]
fn every_request_of_a_load_is_accounted_for_and_events_become_visible() {
    let place = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(place.path());
    let mix = "ingest=4,score=5,rank=1";
    // A deadline that no machine misses by being busy with other tests.
    let args = [
        "load",
        &server.url,
        "--data",
        DATA,
        "--mix",
        mix,
        "--rate",
        "200",
        "--seconds",
        "2",
        "--deadline-ms",
        "20000",
        "--json",
    ];
    let report: Value = serde_json::from_str(&succeeds(place.path(), &args)).unwrap();
    let phase = report.pointer("/phases/0/report").unwrap();
    for kind in ["events", "scores", "ranks"] {
        assert_eq!(number(phase, &format!("/{kind}/failed")), 0.0, "{phase:#}");
        assert!(number(phase, &format!("/{kind}/in_time")) > 10.0, "{phase:#}");
        assert!(number(phase, &format!("/{kind}/latency/p50_ms")) > 0.0, "{phase:#}");
    }
    let seen = number(phase, "/staleness/count");
    assert!(seen > 10.0 && seen <= number(phase, "/events/in_time") + number(phase, "/events/late"), "{phase:#}");
    // A deadline that is over before an answer can be there, which the server is not told: it answers all the same.
    let untold = [
        "load",
        &server.url,
        "--data",
        DATA,
        "--mix",
        "score=1",
        "--rate",
        "50",
        "--seconds",
        "1",
        "--connections",
        "64",
    ];
    let report = succeeds(place.path(), &[&untold[..], &["--deadline-ms", "1", "--untold", "--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    let refused = report.pointer("/phases/0/report/scores/errors").unwrap().as_object().unwrap();
    assert!(refused.keys().all(|what| what.starts_with("not sent")), "{refused:?}");
    // What was told goes on from where the log of the server stood, so a second load finds it in order.
    let table = succeeds(
        place.path(),
        &["load", &server.url, "--data", DATA, "--rate", "100", "--seconds", "1", "--arrivals", "bursty"],
    );
    assert!(table.contains("goodput/s") && table.contains("staleness") && !table.contains("409"), "{table}");
}

#[test]
fn quantities_that_cannot_be_measured_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = ["load", "127.0.0.1:1", "--data", DATA];
    assert!(fails(folder.path(), &nobody).contains("cannot connect"));
    for (option, value, expected) in [
        ("--rate", "0", "--rate is 0; it has to be above 0"),
        ("--pairs", "0", "--pairs is 0; it has to be at least 1"),
        ("--rank-deadline-ms", "0", "--rank-deadline-ms is 0; it has to be at least 1"),
        ("--mix", "sing=1", "there is no `sing`"),
    ] {
        let said = fails(folder.path(), &[&nobody[..], &[option, value]].concat());
        assert!(said.contains(expected) || said.contains("cannot connect") && option == "--mix", "{option}: {said}");
    }
    assert!(fails(folder.path(), &["load", "--policies", "fast"]).contains("`fast` is not the microseconds"));
}

#[test]
fn the_policies_are_compared_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["load", "--policies", "500,200", "--arrivals", "bursty", "--seconds", "2", "--json"];
    let rows: Vec<Value> = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
    let goodput = |policy: &str| {
        let of = rows.iter().filter(|row| row["policy"] == policy && number(row, "/load") > 1.2);
        of.map(|row| number(row, "/goodput_per_second")).sum::<f64>()
    };
    assert!(goodput("deadline") > goodput("fifo"), "{rows:#?}");
    assert!(succeeds(folder.path(), &args[..7]).contains("goodput/s"));
}
