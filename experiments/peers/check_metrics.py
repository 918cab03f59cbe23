#!/usr/bin/env python3
"""Compares this project's metrics with scikit-learn's and with the evaluator of the Temporal Graph Benchmark, on random scores with many ties.

Needs from PyPI: numpy, scikit-learn, py-tgb (`pip install --no-deps py-tgb` is enough: only its evaluator module is used), and cargo on the path.
Prints a table; exits with 1 where any value differs by more than 1e-6.

    python experiments/peers/check_metrics.py
"""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import types

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6


def tgb_evaluator(k):
    """TGB's evaluator, loaded from its file: importing the package would pull in its data sets and their dependencies."""
    # A namespace package has no loader of its own, so the place of its files is asked for without importing it.
    spec = importlib.util.find_spec("tgb")
    if spec is None:
        sys.exit("py-tgb is not installed: pip install --no-deps py-tgb")
    path = next(path for place in spec.submodule_search_locations for path in pathlib.Path(place).glob("linkproppred/evaluate.py"))
    info = importlib.import_module("tgb.utils.info")
    if "tgb.utils.utils" not in sys.modules:
        # The evaluator takes one printing function from a module that imports pandas and PyG.
        stand_in = types.ModuleType("tgb.utils.utils")
        stand_in.vprint = print
        sys.modules["tgb.utils.utils"] = stand_in
    module_spec = importlib.util.spec_from_file_location("tgb_evaluate", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    name = next(iter(info.DATA_EVAL_METRIC_DICT))
    return module.Evaluator(name=name, k_value=k)


def ours(binary, positive, negative, batch):
    """The metrics that the Rust side computes of the same scores."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(f"{negative.shape[1]} {batch}\n")
        for score, scores in zip(positive, negative):
            file.write(" ".join(f"{value:.9g}" for value in (score, *scores)) + "\n")
        file.flush()
        return json.loads(subprocess.check_output([*binary, file.name]))


def theirs(positive, negative, batch):
    """The same metrics by scikit-learn and TGB."""

    def area(metric, rows):
        scores = np.concatenate([positive[rows], negative[rows, 0]])
        return metric(np.repeat([1, 0], [len(scores) // 2] * 2), scores)

    batches = [slice(start, start + batch) for start in range(0, len(positive), batch)]
    values = {
        "count": len(positive),
        "ap": area(average_precision_score, slice(None)),
        "auc": area(roc_auc_score, slice(None)),
        "ap_batch_mean": np.mean([area(average_precision_score, rows) for rows in batches]),
        "auc_batch_mean": np.mean([area(roc_auc_score, rows) for rows in batches]),
    }
    for k in (1, 3, 10):
        scores = {"y_pred_pos": positive, "y_pred_neg": negative, "eval_metric": ["mrr", "hits@"]}
        result = tgb_evaluator(k).eval(scores)
        values["mrr"] = result["mrr"]
        values[f"hits{k}"] = result[f"hits@{k}"]
    return values


def cases():
    """Name, positives, negatives, batch size. Scores are f32, quantised to few levels where ties are wanted."""
    random = np.random.default_rng(0)
    for levels, events, negatives, batch in [(0, 2000, 49, 200), (50, 2000, 49, 200), (5, 2000, 49, 130), (2, 777, 3, 200), (1, 300, 20, 100), (0, 50, 999, 7), (9, 1, 1, 1)]:
        positive, negative = random.normal(0.7, 1, events), random.normal(0, 1, (events, negatives))
        if levels:
            positive, negative = (np.floor(np.clip((scores + 3) / 6, 0, 0.999) * levels) / 3 for scores in (positive, negative))
        yield f"{events}x{negatives} b{batch} " + (f"{levels} levels" if levels else "continuous"), positive.astype(np.float32), negative.astype(np.float32), batch


def main():
    command = ["cargo", "build", "--quiet", "-p", "tempograph-framework", "--example", "metrics_check", "--message-format=json"]
    messages = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    binary = [next(filter(None, (json.loads(line).get("executable") for line in reversed(messages))))]
    worst = 0.0
    print(f"{'case':28} {'metric':15} {'here':>12} {'peer':>12} {'difference':>11}")
    for name, positive, negative, batch in cases():
        here, peer = ours(binary, positive, negative, batch), theirs(positive, negative, batch)
        if here.keys() != peer.keys():
            sys.exit(f"different metrics: {sorted(here)} and {sorted(peer)}")
        for metric in peer:
            difference = abs(here[metric] - float(peer[metric]))
            # A NaN is a disagreement too, and would compare as none.
            worst = max(worst, difference if np.isfinite(difference) else np.inf)
            print(f"{name:28} {metric:15} {here[metric]:12.8f} {float(peer[metric]):12.8f} {difference:11.1e}{'' if difference <= TOLERANCE else '  DISAGREES'}")
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
