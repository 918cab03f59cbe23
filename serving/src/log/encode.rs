//! The binary form of entries, in which every log stores them.
//!
//! An entry is `form u8 = 1`, `kind u8` (0 events one by one, 1 events as a batch, 2 retractions, 3 an expiry among all
//! nodes, 4 an expiry among some nodes, 5 retractions of the newest events, 6 events that wait, 7 events that waited, 8
//! events that are dropped while they wait, 9 and 10 as 2 and 5 with ids that are text), `first_seq u64`, `count
//! varint`, and its content. A retraction is the event's number, `src` and `dst`, varints, or the number and two texts;
//! after those of the newest events comes the newest time from then on. Of events that wait, first comes the number of
//! the first, a varint; of those that waited, each number as a varint comes before its event; of those that are
//! dropped, only the numbers. An expiry is the time before which nodes were idle; among some nodes, then the
//! first of their numbers and the one after the last, varints. An event is `flags u8`, `src varint`, `dst varint`, a
//! time, and depending on the flags a label `f32` (bit 0; else it is 0), features (bit 1: `count varint`, `f32` each),
//! an id (bit 2: `bytes u8`, UTF-8) and the time with which it was submitted (bit 3: it was late). With bit 4, `src` and
//! `dst` are texts: `bytes varint`, UTF-8. A time is
//! `0, zigzag varint`, `1, varint` or `2, f64`. Numbers of fixed width are little-endian; a varint has seven bits a
//! byte, lowest first.

use std::ops::Range;

use serde_json::Number;

use crate::Retraction;
use crate::log::entry::{Entry, Mutation};
use crate::request::id::{ExternalId, LONGEST_NODE_ID};
use crate::request::{Granularity, NewEvent};

/// The version of the form that is written and read.
const FORM: u8 = 1;

const EVENTS: u8 = 0;
const BATCH: u8 = 1;
const RETRACT: u8 = 2;
const EXPIRE: u8 = 3;
const EXPIRE_SOME: u8 = 4;
const RETRACT_NEWEST: u8 = 5;
const HOLD: u8 = 6;
const RELEASE: u8 = 7;
const DROP: u8 = 8;
const RETRACT_TEXT: u8 = 9;
const RETRACT_NEWEST_TEXT: u8 = 10;

/// The range of all node numbers.
const ALL: Range<u32> = 0..u32::MAX;

const LABEL: u8 = 1;
const FEATURES: u8 = 2;
const ID: u8 = 4;
const LATE: u8 = 8;
const TEXT: u8 = 16;

