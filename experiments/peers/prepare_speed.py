#!/usr/bin/env python3
"""Times `tempograph prepare` on a csv next to pandas with PyG's `TemporalData`, each in a process of its own on one core:
processor seconds, which other work on the machine changes little, and peak memory. Of pandas and PyG the imports are not counted.

Makes the files first, from a fixed seed: `--rows` rows of `src,dst,ts,label`, and a tenth of them with 20 features. Needs from PyPI: numpy, pandas,
torch, torch_geometric.

    python experiments/peers/prepare_speed.py FOLDER --program target/release/tempograph
"""

import argparse
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

PEER = """
import sys, time
import pandas as pd, torch
from torch_geometric.data import TemporalData
begin = time.process_time()
table = pd.read_csv(sys.argv[1])
column = lambda name: torch.from_numpy(table[name].to_numpy())
others = [name for name in table.columns if name not in ("src", "dst", "ts", "label")]
rest = torch.from_numpy(table[others].to_numpy()).float() if others else torch.zeros(len(table), 1)
data = TemporalData(src=column("src"), dst=column("dst"), t=column("ts"), msg=rest)
print(time.process_time() - begin)
"""


def make(folder, rows):
    import numpy as np
    import pandas as pd

    chance = np.random.default_rng(0)
    plain, wide = folder / "plain.csv", folder / "features.csv"
    if not plain.exists():
        table = pd.DataFrame({
            "src": chance.zipf(1.3, rows) % 1_000_000,
            "dst": 1_000_000 + chance.zipf(1.4, rows) % 200_000,
            "ts": np.sort(chance.integers(1_600_000_000, 1_700_000_000, rows)),
            "label": chance.integers(0, 2, rows),
        })
        table.to_csv(plain, index=False)
        features = pd.DataFrame(chance.normal(size=(rows // 10, 20)).astype(np.float32), columns=[f"f{i}" for i in range(20)])
        pd.concat([table.head(rows // 10), features], axis=1).to_csv(wide, index=False)
    return plain, wide


def measure(command):
    """Processor seconds and peak memory in MB of a command on the first core, and its output."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {0})
        os.dup2(write, 1)
        os.execvp(command[0], [str(word) for word in command])
    os.close(write)
    with os.fdopen(read) as output:
        text = output.read()
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{command} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/tempograph"))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    print("| file | rows | MB | `prepare`, s | rows a second | MB a second | peak memory, MB | pandas and PyG, s | peak memory, MB |\n|---|---|---|---|---|---|---|---|---|")
    for path in make(args.folder, args.rows):
        size, out = path.stat().st_size / 1e6, args.folder / "prepared"
        ours, theirs = [], []
        for _ in range(args.times):
            shutil.rmtree(out, ignore_errors=True)
            seconds, memory, text = measure([args.program.resolve(), "prepare", path, "--out", out])
            rows = int(re.search(r"rows: +(\d+)", text)[1])
            ours.append((seconds, memory))
            _, memory, text = measure([sys.executable, "-W", "ignore", "-c", PEER, path])
            theirs.append((float(text.split()[-1]), memory))
        middle = lambda found, at: statistics.median(each[at] for each in found)
        seconds = middle(ours, 0)
        print(
            f"| {path.name} | {rows:,} | {size:.0f} | {seconds:.2f} | {rows / seconds:,.0f} | {size / seconds:.0f} | {middle(ours, 1):.0f} "
            f"| {middle(theirs, 0):.2f} | {middle(theirs, 1):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
