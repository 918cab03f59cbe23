"""Training throughput of Tempograph and PyG on the same data, turn by turn, as a table of medians.

    python throughput.py --binary target/release/tempograph --data DATA/wikipedia --edge-features zeros:172 \\
        --spec experiments/peers/wikipedia.toml --batches 200 600 --threads 1 --rounds 3 --out throughput.md

Each round runs one epoch of each side, one after the other, so that a machine that is busy for a while slows both. Thread counts are
set by `RAYON_NUM_THREADS` and `--threads`; on Linux both sides are also held to as many cores (`taskset`).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/tempograph")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--edge-features", default="real")
    parser.add_argument("--spec", required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[200, 600])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-key", default="train.batch_size", help="the spec's key for the batch size")
    parser.add_argument("--epochs-key", default="train.epochs", help="the spec's key for the number of epochs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for Tempograph's spec; may be repeated")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has torch and torch_geometric")
    parser.add_argument("--work", type=Path, default=Path("runs/throughput"))
    parser.add_argument("--out", type=Path, default=Path("runs/throughput/table.md"))
    return parser.parse_args()


def run(command, threads):
    pinned = ["taskset", "--cpu-list", f"0-{threads - 1}"] if shutil.which("taskset") else []
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    command = pinned + [str(part) for part in command]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def pyg(options, batch, threads, turn):
    path = options.work / f"pyg-{batch}-{threads}-{turn}.json"
    # As many batches as an epoch may have: the limit only says that nothing is to be evaluated.
    flags = ["--epochs", 1, "--max-batches", 10**9, "--batch", batch, "--threads", threads, "--edge-features", options.edge_features]
    run([options.python, HERE / "pyg_tgn.py", "--data", options.data, *flags, "--out", path], threads)
    return json.loads(path.read_text())


def ours(options, batch, threads, turn):
    folder = options.work / f"tempograph-{batch}-{threads}-{turn}"
    shutil.rmtree(folder, ignore_errors=True)
    changes = [f"{options.batch_key}={batch}", f"{options.epochs_key}=1", *options.set]
    run([options.binary, "train", options.spec, *(part for c in changes for part in ("--set", c)), "--out", folder], threads)
    return json.loads((folder / "report.json").read_text())


def speed(report):
    return report["epochs"][0]["train"]["events_per_second"]


def told(reports):
    speeds = [speed(report) for report in reports]
    return f"{statistics.median(speeds):.0f} ({min(speeds):.0f}–{max(speeds):.0f})"


def stages(reports):
    """Shares of PyG's training time, of the run with the median throughput."""
    middle = sorted(reports, key=speed)[len(reports) // 2]["epochs"][0]["train"]
    shares = sorted(middle["stages"].items(), key=lambda item: -item[1])
    return ", ".join(f"{name.replace('_', ' ')} {100 * seconds / middle['seconds']:.0f} %" for name, seconds in shares)


def main():
    options = arguments()
    lines = [
        f"Training events/s on {options.data.name}, median (least–most) of {options.rounds} alternating rounds of one epoch each.",
        "",
        "| batch | threads | Tempograph | PyG | ratio | PyG's time |",
        "|---|---|---|---|---|---|",
    ]
    options.work.mkdir(parents=True, exist_ok=True)
    for batch in options.batches:
        for threads in options.threads:
            turns = [(ours(options, batch, threads, turn), pyg(options, batch, threads, turn)) for turn in range(options.rounds)]
            mine, theirs = zip(*turns)
            ratio = statistics.median(map(speed, mine)) / statistics.median(map(speed, theirs))
            lines.append(f"| {batch} | {threads} | {told(mine)} | {told(theirs)} | {ratio:.2f} | {stages(theirs)} |")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
