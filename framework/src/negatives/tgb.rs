//! The negatives of the Temporal Graph Benchmark (Huang et al., NeurIPS 2023), as its files hold them.
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use crate::dataset::Dataset;
use crate::negatives::numbering::Numbering;
use crate::negatives::pickle;
use crate::negatives::pickle::{Number, Table};
use crate::negatives::{FixedNegatives, NegativesError};
use crate::{EventId, EventLog, Side, TimeUnit, Timestamp};

/// Source, destination and time of an event as a file names them, the time in ticks.
type Key = (i64, i64, Timestamp);

/// Reads the negatives of some events from a file such as `tgbl-wiki_val_ns_v2.pkl`: for every (source, destination, time) of a split, the
/// destinations to rank against. Events that differ in nothing else share a row.
///
/// The file says nothing of how it numbers nodes. Of the four ways in which files of TGB do (`Numbering`) the first is taken under which
/// every event is listed. `whole` is the log as it was prepared, if `set` lacks events of it: TGB counts nodes as they appear there.
/// The file is read as data; nothing in it is ever executed.
///
/// # Errors
/// When the file cannot be read, is no such table, lists a time that no tick is or a node that the set lacks, or lacks an event.
pub fn tgb_negatives(
    path: &Path,
    set: &Dataset,
    whole: &EventLog,
    events: Range<usize>,
) -> Result<FixedNegatives, NegativesError> {
    let bytes = std::fs::read(path).map_err(|source| NegativesError::File { path: path.into(), source })?;
    parse(&bytes, set, whole, events).map_err(|wrong| match wrong {
        Wrong::Form(reason) => NegativesError::Form { path: path.into(), reason },
        Wrong::Negatives(error) => error,
    })
}

/// What is wrong with a file, before its path is known.
#[derive(Debug)]
enum Wrong {
    Form(String),
    Negatives(NegativesError),
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self::Form(reason)
    }
}

fn parse(bytes: &[u8], set: &Dataset, whole: &EventLog, events: Range<usize>) -> Result<FixedNegatives, Wrong> {
    let table = pickle::read(bytes).map_err(|error| error.to_string())?;
    let entries = keys(&table, &set.time_unit)?;
    let (numbering, rows) = recognise(set, whole, &entries, events.clone()).map_err(Wrong::Negatives)?;
    let (mut nodes, mut ends) = (Vec::new(), vec![0]);
    for (place, values) in table.values().enumerate() {
        for value in values.map_err(|error| error.to_string())? {
            let node = value.whole().and_then(|number| numbering.node(Side::Destination, number));
            nodes.push(node.ok_or_else(|| format!("entry {place}: destination {value} is not a node of the log"))?);
        }
        ends.push(nodes.len());
    }
    let listed = |&row: &usize| &nodes[ends[row]..ends[row + 1]];
    let mut offsets = vec![0];
    rows.iter().for_each(|row| offsets.push(offsets[offsets.len() - 1] + listed(row).len()));
    let in_order = rows.iter().flat_map(listed).copied().collect();
    FixedNegatives::new(EventId(events.start as u64), in_order, offsets).map_err(Wrong::Negatives)
}

/// The row of each (source, destination, time) that a file lists; the last one where it is listed twice, as in a dict.
fn keys(table: &Table<'_>, unit: &TimeUnit) -> Result<HashMap<Key, usize>, String> {
    let mut entries = HashMap::new();
    for (place, key) in table.keys().enumerate() {
        let key = key.map_err(|error| error.to_string())?;
        let [src, dst, time] = key[..] else {
            return Err(format!("entry {place}: a key of {} numbers, not three", key.len()));
        };
        let ticks = ticks(time, unit).ok_or_else(|| {
            format!("entry {place}: time {time} is not a whole number of ticks, of which a unit has {}", unit.scale)
        })?;
        let whole = |what: &str, number: Number| {
            number.whole().ok_or_else(|| format!("entry {place}: {what} {number} is not a node of the log"))
        };
        entries.insert((whole("source", src)?, whole("destination", dst)?, ticks), place);
    }
    Ok(entries)
}

