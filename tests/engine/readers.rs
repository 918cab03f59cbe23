//! Many clients read while one submits. Every answer is that of a serial run at the position it names.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tempograph_framework::{Draw, Purpose};
use tempograph_serving::{Engine, EngineSpec, Granularity, NewEvent, PairQuery, RequestError, Strategy};
use tempograph_tests::{rounds, variants};

use crate::{Found, artifact, ask, event};

/// Answers of readers, by the number of the query. Requests are submitted one after the other, each after at least one
/// answer since the one before.
fn answers_while_events_arrive(
    engine: &Engine,
    requests: &[&[NewEvent]],
    ask: &(impl Fn(usize) -> Option<Found> + Sync),
) -> Vec<(usize, Found)> {
    const READERS: usize = 3;
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut seen: Vec<(usize, Found)> = std::thread::scope(|scope| {
        let (done, answered) = (&done, &answered);
        let reader = |reader: usize| {
            let mut seen = Vec::new();
            let mut question = reader;
            while !done.load(Ordering::SeqCst) || seen.is_empty() {
                seen.extend(ask(question).map(|found| (question, found)));
                question += READERS;
                answered.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        };
        let all: Vec<_> = (0..READERS).map(|at| scope.spawn(move || reader(at))).collect();
        for request in requests {
            let before = answered.load(Ordering::SeqCst);
            engine.observe(request, Granularity::Event).unwrap();
            while answered.load(Ordering::SeqCst) == before {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::SeqCst);
        all.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    seen.sort_by_key(|(_, (_, position))| position.log_seq);
    assert!(seen.last().unwrap().1.1.log_seq > seen[0].1.1.log_seq, "all was read at one position");
    seen
}

#[test]
fn readers_are_answered_as_of_the_position_in_the_answer_while_a_writer_writes() {
    let (told, later) = (240 * rounds(), 1_000_000);
    let mut draw = Draw::new(7).of(Purpose::Negatives).at(0, 0);
    let events: Vec<NewEvent> = (0..told)
        .map(|i| {
            let (src, dst) =
                if i < 10 { (i as u64, i as u64) } else { (u64::from(draw.below(12)), u64::from(draw.below(8))) };
            event(src, dst, 1000 + i as i64 / 2, &mut draw)
        })
        .collect();
    let pyg = variants().into_iter().find(|(name, _)| *name == "as PyG").unwrap().1;
    for (spec, strategy, precompute) in [(variants().remove(1).1, Strategy::Cached, 2), (pyg, Strategy::Affected, 0)] {
        let folder = tempfile::tempdir().unwrap();
        artifact(&spec, &folder.path().join("artifact"));
        let how = EngineSpec { strategy, precompute, kept: 16, wave: 5, ttl: None };
        let engine = Engine::open_with(&folder.path().join("artifact"), &how).unwrap();
        let (first, rest) = events.split_at(10);
        engine.observe(first, Granularity::Event).unwrap();
        let (seen, saved) = std::thread::scope(|scope| {
            let saver = scope.spawn(|| engine.save(&folder.path().join("saved")).unwrap().log_position);
            let requests: Vec<&[NewEvent]> = rest.chunks(9).collect();
            let seen = answers_while_events_arrive(&engine, &requests, &|question| Some(ask(&engine, question, later)));
            (seen, saver.join().unwrap())
        });
        hold_to_one_by_one(
            &engine,
            folder.path(),
            &events,
            seen,
            &|serial, question| Some(ask(serial, question, later)),
            &mut |serial| {
                if saved == serial.position().log_seq {
                    let opened = Engine::open(&folder.path().join("saved")).unwrap();
                    assert!(
                        opened.history().to_store() == serial.history().to_store(),
                        "what was saved at {saved} is not what was there"
                    );
                }
            },
        );
    }
}

/// Compares the readers' answers, in the order of their positions, and the state of `engine` with an engine of the
/// artifact in `folder` that computes one event after the other. `then` is called with that engine after each event.
fn hold_to_one_by_one(
    engine: &Engine,
    folder: &Path,
    events: &[NewEvent],
    seen: Vec<(usize, Found)>,
    ask: &dyn Fn(&Engine, usize) -> Option<Found>,
    then: &mut dyn FnMut(&Engine),
) {
    let plain = EngineSpec { strategy: Strategy::Full, wave: 1, ..EngineSpec::default() };
    let serial = Engine::open_with(&folder.join("artifact"), &plain).unwrap();
    let mut seen = seen.into_iter().peekable();
    for (happened, event) in events.iter().enumerate() {
        serial.observe(std::slice::from_ref(event), Granularity::Event).unwrap();
        while let Some((question, found)) = seen.next_if(|(_, (_, position))| position.log_seq == happened as u64 + 1) {
            assert!(
                Some(&found) == ask(&serial, question).as_ref(),
                "question {question} at {:?}, {:?}",
                found.1,
                engine.spec()
            );
        }
        then(&serial);
    }
    assert!(seen.next().is_none() && engine.history().to_store() == serial.history().to_store());
}

/// A query about a pair that may not be known yet, and now and then about all destinations.
fn ask_of_newcomers(engine: &Engine, question: usize, pairs: u64, later: i64) -> Result<Found, RequestError> {
    if question.is_multiple_of(40) {
        let found = engine.top_k(&0.into(), 5, Some(&later.into()))?;
        return Ok((
            found
                .answer
                .iter()
                .flat_map(|ranked| [ranked.dst.number().unwrap() as u32, ranked.score.to_bits()])
                .collect(),
            found.position,
        ));
    }
    let pair = (question as u64).wrapping_mul(7919) % pairs;
    let query = |src: u64, dst: u64| PairQuery { src: src.into(), dst: dst.into(), time: Some(later.into()) };
    let found = engine.score(&[query(pair, pair), query(pair, 0), query(0, pair)], &[])?;
    Ok((found.answer.into_iter().map(f32::to_bits).collect(), found.position))
}

#[test]
fn readers_are_answered_while_nodes_come_by_the_thousand_and_know_each_from_its_first_event_on() {
    /// Pairs of new nodes in a request: enough that tables grow several times.
    const NEW: u64 = 1500;
    let (requests, later) = (6 * rounds() as u64, 100_000_000);
    let mut draw = Draw::new(11).of(Purpose::Negatives).at(0, 0);
    // Event i names the pair i first; every third one repeats an older node.
    let events: Vec<NewEvent> = (0..requests * NEW)
        .map(|i| {
            let dst = if i % 3 == 2 { u64::from(draw.below(i as u32)) / 3 * 3 } else { i };
            event(i, dst, 1000 + i as i64 / 2, &mut draw)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    artifact(&variants().remove(0).1, &folder.path().join("artifact"));
    for (strategy, precompute) in [(Strategy::Affected, 0), (Strategy::Cached, 1)] {
        let how = EngineSpec { strategy, precompute, ..EngineSpec::default() };
        let engine = Engine::open_with(&folder.path().join("artifact"), &how).unwrap();
        let (first, rest) = events.split_at(1);
        engine.observe(first, Granularity::Event).unwrap();
        let told: Vec<&[NewEvent]> = rest.chunks(NEW as usize).collect();
        let pairs = events.len() as u64;
        let unknown = AtomicUsize::new(0);
        let seen = answers_while_events_arrive(&engine, &told, &|question| {
            let before = engine.position().log_seq;
            match ask_of_newcomers(&engine, question, pairs, later) {
                Ok(found) => Some(found),
                Err(RequestError::UnknownNode { id, .. }) => {
                    // As a source a node is named by the event of its number, as a destination by that event or never.
                    let id = id.number().unwrap();
                    assert!(id >= before || id % 3 == 2, "{id} is not known after {before} events");
                    unknown.fetch_add(1, Ordering::SeqCst);
                    None
                }
                Err(error) => panic!("{error}"),
            }
        });
        assert!(unknown.into_inner() > 0, "nobody was asked about who had not come yet");
        let again = |serial: &Engine, question: usize| ask_of_newcomers(serial, question, pairs, later).ok();
        hold_to_one_by_one(&engine, folder.path(), &events, seen, &again, &mut |_| ());
    }
}
