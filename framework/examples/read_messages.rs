//! Prepares a format that `tempograph prepare` does not read: lines of `TIME SENDER > RECEIVER LENGTH`, where nodes
//! have names.
//!
//! `cargo run -p tempograph-framework --example read_messages -- framework/examples/messages.txt data/messages`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::{env, fs};

use tempograph_framework::{Dataset, DatasetContent, EventLog, IdMap, NodeId, Sides, Table, TimeUnit, Timestamp};

struct Message<'a> {
    time: i64,
    sender: &'a str,
    receiver: &'a str,
    length: f32,
}

fn parse(line: &str) -> Option<Message<'_>> {
    let mut words = line.split_whitespace();
    let (time, sender) = (words.next()?.parse().ok()?, words.next()?);
    let receiver = words.next().filter(|arrow| *arrow == ">").and_then(|_| words.next())?;
    let length: f32 = words.next()?.parse().ok()?;
    (words.next().is_none() && length.is_finite()).then_some(Message { time, sender, receiver, length })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [source, out] = &arguments[..] else { return Err("usage: read_messages SOURCE OUT".into()) };
    let text = fs::read_to_string(source).map_err(|error| format!("{source}: {error}"))?;

    // Errors name the file, the row and the value.
    let mut messages = Vec::new();
    for (row, line) in text.lines().enumerate() {
        let wrong = || format!("{source} row {}: `{line}` is not `TIME SENDER > RECEIVER LENGTH`", row + 1);
        messages.push(parse(line).ok_or_else(wrong)?);
    }
    // The sort is stable: events of one time keep the order of the file.
    messages.sort_by_key(|message| message.time);

    // Nodes are numbered without gaps, here in the order of their names.
    let mut names: Vec<&str> = messages.iter().flat_map(|message| [message.sender, message.receiver]).collect();
    names.sort_unstable();
    names.dedup();
    let node = |name: &str| NodeId(names.partition_point(|known| *known < name) as u32);

    let src = messages.iter().map(|message| node(message.sender)).collect();
    let dst = messages.iter().map(|message| node(message.receiver)).collect();
    let time = messages.iter().map(|message| Timestamp(message.time)).collect();
    let label = vec![0.0; messages.len()];
    let lengths = Table::new(messages.iter().map(|message| message.length).collect(), 1)?;
    let log = EventLog::new(src, dst, time, label, Some(Arc::new(lengths)))?;

    let set = Dataset::new(DatasetContent {
        name: "messages".into(),
        log,
        time_unit: TimeUnit { description: "s".into(), scale: 1 },
        node_features: None,
        ids: IdMap::identity(names.len(), Sides::OneMode),
        source: source.clone(),
        notices: Vec::new(),
    })?;
    set.write(Path::new(out))?;
    fs::write(Path::new(out).join("names.txt"), names.join("\n") + "\n")?;
    println!("{} events, {} nodes, written to {out}", set.log.len(), set.nodes);
    Ok(())
}
