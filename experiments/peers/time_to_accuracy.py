"""How long PyG trains to the accuracy of its ten epochs, and how long Tempograph trains to the same.

    python experiments/peers/time_to_accuracy.py --python ~/venv/bin/python

PyG trains its ten epochs and is examined once, after the last; only the time of training counts. Tempograph is then trained with a growing
number of epochs, one run each, until a run's test AP is at least PyG's; its time is that of training up to the epoch it keeps, the one that
validates best. Both answer the same questions: one negative from all destinations, the true one not left out. Runs are kept under `--work`
and not repeated; the table is written to `--out`. Nothing else should run on the machine meanwhile.
"""

import argparse
import json
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/tempograph")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has torch and torch_geometric")
    parser.add_argument("--spec", nargs="+", default=["experiments/paired/wikipedia.toml"], help="what Tempograph trains; a row each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for Tempograph's specs; may be repeated")
    parser.add_argument("--most", type=int, default=10, help="epochs Tempograph is given at most")
    parser.add_argument("--data", type=Path, required=True, help="folder PyG reads: edges.csv and, for real features, edge_feat.npy")
    parser.add_argument("--edge-features", default="none", help="PyG's edge features: real, none or zeros:N")
    parser.add_argument("--epochs", type=int, default=10, help="PyG's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/time-to-accuracy"))
    parser.add_argument("--out", type=Path, default=Path("experiments/results/time_to_accuracy.md"))
    return parser.parse_args()


def run(command):
    command = [str(part) for part in command]
    print("$", shlex.join(command), flush=True)
    if subprocess.run(command).returncode:
        raise SystemExit(f"failed: {shlex.join(command)}")


def pyg(options):
    """PyG's report, made if it is not there."""
    path = options.work / f"pyg-{options.edge_features.replace(':', '')}-{options.threads}-{options.seed}.json"
    if not path.exists() or not json.loads(path.read_text())["complete"]:
        flags = ["--data", options.data, "--edge-features", options.edge_features, "--epochs", options.epochs, "--threads", options.threads]
        flags += ["--seed", options.seed, "--evaluate-every", options.epochs, "--mrr-negatives", 0, "--out", path]
        run([options.python, HERE / "pyg_tgn.py", *flags])
    return json.loads(path.read_text())


def ours(options, spec, epochs):
    """Tempograph's report of a run of so many epochs, made if it is not there."""
    folder = options.work / f"{Path(spec).parent.name}-{Path(spec).stem}-{epochs}-{options.threads}-{options.seed}"
    path = folder / "report.json"
    if not path.exists() or json.loads(path.read_text())["status"] != "finished":
        # AP is what is waited for: the one negative it needs is drawn, and no others are ranked.
        sets = [f"seed={options.seed}", f"threads={options.threads}", f"train.epochs={epochs}", "export=false", "eval.negatives=1", "eval.floors=false"]
        sets += ['eval.rules=["random-with-positive"]', "train.select_by=ap", *options.set]
        run([options.binary, "train", spec, "--force", "--out", folder, *(part for one in sets for part in ("--set", one))])
    return json.loads(path.read_text())


def trained(report):
    """Seconds of training up to the kept epoch."""
    return sum(epoch["train"]["seconds"] for epoch in report["epochs"][: report["best_epoch"]])


def reach(options, spec, wanted):
    """The first run whose test AP is at least `wanted`, or the last there is."""
    for epochs in range(1, options.most + 1):
        report = ours(options, spec, epochs)
        print(f"{spec}: {epochs} epochs, test AP {report['test']['ap']:.4f} after {trained(report):.1f} s", flush=True)
        if report["test"]["ap"] >= wanted:
            break
    return report


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    theirs = pyg(options)
    seconds, wanted = sum(epoch["train"]["seconds"] for epoch in theirs["epochs"]), theirs["test"]["ap"]
    print(f"PyG: {len(theirs['epochs'])} epochs, test AP {wanted:.4f} after {seconds:.1f} s of training", flush=True)
    versions = ", ".join(f"{name} {version}" for name, version in theirs["versions"].items())
    lines = [
        "# Time to PyG's accuracy",
        "",
        f"Seconds of training, without evaluation, on {theirs['data']}; {options.threads} threads, seed {options.seed}; PyG with edge features",
        f"{options.edge_features}, {versions}; {platform.machine()}, {time.strftime('%Y-%m-%d')}.",
        "",
        "| | epochs | test AP | training, s | PyG's share |",
        "|---|---|---|---|---|",
        f"| PyG | {len(theirs['epochs'])} | {wanted:.4f} | {seconds:.1f} | 1 |",
    ]
    for spec in options.spec:
        report = reach(options, spec, wanted)
        took, ap = trained(report), report["test"]["ap"]
        missed = "" if ap >= wanted else " (not reached)"
        lines.append(f"| `{spec}` | {report['best_epoch']} of {len(report['epochs'])} | {ap:.4f}{missed} | {took:.1f} | {took / seconds:.3f} |")
    lines += ["", f"    python experiments/peers/time_to_accuracy.py {shlex.join(sys.argv[1:])}"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
