"""The table of training speed beside PyG: every set, batch and number of threads through `tempograph bench`, as Markdown.

    python experiments/peers/speed.py --python ~/venv/bin/python

Runs `tempograph bench` once for each set and writes `experiments/results/speed.md` with the machine, the versions and the commands. What a
set measured is kept under `--work` as JSON and not measured again unless `--fresh` says so, so a table that was cut short goes on where it
stopped. Nothing else should run on the machine meanwhile. With the defaults it takes about 20 minutes on two cores.
"""

import argparse
import json
import platform
import shlex
import subprocess
import time
from pathlib import Path

# A set, the spec that trains on it, and the edge features both sides read.
SETS = [
    ("wikipedia", "none,zeros:172"),
    ("uci", "real"),
    ("enron", "real"),
    ("mathoverflow", "real"),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/tempograph")
    parser.add_argument("--python", help="PyG's Python; left out, one is made for it on demand")
    parser.add_argument("--sets", nargs="+", default=[name for name, _ in SETS], choices=[name for name, _ in SETS])
    parser.add_argument("--specs", default="experiments/paired", help="folder of the specs, NAME.toml each")
    parser.add_argument("--data-root", help="folder of the prepared sets (default: as the specs say)")
    parser.add_argument("--batch", default="200,600")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--events", type=int, default=24000, help="events a run trains on")
    parser.add_argument("--work", type=Path, default=Path("runs/speed"))
    parser.add_argument("--fresh", action="store_true", help="measure again what is there already")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/speed.md"))
    return parser.parse_args()


def command(options, name, features):
    line = [options.binary, "bench", f"{options.specs}/{name}.toml", "--peer", "pyg"]
    line += ["--batch", options.batch, "--threads", options.threads, "--edge-features", features]
    line += ["--pairs", str(options.pairs), "--events", str(options.events), "--json"]
    if options.python:
        line += ["--python", options.python]
    if options.data_root:
        line += ["--set", f"data.path={options.data_root}/{name}"]
    return line


def measured(options, name, features):
    """What `tempograph bench` says of a set, and the command that asked."""
    line = command(options, name, features)
    kept = options.work / f"{name}.json"
    if kept.exists() and not options.fresh:
        report = json.loads(kept.read_text())
        if report["command"] == line:
            print(f"{name}: kept from before in {kept}", flush=True)
            return report
    print("$", shlex.join(line), flush=True)
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"failed: {shlex.join(line)}")
    report = json.loads(done.stdout) | {"command": line}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(report, indent=1))
    return report


def fastest(reports):
    """What the machine has reached at all, by threads: where something else ran while a set's rates were measured they are too low."""
    every = [report["machine"]["rates_by_threads"] for report in reports.values()]
    return {threads: {kind: max(rates[threads][kind] for rates in every) for kind in every[0][threads]} for threads in every[0]}


def row(name, one, rates):
    ours, theirs, floor, rates = one["tempograph"], one["pyg"], one["floor"], rates[str(one["threads"])]
    least = max(floor["flops"] / rates["flops_per_second"], floor["bytes"] / rates["bytes_per_second"])
    ratios = [a["events_per_second"] / b["events_per_second"] for a, b in zip(ours["runs"], theirs["runs"])]
    memory = [side["peak_memory_bytes"] / 1e6 for side in (ours, theirs)]
    cells = [
        name,
        one["edge_features"],
        str(one["batch"]),
        str(one["threads"]),
        f"{ours['events_per_second']:,.0f}",
        f"{theirs['events_per_second']:,.0f}",
        f"**{one['ratio']:.2f}**",
        f"{min(ratios):.2f}–{max(ratios):.2f}",
        f"{memory[0]:,.0f}",
        f"{memory[1]:,.0f}",
        f"{memory[0] / memory[1]:.2f}",
        f"{1e3 * ours['step_seconds']:.2f}",
        f"{floor['flops'] / 1e6:,.0f}",
        f"{floor['bytes'] / 1e6:.1f}",
        f"{1e3 * least:.2f}",
        f"{100 * least / ours['step_seconds']:.0f} %",
        f"{ours['allocations_per_step']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = [
    "set", "edge features", "batch", "threads", "Tempograph, events/s", "PyG, events/s", "ratio", "least–most", "memory, MB", "PyG, MB",
    "ratio", "step, ms", "MFLOP", "MB moved", "floor, ms", "reached", "allocations a step",
]  # fmt: skip


def stages(name, one):
    shares = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in one["tempograph"]["stage_shares"].items())
    return f"| {name} | {one['edge_features']} | {one['batch']} | {one['threads']} | {shares} |"


def table(options, reports):
    every = [(name, one) for name, report in reports.items() for one in report["configurations"]]
    any_report = next(iter(reports.values()))
    versions = every[0][1]["pyg"]["versions"]
    lines = ["# Training speed beside PyG", ""]
    lines += [f"{any_report['machine']['name']}, {platform.system()} {platform.release()}; {time.strftime('%Y-%m-%d')}.  "]
    lines += [f"Tempograph {any_report['version']} ({(any_report['commit'] or 'unknown')[:10]}); {', '.join(f'{k} {v}' for k, v in versions.items())}."]
    lines += [""]
    machine = fastest(reports)
    for threads, rates in machine.items():
        flops, moved = rates["flops_per_second"] / 1e9, rates["bytes_per_second"] / 1e9
        lines += [f"- {threads} thread(s): matrix products {flops:,.0f} GFLOP/s, memory {moved:.1f} GB/s, the most that was measured"]
    lines += [
        f"- the first {options.events:,} events of each set, {options.pairs} pairs of runs by turns, each in a process of its own; rates are medians, the ratio is",
        "  the median over the pairs, memory the largest of any run",
        "- a floor is the operations over the rate of matrix products, or the bytes over the bandwidth, whichever is longer (`models/src/tgn/cost.rs`)",
        "- allocations are counted after the first third of the steps",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
    ]
    lines += [row(name, one, machine) for name, one in every]
    lines += ["", "Where our time goes:", "", "| set | edge features | batch | threads | |", "|---|---|---|---|---|"]
    lines += [stages(name, one) for name, one in every]
    lines += ["", "Made by `python experiments/peers/speed.py`, which ran", ""]
    lines += [f"    {shlex.join(['tempograph', *report['command'][1:]])}" for report in reports.values()]
    return "\n".join(lines) + "\n"


def main():
    options = arguments()
    features = dict(SETS)
    begun = time.time()
    reports = {name: measured(options, name, features[name]) for name in options.sets}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table(options, reports))
    print(f"wrote {options.out} after {time.time() - begun:.0f} s")


if __name__ == "__main__":
    main()
