//! Changes to bytes that were right.

use tempograph_framework::{Draw, Purpose, RandomNumbers};

/// One to six changes to some bytes.
fn spoil(bytes: &mut Vec<u8>, chance: &mut RandomNumbers) {
    const ODD: [&str; 15] = [
        "-1",
        "1e400",
        "18446744073709551615",
        "null",
        "[[[[",
        "\"",
        "{}",
        "\0",
        "\n",
        ",",
        "NaN",
        "\r",
        "#",
        "9e18",
        "\t",
    ];
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() as u32 + 1) as usize;
        let some = (at + 1 + chance.below(24) as usize).min(bytes.len());
        match chance.below(7) {
            0 if at < bytes.len() => bytes[at] = chance.below(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            2 => drop(bytes.drain(at.min(some)..some)),
            3 => bytes.extend_from_within(at.min(some)..some),
            4 => drop(bytes.splice(at..at, ODD[chance.below(ODD.len() as u32) as usize].bytes())),
            5 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, (0..chance.below(9)).map(|i| (i * 37) as u8))),
        }
    }
}

/// Calls `function` with all examples, and then with spoilt ones: as many as `rounds` or the environment's `ROUNDS` says, or for as long as
/// its `SECONDS` says.
pub fn feed(examples: &[Vec<u8>], rounds: usize, mut function: impl FnMut(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    let seconds: Option<usize> = number("SECONDS");
    let rounds = if seconds.is_some() { usize::MAX } else { number("ROUNDS").unwrap_or(rounds) };
    let begin = std::time::Instant::now();
    examples.iter().for_each(|example| function(example));
    for round in 0..rounds {
        if seconds.is_some_and(|seconds| begin.elapsed().as_secs() >= seconds as u64) {
            println!("{round} rounds");
            return;
        }
        let mut chance = Draw::new(round as u64).of(Purpose::Generator).at(0, 0);
        let mut bytes = examples[round % examples.len()].clone();
        // The first byte says where the others go.
        let which = bytes.remove(0);
        spoil(&mut bytes, &mut chance);
        bytes.insert(0, which);
        function(&bytes);
    }
}
