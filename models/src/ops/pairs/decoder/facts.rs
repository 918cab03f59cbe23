//! Facts about pairs as numbers.

use tempograph_framework::PairFact;

/// Number of one-hot positions of the newest occurrence in a recent list.
const POSITIONS: usize = 12;
/// Columns of a pair's features.
pub const PAIR_COLUMNS: usize = 2 * (POSITIONS + 1) + 11;

/// Facts as numbers of order one: positions one-hot, counts and times in logarithms. `[PAIR_COLUMNS]` each.
pub(crate) fn pair_columns(facts: &[PairFact]) -> Vec<f32> {
    let mut columns = vec![0.0; facts.len() * PAIR_COLUMNS];
    facts.iter().zip(columns.chunks_mut(PAIR_COLUMNS)).for_each(|(fact, row)| pair_row(fact, row));
    columns
}

/// Writes the facts of one pair into a row of zeros.
pub(crate) fn pair_row(fact: &PairFact, row: &mut [f32]) {
    let log = |x: f32| (1.0 + x.max(0.0)).ln() / 8.0;
    for (recency, slots) in [fact.in_src, fact.in_dst].iter().zip(row.chunks_mut(POSITIONS + 1)) {
        if let Some(first) = recency.first {
            slots[(first as usize).min(POSITIONS - 1)] = 1.0;
        }
        slots[POSITIONS] = recency.count as f32 / 4.0;
    }
    let share = |degree: u64| fact.count as f32 / (degree as f32).max(1.0);
    let rest = [
        f32::from(u8::from(fact.count > 0)),
        (1.0 + fact.count as f32).ln(),
        fact.since_last.map_or(2.0, log),
        share(fact.degrees[0]),
        share(fact.degrees[1]),
        fact.common as f32 / 4.0,
        log(fact.degrees[0] as f32),
        log(fact.degrees[1] as f32),
        fact.idle[0].map_or(2.0, log),
        fact.idle[1].map_or(2.0, log),
        f32::from(u8::from(fact.degrees[1] == 0)),
    ];
    row[2 * (POSITIONS + 1)..].copy_from_slice(&rest);
}