/// The numbering under which all events are listed, and the row of each.
fn recognise<'a>(
    set: &'a Dataset,
    whole: &EventLog,
    entries: &HashMap<Key, usize>,
    events: Range<usize>,
) -> Result<(Numbering<'a>, Vec<usize>), NegativesError> {
    let log = &set.log;
    let mut first = None;
    for numbering in Numbering::all(set, whole) {
        let row = |event: usize| {
            let (src, dst, time) = (log.src()[event], log.dst()[event], log.time()[event]);
            let key = numbering.number(Side::Source, src).zip(numbering.number(Side::Destination, dst));
            let row = key.and_then(|(src, dst)| entries.get(&(src, dst, time)).copied());
            row.ok_or(NegativesError::NotListed { event: EventId(event as u64), src, dst, time })
        };
        match events.clone().map(row).collect() {
            Ok(rows) => return Ok((numbering, rows)),
            Err(missing) => drop(first.get_or_insert(missing)),
        }
    }
    Err(first.unwrap_or(NegativesError::Lengths { src: log.len(), dst: log.len(), time: log.len() }))
}

/// A time of the file as ticks, if it is a whole number of them.
fn ticks(time: Number, unit: &TimeUnit) -> Option<Timestamp> {
    let scale = i64::try_from(unit.scale).ok()?;
    match (time.whole(), time) {
        (Some(whole), _) => whole.checked_mul(scale).map(Timestamp),
        (None, Number::Real(time)) => unit.to_ticks(time).filter(|&ticks| unit.from_ticks(ticks) == time),
        (None, Number::Whole(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{DatasetContent, IdMap, Sides};
    use crate::{Draw, Purpose};
    use proptest::prelude::*;

    /// One pickle for each protocol from numpy 1 and numpy 2, all of the same table; `make_fixtures.py` in their
    /// folder wrote them.
    const FIXTURES: [&[u8]; 8] = [
        include_bytes!("../../tests/fixtures/tgb/numpy1_protocol2.pkl"),
        include_bytes!("../../tests/fixtures/tgb/numpy1_protocol3.pkl"),
        include_bytes!("../../tests/fixtures/tgb/numpy1_protocol4.pkl"),
        include_bytes!("../../tests/fixtures/tgb/numpy1_protocol5.pkl"),
        include_bytes!("../../tests/fixtures/tgb/numpy2_protocol2.pkl"),
        include_bytes!("../../tests/fixtures/tgb/numpy2_protocol3.pkl"),
        include_bytes!("../../tests/fixtures/tgb/numpy2_protocol4.pkl"),
        include_bytes!("../../tests/fixtures/tgb/numpy2_protocol5.pkl"),
    ];

    /// The events that the fixtures list, in the order of time, and the ids of their nodes.
    const EVENTS: [(u64, u64, i64); 4] = [(300, 70_000, -3), (0, 5, 10), (1, 6, 11), (2, 7, 1_700_000_000_000)];
    const OWN: [u64; 9] = [0, 1, 2, 5, 6, 7, 8, 300, 70_000];

    /// A set with these events, whose ids are `own`.
    fn set(events: &[(u64, u64, i64)], own: &[u64], sides: Sides, scale: u64) -> Dataset {
        let ids = IdMap::new(own.to_vec(), sides);
        let node = |side, id: u64| ids.node(side, id).unwrap();
        let src = events.iter().map(|event| node(Side::Source, event.0)).collect();
        let dst = events.iter().map(|event| node(Side::Destination, event.1)).collect();
        let time = events.iter().map(|event| Timestamp(event.2 * scale as i64)).collect();
        let log = EventLog::new(src, dst, time, vec![0.0; events.len()], None).unwrap();
        let time_unit = TimeUnit { description: String::new(), scale };
        let content = DatasetContent {
            name: String::new(),
            log,
            time_unit,
            node_features: None,
            ids,
            source: String::new(),
            notices: Vec::new(),
        };
        Dataset::new(content).unwrap()
    }

    fn listed() -> Dataset {
        set(&EVENTS, &OWN, Sides::OneMode, 1)
    }

    fn parse_with(bytes: &[u8], set: &Dataset) -> Result<FixedNegatives, String> {
        parse(bytes, set, &set.log, 0..set.log.len()).map_err(|wrong| match wrong {
            Wrong::Form(reason) => reason,
            Wrong::Negatives(error) => error.to_string(),
        })
    }

    fn parse_listed(bytes: &[u8]) -> Result<FixedNegatives, String> {
        parse_with(bytes, &listed())
    }

    /// The own ids of an event's negatives.
    fn own(set: &Dataset, fixed: &FixedNegatives, event: u64) -> Vec<u64> {
        fixed.of(EventId(event)).unwrap().iter().map(|&node| set.ids.external_id(node)).collect()
    }

    #[test]
    fn times_of_the_file_are_scaled_like_those_of_the_log() {
        let scaled = set(&EVENTS, &OWN, Sides::OneMode, 10);
        assert!(parse_with(FIXTURES[3], &scaled).is_ok());
        let unit = &scaled.time_unit;
        assert_eq!(ticks(Number::Real(6.5), unit), Some(Timestamp(65)));
        assert_eq!(ticks(Number::Real(6.55), unit), None);
        assert_eq!(ticks(Number::Whole(i64::MAX / 5), unit), None);
    }

    /// A pickle of a dict from (source, destination, time) to destinations.
    fn written(rows: &[([u32; 3], &[u32])]) -> Vec<u8> {
        let mut bytes = b"\x80\x03}".to_vec();
        for (key, values) in rows {
            key.iter().for_each(|number| bytes.extend([b"J", &number.to_le_bytes()[..]].concat()));
            bytes.extend(b"\x87cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K");
            bytes.push(values.len() as u8);
            bytes.extend(
                b"\x85cnumpy\ndtype\nX\x02\0\0\0u4\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89C",
            );
            bytes.push((values.len() * 4) as u8);
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
            bytes.extend(b"tbs");
        }
        bytes.push(b'.');
        bytes
    }

    #[test]
    fn a_file_is_read_by_whichever_numbering_lists_all_events() {
        // Two users and two items, both numbered from 10, and a set of one kind whose ids are as far from dense.
        let two = set(&[(10, 11, 1), (11, 10, 2)], &[10, 11, 10, 11], Sides::Bipartite { sources: 2 }, 1);
        let one = set(&[(30, 10, 1), (20, 30, 2)], &[10, 20, 30], Sides::OneMode, 1);
        for (set, rows, negative) in [
            (&two, [([10, 11, 1], 10), ([11, 10, 2], 11)], [10, 11]), // own ids
            (&two, [([10, 23, 1], 22), ([11, 22, 2], 23)], [10, 11]), // items behind the largest user, 11
            (&two, [([0, 1, 1], 3), ([2, 3, 2], 1)], [10, 11]),       // as they appear
            (&two, [([0, 3, 1], 2), ([1, 2, 2], 3)], [10, 11]),       // numbers of the set
            (&one, [([30, 10, 1], 20), ([20, 30, 2], 10)], [20, 10]), // own ids
            (&one, [([30, 41, 1], 51), ([20, 61, 2], 41)], [20, 10]), // destinations behind the largest source, 30
            (&one, [([0, 1, 1], 2), ([2, 0, 2], 1)], [20, 10]),       // as they appear: 30, 10, 20
            (&one, [([2, 0, 1], 1), ([1, 2, 2], 0)], [20, 10]),       // numbers of the set
        ] {
            let bytes = written(&rows.each_ref().map(|(key, value)| (*key, std::slice::from_ref(value))));
            let fixed = parse_with(&bytes, set).unwrap();
            assert_eq!([own(set, &fixed, 0), own(set, &fixed, 1)], negative.map(|id| vec![id]), "{rows:?}");
        }
        // Numbers count from the log as it was prepared, not from what is left of it.
        let rest = set(&[(20, 30, 2)], &[10, 20, 30], Sides::OneMode, 1);
        let bytes = written(&[([2, 0, 2], &[1])]);
        let fixed = parse(&bytes, &rest, &one.log, 0..1).unwrap();
        assert_eq!(own(&rest, &fixed, 0), [10]);
    }

    #[test]
    fn every_protocol_of_either_numpy_gives_the_table_python_wrote() {
        let set = listed();
        for bytes in FIXTURES {
            let fixed = parse_with(bytes, &set).unwrap();
            let rows = [&[5, 6][..], &[6, 7, 8], &[5, 300, 70_000], &[1]];
            for (event, row) in (0..).zip(rows) {
                assert_eq!(own(&set, &fixed, event), row, "event {event}");
            }
        }
    }

    #[test]
    fn an_event_the_file_does_not_list_is_named() {
        let other = set(&[(0, 5, 10), (0, 5, 11)], &OWN, Sides::OneMode, 1);
        assert_eq!(
            parse_with(FIXTURES[3], &other).unwrap_err(),
            "event 1: the file has no negatives for source 0, destination 3 at time 11"
        );
    }

    #[test]
    fn a_node_the_log_does_not_have_is_named() {
        let few = set(&[(0, 5, 10)], &OWN[..8], Sides::OneMode, 1);
        assert_eq!(parse_with(FIXTURES[0], &few).unwrap_err(), "entry 1: destination 70000 is not a node of the log");
    }

    #[test]
    fn a_pickle_that_would_run_a_program_is_refused() {
        let attack = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert_eq!(parse_listed(attack).unwrap_err(), "`os.system` at byte 2 is not allowed in a table of negatives");
        assert_eq!(
            parse_listed(b"\x80\x02]q\x00.").unwrap_err(),
            "opcode 0x5d at byte 2 is not allowed in a table of negatives"
        );
    }

    #[test]
    fn a_pickle_that_is_no_dict_of_arrays_is_refused() {
        for bytes in [
            &b""[..],
            b"\x80\x02.",
            b"\x80\x02N.",
            b"\x80\x01}.",
            b"\x80\x02}}.",
            b"\x80\x02}NNs.",
            b"\x80\x02}K\x01\x85K\x01s.",
            b"\x80\x02h\x00.",
            b"u",
        ] {
            assert!(parse_listed(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(
            parse_listed(b"\x80\x02}.").unwrap_err(),
            "event 0: the file has no negatives for source 7, destination 8 at time -3"
        );
        let deep: Vec<u8> = [&b"\x80\x02)"[..], &vec![0x85; 1_000_000]].concat();
        assert_eq!(parse_listed(&deep).unwrap_err(), "at byte 4: tuples nested three deep");
    }

    proptest! {
        #[test]
        fn no_sequence_of_allowed_operations_makes_the_reader_panic(places in prop::collection::vec(0usize..1000, 0..60)) {
            let operations: [&[u8]; 26] = [
                b"(", b"}", b"N", b"\x88", b"K\x01", b"M\x02\x00", b"J\xff\xff\xff\xff", b"\x8a\x01\x05", b"\x8c\x02i8", b"\x8c\x01<", b"C\x08\0\0\0\0\0\0\0\0",
                b")", b"\x85", b"\x86", b"\x87", b"t", b"\x94", b"h\x00", b"h\x01", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n",
                b"cnumpy.core.multiarray\n_reconstruct\n", b"R", b"b", b"s", b"u",
            ];
            let program: Vec<u8> = places.iter().flat_map(|place| operations[place % operations.len()].iter().copied()).chain(*b".").collect();
            let _ = parse_listed(&program);
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_or_another_table_but_never_a_panic() {
        let mut generator = Draw::new(0).of(Purpose::Generator).at(0, 0);
        let set = listed();
        for bytes in FIXTURES {
            for length in 0..bytes.len() {
                assert!(parse_with(&bytes[..length], &set).is_err(), "{length} of {} bytes", bytes.len());
            }
            for place in 0..bytes.len() {
                for _ in 0..8 {
                    let mut damaged = bytes.to_vec();
                    damaged[place] = generator.below(256) as u8;
                    let _ = parse_with(&damaged, &set);
                }
            }
        }
    }
}
