//! The results as text tables.

use crate::bench::compare::Comparison;
use crate::bench::roofline::MachineRates;
use crate::setup::device;

/// Processor, cores and vector instructions.
pub(super) fn machine_name() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{model}, {cores} cores, {}", device::simd())
}

/// All configurations, a line each, with the share of each stage.
pub(super) fn comparison(all: &[Comparison<'_>], machine: &MachineRates) -> String {
    let mut message = format!("{}\n", machine_name());
    for (threads, rates) in machine.known() {
        let (flops, bytes) = (rates.flops_per_second / 1e9, rates.bytes_per_second / 1e9);
        message += &format!("with {threads} threads: matrix products {flops:.0} GFLOP/s, memory {bytes:.1} GB/s\n");
    }
    for one in all.iter().take(1) {
        let spec = &one.configuration.spec;
        message +=
            &format!("{}, median of {} runs of {} steps\n", spec.data.path, one.ours.len(), one.configuration.steps);
    }
    let peers: Vec<&str> =
        all.first().map(|one| one.peers.iter().map(|beside| beside.peer.name()).collect()).unwrap_or_default();
    let mut head = vec!["edge features", "batch", "threads", "events/s"];
    peers.iter().for_each(|name| head.extend([*name, "ratio"]));
    head.push("MB");
    head.extend(&peers);
    head.extend(["step µs", "MFLOP", "MB moved", "floor µs", "reached", "allocations"]);
    let rows = all.iter().map(row);
    message += &aligned(&std::iter::once(head.into_iter().map(String::from).collect()).chain(rows).collect::<Vec<_>>());
    for one in all {
        let shares: Vec<String> =
            one.shares().iter().map(|(name, share)| format!("{name} {:.0} %", 100.0 * share)).collect();
        message += &format!("{}: {}\n", one.configuration.name(), shares.join(", "));
        let [launches, busy] = one.on_device();
        if let Some(launches) = launches {
            let busy = busy.map_or("not known".into(), |share| format!("{:.0} % of the time", 100.0 * share));
            message +=
                &format!("  on {}: {launches:.0} launches a step; busy: {busy}\n", one.configuration.spec.device);
        }
    }
    message
}

fn row(one: &Comparison<'_>) -> Vec<String> {
    let spec = &one.configuration.spec;
    let mut cells = vec![spec.data.edge_features.clone(), spec.train.batch.to_string(), spec.threads.to_string()];
    cells.push(format!("{:.0}", Comparison::rate(&one.ours)));
    for beside in &one.peers {
        cells.push(format!("{:.0}", Comparison::rate(&beside.runs)));
        cells.push(format!("{:.2}", one.ratio(beside).unwrap_or(f64::NAN)));
    }
    cells.push((Comparison::peak(&one.ours) >> 20).to_string());
    cells.extend(one.peers.iter().map(|beside| (Comparison::peak(&beside.runs) >> 20).to_string()));
    let floor = &one.floor;
    cells.push(format!("{:.0}", 1e6 * one.step_seconds()));
    cells.push(format!("{:.0}", floor.flops / 1e6));
    cells.push(format!("{:.1}", floor.bytes / 1e6));
    cells.push(format!("{:.0}", 1e6 * floor.seconds));
    cells.push(format!("{:.0} %", 100.0 * one.reached()));
    cells.push(one.allocations().map_or("?".into(), |count| format!("{count:.1}")));
    cells
}

/// Rows in aligned columns, the first to the left and the others to the right.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells =
            cells.map(|(i, (cell, &width))| if i == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Rows as a Markdown table. The first row is its head.
pub(super) fn markdown(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let Some((head, rest)) = rows.split_first() else { return String::new() };
    format!("{}|{}\n{}", line(head), "---|".repeat(head.len()), rest.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["", "µs"], ["none", "7"], ["zeros:172", "1234"]].iter().map(|row| row.map(String::from).to_vec()).collect()
    }

    #[test]
    fn numbers_stand_below_each_other() {
        assert_eq!(aligned(&rows()), "             µs\nnone          7\nzeros:172  1234\n");
        assert_eq!(aligned(&[]), "");
    }

    #[test]
    fn a_markdown_table_has_its_head_ruled_off() {
        assert_eq!(markdown(&rows()), "|  | µs |\n|---|---|\n| none | 7 |\n| zeros:172 | 1234 |\n");
    }
}
