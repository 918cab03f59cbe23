//! The whole way of a link set of TGB: fetched, prepared, trained and evaluated under the benchmark's protocol, with nothing done by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempograph_experiments::fetch::Set;
use tempograph_framework::Store;

use super::archive::{Entry, zip};
use super::server::{Answer, Server};

const SETS: [&str; 9] = [
    "tgbl-wiki",
    "tgbl-review",
    "tgbl-coin",
    "tgbl-comment",
    "tgbl-flight",
    "tgbl-uci",
    "tgbl-enron",
    "tgbl-subreddit",
    "tgbl-lastfm",
];

/// A set's archive, of the small copy of it.
fn archive(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework/tests/fixtures/tgb/layouts").join(name);
    let set = Set::find(name).unwrap();
    let bodies: Vec<Vec<u8>> = set.files.iter().map(|file| fs::read(folder.join(file)).unwrap()).collect();
    let entries: Vec<Entry> = set.files.iter().zip(&bodies).map(|(name, body)| Entry::honest(name, body)).collect();
    zip(&entries)
}

/// Runs the program and gives its output, which is all on standard output.
#[track_caller]
fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tempograph")).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The arguments of a command of the program in what `fetch` prints, without quotes.
fn command(printed: &str, name: &str) -> Vec<String> {
    let line = printed.lines().find(|line| line.contains(&format!("tempograph {name} "))).unwrap();
    let (_, command) = line.split_once("tempograph ").unwrap();
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            letter => words.last_mut().unwrap().push(letter),
        }
    }
    words
}

/// The mean reciprocal rank of exported scores by the benchmark's rule, in one sum of its own: of negatives that score as the true
/// destination, half are before it.
fn mrr(scores: &Path) -> f64 {
    let store = Store::read(scores).unwrap();
    let (event, positive, score) =
        (store.get::<u64>("event").unwrap(), store.get::<u32>("positive").unwrap(), store.get::<f32>("score").unwrap());
    let mut lists: BTreeMap<u64, (Vec<f32>, Vec<f32>)> = BTreeMap::new();
    for ((event, positive), score) in event.iter().zip(positive).zip(score) {
        let list = lists.entry(*event).or_default();
        if *positive == 1 { &mut list.0 } else { &mut list.1 }.push(*score);
    }
    let rank = |(own, others): &(Vec<f32>, Vec<f32>)| {
        let own = own[0];
        let above = others.iter().filter(|&&other| other > own).count();
        let level = others.iter().filter(|&&other| other >= own).count();
        0.5 * (above + level) as f64 + 1.0
    };
    lists.values().map(|list| 1.0 / rank(list)).sum::<f64>() / lists.len() as f64
}

/// The line of the protocol: the test's number, that of validation, and the lookups.
#[track_caller]
fn protocol(printed: &str) -> (f64, f64, String) {
    let line = printed.lines().find_map(|line| line.strip_prefix("TGB protocol: test MRR ")).unwrap();
    let (test, rest) = line.split_once(", val MRR ").unwrap();
    let (val, lookups) = rest.split_once(", lookups ").unwrap();
    (test.parse().unwrap(), val.parse().unwrap(), lookups.to_string())
}

#[test]
fn every_link_set_is_fetched_prepared_trained_and_evaluated_by_the_commands_that_fetch_prints() {
    let archives: BTreeMap<String, Vec<u8>> =
        SETS.iter().map(|name| (format!("/{}", Set::find(name).unwrap().remote_name()), archive(name))).collect();
    let server = Server::start(move |request, _| Answer::file(&archives[&request.path], "\"one\"", request));
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    fs::write(
        folder.join("SPEC.toml"),
        "[data]\npath = \"none\"\n[model]\nkind = \"tgn\"\nmemory = 8\ntime = 8\nwidth = 8\nneighbours = 4\n\
         [train]\nbatch = 10\nepochs = 2\n[eval]\nfloors = false\n",
    )
    .unwrap();
    for name in SETS {
        let printed = succeeds(folder, &["fetch", name, "--base-url", &server.url()]);
        let prepare = command(&printed, "prepare");
        let said = succeeds(folder, &prepare.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains(&format!("the edge list of {name}")), "{said}");
        let lookups = if name == "tgbl-wiki" { "batch" } else { "exact" };
        let (history, out) = (format!("model.history=\"{lookups}\""), format!("runs/{name}"));
        let mut train = command(&printed, "train");
        train.extend(["--set", &history, "--out", &out].map(String::from));
        let trained = succeeds(folder, &train.iter().map(String::as_str).collect::<Vec<_>>());
        let (test, val, own) = protocol(&trained);
        assert_eq!(own, lookups, "{name}");
        assert!(trained.contains(&format!("(fixed {name}_test_ns")), "{trained}");
        let evaluated = succeeds(folder, &["eval", &out, "--scores", "scores.safetensors"]);
        assert_eq!(protocol(&evaluated), (test, val, own), "{name}: eval says what train said");
        let expected = mrr(&folder.join("scores.safetensors"));
        assert!((test - expected).abs() <= 1e-6, "{name}: {test} is not {expected}");
    }
}

