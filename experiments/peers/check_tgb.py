#!/usr/bin/env python3
"""Compares `tempograph train` and `eval` under the protocol of the Temporal Graph Benchmark with the benchmark's own evaluator.

Makes the archive of tgbl-wiki from a folder of `edges.csv` (`src,dst,ts,label`, sorted, ids dense, sources first) with the benchmark's own
generator of negatives, serves it on this machine, and runs fetch, prepare, train and eval as a user does. Then the benchmark's evaluator gets
the exported scores. Exits with 1 where a number differs by more than 1e-6.

Needs from PyPI: py-tgb, torch, torch_geometric, numpy, pandas, scikit-learn, safetensors.

    python experiments/peers/check_tgb.py FOLDER --program target/release/tempograph --epochs 1
"""

import argparse
import csv
import functools
import http.server
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import types
import zipfile

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file
from tgb.linkproppred.dataset import LinkPropPredDataset
from tgb.linkproppred.evaluate import Evaluator
from tgb.linkproppred.negative_generator import NegativeEdgeGenerator
from tgb.utils.pre_process import load_edgelist_wiki

NAME = "tgbl-wiki"
NEGATIVES = 12000  # More than there are destinations: all of them, as in the benchmark's script for this set.
TOLERANCE = 1e-6
SPEC = """[data]
path = "none"
[model]
kind = "tgn"
memory = 32
time = 32
width = 32
neighbours = 10
[train]
batch = 200
[eval]
floors = false
"""


def archive(edges, folder):
    """The set's archive: its edge list, items numbered from 0 as users are, and its negatives."""
    table = pd.read_csv(edges)
    path = folder / f"{NAME}_edgelist_v2.csv"
    with open(path, "w", newline="") as file:
        write = csv.writer(file, lineterminator="\n").writerow
        write(["user_id", "item_id", "timestamp", "state_label", "comma_separated_list_of_features"])
        for src, dst, time, label in zip(table.src, table.dst - table.dst.min(), table.ts, table.label):
            write([src, dst, float(time), label, 0.5, -0.25])
    frame, _, _ = load_edgelist_wiki(str(path))
    src, dst, time = (np.array(frame[column]).astype(int) for column in ("u", "i", "ts"))
    masks = LinkPropPredDataset.generate_splits(None, {"timestamps": time})
    part = lambda mask: types.SimpleNamespace(src=torch.tensor(src[mask]), dst=torch.tensor(dst[mask]), t=torch.tensor(time[mask]))
    generator = NegativeEdgeGenerator(NAME, int(dst.min()), int(dst.max()), num_neg_e=NEGATIVES, strategy="hist_rnd", rnd_seed=42, historical_data=part(masks[0]))
    files = [path]
    for split, mask in (("val", masks[1]), ("test", masks[2])):
        generator.generate_negative_samples(part(mask), split, str(folder))
        files.append((folder / f"{NAME}_{split}_ns.pkl").rename(folder / f"{NAME}_{split}_ns_v2.pkl"))
    served = folder / "served"
    served.mkdir()
    with zipfile.ZipFile(served / f"{NAME}-v2.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for file in files:
            packed.write(file, file.name)
    return served


def run(folder, *command):
    print("$", shlex.join(map(str, command)), flush=True)
    output = subprocess.run([str(word) for word in command], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(output, flush=True)
    return output


def theirs(scores):
    """The benchmark's evaluator on exported scores, event by event as its examples do."""
    arrays = load_file(scores)
    order = np.argsort(arrays["event"], kind="stable")
    event, positive, score = (arrays[name][order] for name in ("event", "positive", "score"))
    cuts = np.flatnonzero(np.diff(event)) + 1
    evaluator = Evaluator(name=NAME)
    found = []
    for positives, values in zip(np.split(positive, cuts), np.split(score, cuts)):
        own, others = values[positives == 1], values[positives == 0]
        found.append(float(evaluator.eval({"y_pred_pos": own, "y_pred_neg": others, "eval_metric": ["mrr"]})["mrr"]))
    return float(np.mean(found)), len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/tempograph"))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--history", choices=["exact", "batch"], default="exact")
    args = parser.parse_args()
    program = args.program.resolve()
    worst = 0.0
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        served = archive(args.folder / "edges.csv", place)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
        handler.log_message = lambda *_: None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fetched = run(place, program, "fetch", NAME, "--base-url", f"http://127.0.0.1:{server.server_port}")
        commands = {line.split("tempograph ")[1].split()[0]: shlex.split(line.split("tempograph ")[1]) for line in fetched.splitlines() if line.startswith(("Next:", "Then:"))}
        run(place, program, *commands["prepare"])
        (place / "SPEC.toml").write_text(SPEC)
        trained = run(place, program, *commands["train"], "--set", f"train.epochs={args.epochs}", "--set", f'model.history="{args.history}"', "--out", "run")
        for split in ("test", "val"):
            printed = run(place, program, "eval", "run", "--split", split, "--scores", "scores.safetensors")
            here = float(re.search(rf"TGB protocol: .*{split} MRR ([0-9.]+)", printed)[1])
            peer, events = theirs(place / "scores.safetensors")
            worst = max(worst, abs(here - peer))
            print(f"{split}: {here:.6f} here, {peer:.8f} by the benchmark's evaluator on the same scores of {events} events\n")
        line = lambda text: next(line for line in text.splitlines() if line.startswith("TGB protocol"))
        again = run(place, program, "eval", "run")
        if line(trained) != line(again):
            sys.exit("eval does not say what train said")
        server.shutdown()
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
