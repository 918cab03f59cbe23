//! The targets with spoilt examples, for who has no fuzzer. `ROUNDS=20000 cargo test --release` goes on for longer.

use tempograph_framework::{Draw, Purpose, RandomNumbers};

/// One to six changes to some bytes.
fn spoil(bytes: &mut Vec<u8>, chance: &mut RandomNumbers) {
    const ODD: [&str; 9] = ["-1", "1e400", "18446744073709551615", "null", "[[[[", "\"", "{}", "\0", "\n"];
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() as u32 + 1) as usize;
        let some = (at + 1 + chance.below(24) as usize).min(bytes.len());
        match chance.below(6) {
            0 if at < bytes.len() => bytes[at] = chance.below(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            2 => drop(bytes.drain(at.min(some)..some)),
            3 => bytes.extend_from_within(at.min(some)..some),
            4 => drop(bytes.splice(at..at, ODD[chance.below(9) as usize].bytes())),
            _ => drop(bytes.splice(at..at, (0..chance.below(9)).map(|i| (i * 37) as u8))),
        }
    }
}

fn feed(target: &str, rounds: usize, function: impl Fn(&[u8])) {
    let rounds = std::env::var("ROUNDS").map_or(rounds, |value| value.parse().expect("a number"));
    let examples = tempograph_fuzz::examples(target);
    examples.iter().for_each(|example| function(example));
    for round in 0..rounds {
        let mut chance = Draw::new(round as u64).of(Purpose::Generator).at(0, 0);
        let mut bytes = examples[round % examples.len()].clone();
        // The first byte says where the others go.
        let which = bytes.remove(0);
        spoil(&mut bytes, &mut chance);
        bytes.insert(0, which);
        function(&bytes);
    }
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
