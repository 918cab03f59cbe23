//! The negatives of the Temporal Graph Benchmark (Huang et al., NeurIPS 2023), as its files hold them.
use std::collections::HashMap;
use std::path::Path;

use crate::negatives::pickle;
use crate::negatives::pickle::{Entry, Number};
use crate::negatives::{FixedNegatives, NegativesError};
use crate::{EventId, NodeId, Side, TimeUnit, Timestamp};

/// A file such as `tgbl-wiki_val_ns_v2.pkl`: for every (source, destination, time) of a split, the destinations to
/// rank against.
///
/// The file is read as data; nothing in it is ever executed.
#[derive(Clone, Debug)]
pub struct TgbNegatives {
    rows: HashMap<(NodeId, NodeId, Timestamp), std::ops::Range<usize>>,
    nodes: Vec<NodeId>,
}

impl TgbNegatives {
    /// Reads a file. `node_of` turns the file's node numbers into the log's, each on its side; the file's times are in the
    /// user's unit, of which `unit` knows the ticks.
    ///
    /// # Errors
    /// When the file cannot be read, is no such table, names a node that `node_of` does not know, or a time that no tick is.
    pub fn read(
        path: &Path,
        unit: &TimeUnit,
        node_of: impl Fn(Side, i64) -> Option<NodeId>,
    ) -> Result<Self, NegativesError> {
        let bytes = std::fs::read(path).map_err(|source| NegativesError::File { path: path.into(), source })?;
        Self::parse(&bytes, unit, node_of).map_err(|reason| NegativesError::Form { path: path.into(), reason })
    }

    fn parse(bytes: &[u8], unit: &TimeUnit, node_of: impl Fn(Side, i64) -> Option<NodeId>) -> Result<Self, String> {
        let node = |side: Side, number: Number| {
            let what = if side == Side::Source { "source" } else { "destination" };
            let known = number.whole().and_then(|number| node_of(side, number));
            known.ok_or_else(|| format!("{what} {number} is not a node of the log"))
        };
        let mut table = Self { rows: HashMap::new(), nodes: Vec::new() };
        for (place, entry) in pickle::read(bytes).map_err(|e| e.to_string())?.enumerate() {
            let Entry { key, values } = entry.map_err(|e| e.to_string())?;
            let [src, dst, time] = key[..] else {
                return Err(format!("entry {place}: a key of {} numbers, not three", key.len()));
            };
            let ticks = ticks(time, unit).ok_or_else(|| {
                format!("entry {place}: time {time} is not a whole number of ticks, of which a unit has {}", unit.scale)
            })?;
            let start = table.nodes.len();
            for value in values {
                table.nodes.push(node(Side::Destination, value).map_err(|e| format!("entry {place}: {e}"))?);
            }
            let ends = node(Side::Source, src).and_then(|src| Ok((src, node(Side::Destination, dst)?)));
            let (src, dst) = ends.map_err(|e| format!("entry {place}: {e}"))?;
            table.rows.insert((src, dst, ticks), start..table.nodes.len());
        }
        Ok(table)
    }

    /// Number of distinct (source, destination, time) listed.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table for a split: `src`, `dst` and `time` are the columns of its events, of which `first` is the first.
    /// Events that differ in nothing else share a row.
    ///
    /// # Errors
    /// When the columns differ in length or the file does not list an event.
    pub fn for_events(
        &self,
        first: EventId,
        src: &[NodeId],
        dst: &[NodeId],
        time: &[Timestamp],
    ) -> Result<FixedNegatives, NegativesError> {
        if src.len() != dst.len() || src.len() != time.len() {
            return Err(NegativesError::Lengths { src: src.len(), dst: dst.len(), time: time.len() });
        }
        let (mut nodes, mut offsets) = (Vec::new(), vec![0]);
        for row in 0..src.len() {
            let (src, dst, time) = (src[row], dst[row], time[row]);
            let missing = NegativesError::NotListed { event: EventId(first.0 + row as u64), src, dst, time };
            nodes.extend_from_slice(&self.nodes[self.rows.get(&(src, dst, time)).cloned().ok_or(missing)?]);
            offsets.push(nodes.len());
        }
        FixedNegatives::new(first, nodes, offsets)
    }
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

    fn dense(_: Side, id: i64) -> Option<NodeId> {
        u32::try_from(id).ok().map(NodeId)
    }

