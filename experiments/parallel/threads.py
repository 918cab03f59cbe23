"""How much faster two threads train a plan than one, and what the machine allows: pairs in turn, medians, and equal weights.

    python experiments/parallel/threads.py experiments/wikipedia.toml --batch 600

Each round trains every plan on one thread, then on two; last, two single-threaded trainings run side by side, which is what the machine
can do at best. Needs Python and nothing else, and a machine with nothing else to do.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import study

ALONE = ["train.epochs=4", "eval.val_every=1000", "eval.negatives=1", "eval.floors=false", "export=false"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--program", default="tempograph", help="the program to run")
    parser.add_argument("--plans", nargs="+", default=["2x1x1", "1x2x1", "1x1x2"])
    parser.add_argument("--batch", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    return parser.parse_args()


def settings(plan, threads, asked):
    return [*ALONE, f"train.batch={asked.batch}", f"threads={threads}", *study.parallel(plan), *asked.set]


def start(folder, plan, threads, asked):
    command = study.command(asked.program, "train", asked.spec, folder, settings(plan, threads, asked))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rate(folder):
    """Events a second of the median epoch, and the weights' hash."""
    report = study.finished(folder)
    return statistics.median(epoch["train"]["events_per_second"] for epoch in report["epochs"]), report["weights_sha256"]


def alone(folder, plan, threads, asked):
    start(folder, plan, threads, asked).wait()
    return rate(folder)


def main(asked):
    rates = {(plan, threads): [] for plan in asked.plans for threads in (1, 2)}
    ratios = {plan: [] for plan in [*asked.plans, "machine"]}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(asked.rounds):
            for plan in asked.plans:
                (one, expected), (two, found) = [alone(f"{place}/run", plan, threads, asked) for threads in (1, 2)]
                if expected != found:
                    raise SystemExit(f"{plan}: two threads left the weights {found}, one {expected}")
                rates[plan, 1].append(one)
                rates[plan, 2].append(two)
                ratios[plan].append(two / one)
            single, _ = alone(f"{place}/run", "1x1x1", 1, asked)
            beside = [start(f"{place}/{i}", "1x1x1", 1, asked) for i in range(2)]
            [process.wait() for process in beside]
            ratios["machine"].append(sum(rate(f"{place}/{i}")[0] for i in range(2)) / single)
    print(study.row(["plan", "one thread, events/s", "two threads", "ratio", "of all rounds"]))
    print("|" + "---|" * 5)
    for plan in asked.plans:
        spread = f"{min(ratios[plan]):.2f}–{max(ratios[plan]):.2f}"
        medians = [f"{statistics.median(rates[plan, threads]):,.0f}" for threads in (1, 2)]
        print(study.row([plan, *medians, f"{statistics.median(ratios[plan]):.2f}", spread]))
    machine = ratios["machine"]
    print(study.row(["two trainings side by side", "", "", f"{statistics.median(machine):.2f}", f"{min(machine):.2f}–{max(machine):.2f}"]))


if __name__ == "__main__":
    main(arguments())
