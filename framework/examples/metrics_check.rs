//! Prints the metrics of scores read from a file, as JSON: `cargo run -p tempograph-framework --example metrics_check
//! -- SCORES`.
//!
//! The file has a line `negatives BATCH` with the number of negatives and the batch size, then a line for each event:
//! the positive's score, then the negatives'.
use tempograph_framework::{EventId, LinkAccumulator, ScoredBatch, TiePolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: metrics_check SCORES")?;
    let text = std::fs::read_to_string(&path)?;
    let mut lines = text.lines();
    let (negatives, batch) =
        lines.next().and_then(|line| line.split_once(' ')).ok_or("the first line is not `NEGATIVES BATCH`")?;
    let (negatives, batch): (usize, usize) = (negatives.parse()?, batch.parse()?);

    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for line in lines {
        let scores = line.split(' ').map(str::parse).collect::<Result<Vec<f32>, _>>()?;
        let (first, rest) = scores.split_first().ok_or("an empty line")?;
        positive.push(*first);
        negative.extend_from_slice(rest);
    }
    let events: Vec<EventId> = (0..positive.len() as u64).map(EventId).collect();
    let mut split = LinkAccumulator::new(TiePolicy::Mean);
    for ((events, positive), negative) in
        events.chunks(batch).zip(positive.chunks(batch)).zip(negative.chunks(batch * negatives))
    {
        split.push(ScoredBatch::even(events, positive, negative)?)?;
    }
    println!("{}", serde_json::to_string(&split.finish())?);
    Ok(())
}