    fn parse(bytes: &[u8]) -> Result<TgbNegatives, String> {
        TgbNegatives::parse(bytes, &TimeUnit::ticks(), dense)
    }

    #[test]
    fn times_of_the_file_are_scaled_like_those_of_the_log() {
        let unit = TimeUnit { description: String::new(), scale: 10 };
        let table = TgbNegatives::parse(FIXTURES[3], &unit, dense).unwrap();
        let of = |time| table.for_events(EventId(8), &[NodeId(0)], &[NodeId(5)], &[Timestamp(time)]);
        assert!(of(100).is_ok());
        assert!(of(10).is_err());
        assert_eq!(ticks(Number::Real(6.5), &unit), Some(Timestamp(65)));
        assert_eq!(ticks(Number::Real(6.55), &unit), None);
        assert_eq!(ticks(Number::Whole(i64::MAX / 5), &unit), None);
    }

    #[test]
    fn sources_and_destinations_are_looked_up_each_on_its_side() {
        // destinations are numbered behind 1000 sources of their own
        let sided = |side: Side, id: i64| match side {
            Side::Source => dense(side, id),
            Side::Destination => dense(side, id + 1000),
        };
        let table = TgbNegatives::parse(FIXTURES[3], &TimeUnit::ticks(), sided).unwrap();
        let fixed = table.for_events(EventId(8), &[NodeId(0)], &[NodeId(1005)], &[Timestamp(10)]).unwrap();
        assert_eq!(fixed.of(EventId(8)).unwrap(), [1006, 1007, 1008].map(NodeId));
    }

    #[test]
    fn every_protocol_of_either_numpy_gives_the_table_python_wrote() {
        for bytes in FIXTURES {
            let table = parse(bytes).unwrap();
            assert_eq!(table.len(), 4);
            let src = [0, 1, 2, 300].map(NodeId);
            let dst = [5, 6, 7, 70_000].map(NodeId);
            let time = [10, 11, 1_700_000_000_000, -3].map(Timestamp);
            let fixed = table.for_events(EventId(8), &src, &dst, &time).unwrap();
            let rows = [&[6, 7, 8][..], &[5, 300, 70_000], &[1], &[5, 6]];
            for (event, row) in (8..).zip(rows) {
                assert!(
                    fixed.of(EventId(event)).unwrap().iter().map(|node| node.0).eq(row.iter().copied()),
                    "event {event}"
                );
            }
        }
    }

    #[test]
    fn an_event_the_file_does_not_list_is_named() {
        let refused = parse(FIXTURES[3])
            .unwrap()
            .for_events(EventId(8), &[NodeId(0)], &[NodeId(5)], &[Timestamp(11)])
            .unwrap_err();
        assert_eq!(refused.to_string(), "event 8: the file has no negatives for source 0, destination 5 at time 11");
    }

    #[test]
    fn a_node_the_log_does_not_have_is_named() {
        let refused =
            TgbNegatives::parse(FIXTURES[0], &TimeUnit::ticks(), |side, id| dense(side, id).filter(|_| id < 1000))
                .unwrap_err();
        assert_eq!(refused, "entry 1: destination 70000 is not a node of the log");
    }

    #[test]
    fn a_pickle_that_would_run_a_program_is_refused() {
        let attack = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert_eq!(parse(attack).unwrap_err(), "`os.system` at byte 2 is not allowed in a table of negatives");
        assert_eq!(
            parse(b"\x80\x02]q\x00.").unwrap_err(),
            "opcode 0x5d at byte 2 is not allowed in a table of negatives"
        );
    }

    #[test]
    fn what_is_not_one_dict_of_arrays_is_refused() {
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
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(b"\x80\x02}.").unwrap().is_empty());
        let deep: Vec<u8> = [&b"\x80\x02)"[..], &vec![0x85; 1_000_000]].concat();
        assert_eq!(parse(&deep).unwrap_err(), "at byte 4: tuples nested three deep");
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
            let _ = parse(&program);
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_or_another_table_but_never_a_panic() {
        let mut generator = Draw::new(0).of(Purpose::Generator).at(0, 0);
        for bytes in FIXTURES {
            for length in 0..bytes.len() {
                assert!(parse(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
            }
            for place in 0..bytes.len() {
                for _ in 0..8 {
                    let mut damaged = bytes.to_vec();
                    damaged[place] = generator.below(256) as u8;
                    let _ = parse(&damaged);
                }
            }
        }
    }
}
