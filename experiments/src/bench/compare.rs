//! Compares Tempograph with peers in alternating runs, configuration by configuration.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::configuration::Configuration;
use crate::bench::measure;
use crate::bench::measure::Measurement;
use crate::bench::numbers::stats::median;
use crate::bench::peer::ReadyPeer;
use crate::bench::roofline::{MachineRates, Roofline};
use crate::bench::{BenchArgs, Peer, table};
use crate::setup::data;
use crate::terminal::print::{note, print};

/// The measurements of a configuration.
pub(super) struct Comparison<'a> {
    pub configuration: &'a Configuration,
    pub floor: Roofline,
    pub ours: Vec<Measurement>,
    pub peers: Vec<PeerRuns>,
}

/// A peer's runs, which alternate with ours.
pub(super) struct PeerRuns {
    pub peer: Peer,
    /// The versions that the peer reports.
    pub versions: Value,
    pub runs: Vec<Measurement>,
}

/// Measures every configuration and prints the results.
pub(super) fn run(args: &BenchArgs, configurations: &[Configuration]) -> Result<()> {
    let mut machine = MachineRates::default();
    let mut all = Vec::new();
    for (i, configuration) in configurations.iter().enumerate() {
        note(format!("{} of {}: {}", i + 1, configurations.len(), configuration.name()));
        all.push(compare(args, configuration, &mut machine)?);
    }
    if args.json {
        print(format!("{:#}", report(&args.spec, &all, &machine)))?;
    } else {
        print(table::comparison(&all, &machine).trim_end())?;
    }
    Ok(())
}

fn compare<'a>(
    args: &BenchArgs,
    configuration: &'a Configuration,
    machine: &mut MachineRates,
) -> Result<Comparison<'a>> {
    let Configuration { sets, spec, steps } = configuration;
    let training_data = data::open(&spec.data)?;
    let floor = Roofline::of(spec, &training_data, *steps, machine.rates(spec.threads)?)?;
    let peers: Vec<ReadyPeer> = args
        .peer
        .iter()
        .map(|&peer| ReadyPeer::new(peer, args.python.as_deref(), spec, &training_data, *steps))
        .collect::<Result<_>>()?;
    drop(training_data);
    let mut ours = Vec::new();
    let mut theirs: Vec<PeerRuns> =
        args.peer.iter().map(|&peer| PeerRuns { peer, versions: Value::Null, runs: Vec::new() }).collect();
    for turn in 0..args.pairs {
        let own = measure::in_subprocess(&args.spec, sets, *steps, 0)?;
        let mut text =
            format!("  run {} of {}: tempograph {:.0} events/s", turn + 1, args.pairs, own.events_per_second);
        ours.push(own);
        for (beside, peer) in theirs.iter_mut().zip(&peers) {
            let (run, versions) = peer.measure()?;
            text += &format!(", {} {:.0}", beside.peer.name(), run.events_per_second);
            beside.versions = versions;
            beside.runs.push(run);
        }
        note(&text);
    }
    Ok(Comparison { configuration, floor, ours, peers: theirs })
}

