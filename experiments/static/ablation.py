"""What static memory restores when batches grow: every set, batch, wiring and seed, as tables and a plot.

    python experiments/static/ablation.py --data data --work runs/static

Runs that are finished are not run again; with --report nothing is run, and what is there is written to experiments/results/static.md
and static.svg. Needs Python and nothing else.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
WIRINGS = {"off": ["model.static.how=off"], "add": ["model.static.how=add"], "concat": ["model.static.how=concat"],
           "tuned": ["model.static.how=concat", "model.static.train=true"]}
# Passes by how many events there are; the largest set is ranked among fewer.
SETS = {"uci": ["train.epochs=10"], "wikipedia": ["train.epochs=4"], "mathoverflow": ["train.epochs=2", "eval.negatives=19"]}
COLOURS = {"off": "#888888", "add": "#1f6fb4", "concat": "#d9662b", "tuned": "#3a923a"}
LABELS = {"off": "without", "add": "added, frozen", "concat": "behind, frozen", "tuned": "behind, fine-tuned"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="tempograph", help="the program to run")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the prepared sets")
    parser.add_argument("--work", type=Path, default=Path("runs/static"), help="folder of the runs")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--batches", nargs="+", type=int, default=[600, 1200, 2400, 4800])
    parser.add_argument("--wirings", nargs="+", default=["off", "concat"], choices=list(WIRINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate at a batch of 200; it grows with the batch")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the report")
    return parser.parse_args()


def sets_of(data, seed, asked):
    vectors = asked.work / f"{data}-{seed}.safetensors"
    common = [f"data.path={asked.data / data}", f"data.static_memory={vectors}", f"seed={seed}", "threads=1", "export=false"]
    return vectors, [part for one in common + SETS[data] + asked.set for part in ("--set", one)]


def pretrain(data, seed, asked):
    vectors, sets = sets_of(data, seed, asked)
    told = vectors.with_suffix(".json")
    if not told.exists():
        command = [asked.program, "pretrain", str(HERE / "base.toml"), "--json", "--force", "--out", str(vectors), *sets]
        told.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def folder(data, batch, wiring, seed, asked):
    return asked.work / f"{data}-{batch}-{wiring}-{seed}"


def read(data, batch, wiring, seed, asked):
    path = folder(data, batch, wiring, seed, asked) / "report.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    return report if report.get("status") == "finished" else None


def train(data, batch, wiring, seed, asked):
    if read(data, batch, wiring, seed, asked):
        return
    _, sets = sets_of(data, seed, asked)
    for one in [f"train.batch={batch}", f"train.lr={asked.lr * batch / 200:.6g}", *WIRINGS[wiring]]:
        sets += ["--set", one]
    out = folder(data, batch, wiring, seed, asked)
    begun = time.time()
    subprocess.run([asked.program, "train", str(HERE / "base.toml"), "--force", "--out", str(out), *sets], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    test = read(data, batch, wiring, seed, asked)["test"]
    print(f"{data} {batch} {wiring} {seed}: AP {test['ap']:.4f} MRR {test['mrr']:.4f} ({time.time() - begun:.0f} s)", flush=True)


def run(asked):
    asked.work.mkdir(parents=True, exist_ok=True)
    for seed in asked.seeds:
        for data in asked.sets:
            pretrain(data, seed, asked)
            for batch in asked.batches:
                for wiring in asked.wirings:
                    train(data, batch, wiring, seed, asked)


def found(data, batch, wiring, metric, asked):
    """A test metric by seed."""
    reports = {seed: read(data, batch, wiring, seed, asked) for seed in asked.seeds}
    return {seed: report["test"][metric] for seed, report in reports.items() if report}


def cell(values):
    values = list(values.values())
    if not values:
        return "–"
    spread = f" ({statistics.stdev(values):.4f})".replace("0.", ".") if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}".replace("0.", ".") + spread


def gain(without, beside):
    """Mean difference over the seeds both have."""
    both = [beside[seed] - without[seed] for seed in without if seed in beside]
    return f"{statistics.mean(both):+.4f}".replace("0.", ".") if both else "–"


def table(metric, asked):
    others = [wiring for wiring in asked.wirings if wiring != "off"]
    head = ["set", "batch", LABELS["off"]] + [title for wiring in others for title in (LABELS[wiring], "gain")]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for data in asked.sets:
        for batch in asked.batches:
            without = found(data, batch, "off", metric, asked)
            row = [data, f"{batch}", cell(without)]
            for wiring in others:
                beside = found(data, batch, wiring, metric, asked)
                row += [cell(beside), gain(without, beside)]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def svg(metric, asked):
    """A panel for each set: the metric over the batch, a line for each wiring."""
    wide, high, left, top = 250, 220, 56, 44
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(asked.sets) * (wide + left) + 20} {high + 110}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for panel, data in enumerate(asked.sets):
        x0, y0 = panel * (wide + left) + left, top
        means = {}
        for wiring in asked.wirings:
            rows = [(batch, found(data, batch, wiring, metric, asked)) for batch in asked.batches]
            means[wiring] = [(batch, statistics.mean(values.values())) for batch, values in rows if values]
        flat = [value for line in means.values() for _, value in line] or [0, 1]
        pad = max(max(flat) - min(flat), 0.01) * 0.12
        low, most = min(flat) - pad, max(flat) + pad
        x = lambda batch: x0 + wide * (asked.batches.index(batch) + 0.5) / len(asked.batches)
        y = lambda value: y0 + high * (most - value) / (most - low)
        out.append(f'<text x="{x0 + wide / 2}" y="{top - 14}" text-anchor="middle">{data}</text>')
        for tick in range(5):
            value = low + (most - low) * tick / 4
            out.append(f'<line x1="{x0}" y1="{y(value):.1f}" x2="{x0 + wide}" y2="{y(value):.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{x0 - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
        for batch in asked.batches:
            out.append(f'<text x="{x(batch):.1f}" y="{y0 + high + 18}" text-anchor="middle">{batch}</text>')
        for wiring, line in means.items():
            points = " ".join(f"{x(batch):.1f},{y(value):.1f}" for batch, value in line)
            out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[wiring]}" stroke-width="2"/>')
            out += [f'<circle cx="{x(batch):.1f}" cy="{y(value):.1f}" r="3.5" fill="{COLOURS[wiring]}"/>' for batch, value in line]
    for place, wiring in enumerate(asked.wirings):
        at = left + place * 170
        out.append(f'<line x1="{at}" y1="{top + high + 44}" x2="{at + 24}" y2="{top + high + 44}" stroke="{COLOURS[wiring]}" stroke-width="2"/>')
        out.append(f'<text x="{at + 30}" y="{top + high + 48}">{LABELS[wiring]}</text>')
    out.append(f'<text x="{left - 46}" y="16">test {metric.upper()} over events a batch, static memory</text>')
    return "\n".join(out + ["</svg>", ""])


def report(asked):
    """Replaces the tables between the marks of static.md; what is written around them stays."""
    path = RESULTS / "static.md"
    text = path.read_text() if path.exists() else "# Static memory\n\n<!-- mrr -->\n<!-- /mrr -->\n\n<!-- ap -->\n<!-- /ap -->\n"
    for metric in ("mrr", "ap"):
        before, rest = text.split(f"<!-- {metric} -->", 1)
        _, after = rest.split(f"<!-- /{metric} -->", 1)
        text = f"{before}<!-- {metric} -->\n{table(metric, asked)}\n<!-- /{metric} -->{after}"
    path.write_text(text)
    (RESULTS / "static.svg").write_text(svg("mrr", asked))


if __name__ == "__main__":
    os.environ.setdefault("RUST_BACKTRACE", "0")
    ASKED = arguments()
    if not ASKED.report:
        run(ASKED)
    report(ASKED)
