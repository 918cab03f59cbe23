//! Counts: allocations of a step and of an event, launches of a step on a device. They do not depend on the level of
//! the CPU.

use serde_json::Value;

use super::cases::{Case, in_parallel, variants};
use super::file::{Pins, check};
use super::place::{Level, Place, in_turn};

fn sets(case: &Case, more: &[&'static str]) -> Vec<&'static str> {
    case.sets.iter().chain(more).flat_map(|set| ["--set", set]).collect()
}

fn reported(place: &Place, args: &[&str]) -> Value {
    serde_json::from_str(&place.succeeds(args)).unwrap()
}

/// Allocations a step, the first third of the steps aside, and an event served, the first tenth aside.
pub fn allocations() {
    const EVENTS: &str = "data.path=synthetic:events=2500,users=20,items=15,features=2";
    let place = Place::at(Level::of_processor());
    let mut taken = Pins::of(["allocations"]);
    // Static memory and node features are those of the place's own events. A pipeline has threads of its own, which
    // come as they may. So few steps of eight lanes together that none is left to count.
    let left_out = ["static", "node_features", "prefetch"];
    let counted = |case: &Case| {
        case.name != "paper, 2x2x2" && !case.sets.iter().any(|set| left_out.iter().any(|part| set.contains(part)))
    };
    let cases: Vec<Case> = variants().into_iter().chain(in_parallel()).filter(counted).collect();
    let found = in_turn(&cases, |case| {
        let sets = sets(case, &[EVENTS]);
        let step = ["bench", "pins.toml", "--once", "--steps", "60"];
        let step = ("step", reported(&place, &[&step[..], &sets].concat())["allocations_per_step"].clone());
        let event = ["bench", "pins.toml", "--serve", "--steps", "20", "--events", "400", "--json"];
        // How it was trained is nothing to the server.
        let event = (case.served)
            .then(|| ("event", reported(&place, &[&event[..], &sets].concat())["allocations_per_event"].clone()));
        let counts = std::iter::once(step).chain(event);
        counts.map(|(what, count)| (what, count.as_f64().unwrap().to_string())).collect::<Vec<_>>()
    });
    for (case, found) in cases.iter().zip(found) {
        found.into_iter().for_each(|(what, count)| taken.put("allocations", case.name, what, count));
    }
    check("counts.toml", &taken);
}

/// Launches a step with the history on the device, and from views; bringing the history there and back is among them.
#[cfg(feature = "wgpu")]
pub fn launches() {
    if let Err(why) = tempograph_kernels::tensor::vulkan() {
        return println!("skipped: {why}");
    }
    let place = Place::at(Level::of_processor());
    let mut taken = Pins::of(["launches"]);
    let counted = |case: &Case, (what, more): (&'static str, &[&'static str])| {
        let sets = sets(case, &[&["device=wgpu:0"], more].concat());
        let found = reported(&place, &[&["bench", "pins.toml", "--once", "--steps", "6"][..], &sets].concat());
        (what, found["launches_per_step"].as_f64().unwrap().to_string())
    };
    let (resident, views) = (("resident", &[][..]), ("views", &["parallel.prefetch=1"][..]));
    let cases: Vec<Case> = variants().into_iter().filter(|case| ON_DEVICE.contains(&case.name)).collect();
    assert_eq!(cases.len(), ON_DEVICE.len());
    let mut all: Vec<_> = cases.iter().map(|case| (case, resident)).collect();
    all.push((&cases[0], views));
    for ((case, _), (what, count)) in all.iter().zip(in_turn(&all, |&(case, from)| counted(case, from))) {
        taken.put("launches", case.name, what, count);
    }
    check("counts.toml", &taken);
}

/// What differs on a device; each costs seconds, in which a device that is the processor has its kernels compiled.
#[cfg(feature = "wgpu")]
const ON_DEVICE: [&str; 7] =
    ["paper", "paper, 2 layers", "conv, 2 layers", "rnn", "pair features", "static, add", "static, concat, 2 layers"];
