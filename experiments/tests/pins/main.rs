//! Pins TGN to the bit: runs of the program must give what the files of pins next to this one hold.
//!
//! `avx2.toml` and `avx512.toml` have the bits of weights, histories and scores with these instructions of the CPU;
//! `counts.toml` has allocations and launches, to which the CPU is nothing. A change that is meant to move them writes
//! them anew with `TEMPOGRAPH_PINS=write` and shows what moved. The bits are those of Linux with glibc, whose
//! mathematics has a part in them.
#![cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod cases;
mod counts;
mod file;
mod place;
mod served;

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use cases::{Case, bf16, in_parallel, long, on_tape, variants};
use file::{Pins, check, is_pinned};
use place::{Level, Place, in_turn};
use serde_json::Value;

/// One test at a time: each uses all threads.
static TURN: Mutex<()> = Mutex::new(());

/// What a level's runs must leave. The tape takes the best instructions there are, whatever the kernels are kept to: it
/// is only looked at where that is this level.
fn held_to_the_pins_of(level: Level) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let best = Level::of_processor();
    if best < level {
        return println!("skipped: this processor has no {level:?}");
    }
    let place = Place::at(level);
    let mut taken = Pins::of(["pretrained", "slices", "lanes", "served"]);
    let with_tape = if best > level {
        println!("tape is skipped: the library of tensors computes with {best:?} here");
        false
    } else if is_pinned(level.file(), "tape") {
        taken.take("tape");
        true
    } else {
        println!("tape is skipped: no machine with {level:?} and no more has written pins of it");
        false
    };
    let with_bf16 = level == Level::Avx512 && std::arch::is_x86_feature_detected!("avx512bf16");
    if with_bf16 {
        taken.take("bf16");
    } else if level == Level::Avx512 {
        println!("bf16 is skipped: this processor has no AVX-512 BF16");
    }
    taken.put("pretrained", "static memory", "vectors", place.pretrained());

    let mut cases: Vec<(&str, Case)> = Vec::new();
    cases.extend(variants().into_iter().map(|case| ("slices", case)));
    cases.extend(in_parallel().into_iter().chain(long()).map(|case| ("lanes", case)));
    cases.extend(on_tape().into_iter().filter(|_| with_tape).map(|case| ("tape", case)));
    cases.extend(bf16().into_iter().filter(|_| with_bf16).map(|case| ("bf16", case)));
    let found = in_turn(&cases, |(section, case)| {
        let ways: Vec<_> = case.ways.iter().map(|way| (way.name, place.trained(case, way))).collect();
        let served = case.served.then(|| served::answers(&place, case));
        (*section, case.name, ways, served)
    });
    let mut disagree = Vec::new();
    for (section, name, ways, served) in found {
        let (first, rest) = ways.split_first().unwrap();
        for (way, other) in rest {
            let differing = other.iter().filter(|field| !first.1.contains(field)).map(|(field, _)| *field);
            let differing: Vec<&str> = differing.collect();
            if !differing.is_empty() {
                disagree.push(format!("{name}: {} with {way} is not that with {}", differing.join(", "), first.0));
            }
        }
        first.1.iter().for_each(|(field, value)| taken.put(section, name, field, value.clone()));
        served.into_iter().flatten().for_each(|(field, value)| taken.put("served", name, field, value));
    }
    assert!(disagree.is_empty(), "{}", disagree.join("\n"));
    check(level.file(), &taken);
}

#[test]
fn a_tgn_trains_and_is_served_to_the_bit_as_pinned_with_avx2() {
    held_to_the_pins_of(Level::Avx2);
}

#[test]
fn a_tgn_trains_and_is_served_to_the_bit_as_pinned_with_avx512() {
    held_to_the_pins_of(Level::Avx512);
}

#[test]
fn a_step_and_an_event_ask_for_memory_as_often_as_pinned() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    counts::allocations();
}

#[cfg(feature = "wgpu")]
#[test]
fn a_step_on_a_device_is_as_many_launches_as_pinned() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    counts::launches();
}

/// What `devices` shows where kernels are kept to `asked`.
fn devices(asked: &str, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
    let output = command.arg("devices").args(args).env("TEMPOGRAPH_CPU", asked).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn the_program_says_which_instructions_it_is_kept_to_and_refuses_those_that_are_not_there() {
    let best = Level::of_processor();
    for (level, asked, name) in [
        (Level::Baseline, "baseline", "baseline vector instructions"),
        (Level::Avx2, "avx2", "AVX2"),
        (Level::Avx512, "avx512", "AVX-512"),
    ] {
        if level > best {
            let said = devices(asked, &[]).unwrap_err();
            assert!(said.starts_with(&format!("error: TEMPOGRAPH_CPU = \"{asked}\"; this processor has ")), "{said}");
            continue;
        }
        let reported: Value = serde_json::from_str(&devices(asked, &["--json"]).unwrap()).unwrap();
        assert_eq!(reported["cpu"]["simd"], name);
        let shown = devices(asked, &[]).unwrap();
        assert!(shown.contains(&format!("cores, {name}")), "{shown}");
        assert_eq!(shown.contains("as TEMPOGRAPH_CPU says"), level < best, "{shown}");
    }
    for asked in ["", "AVX2", "sse2"] {
        let said = devices(asked, &[]).unwrap_err();
        assert!(said.contains(&format!("\"{asked}\"; it is \"baseline\", \"avx2\" or \"avx512\"")), "{said}");
    }
}
