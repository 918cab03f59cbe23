"""What static memory restores when batches grow: every set, batch, wiring and seed, as tables and a plot.

    python experiments/static/ablation.py --data data --work runs/static

Runs that are finished are not run again; with --report nothing is run, and what is there is written to experiments/results/static.md
and static.svg. Needs Python, and matplotlib for the plot.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study
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


def common(data, seed, asked):
    vectors = asked.work / f"{data}-{seed}.safetensors"
    return vectors, [f"data.path={asked.data / data}", f"data.static_memory={vectors}", f"seed={seed}", "threads=1", "export=false",
                     *SETS[data], *asked.set]


def pretrain(data, seed, asked):
    vectors, settings = common(data, seed, asked)
    told = vectors.with_suffix(".json")
    if not told.exists():
        told.write_text(study.run([*study.command(asked.program, "pretrain", HERE / "base.toml", vectors, settings), "--json"]))


def folder(data, batch, wiring, seed, asked):
    return asked.work / f"{data}-{batch}-{wiring}-{seed}"


def train(data, batch, wiring, seed, asked):
    out = folder(data, batch, wiring, seed, asked)
    if study.finished(out):
        return
    _, settings = common(data, seed, asked)
    begun = time.time()
    report = study.train(asked.program, HERE / "base.toml", out,
                         [*settings, f"train.batch={batch}", f"train.lr={asked.lr * batch / 200:.6g}", *WIRINGS[wiring]])
    print(f"{data} {batch} {wiring} {seed}: AP {report['test']['ap']:.4f} MRR {report['test']['mrr']:.4f} ({time.time() - begun:.0f} s)", flush=True)


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
    reports = {seed: study.finished(folder(data, batch, wiring, seed, asked)) for seed in asked.seeds}
    return {seed: report["test"][metric] for seed, report in reports.items() if report}


def table(metric, asked):
    others = [wiring for wiring in asked.wirings if wiring != "off"]
    head = ["set", "batch", LABELS["off"]] + [title for wiring in others for title in (LABELS[wiring], "gain")]
    lines = [study.row(head), "|" + "---|" * len(head)]
    for data in asked.sets:
        for batch in asked.batches:
            without = found(data, batch, "off", metric, asked)
            row = [data, f"{batch}", study.cell(without)]
            for wiring in others:
                beside = found(data, batch, wiring, metric, asked)
                row += [study.cell(beside), study.gain(without, beside)]
            lines.append(study.row(row))
    return "\n".join(lines)


def plot(path, metric, asked):
    """A panel for each set: the metric over the batch, a line for each wiring."""
    def line(data, wiring):
        by_batch = [(batch, found(data, batch, wiring, metric, asked)) for batch in asked.batches]
        return [(batch, statistics.mean(values.values())) for batch, values in by_batch if values]

    panels = [study.Panel(data, {wiring: points for wiring in asked.wirings if (points := line(data, wiring))}) for data in asked.sets]
    study.plot(path, f"test {metric.upper()} over events a batch, static memory", [panels], COLOURS, LABELS, dots=True)


def report(asked):
    for metric in ("mrr", "ap"):
        study.write_between(study.RESULTS / "static.md", metric, table(metric, asked))
    plot(study.RESULTS / "static.svg", "mrr", asked)


if __name__ == "__main__":
    os.environ.setdefault("RUST_BACKTRACE", "0")
    ASKED = arguments()
    if not ASKED.report:
        run(ASKED)
    report(ASKED)
