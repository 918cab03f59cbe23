"""How many steps a plan of many trainers needs: every set, plan and seed with equal work, as a table and a plot of validation MRR over steps.

    python experiments/parallel/efficiency.py --data data --work runs/efficiency

A plan of n trainers takes an n-th of the steps of one trainer, with n times its learning rate. Runs that are finished are not run again;
with --report nothing is run, and what is there is written to experiments/results/efficiency.md and efficiency.svg. Needs Python and
nothing else.
"""

import argparse
import math
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import study

SPEC = HERE.parent / "static" / "base.toml"
AXES = {"minibatch, i": ["1x1x1", "2x1x1", "4x1x1", "8x1x1"], "epoch, j": ["1x1x1", "1x2x1", "1x4x1", "1x8x1"],
        "memory, k": ["1x1x1", "1x1x2", "1x1x4", "1x1x8", "1x2x4"]}
PLANS = list(dict.fromkeys(plan for plans in AXES.values() for plan in plans))
# With static memory, behind the dynamic one and frozen.
WITH_STATIC = ["1x1x1", "8x1x1", "1x8x1", "1x1x8"]
COLOURS = {1: "#888888", 2: "#1f6fb4", 4: "#3a923a", 8: "#d9662b"}
# Passes of one trainer by how many events there are; the larger sets are ranked among fewer.
SETS = {"wikipedia": ["train.epochs=80"], "uci": ["train.epochs=160"], "mathoverflow": ["train.epochs=24", "eval.negatives=19"],
        "copresence": ["train.epochs=8", "eval.negatives=19"]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="tempograph", help="the program to run")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the prepared sets")
    parser.add_argument("--work", type=Path, default=Path("runs/efficiency"), help="folder of the runs")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--plans", nargs="+", default=PLANS, choices=PLANS)
    parser.add_argument("--batch", type=int, default=600, help="events of a batch")
    parser.add_argument("--lr", type=float, default=2e-4, help="learning rate of one trainer")
    parser.add_argument("--width", type=int, default=48, help="of memory, time encoding and embedding")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one thread")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the report")
    return parser.parse_args()


def trainers(plan):
    return math.prod(map(int, plan.split("x")))


def folder(data, plan, static, seed, asked):
    return asked.work / f"{data}-{plan}{'-static' if static else ''}-{seed}"


def settings(data, seed, asked):
    widths = [f"model.{part}={asked.width}" for part in ("memory", "time", "width")] + [f"model.static.width={asked.width}"]
    return [f"data.path={asked.data / data}", f"data.static_memory={vectors(data, seed, asked)}", f"seed={seed}", "threads=1", "export=false",
            f"train.batch={asked.batch}", f"train.lr={asked.lr}", "train.schedule=cosine", "eval.val_every=10", *widths, *SETS[data], *asked.set]


def vectors(data, seed, asked):
    return asked.work / f"{data}-{seed}.safetensors"


def pretrain(data, seed, asked):
    out = vectors(data, seed, asked)
    if not out.exists():
        study.run(study.command(asked.program, "pretrain", SPEC, out, settings(data, seed, asked)))


def train(data, plan, static, seed, asked):
    out = folder(data, plan, static, seed, asked)
    if study.finished(out):
        return
    how = f"model.static.how={'concat' if static else 'off'}"
    report = study.train(asked.program, SPEC, out, [*settings(data, seed, asked), *study.parallel(plan), how])
    print(f"{out.name}: {report['steps']} steps, MRR {report['test']['mrr']:.4f}", flush=True)


def run(asked):
    asked.work.mkdir(parents=True, exist_ok=True)
    for seed in asked.seeds:
        for data in asked.sets:
            pretrain(data, seed, asked)
    # the plans at the ends of the axes first
    plans = sorted(asked.plans, key=trainers, reverse=True)
    cells = [(data, plan, static, seed) for seed in asked.seeds for static in (False, True) for data in asked.sets for plan in plans
             if not static or plan in WITH_STATIC]
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(lambda cell: train(*cell, asked), cells))


def found(data, plan, static, asked):
    """The reports of finished runs by seed."""
    reports = {seed: study.finished(folder(data, plan, static, seed, asked)) for seed in asked.seeds}
    return {seed: report for seed, report in reports.items() if report}