impl Entry {
    /// The entry as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, count) = match &self.mutation {
            Mutation::Events { events, granularity: Granularity::Event, .. } => (EVENTS, events.len()),
            Mutation::Events { events, granularity: Granularity::Batch, .. } => (BATCH, events.len()),
            Mutation::Retract { events, newest } => {
                let text = events.iter().any(|event| is_text([&event.src, &event.dst]));
                let kind = match (newest, text) {
                    (None, false) => RETRACT,
                    (None, true) => RETRACT_TEXT,
                    (Some(_), false) => RETRACT_NEWEST,
                    (Some(_), true) => RETRACT_NEWEST_TEXT,
                };
                (kind, events.len())
            }
            Mutation::Hold { events, .. } => (HOLD, events.len()),
            Mutation::Release { events, .. } => (RELEASE, events.len()),
            Mutation::Drop { arrivals } => (DROP, arrivals.len()),
            Mutation::Expire { nodes, .. } if *nodes == ALL => (EXPIRE, 1),
            Mutation::Expire { .. } => (EXPIRE_SOME, 1),
        };
        let mut bytes = Vec::with_capacity(16 + 24 * count);
        bytes.extend([FORM, kind]);
        bytes.extend(self.first_seq.to_le_bytes());
        put_varint(&mut bytes, count as u64);
        match &self.mutation {
            Mutation::Events { events, late, .. } => {
                let mut late = late.iter().peekable();
                for (i, event) in events.iter().enumerate() {
                    let submitted_time =
                        late.next_if(|&&(at, _)| at as usize == i).map(|(_, submitted_time)| submitted_time);
                    put_event(&mut bytes, event, submitted_time);
                }
            }
            Mutation::Expire { before, nodes } => {
                put_time(&mut bytes, before);
                let some = (*nodes != ALL).then_some([nodes.start, nodes.end]);
                some.into_iter().flatten().for_each(|number| put_varint(&mut bytes, number.into()));
            }
            Mutation::Retract { events, newest } => {
                let text = [RETRACT_TEXT, RETRACT_NEWEST_TEXT].contains(&kind);
                for event in events {
                    put_varint(&mut bytes, event.seq);
                    [&event.src, &event.dst].into_iter().for_each(|id| put_node(&mut bytes, id, text));
                }
                newest.iter().for_each(|newest| put_time(&mut bytes, newest));
            }
            Mutation::Hold { first_arrival, events } => {
                put_varint(&mut bytes, *first_arrival);
                events.iter().for_each(|event| put_event(&mut bytes, event, None));
            }
            Mutation::Release { arrivals, events } => {
                for (&arrival, event) in arrivals.iter().zip(events) {
                    put_varint(&mut bytes, arrival);
                    put_event(&mut bytes, event, None);
                }
            }
            Mutation::Drop { arrivals } => arrivals.iter().for_each(|&arrival| put_varint(&mut bytes, arrival)),
        }
        bytes
    }

    /// Reads the output of [`to_bytes`](Entry::to_bytes).
    ///
    /// # Errors
    /// The fault of the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Entry, String> {
        let mut reader = Reader { bytes };
        match reader.u8()? {
            FORM => {}
            other => return Err(format!("it has form {other}, and this program reads form {FORM}")),
        }
        let kind = reader.u8()?;
        let first_seq = u64::from_le_bytes(reader.array()?);
        let count = reader.varint()?;
        let mutation = match kind {
            EVENTS => reader.events(count, Granularity::Event)?,
            BATCH => reader.events(count, Granularity::Batch)?,
            RETRACT | RETRACT_TEXT | RETRACT_NEWEST | RETRACT_NEWEST_TEXT => {
                let text = [RETRACT_TEXT, RETRACT_NEWEST_TEXT].contains(&kind);
                let events = reader.list(count, |reader| reader.retraction(text))?;
                let sets_back = [RETRACT_NEWEST, RETRACT_NEWEST_TEXT].contains(&kind);
                Mutation::Retract { events, newest: sets_back.then(|| reader.time()).transpose()? }
            }
            HOLD => Mutation::Hold { first_arrival: reader.varint()?, events: reader.list(count, Reader::on_time)? },
            RELEASE => {
                let waited = reader.list(count, |reader| Ok((reader.varint()?, reader.on_time()?)))?;
                let (arrivals, events) = waited.into_iter().unzip();
                Mutation::Release { arrivals, events }
            }
            DROP => Mutation::Drop { arrivals: reader.list(count, Reader::varint)? },
            EXPIRE if count == 1 => Mutation::Expire { before: reader.time()?, nodes: ALL },
            EXPIRE_SOME if count == 1 => {
                Mutation::Expire { before: reader.time()?, nodes: reader.node()?..reader.node()? }
            }
            other => return Err(format!("it is of kind {other}, which this program does not know")),
        };
        match reader.bytes {
            [] => Ok(Entry { first_seq, mutation }),
            rest => Err(format!("{} bytes follow its last event", rest.len())),
        }
    }
}

fn put_event(bytes: &mut Vec<u8>, event: &NewEvent, submitted_time: Option<&Number>) {
    let flag = |flag, set: bool| if set { flag } else { 0 };
    // The bits are compared, so that the label -0.0 is stored as well.
    let label = event.label.to_bits() != 0;
    let text = is_text([&event.src, &event.dst]);
    bytes.push(
        flag(LABEL, label)
            | flag(FEATURES, event.features.is_some())
            | flag(ID, event.id.is_some())
            | flag(LATE, submitted_time.is_some())
            | flag(TEXT, text),
    );
    [&event.src, &event.dst].into_iter().for_each(|id| put_node(bytes, id, text));
    put_time(bytes, &event.time);
    if label {
        bytes.extend(event.label.to_le_bytes());
    }
    if let Some(row) = &event.features {
        put_varint(bytes, row.len() as u64);
        row.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    }
    if let Some(id) = &event.id {
        bytes.push(id.len() as u8);
        bytes.extend(id.as_bytes());
    }
    if let Some(submitted_time) = submitted_time {
        put_time(bytes, submitted_time);
    }
}

/// Whether ids are stored as texts: one of them is no number.
fn is_text(ids: [&ExternalId; 2]) -> bool {
    ids.into_iter().any(|id| matches!(id, ExternalId::Text(_)))
}

