//! The targets with spoilt examples, for who has no fuzzer. `ROUNDS=20000 cargo test --release` goes on for longer.

use tempograph_fuzz::{examples, spoil};

fn feed(target: &str, rounds: usize, function: impl Fn(&[u8])) {
    spoil::feed(&examples(target), rounds, function);
}

#[test]
fn requests_are_answered_and_never_the_servers_fault() {
    feed("http", 400, tempograph_fuzz::http);
}

#[test]
fn settings_are_read_or_refused() {
    feed("spec", 300, |bytes| tempograph_fuzz::spec(&String::from_utf8_lossy(bytes)));
}

#[test]
fn artifacts_are_opened_or_refused() {
    feed("artifact", 600, tempograph_fuzz::artifact);
}

#[test]
fn entries_are_read_or_refused() {
    feed("entry", 20_000, tempograph_fuzz::entry);
}

#[test]
fn journals_are_mended_or_refused() {
    feed("journal", 60, tempograph_fuzz::journal);
}

#[test]
fn notes_of_snapshots_are_believed_only_where_they_are_right() {
    feed("snapshot", 40, tempograph_fuzz::snapshot);
}
