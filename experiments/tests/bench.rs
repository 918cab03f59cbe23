//! The benchmark as its users run it: the JSON that it prints.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::Command;

use serde_json::Value;

const SPEC: &str = r#"
threads = 1
[data]
path = "synthetic:events=900,users=20,items=15"
[model]
memory = 8
time = 8
width = 8
neighbours = 4
[train]
batch = 50
"#;

/// Runs `tempograph bench` on a tiny spec in a folder of its own and reads what it prints.
fn bench(args: &[&str]) -> (Value, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
    let output = command.args(["bench", "tiny.toml", "--json"]).args(args).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), folder)
}

#[track_caller]
fn number(of: &Value, at: &str) -> f64 {
    of.pointer(at).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {at} in {of:#}"))
}

#[test]
fn every_combination_is_measured_and_held_against_the_machine() {
    let (reported, _folder) =
        bench(&["--batch", "50,150", "--edge-features", "none,zeros:3", "--pairs", "1", "--events", "450"]);
    let all = reported["configurations"].as_array().unwrap();
    let named: Vec<_> = all
        .iter()
        .map(|one| (one["edge_features"].as_str().unwrap(), number(one, "/batch"), number(one, "/steps")))
        .collect();
    assert_eq!(named, [("none", 50.0, 9.0), ("none", 150.0, 3.0), ("zeros:3", 50.0, 9.0), ("zeros:3", 150.0, 3.0)]);
    for one in all {
        for at in [
            "/tempograph/events_per_second",
            "/tempograph/step_seconds",
            "/floor/flops",
            "/floor/bytes",
            "/floor/reached",
        ] {
            assert!(number(one, at) > 0.0, "{at}");
        }
        assert!(number(one, "/tempograph/allocations_per_step") >= 0.0);
        let shares: f64 =
            one["tempograph"]["stage_shares"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    }
    assert!(number(&all[2], "/floor/flops") > number(&all[0], "/floor/flops"), "columns of zeros are columns");
    assert!(number(&reported, "/machine/rates_by_threads/1/flops_per_second") > 1e6 && reported["ratio"].is_null());
}

#[test]
fn a_served_event_is_timed_from_its_arrival_to_its_score() {
    let (reported, _folder) = bench(&["--serve", "--steps", "3", "--events", "40"]);
    let [median, tail] = ["p50", "p99"].map(|part| number(&reported, &format!("/update_score_{part}_us")));
    assert!(0.0 < median && median <= tail && number(&reported, "/events") == 36.0);
    assert!(number(&reported, "/update_p50_us") < median && number(&reported, "/allocations_per_event") >= 0.0);
}

#[test]
fn the_scale_table_and_plot_have_every_length() {
    let (reported, folder) = bench(&["--scale", "--events", "2000,4000", "--steps", "3", "--out", "results"]);
    let points = reported["points"].as_array().unwrap();
    let nodes: Vec<f64> = points.iter().map(|point| number(point, "/nodes")).collect();
    assert_eq!(nodes, [1_000.0, 1_000.0, 10_000.0, 10_000.0, 50.0, 100.0]);
    for point in points {
        let [an_event, a_node, nodes] =
            ["/microseconds_per_event", "/microseconds_per_distinct_node", "/distinct_nodes_per_step"]
                .map(|at| number(point, at));
        assert!(
            an_event > 0.0 && (an_event * 50.0 / nodes / a_node - 1.0).abs() < 1e-9,
            "a step of 50 events, both ways: {point:#}"
        );
        assert!(nodes <= number(point, "/nodes") && number(point, "/neighbours_per_step") > 0.0, "{point:#}");
    }
    let table = fs::read_to_string(folder.path().join("results/scale.md")).unwrap();
    assert_eq!((table.matches("| 2,000 |").count(), table.matches("| 4,000 |").count()), (3, 3), "{table}");
    for plot in ["scale.svg", "scale_nodes.svg"] {
        assert_eq!(
            fs::read_to_string(folder.path().join("results").join(plot)).unwrap().matches("<circle").count(),
            6,
            "{plot}"
        );
    }
}
