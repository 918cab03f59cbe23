//! What an event costs over the length of the history, on the built-in stream.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::measure::{self, Measured};
use super::plot::{self, Line};
use super::{BenchArgs, table};
use crate::spec::RunSpec;

const LENGTHS: [usize; 3] = [100_000, 1_000_000, 10_000_000];
/// Of this many events one is behind the window: what the splits after it need.
const REST: usize = 250;

/// How many nodes a stream has.
#[derive(Clone, Copy)]
enum Nodes {
    Fixed,
    Growing,
}

impl Nodes {
    fn name(self) -> &'static str {
        match self {
            Nodes::Fixed => "10,000 nodes",
            Nodes::Growing => "a node for every 40 events",
        }
    }

    /// Users and items of a stream of `events`.
    fn of(self, events: usize) -> [usize; 2] {
        match self {
            Nodes::Fixed => [8_000, 2_000],
            Nodes::Growing => [(events / 50).max(10), (events / 200).max(10)],
        }
    }
}

/// A measured length.
struct Point {
    nodes: Nodes,
    events: usize,
    run: Measured,
    batch: usize,
}

impl Point {
    /// Microseconds an event: the median step over its batch.
    fn cost(&self) -> f64 {
        1e6 * self.run.step_seconds[1] / self.batch as f64
    }

    fn cells(&self, first: f64) -> Vec<String> {
        let [users, items] = self.nodes.of(self.events);
        let mut cells = vec![self.nodes.name().to_string(), grouped(self.events), grouped(users + items)];
        cells.push(format!("{:.2}", self.cost()));
        cells.push(format!("{:.2}", self.cost() / first));
        cells.push(format!("{:.2}", 1e6 * self.run.warm_seconds / self.events as f64));
        cells.push((self.run.peak_memory_bytes >> 20).to_string());
        cells
    }

    fn to_json(&self) -> Value {
        let [users, items] = self.nodes.of(self.events);
        json!({ "nodes": users + items, "growing": matches!(self.nodes, Nodes::Growing), "events": self.events,
                "microseconds_per_event": self.cost(), "run": self.run })
    }
}

/// Measures every length with both kinds of stream, prints a table, and writes it with a plot where that is asked for.
pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let spec = RunSpec::read(&args.spec, &args.sets)?;
    let lengths = if args.events.is_empty() { &LENGTHS[..] } else { &args.events };
    let mut points = Vec::new();
    for nodes in [Nodes::Fixed, Nodes::Growing] {
        for &events in lengths {
            eprintln!("{} events, {}", grouped(events), nodes.name());
            points.push(measure_at(args, &spec, nodes, events)?);
        }
    }
    if args.json {
        let points: Vec<Value> = points.iter().map(Point::to_json).collect();
        println!("{:#}", json!({ "batch": spec.train.batch, "threads": spec.threads, "steps": args.steps, "points": points }));
    } else {
        print!("{}", table::aligned(&rows(&points)));
    }
    args.out.as_ref().map_or(Ok(()), |folder| write(args, &spec, &points, folder))
}

/// The last `steps` steps of a stream of `events`; everything before them happens without training.
fn measure_at(args: &BenchArgs, spec: &RunSpec, nodes: Nodes, events: usize) -> Result<Point> {
    let batch = spec.train.batch;
    let end = events - 2 * (events / REST);
    let Some(from) = end.checked_sub(args.steps * batch).filter(|&from| from > 0) else {
        bail!("a stream of {events} events has no room for {} steps of {batch}", args.steps);
    };
    let [users, items] = nodes.of(events);
    let share = 1.0 / REST as f64;
    let mut sets = args.sets.clone();
    sets.push(format!("data.path=synthetic:events={events},users={users},items={items}"));
    sets.extend([format!("data.val={share}"), format!("data.test={share}")]);
    let run = measure::apart(&args.spec, &sets, args.steps, from)?;
    Ok(Point { nodes, events, run, batch })
}

fn rows(points: &[Point]) -> Vec<Vec<String>> {
    let head = ["stream", "events", "nodes", "µs an event", "to the shortest", "µs without training", "peak MB"];
    let first = |point: &Point| {
        let same = |other: &&Point| matches!((other.nodes, point.nodes), (Nodes::Fixed, Nodes::Fixed) | (Nodes::Growing, Nodes::Growing));
        points.iter().find(same).map_or(f64::NAN, Point::cost)
    };
    let rows = points.iter().map(|point| point.cells(first(point)));
    std::iter::once(head.map(String::from).to_vec()).chain(rows).collect()
}

fn write(args: &BenchArgs, spec: &RunSpec, points: &[Point], folder: &Path) -> Result<()> {
    let lines = [Nodes::Fixed, Nodes::Growing].map(|nodes| Line {
        name: nodes.name().into(),
        points: points.iter().filter(|point| point.nodes.name() == nodes.name()).map(|point| [point.events as f64, point.cost()]).collect(),
    });
    let title = format!("Training cost of an event, batch {}, {} threads", spec.train.batch, spec.threads);
    let plot = plot::svg(&title, ["events so far", "µs an event"], &lines);
    let text = format!(
        "# Cost over the length of the history\n\n\
         Training on the built-in stream: the median of {} steps of {} events at its end, everything before them let happen without training.\n\
         {}, {} threads; spec `{}`; peak memory is that of the process, the log itself among it.\n\n\
         {}\n![microseconds an event over events so far](scale.svg)\n\n    tempograph bench {} --scale --steps {} --out {}{}\n",
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
    for (name, content) in [("scale.md", text), ("scale.svg", plot)] {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// A number with its thousands set apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
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