def curve(report):
    return [(epoch["steps"], epoch["val"]["mrr"]) for epoch in report["epochs"]]


def best(report):
    return max(mrr for _, mrr in curve(report))


def steps_to(goal, report):
    """Steps until validation has come to `goal`, or None."""
    return next((steps for steps, mrr in curve(report) if mrr >= goal), None)


def near(single, reports):
    """Mean of the steps until validation is within .01 of the best of one trainer; nothing if that is not reached with every seed."""
    reached = [steps_to(best(single[seed]) - 0.01, reports[seed]) for seed in reports if seed in single]
    return f"{statistics.mean(reached):,.0f}" if reached and None not in reached else "–"


def table(asked):
    head = ["set", "plan", "steps", "test MRR", "to one trainer", "test AP", "best validation MRR", "steps to one trainer's less .01"]
    lines = [study.row(head), "|" + "---|" * len(head)]
    for data in asked.sets:
        for plan, static in [(plan, False) for plan in asked.plans] + [(plan, True) for plan in WITH_STATIC]:
            reports, single = (found(data, which, static, asked) for which in (plan, "1x1x1"))
            if not reports:
                continue
            test = lambda reports, metric: {seed: report["test"][metric] for seed, report in reports.items()}
            steps = max(report["steps"] for report in reports.values())
            gap = "" if plan == "1x1x1" else study.gain(test(single, "mrr"), test(reports, "mrr"))
            lines.append(study.row([data, plan + (" and static memory" if static else ""), f"{steps:,}", study.cell(test(reports, "mrr")), gap,
                                    study.cell(test(reports, "ap")), study.cell({seed: best(report) for seed, report in reports.items()}),
                                    near(single, reports)]))
    return "\n".join(lines)


def plot(asked):
    """A row for each axis, a panel for each set: validation MRR over steps, a line for each number of trainers."""
    wide, high, left, top, gap = 250, 170, 56, 48, 56
    plot = study.Plot(len(asked.sets) * (wide + left) + 20, top + len(AXES) * (high + gap) + 30)
    for column, data in enumerate(asked.sets):
        x0 = column * (wide + left) + left
        curves = {plan: curve(next(iter(reports.values()))) for plan in asked.plans if (reports := found(data, plan, False, asked))}
        steps = [step for line in curves.values() for step, _ in line] or [1, 10]
        low, most = math.log(min(steps)), math.log(max(steps))
        x = lambda step: x0 + wide * (math.log(step) - low) / max(most - low, 1e-9)
        for place, (axis, plans) in enumerate(AXES.items()):
            y0 = top + place * (high + gap)
            y = plot.heights(x0, wide, y0, high, [mrr for line in curves.values() for _, mrr in line] or [0, 1])
            plot.text(x0 + wide / 2, y0 - 8, f"{data}: {axis}", "middle")
            for power in range(math.ceil(low / math.log(10)), math.floor(most / math.log(10)) + 1):
                plot.text(x(10**power), y0 + high + 16, f"{10**power:,}", "middle")
            for plan in plans:
                if plan in curves:
                    colour = "#8e5ea2" if plan == "1x2x4" else COLOURS[trainers(plan)]
                    plot.line([(x(step), y(mrr)) for step, mrr in curves[plan]], colour, wide=1.5)
    for place, (words, colour) in enumerate([*((f"{n} trainer{'s' * (n > 1)}", colour) for n, colour in COLOURS.items()), ("1x2x4", "#8e5ea2")]):
        at, below = left + place * 130, top + len(AXES) * (high + gap) - 4
        plot.line([(at, below), (at + 24, below)], colour)
        plot.text(at + 30, below + 4, words)
    plot.text(10, 18, f"validation MRR over steps (logarithmic), equal work, seed {asked.seeds[0]}")
    return plot


def report(asked):
    study.write_between(study.RESULTS / "efficiency.md", "table", table(asked))
    plot(asked).save(study.RESULTS / "efficiency.svg")


if __name__ == "__main__":
    ASKED = arguments()
    if not ASKED.report:
        run(ASKED)
    report(ASKED)
