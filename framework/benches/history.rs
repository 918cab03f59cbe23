//! Microseconds a batch of reading the past and of writing it, without a model, over the last tenth of a stream. A
//! stream ten times as long shows whether the cost grows with the number of earlier events.
//!
//! `cargo bench -p tempograph-framework [-- PATH]` takes the built-in streams, or the prepared dataset at a path. The
//! median is printed: a batch is too short for the best of its kind to mean much, and other work on the machine spoils
//! the mean.
#![allow(clippy::unwrap_used)]
use std::path::Path;
use std::time::Instant;

use tempograph_framework::{
    Dataset, Delta, Draw, EventId, EventLog, Features, History, Lookup, MailRule, Needs, NodeId, OtherMemory, Purpose,
    Queries, Sampler, Timestamp, Update, View, WalkRule,
};

const D: usize = 100;

/// The needs of the TGN authors' model.
fn paper() -> Needs {
    let mail = MailRule::default();
    Needs { memory: D, mail, neighbours: 10, layers: 1, ..Needs::nothing() }
}

/// The needs of PyG's example.
fn pyg() -> Needs {
    let mail = MailRule { other: OtherMemory::AtRead, update_without_mail: true, ..MailRule::default() };
    Needs { mail, lookup: Lookup::Batch, delta: Delta::SinceUpdate, ..paper() }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds until a history can draw from a log that is not yet sorted by node, the median of five times.
fn sorting(set: &Dataset) -> f64 {
    let (log, needs) = (&set.log, Needs { sampler: Sampler::Uniform, ..paper() });
    let once = || {
        let [src, dst] = [log.src(), log.dst()].map(<[NodeId]>::to_vec);
        let unsorted = EventLog::new(src, dst, log.time().to_vec(), vec![0.0; log.len()], None).unwrap();
        let mut history = History::new(set.nodes, needs.clone(), Timestamp(0), Features::default());
        let clock = Instant::now();
        history.attach_log(&unsorted, set.nodes);
        clock.elapsed().as_secs_f64()
    };
    median(&mut [(); 5].map(|()| once()))
}

/// Walks over the log with one negative an event. Returns microseconds a batch of building queries, viewing and
/// observing in its last tenth, and the centres and nodes of the last view.
fn walk(set: &Dataset, needs: &Needs, size: usize) -> ([f64; 3], [usize; 2]) {
    let log = &set.log;
    let mut history = History::new(
        set.nodes,
        needs.clone(),
        log.time().first().copied().unwrap_or(Timestamp(0)),
        Features::default(),
    );
    history.attach_log(log, history.nodes());
    let chance = Draw::new(1).of(Purpose::Sampling);
    let candidates = log.destinations();
    let offsets: Vec<usize> = (0..=size).collect();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let (mut queries, mut view, mut update) = (Queries::none(), View::default(), Update::none());
    let mut extent = [0, 0];
    for start in (0..log.len() / size * size).step_by(size) {
        let batch = log.batch(start..start + size);
        let draw = |i| candidates[chance.at(0, EventId(i as u64).0).below(candidates.len() as u32) as usize];
        let negatives: Vec<NodeId> = (start..start + size).map(draw).collect();

        let clock = Instant::now();
        queries.set_batch(&batch, &negatives, &offsets);
        let asked = clock.elapsed();
        history.view_into(&queries, Some(&batch), chance, &mut view);
        let viewed = clock.elapsed();
        update.nodes.clone_from(&view.nodes);
        update.memory.clear();
        update.memory.extend_from_slice(view.mail.memory());
        let answered = clock.elapsed();
        history.observe(&batch, &update).unwrap();
        let observed = clock.elapsed();

        if start >= log.len() / 10 * 9 {
            for (times, time) in times.iter_mut().zip([asked, viewed - asked, observed - answered]) {
                times.push(time.as_secs_f64() * 1e6);
            }
        }
        extent = [view.hops[0].centres.len(), view.nodes.len()];
    }
    (times.map(|mut times| median(&mut times)), extent)
}

fn main() {
    let paths: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let sets: Vec<(String, Dataset)> = match &paths[..] {
        [] => ["events=100000", "events=1000000"]
            .map(|events| format!("synthetic:{events},users=8000,items=1000"))
            .map(|spec| (spec.clone(), Dataset::from_spec(&spec).unwrap()))
            .into(),
        paths => paths.iter().map(|path| (path.clone(), Dataset::open(Path::new(path)).unwrap())).collect(),
    };
    println!(
        "{:<14}{:>6}{:>8}{:>8}{:>9}{:>9}{:>7}  stream",
        "asking as", "batch", "ask", "view", "observe", "centres", "nodes"
    );
    let models = [
        ("paper", paper()),
        ("pyg", pyg()),
        ("paper, deep", Needs { layers: 2, ..paper() }),
        ("paper, uniform", Needs { sampler: Sampler::Uniform, ..paper() }),
        ("paper, window", Needs { sampler: Sampler::Window(86_400), ..paper() }),
        ("paper, walks", Needs { walks: Some(WalkRule { layers: 3, width: 100, decay: 1e-7, seed: 0 }), ..paper() }),
    ];
    for (name, set) in &sets {
        println!("{:.1} ms to sort the log by node  {name}", 1e3 * sorting(set));
        for (model, needs) in &models {
            for size in [200, 600] {
                // Inside the pool, as training is.
                let ([ask, view, observe], [centres, nodes]) = rayon::scope(|_| walk(set, needs, size));
                println!("{model:<14}{size:>6}{ask:>8.1}{view:>8.1}{observe:>9.1}{centres:>9}{nodes:>7}  {name}");
            }
        }
    }
}