impl Comparison<'_> {
    /// Median events a second.
    pub fn rate(runs: &[Measurement]) -> f64 {
        median(runs.iter().map(|run| run.events_per_second)).unwrap_or(0.0)
    }

    /// Largest resident memory of any run, bytes.
    pub fn peak(runs: &[Measurement]) -> u64 {
        runs.iter().map(|run| run.peak_memory_bytes).max().unwrap_or(0)
    }

    /// Median over the pairs of ours to a peer's events a second.
    pub fn ratio(&self, beside: &PeerRuns) -> Option<f64> {
        median(self.ours.iter().zip(&beside.runs).map(|(own, other)| own.events_per_second / other.events_per_second))
    }

    /// Median over the runs of the mean step's seconds.
    pub fn step_seconds(&self) -> f64 {
        median(self.ours.iter().map(|run| run.step_seconds[0])).unwrap_or(0.0)
    }

    /// The roofline's share of the time of a step.
    pub fn reached(&self) -> f64 {
        self.floor.seconds / self.step_seconds()
    }

    /// Median allocations of a step, where they were counted.
    pub fn allocations(&self) -> Option<f64> {
        median(self.ours.iter().filter_map(|run| run.allocations_per_step))
    }

    /// Median launches of a step, and median share of the time the GPU computed, where there is one.
    pub fn on_device(&self) -> [Option<f64>; 2] {
        let of = |number: fn(&Measurement) -> Option<f64>| median(self.ours.iter().filter_map(number));
        [of(|run| run.launches_per_step), of(|run| run.busy)]
    }

    /// Median share of each stage in a run's time, by name, in the order they follow each other.
    pub fn shares(&self) -> Vec<(&str, f64)> {
        let names = self.ours.first().map(|run| run.stages.keys()).into_iter().flatten();
        let share =
            |name: &str| median(self.ours.iter().filter_map(|run| Some(run.stages.get(name)?.as_f64()? / run.seconds)));
        names.filter_map(|name| Some((name.as_str(), share(name)?))).collect()
    }

    fn to_json(&self) -> Value {
        let Configuration { spec, steps, .. } = self.configuration;
        let shares: serde_json::Map<String, Value> =
            self.shares().into_iter().map(|(name, share)| (name.into(), json!(share))).collect();
        let mut floor = json!(self.floor);
        floor["reached"] = json!(self.reached());
        let [launches, busy] = self.on_device();
        let mut text = json!({
            "data": spec.data.path, "edge_features": spec.data.edge_features, "batch": spec.train.batch, "threads": spec.threads,
            "steps": steps, "ratio": self.peers.first().and_then(|peer| self.ratio(peer)), "floor": floor,
            "tempograph": {
                "events_per_second": Comparison::rate(&self.ours), "step_seconds": self.step_seconds(),
                "peak_memory_bytes": Comparison::peak(&self.ours), "allocations_per_step": self.allocations(),
                "device": spec.device, "launches_per_step": launches, "busy": busy,
                "stage_shares": shares, "runs": self.ours,
            },
        });
        for beside in &self.peers {
            text[beside.peer.name()] = json!({
                "events_per_second": Comparison::rate(&beside.runs), "ratio": self.ratio(beside),
                "peak_memory_bytes": Comparison::peak(&beside.runs), "versions": beside.versions, "runs": beside.runs,
            });
        }
        text
    }
}

/// The results as JSON. `ratio` is the least of the configurations' ratios.
fn report(spec: &Path, all: &[Comparison<'_>], machine: &MachineRates) -> Value {
    let ratios = all.iter().filter_map(|one| one.ratio(one.peers.first()?));
    json!({
        "spec": spec, "version": env!("CARGO_PKG_VERSION"), "commit": option_env!("TEMPOGRAPH_COMMIT"),
        "machine": { "name": table::machine_name(), "rates_by_threads": machine.known() },
        "ratio": ratios.reduce(f64::min),
        "configurations": all.iter().map(Comparison::to_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::spec::RunSpec;

    fn run(rate: f64, bytes: u64) -> Measurement {
        Measurement {
            events_per_second: rate,
            seconds: 2.0,
            peak_memory_bytes: bytes,
            stages: json!({ "forward": 0.5, "backward": 1.5 }).as_object().unwrap().clone(),
            step_seconds: [0.01; 2],
            allocations_per_step: Some(0.0),
            warm_seconds: 0.0,
            launches_per_step: None,
            busy: None,
        }
    }

    fn floor() -> Roofline {
        Roofline {
            flops: 1e9,
            flops_forward: 4e8,
            flops_backward: 5e8,
            flops_optimiser: 1e8,
            bytes: 1e7,
            flops_per_second: 2e11,
            bytes_per_second: 1e10,
            seconds: 0.005,
        }
    }

    #[test]
    fn the_ratio_is_the_median_over_the_pairs_and_both_rates_are_printed() {
        let spec = RunSpec::parse("[data]\npath = \"synthetic:events=900\"\n", &[]).unwrap();
        let configuration = Configuration { sets: Vec::new(), spec, steps: 3 };
        let ours = [(900.0, 5), (1000.0, 7), (400.0, 6)].map(|(rate, bytes)| run(rate, bytes)).to_vec();
        // pair by pair: 9, 5 and 8
        let theirs = [100.0, 200.0, 50.0].map(|rate| run(rate, 100)).to_vec();
        let peers = vec![PeerRuns { peer: Peer::Pyg, versions: Value::Null, runs: theirs }];
        let text = report(
            Path::new("spec.toml"),
            &[Comparison { configuration: &configuration, floor: floor(), ours, peers }],
            &MachineRates::default(),
        );
        let one = &text["configurations"][0];
        assert_eq!([&text["ratio"], &one["ratio"], &one["pyg"]["ratio"]], [&json!(8.0); 3]);
        let of = |side: &str| {
            [&one[side]["events_per_second"], &one[side]["peak_memory_bytes"]].map(|number| number.as_f64().unwrap())
        };
        assert_eq!((of("tempograph"), of("pyg")), ([900.0, 7.0], [100.0, 100.0]));
        assert_eq!(
            (&one["floor"]["reached"], &one["tempograph"]["stage_shares"]["backward"]),
            (&json!(0.5), &json!(0.75))
        );
    }
}