fn put_node(bytes: &mut Vec<u8>, id: &ExternalId, text: bool) {
    match id {
        ExternalId::Number(number) if !text => put_varint(bytes, *number),
        id => {
            let text = id.to_string();
            put_varint(bytes, text.len() as u64);
            bytes.extend(text.as_bytes());
        }
    }
}

fn put_time(bytes: &mut Vec<u8>, time: &Number) {
    if let Some(whole) = time.as_i64() {
        bytes.push(0);
        put_varint(bytes, ((whole << 1) ^ (whole >> 63)) as u64);
    } else if let Some(large) = time.as_u64() {
        bytes.push(1);
        put_varint(bytes, large);
    } else {
        bytes.push(2);
        bytes.extend(time.as_f64().unwrap_or(f64::NAN).to_le_bytes());
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads numbers from the front of some bytes.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or("it ends in the middle of an event")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or("it ends in the middle of an event")?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("it has a number of more than 64 bits".into())
    }

    fn events(&mut self, count: u64, granularity: Granularity) -> Result<Mutation, String> {
        let (mut events, mut late) = (Vec::new(), Vec::new());
        for i in 0..count {
            let (event, submitted_time) = self.event()?;
            late.extend(submitted_time.map(|submitted_time| (i as u32, submitted_time)));
            events.push(event);
        }
        Ok(Mutation::Events { events, granularity, late })
    }

    fn list<T>(&mut self, count: u64, one: impl Fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        (0..count).map(|_| one(self)).collect()
    }

    /// An event that has one time only.
    fn on_time(&mut self) -> Result<NewEvent, String> {
        match self.event()? {
            (event, None) => Ok(event),
            (_, Some(time)) => Err(format!("an event that waits for its time has a second one, {time}")),
        }
    }

    fn retraction(&mut self, text: bool) -> Result<Retraction, String> {
        Ok(Retraction { seq: self.varint()?, src: self.external_id(text)?, dst: self.external_id(text)? })
    }

    fn event(&mut self) -> Result<(NewEvent, Option<Number>), String> {
        let flags = self.u8()?;
        if flags > LABEL | FEATURES | ID | LATE | TEXT {
            return Err(format!("an event has the flags {flags:#x}, which this program does not know"));
        }
        let text = flags & TEXT != 0;
        let (src, dst, time) = (self.external_id(text)?, self.external_id(text)?, self.time()?);
        let label = if flags & LABEL != 0 { f32::from_le_bytes(self.array()?) } else { 0.0 };
        let features = if flags & FEATURES != 0 { Some(self.row()?) } else { None };
        let id = if flags & ID != 0 { Some(self.id()?) } else { None };
        let submitted_time = if flags & LATE != 0 { Some(self.time()?) } else { None };
        Ok((NewEvent { src, dst, time, label, features, id }, submitted_time))
    }

    fn time(&mut self) -> Result<Number, String> {
        match self.u8()? {
            0 => self.varint().map(|bits| (((bits >> 1) as i64) ^ -((bits & 1) as i64)).into()),
            1 => self.varint().map(Number::from),
            2 => Number::from_f64(f64::from_le_bytes(self.array()?))
                .ok_or_else(|| "a time is not a finite number".into()),
            other => Err(format!("a time is of kind {other}, which this program does not know")),
        }
    }

    fn node(&mut self) -> Result<u32, String> {
        u32::try_from(self.varint()?).map_err(|_| "a node has a number of more than 32 bits".into())
    }

    fn row(&mut self) -> Result<Vec<f32>, String> {
        let count = usize::try_from(self.varint()?).map_err(|_| "it has more features than there is memory")?;
        let bytes = self.take(count.checked_mul(4).ok_or("it has more features than there is memory")?)?;
        Ok(bytes.chunks_exact(4).map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]])).collect())
    }

    fn external_id(&mut self, text: bool) -> Result<ExternalId, String> {
        if !text {
            return self.varint().map(ExternalId::Number);
        }
        let length = self.varint()?;
        let length = usize::try_from(length).ok().filter(|&length| length <= LONGEST_NODE_ID);
        let bytes = self.take(length.ok_or_else(|| format!("an id has more than {LONGEST_NODE_ID} bytes"))?)?;
        std::str::from_utf8(bytes).map(ExternalId::from).map_err(|_| "an id is not UTF-8".into())
    }

    fn id(&mut self) -> Result<String, String> {
        let bytes = usize::from(self.u8()?);
        String::from_utf8(self.take(bytes)?.to_vec()).map_err(|_| "an id is not UTF-8".into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![
            any::<i64>().prop_map(Number::from),
            any::<u64>().prop_map(Number::from),
            any::<f64>().prop_filter_map("finite", Number::from_f64)
        ]
    }

    /// Ids of one kind in an entry: what is stored as text is read as text.
    fn node() -> impl Strategy<Value = ExternalId> {
        any::<u64>().prop_map(ExternalId::from)
    }

    fn event() -> impl Strategy<Value = (NewEvent, Option<Number>)> {
        let values = (node(), node(), number(), prop_oneof![Just(0.0f32), any::<i32>().prop_map(|value| value as f32)]);
        let row =
            proptest::option::of(proptest::collection::vec(any::<i32>().prop_map(|value| value as f32 / 7.0), 0..5));
        let id = proptest::option::of("\\PC{1,12}");
        (values, row, id, proptest::option::of(number())).prop_map(
            |((src, dst, time, label), features, id, submitted_time)| {
                (NewEvent { src, dst, time, label, features, id }, submitted_time)
            },
        )
    }

    fn retraction() -> impl Strategy<Value = Entry> {
        let event = (any::<u64>(), node(), node()).prop_map(|(seq, src, dst)| Retraction { seq, src, dst });
        (any::<u64>(), proptest::collection::vec(event, 0..6), proptest::option::of(number()))
            .prop_map(|(first_seq, events, newest)| Entry { first_seq, mutation: Mutation::Retract { events, newest } })
    }

    fn waiting() -> impl Strategy<Value = Entry> {
        let events = proptest::collection::vec((any::<u64>(), event().prop_map(|(event, _)| event)), 0..6);
        (any::<u64>(), any::<u64>(), events, 0..3).prop_map(|(first_seq, first_arrival, numbered, kind)| {
            let (arrivals, events) = numbered.into_iter().unzip();
            let mutation = match kind {
                0 => Mutation::Hold { first_arrival, events },
                1 => Mutation::Release { arrivals, events },
                _ => Mutation::Drop { arrivals },
            };
            Entry { first_seq, mutation }
        })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let nodes = prop_oneof![Just(ALL), (any::<u32>(), any::<u32>()).prop_map(|(from, to)| from..to)];
        let expiry = (any::<u64>(), number(), nodes)
            .prop_map(|(first_seq, before, nodes)| Entry { first_seq, mutation: Mutation::Expire { before, nodes } });
        prop_oneof![events(), retraction(), expiry, waiting()]
    }

    fn events() -> impl Strategy<Value = Entry> {
        (any::<u64>(), any::<bool>(), proptest::collection::vec(event(), 0..6)).prop_map(
            |(first_seq, batch, submitted_time)| {
                let late = submitted_time
                    .iter()
                    .zip(0..)
                    .filter_map(|((_, submitted_time), i)| Some((i, submitted_time.clone()?)))
                    .collect();
                let granularity = if batch { Granularity::Batch } else { Granularity::Event };
                Entry {
                    first_seq,
                    mutation: Mutation::Events {
                        events: submitted_time.into_iter().map(|(event, _)| event).collect(),
                        granularity,
                        late,
                    },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn entries_survive_their_bytes(entry in entry()) {
            prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()).unwrap(), entry);
        }

        #[test]
        fn bytes_that_are_cut_or_added_to_are_no_entry(entry in entry(), cut in 1usize..40) {
            let bytes = entry.to_bytes();
            if cut <= bytes.len() {
                prop_assert!(Entry::from_bytes(&bytes[..bytes.len() - cut]).is_err());
            }
            prop_assert!(Entry::from_bytes(&[bytes, vec![0]].concat()).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Entry::from_bytes(&bytes);
            for kind in 0..=DROP {
                let _ = Entry::from_bytes(&[vec![FORM, kind], bytes.clone()].concat());
            }
        }
    }

    #[test]
    fn an_event_without_features_takes_a_few_bytes() {
        let event = NewEvent {
            src: 812.into(),
            dst: 9_000.into(),
            time: 1_300_000.into(),
            label: 0.0,
            features: None,
            id: None,
        };
        let entry = |count| Entry {
            first_seq: 0,
            mutation: Mutation::Events {
                events: vec![event.clone(); count],
                granularity: Granularity::Event,
                late: Vec::new(),
            },
        };
        assert_eq!(entry(101).to_bytes().len() - entry(1).to_bytes().len(), 100 * 10);
    }
}
