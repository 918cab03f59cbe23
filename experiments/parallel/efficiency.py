"""How many steps a plan of many trainers needs: every set, plan and seed with equal work, as a table and a plot of validation MRR over steps.

    python experiments/parallel/efficiency.py --data data --work runs/efficiency

A plan of n trainers takes an n-th of the steps of one trainer, with n times its learning rate. Runs that are finished are not run again;
with --report nothing is run, and what is there is written to experiments/results/efficiency.md and efficiency.svg. Needs Python and
matplotlib for the plot.
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
# How long, what becomes of Adam's betas, and whether there is static memory, behind the dynamic one and frozen.
VARIANTS = {f"{kind}{static}": [f"parallel.beta_scale={betas}", f"model.static.how={'concat' if static else 'off'}"]
            for kind, betas in (("long", "epoch"), ("epoch", "epoch"), ("none", "none")) for static in ("", "-static")}
COLOURS = {"1x1x1": "#888888", "2x1x1": "#1f6fb4", "4x1x1": "#3a923a", "8x1x1": "#d9662b", "1x2x1": "#1f6fb4", "1x4x1": "#3a923a",
           "1x8x1": "#8e5ea2", "1x1x2": "#1f6fb4", "1x1x4": "#3a923a", "1x1x8": "#b8336a", "1x2x4": "#c2a20b"}
# Passes of one trainer by how many events there are, and one of how many validation events is ranked: as the study began, and trained long.
PASSES = {"wikipedia": [(80, 10), (240, 30)], "uci": [(160, 10), (480, 30)], "mathoverflow": [(24, 10), (96, 40)], "copresence": [(8, 10), (24, 10)]}
# How many the destination is ranked among.
NEGATIVES = {"wikipedia": 49, "uci": 49, "mathoverflow": 19, "copresence": 19}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="tempograph", help="the program to run")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the prepared sets")
    parser.add_argument("--work", type=Path, default=Path("runs/efficiency"), help="folder of the runs")
    parser.add_argument("--sets", nargs="+", default=list(PASSES), choices=list(PASSES))
    parser.add_argument("--plans", nargs="+", default=PLANS, choices=PLANS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--batch", type=int, default=600, help="events of a batch")
    parser.add_argument("--lr", type=float, default=2e-4, help="learning rate of one trainer")
    parser.add_argument("--width", type=int, default=48, help="of memory, time encoding and embedding")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one thread")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="for every run, last of all; the report stays as it is, of which such runs are no part")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the report")
    return parser.parse_args()


def trainers(plan):
    return math.prod(map(int, plan.split("x")))


def folder(data, plan, variant, seed, asked):
    return asked.work / f"{data}-{plan}-{the_same(plan, variant)}-{seed}"


def the_same(plan, variant):
    """Without epoch lanes the betas are what they are in any case."""
    return variant.replace("none", "epoch") if plan.split("x")[1] == "1" else variant


def wanted(plan, variant):
    """Whether it is among what is compared: trained long are one trainer and eight."""
    return the_same(plan, variant) == variant and (not variant.startswith("long") or trainers(plan) in (1, 8))


def length(data, variant):
    passes, ranked = PASSES[data][variant.startswith("long")]
    return [f"train.epochs={passes}", f"eval.val_every={ranked}", f"eval.negatives={NEGATIVES[data]}"]


def settings(data, seed, asked):
    widths = [f"model.{part}={asked.width}" for part in ("memory", "time", "width")] + [f"model.static.width={asked.width}"]
    return [f"data.path={asked.data / data}", f"data.static_memory={vectors(data, seed, asked)}", f"seed={seed}", "threads=1", "export=false",
            f"train.batch={asked.batch}", f"train.lr={asked.lr}", "train.schedule=cosine", *widths]


def vectors(data, seed, asked):
    return asked.work / f"{data}-{seed}.safetensors"


def pretrain(data, seed, asked):
    out = vectors(data, seed, asked)
    if not out.exists():
        study.run(study.command(asked.program, "pretrain", SPEC, out, [*settings(data, seed, asked), *asked.set]))


def train(data, plan, variant, seed, asked):
    out = folder(data, plan, variant, seed, asked)
    if study.finished(out):
        return
    of_plan = [*length(data, variant), *study.parallel(plan), *VARIANTS[variant]]
    report = study.train(asked.program, SPEC, out, [*settings(data, seed, asked), *of_plan, *asked.set])
    print(f"{out.name}: {report['steps']} steps, MRR {report['test']['mrr']:.4f}", flush=True)


def run(asked):
    asked.work.mkdir(parents=True, exist_ok=True)
    for seed in asked.seeds:
        for data in asked.sets:
            pretrain(data, seed, asked)
    # the plans at the ends of the axes first
    plans = sorted(asked.plans, key=trainers, reverse=True)
    cells = [(data, plan, variant, seed) for seed in asked.seeds for variant in asked.variants for data in asked.sets for plan in plans
             if wanted(plan, variant)]
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(lambda cell: train(*cell, asked), cells))


def found(data, plan, variant, asked):
    """The reports of finished runs by seed."""
    reports = {seed: study.finished(folder(data, plan, variant, seed, asked)) for seed in asked.seeds}
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


def table(variants, asked):
    head = ["set", "plan", "steps", "seeds", "test MRR", "to one trainer", "test AP", "best validation MRR", "steps to one trainer's less .01"]
    lines = [study.row(head), "|" + "---|" * len(head)]
    for data, variant, plan in ((data, variant, plan) for data in asked.sets for variant in variants for plan in asked.plans):
        reports, single = (found(data, which, variant, asked) for which in (plan, "1x1x1"))
        if not reports or not wanted(plan, variant):
            continue
        test = lambda reports, metric: {seed: report["test"][metric] for seed, report in reports.items()}
        name = plan + (" and static memory" if variant.endswith("static") else "")
        gap = "" if plan == "1x1x1" else study.gain(test(single, "mrr"), test(reports, "mrr"))
        best_ones = {seed: best(report) for seed, report in reports.items()}
        steps = max(report["steps"] for report in reports.values())
        lines.append(study.row([data, name, f"{steps:,}", len(reports), study.cell(test(reports, "mrr")), gap, study.cell(test(reports, "ap")),
                                study.cell(best_ones), near(single, reports)]))
    return "\n".join(lines)


def mean_curve(reports):
    """The mean over seeds, which take the same steps."""
    curves = [curve(report) for report in reports.values()]
    return [(points[0][0], statistics.mean(mrr for _, mrr in points)) for points in zip(*curves)]


def plot(path, asked):
    """A row for each axis, a panel for each set: validation MRR over steps."""
    rows = [(axis, plans, "epoch") for axis, plans in AXES.items()]
    rows += [("epoch, j, betas as they are", AXES["epoch, j"], "none"), ("trained long", [plan for plan in PLANS if wanted(plan, "long")], "long")]
    panels = [[study.Panel(f"{data}: {axis}", {plan: mean_curve(reports) for plan in plans if (reports := found(data, plan, variant, asked))})
               for data in asked.sets] for axis, plans, variant in rows]
    study.plot(path, "validation MRR over steps, equal work", panels, COLOURS)


def report(asked):
    path = study.RESULTS / "efficiency.md"
    for kind in ("long", "epoch", "none"):
        study.write_between(path, kind, table([variant for variant in asked.variants if variant.startswith(kind)], asked))
    plot(path.with_suffix(".svg"), asked)


if __name__ == "__main__":
    ASKED = arguments()
    if not ASKED.report:
        run(ASKED)
    if ASKED.report or not ASKED.set:
        report(ASKED)