#[test]
fn numbers_by_appearance_count_the_events_of_nodes_that_are_held_out() {
    let archive = archive("tgbl-coin");
    let server = Server::start(move |request, _| Answer::file(&archive, "\"one\"", request));
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    succeeds(folder, &["fetch", "tgbl-coin", "--base-url", &server.url()]);
    succeeds(folder, &["prepare", "downloads/tgbl-coin", "--out", "data/coin"]);
    let files = ["val", "test"].map(|part| format!("downloads/tgbl-coin/tgbl-coin_{part}_ns_v2.pkl"));
    fs::write(
        folder.join("coin.toml"),
        format!(
            "[data]\npath = \"data/coin\"\nhold_out = 0.2\nnegatives = {files:?}\n[model]\nkind = \"tgn\"\nmemory = 8\ntime = 8\n\
             width = 8\nneighbours = 4\n[train]\nbatch = 10\nepochs = 1\n[eval]\nfloors = false\n"
        ),
    )
    .unwrap();
    let trained = succeeds(folder, &["train", "coin.toml"]);
    let (test, ..) = protocol(&trained);
    succeeds(folder, &["eval", "runs/coin", "--scores", "scores.safetensors"]);
    let expected = mrr(&folder.join("scores.safetensors"));
    assert!((test - expected).abs() <= 1e-6, "{test} is not {expected}");
}

#[test]
fn the_protocol_of_a_run_that_validated_otherwise_is_evaluated_anew_in_both_parts() {
    let archive = archive("tgbl-wiki");
    let server = Server::start(move |request, _| Answer::file(&archive, "\"one\"", request));
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    succeeds(folder, &["fetch", "tgbl-wiki", "--base-url", &server.url()]);
    succeeds(folder, &["prepare", "downloads/tgbl-wiki", "--out", "data/wiki"]);
    fs::write(
        folder.join("own.toml"),
        "[data]\npath = \"data/wiki\"\n[model]\nkind = \"tgn\"\nmemory = 8\ntime = 8\nwidth = 8\nneighbours = 4\n\
         [train]\nbatch = 10\nepochs = 1\n[eval]\nnegatives = 5\nfloors = false\n",
    )
    .unwrap();
    let trained = succeeds(folder, &["train", "own.toml"]);
    assert!(!trained.contains("TGB protocol"), "its own negatives are not the benchmark's: {trained}");
    let files: [PathBuf; 2] =
        ["val", "test"].map(|part| folder.join(format!("downloads/tgbl-wiki/tgbl-wiki_{part}_ns_v2.pkl")));
    let set = format!("data.negatives=[{:?}, {:?}]", files[0], files[1]);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for split in ["test", "val"] {
        let printed =
            succeeds(folder, &["eval", "runs/own", "--split", split, "--set", &set, "--scores", "s.safetensors"]);
        found.push(protocol(&printed));
        expected.push(mrr(&folder.join("s.safetensors")));
        let json = succeeds(folder, &["eval", "runs/own", "--split", split, "--set", &set, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["tgb"]["lookups"], "exact");
        assert!((json["tgb"]["val_mrr"].as_f64().unwrap() - found[0].1).abs() <= 1e-6);
    }
    assert_eq!(found[0], found[1]);
    assert!(
        (found[0].0 - expected[0]).abs() <= 1e-6 && (found[0].1 - expected[1]).abs() <= 1e-6,
        "{found:?} {expected:?}"
    );
}
