//! The load to send: the events of a prepared set, repeated, and pairs of its nodes.

use std::borrow::Cow;
use std::fmt::Write;

use anyhow::{Result, bail};
use tempograph_framework::{Dataset, RandomNumbers};
use tempograph_serving::ExternalId;

/// A set's events in the form of a server's API.
#[derive(Debug)]
pub(super) struct Workload {
    set: Dataset,
    /// Features that the server's model reads.
    width: usize,
    /// Ticks from one repetition of the log to the next.
    turn: i64,
}

impl Workload {
    /// # Errors
    /// An empty set, or one without the features the model reads.
    pub fn new(set: Dataset, width: usize) -> Result<Workload> {
        if set.log.is_empty() {
            bail!("{} has no events", set.name);
        }
        let has = set.edge_width();
        if width != 0 && width != has {
            bail!("the model reads {width} features of an event, and those of {} have {has}", set.name);
        }
        let time = set.log.time();
        let turn = time[time.len() - 1].0 - time[0].0 + 1;
        Ok(Workload { set, width, turn })
    }

    /// The set's times, for `replay` arrivals.
    pub fn moments(&self) -> Vec<f64> {
        self.set.log.time().iter().map(|&time| self.set.time_unit.from_ticks(time)).collect()
    }

    /// Event `seq` of the endless log as JSON.
    pub fn write_event(&self, seq: u64, out: &mut String) {
        let log = &self.set.log;
        let (turns, i) = ((seq / log.len() as u64) as i64, (seq % log.len() as u64) as usize);
        let ticks = log.time()[i].0 + turns * self.turn;
        let [src, dst] = [log.src()[i], log.dst()[i]].map(|node| ExternalId::of(&self.set.ids, node));
        let [src, dst] = [&src, &dst].map(id_as_json);
        // Writing to a string cannot fail.
        let _ = match self.set.time_unit.scale {
            1 => write!(out, r#"{{"src":{src},"dst":{dst},"time":{ticks}"#),
            scale => write!(out, r#"{{"src":{src},"dst":{dst},"time":{}"#, ticks as f64 / scale as f64),
        };
        if let Some(rows) = log.features().filter(|_| self.width > 0) {
            out.push_str(",\"features\":[");
            for (at, value) in rows.row(i as u64).iter().enumerate() {
                let _ = write!(out, "{}{value}", if at == 0 { "" } else { "," });
            }
            out.push(']');
        }
        out.push('}');
    }

    /// A pair of nodes that are both in the first `seen` events. In half of the cases they are the two ends of one
    /// event.
    pub fn pair(&self, seen: u64, chance: &mut RandomNumbers) -> (ExternalId, ExternalId) {
        let log = &self.set.log;
        let known = (log.len() as u64).min(seen).clamp(1, u64::from(u32::MAX)) as u32;
        let first = chance.below(known) as usize;
        let second = if chance.below(2) == 0 { first } else { chance.below(known) as usize };
        (ExternalId::of(&self.set.ids, log.src()[first]), ExternalId::of(&self.set.ids, log.dst()[second]))
    }
}

/// An id as it stands in a request.
pub(crate) fn id_as_json(id: &ExternalId) -> Cow<'_, str> {
    match id {
        ExternalId::Number(number) => number.to_string().into(),
        ExternalId::Text(text) => serde_json::Value::from(&**text).to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tempograph_framework::{Draw, Purpose};

    use super::*;

    fn material() -> Workload {
        Workload::new(Dataset::from_spec("synthetic:events=60,users=8,items=5,features=2").unwrap(), 2).unwrap()
    }

    #[test]
    fn the_endless_log_goes_on_in_time() {
        let (material, mut last) = (material(), f64::NEG_INFINITY);
        for seq in 0..200 {
            let mut text = String::new();
            material.write_event(seq, &mut text);
            let event: Value = serde_json::from_str(&text).unwrap();
            let time = event["time"].as_f64().unwrap();
            assert!(time >= last, "{seq}: {time} after {last}");
            assert!(seq % 60 != 0 || time > last, "{seq}: {time} after {last}");
            assert_eq!(event["features"].as_array().unwrap().len(), 2);
            last = time;
        }
    }

    #[test]
    fn pairs_are_of_nodes_that_have_been_seen() {
        let (material, mut chance) = (material(), Draw::new(1).of(Purpose::Sampling).at(0, 0));
        let log = &material.set.log;
        let seen: Vec<ExternalId> =
            log.src()[..10].iter().map(|&node| ExternalId::of(&material.set.ids, node)).collect();
        assert!((0..200).all(|_| seen.contains(&material.pair(10, &mut chance).0)));
    }

    #[test]
    fn features_a_set_does_not_have_are_missed_at_once() {
        let set = Dataset::from_spec("synthetic:events=60,users=8,items=5,features=2").unwrap();
        assert!(Workload::new(set, 3).unwrap_err().to_string().contains("the model reads 3 features"));
    }
}
