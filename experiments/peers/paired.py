"""The same data, settings and seeds through Tempograph and through PyG, as a table.

    python paired.py --binary target/release/tempograph --data-root DATA --work runs/paired --out paired.md \\
        --pair uci experiments/paired/uci.toml real --pair wikipedia experiments/paired/wikipedia.toml zeros:172 --seeds 0 1 2

A pair is the name of a folder under the data root, the spec that trains on it, and what PyG is given as edge features.
Runs are kept under `--work` as `pyg/NAME-SEED.json` and `tempograph/NAME-SEED/report.json`; what is there already is not run
again, so that runs made elsewhere can be put there. The spec says what Tempograph does: for a fair pair it has PyG's settings
and `history = "batch"`; `--set key=value` is passed on to it.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
METRICS = ("ap", "auc", "mrr")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/tempograph")
    parser.add_argument("--data-root", type=Path, help="holds the folders PyG reads; not needed where its runs are there")
    parser.add_argument("--pair", nargs=3, action="append", required=True, metavar=("NAME", "SPEC", "FEATURES"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--aggregator", choices=["stock", "fixed"], default="stock", help="PyG as installed, or mended (pyg_model.py)")
    parser.add_argument("--negatives", choices=["all", "others"], default="all", help="PyG's evaluation negatives: may, or may not, be the true destination")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for Tempograph's spec; may be repeated")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has torch and torch_geometric")
    parser.add_argument("--work", type=Path, default=Path("runs/paired"))
    parser.add_argument("--out", type=Path, default=Path("runs/paired/table.md"))
    return parser.parse_args()


def run(command):
    command = [str(part) for part in command]
    print("$", " ".join(command), flush=True)
    if subprocess.run(command).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def pyg(options, name, features, seed):
    """PyG's report of one run, made if it is not there."""
    path = options.work / "pyg" / f"{name}-{seed}.json"
    wanted = {"seed": seed, "epochs": options.epochs, "batch": options.batch, "edge_features": features, "aggregator": options.aggregator}
    if not path.exists() or not json.loads(path.read_text())["complete"]:
        if options.data_root is None:
            raise SystemExit(f"{path} is not there (or is cut short), and without --data-root it cannot be made")
        flags = [part for key, value in wanted.items() for part in (f"--{key.replace('_', '-')}", value)]
        data = ["--data", options.data_root / name, "--threads", options.threads, "--out", path]
        run([options.python, HERE / "pyg_tgn.py", *data, *flags])
    report = json.loads(path.read_text())
    # Reports from before the option was there are of PyG as installed.
    made = {"aggregator": "stock"} | report["settings"]
    other = {key: made.get(key) for key in wanted if made.get(key) != wanted[key]}
    if other:
        raise SystemExit(f"{path} was made with {other}, wanted {wanted}")
    return report


def ours(options, name, spec, seed):
    """Tempograph's report of one run, made if it is not there."""
    folder = options.work / "tempograph" / f"{name}-{seed}"
    path = folder / "report.json"
    if not path.exists():
        changes = [part for change in [f"seed={seed}", *options.set] for part in ("--set", change)]
        run([options.binary, "train", spec, *changes, "--out", folder])
    report = json.loads(path.read_text())
    if report["seed"] != seed or len(report["epochs"]) != options.epochs:
        raise SystemExit(f"{path}: seed {report['seed']}, {len(report['epochs'])} epochs; wanted seed {seed}, {options.epochs} epochs")
    return report


def throughput(report):
    """Median of the epochs' training throughput."""
    return statistics.median(epoch["train"]["events_per_second"] for epoch in report["epochs"])


def told(values, digits):
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"


def rows(options, name, spec, features):
    """One line a metric, then throughput and memory, for one data set."""
    mine = [ours(options, name, spec, seed) for seed in options.seeds]
    theirs = [pyg(options, name, features, seed) for seed in options.seeds]
    suffix = "_others" if options.negatives == "others" else ""
    columns = {f"test {m.upper()}": ([r["test"][m] for r in mine], [r["test"][m + suffix] for r in theirs], 4) for m in METRICS}
    columns["last training loss"] = (*([r["epochs"][-1]["train"]["loss"] for r in side] for side in (mine, theirs)), 4)
    columns["training, events/s"] = (*([throughput(r) for r in side] for side in (mine, theirs)), 0)
    columns["peak memory, MB"] = (*([r["peak_memory_bytes"] / 1e6 for r in side] for side in (mine, theirs)), 0)
    for what, (a, b, digits) in columns.items():
        yield f"| {name} | {what} | {told(a, digits)} | {told(b, digits)} | {statistics.mean(a) / statistics.mean(b):.3f} |"


def main():
    options = arguments()
    kind = "as installed" if options.aggregator == "stock" else "with its aggregator mended"
    lines = [
        f"Means ± standard deviations over seeds {', '.join(map(str, options.seeds))}; {options.epochs} epochs, batch {options.batch}; PyG {kind}, "
        f"judged against negatives from {'all destinations' if options.negatives == 'all' else 'all destinations but the true one'}.",
        "",
        "| data | measure | Tempograph | PyG | ratio |",
        "|---|---|---|---|---|",
    ]
    for pair in options.pair:
        lines += rows(options, *pair)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
