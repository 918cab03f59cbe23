//! The cost of an event over the length of the history, on the built-in stream.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempograph_models::StepSizes;

use crate::bench::measure;
use crate::bench::measure::Measurement;
use crate::bench::numbers::plot;
use crate::bench::numbers::plot::{Line, Plot, Scale};
use crate::bench::roofline::mean_sizes;
use crate::bench::{BenchArgs, table};
use crate::setup::data;
use crate::setup::device;
use crate::setup::spec::RunSpec;
use crate::terminal::print::{note, print};

const LENGTHS: [usize; 3] = [100_000, 1_000_000, 10_000_000];
/// One of this many events comes after the window: the splits need events there.
const REST: usize = 250;

/// A built-in stream, by how many nodes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// So few nodes that all have full neighbour lists from the shortest length on. A cost that grows then grows with
    /// the history.
    Full,
    /// Enough nodes that neighbour lists are still filling up at the shortest length.
    Filling,
    /// A fixed number of events for each node.
    Growing,
}

impl Stream {
    const ALL: [Stream; 3] = [Stream::Full, Stream::Filling, Stream::Growing];

    fn name(self) -> &'static str {
        match self {
            Stream::Full => "1,000 nodes",
            Stream::Filling => "10,000 nodes",
            Stream::Growing => "a node for every 40 events",
        }
    }

    /// Users and items of a stream of `events`.
    fn nodes(self, events: usize) -> [usize; 2] {
        match self {
            Stream::Full => [800, 200],
            Stream::Filling => [8_000, 2_000],
            Stream::Growing => [(events / 50).max(10), (events / 200).max(10)],
        }
    }
}

/// A measured length.
struct Point {
    stream: Stream,
    events: usize,
    /// Events that were observed without training.
    from: usize,
    run: Measurement,
    batch: usize,
    /// Mean sizes of the steps.
    sizes: StepSizes,
    /// Operations of a step of those sizes.
    flops: f64,
}

/// Heads of the columns of [`Point::cells`].
const HEAD: [&str; 11] = [
    "stream",
    "events",
    "nodes",
    "µs an event",
    "to the shortest",
    "distinct nodes a step",
    "neighbours a step",
    "µs a distinct node",
    "µs a MFLOP",
    "µs without training",
    "peak MB",
];

impl Point {
    /// Microseconds of the median step.
    fn step(&self) -> f64 {
        1e6 * self.run.step_seconds[1]
    }

    /// Microseconds an event: the median step over its batch.
    fn cost(&self) -> f64 {
        self.step() / self.batch as f64
    }

    /// Microseconds a distinct node: each is a row that is read and, where it has mail, updated.
    fn cost_of_node(&self) -> f64 {
        self.step() / self.sizes.nodes
    }

    /// Neighbours shown to all centres of all hops.
    fn neighbours(&self) -> f64 {
        self.sizes.hops.iter().map(|hop| hop.neighbours).sum()
    }

    fn cells(&self, first: f64) -> Vec<String> {
        let [users, items] = self.stream.nodes(self.events);
        vec![
            self.stream.name().to_string(),
            grouped(self.events),
            grouped(users + items),
            format!("{:.2}", self.cost()),
            format!("{:.2}", self.cost() / first),
            format!("{:.0}", self.sizes.nodes),
            format!("{:.0}", self.neighbours()),
            format!("{:.2}", self.cost_of_node()),
            format!("{:.2}", 1e6 * self.step() / self.flops),
            format!("{:.2}", 1e6 * self.run.warm_seconds / self.from as f64),
            (self.run.peak_memory_bytes >> 20).to_string(),
        ]
    }

    fn to_json(&self) -> Value {
        let [users, items] = self.stream.nodes(self.events);
        json!({
            "stream": self.stream.name(), "nodes": users + items, "growing": self.stream == Stream::Growing, "events": self.events,
            "microseconds_per_event": self.cost(), "distinct_nodes_per_step": self.sizes.nodes, "neighbours_per_step": self.neighbours(),
            "microseconds_per_distinct_node": self.cost_of_node(), "flops_per_step": self.flops, "run": self.run,
        })
    }
}

/// Measures every length of every stream, prints a table, and writes it with plots if a folder is given.
pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let mut spec = RunSpec::read(&args.spec, &args.sets)?;
    if spec.threads == 0 {
        spec.threads = device::threads();
    }
    let lengths = if args.events.is_empty() { &LENGTHS[..] } else { &args.events };
    let mut points = Vec::new();
    for stream in Stream::ALL {
        for &events in lengths {
            note(format!("{} events, {}", grouped(events), stream.name()));
            points.push(measure_at(args, stream, events)?);
        }
    }
    if args.json {
        let points: Vec<Value> = points.iter().map(Point::to_json).collect();
        print(format!(
            "{:#}",
            json!({ "batch": spec.train.batch, "threads": spec.threads, "steps": args.steps, "points": points })
        ))?;
    } else {
        print(table::aligned(&rows(&points)).trim_end())?;
    }
    args.out.as_ref().map_or(Ok(()), |folder| write(args, &spec, &points, folder))
}

