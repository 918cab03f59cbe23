//! A plan's timetable, drawn.

use crate::{Lane, LaneTask, Plan};

/// Draws who trains what in the first `steps` steps of a pass of `batches` global batches: a row for each lane, a
/// column for each step.
///
/// A cell is `batch.set`, the global batch and its set of negatives. `*` after it says that the batch is begun there:
/// read from the history, and observed at the end of the step. `|` before it says that the history was emptied first.
///
/// ```
/// use tempograph_trainers::{Plan, timetable};
///
/// let plan = Plan { minibatch: 1, epoch: 2, memory: 1 };
/// assert_eq!(timetable(&plan, 3, 5), "\
/// 1x2x1        step  0     1     2     3     4
/// history 0, lane 0 |0.0*  0.1   2.0*  2.1   1.0*
///            lane 1        1.0*  1.1  |0.0*  0.1
/// ");
/// ```
///
/// # Panics
/// If there are no batches.
pub fn timetable(plan: &Plan, batches: usize, steps: u64) -> String {
    let cell = 6 + (batches - 1).to_string().len() + (plan.epoch - 1).to_string().len() - 2;
    let names: Vec<String> = (0..plan.lanes()).map(|rank| name(plan, plan.lane(rank))).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let column = |text: String| format!("{text:<cell$}");
    let numbers: String = (0..steps).map(|step| column(format!(" {step}"))).collect();
    let plan_name = plan.to_string();
    let head = format!("{plan_name}{:>rest$} {numbers}", "step", rest = width - plan_name.len());
    let rows = names.iter().enumerate().map(|(rank, name)| {
        let cells: String =
            (0..steps).map(|step| column(plan.lane_task(rank, step, batches).map_or(String::new(), drawn))).collect();
        format!("{name:<width$} {cells}")
    });
    std::iter::once(head).chain(rows).map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A lane's name; its history is named in the first of its rows.
fn name(plan: &Plan, lane: Lane) -> String {
    let Lane { history, epoch, shard } = lane;
    let first = epoch == 0 && shard == 0;
    let history = if first { format!("history {history}, ") } else { " ".repeat(10 + history.to_string().len()) };
    let shard = if plan.minibatch > 1 { format!(", shard {shard}") } else { String::new() };
    format!("{history}lane {epoch}{shard}")
}

fn drawn(turn: LaneTask) -> String {
    let LaneTask { batch, set, .. } = turn;
    let emptied = if batch == 0 && set == 0 { '|' } else { ' ' };
    let begun = if set == 0 { "*" } else { "" };
    format!("{emptied}{batch}.{set}{begun}")
}