/// Measures the last `steps` steps of a stream of `events`. Everything before them is observed without training.
fn measure_at(args: &BenchArgs, stream: Stream, events: usize) -> Result<Point> {
    let [users, items] = stream.nodes(events);
    let share = 1.0 / REST as f64;
    let mut sets = args.sets.clone();
    sets.push(format!("data.path=synthetic:events={events},users={users},items={items}"));
    sets.extend([format!("data.val={share}"), format!("data.test={share}")]);
    let spec = RunSpec::read(&args.spec, &sets)?;
    let batch = spec.train.batch;
    let end = events - 2 * (events / REST);
    let Some(from) = end.checked_sub(args.steps * batch).filter(|&from| from > 0) else {
        bail!("a stream of {events} events has no room for {} steps of {batch}", args.steps);
    };
    let (sizes, flops) = sizes(&spec, from, args.steps)?;
    let run = measure::in_subprocess(&args.spec, &sets, args.steps, from)?;
    Ok(Point { stream, events, from, run, batch, sizes, flops })
}

/// Mean sizes of `steps` steps from event `from` on, and the operations of such a step.
fn sizes(spec: &RunSpec, from: usize, steps: usize) -> Result<(StepSizes, f64)> {
    let training_data = data::open(&spec.data)?;
    let end = training_data.split.train.end.min(from + steps * spec.train.batch);
    let sizes = mean_sizes(spec, &training_data, from..end)?;
    let flops = spec.program(&training_data)?.cost(&sizes).flops();
    Ok((sizes, flops))
}

fn rows(points: &[Point]) -> Vec<Vec<String>> {
    let first = |point: &Point| points.iter().find(|other| other.stream == point.stream).map_or(f64::NAN, Point::cost);
    let rows = points.iter().map(|point| point.cells(first(point)));
    std::iter::once(HEAD.map(String::from).to_vec()).chain(rows).collect()
}

/// A plot of a number of every point over the events so far, with a line for each stream.
fn drawn(title: &str, unit: &str, points: &[Point], number: fn(&Point) -> f64) -> Result<String> {
    let lines = Stream::ALL.map(|stream| Line {
        name: stream.name().into(),
        points: points
            .iter()
            .filter(|point| point.stream == stream)
            .map(|point| (point.events as f64, number(point)))
            .collect(),
    });
    plot::svg(&Plot { title, axes: ["events so far", unit], lines: &lines, scale: Scale::LogX, legend: true })
}

fn write(args: &BenchArgs, spec: &RunSpec, points: &[Point], folder: &Path) -> Result<()> {
    let circumstances = format!("batch {}, {} threads", spec.train.batch, spec.threads);
    let of_event = drawn(&format!("Training cost of an event, {circumstances}"), "µs an event", points, Point::cost)?;
    let of_node = drawn(
        &format!("The same for each distinct node of a step, {circumstances}"),
        "µs a distinct node",
        points,
        Point::cost_of_node,
    )?;
    let text = format!(
        "# Cost over the length of the history\n\n\
         Training on the built-in stream: the median of {} steps of {} events at its end, everything before them let happen without training.\n\
         {}, {} threads; spec `{}`; peak memory is that of the process, the log itself among it.\n\n\
         A step reads and updates each distinct node once, so its distinct nodes and the neighbours shown are its work; operations are counted\n\
         from them (`models/src/program/cost.rs`). With 1,000 nodes neighbour lists are full from 10^5 events on.\n\n\
         {}\n![microseconds an event over events so far](scale.svg)\n![microseconds a distinct node over events so far](scale_nodes.svg)\n\n    tempograph bench {} --scale --steps {} --out {}{}\n",
        args.steps,
        spec.train.batch,
        table::machine_name(),
        spec.threads,
        args.spec.display(),
        table::markdown(&rows(points)),
        args.spec.display(),
        args.steps,
        folder.display(),
        args.sets.iter().map(|set| format!(" --set {set}")).collect::<String>(),
    );
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, content) in [("scale.md", text), ("scale.svg", of_event), ("scale_nodes.svg", of_node)] {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        note(format!("wrote {}", path.display()));
    }
    Ok(())
}

/// A number with separated thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
    }
}
