"""What needs no learning: EdgeBank and "is the destination among the source's last K", on the test split.

    python floors.py --data DATA/wikipedia DATA/uci DATA/enron

The history starts warm (training and validation) and is refreshed after every event or after every batch. A score is 1 or 0;
AP enters equal scores as one threshold, ranks share the mean of their places. Each event is judged twice: against negatives
drawn from all destinations, where the true one may be drawn again, and (`others`) from all but the true one.
"""

import argparse
import json
from collections import deque

import numpy as np

from events import evaluation_draws, read_events
from metrics import judge

METRICS = ("ap", "auc", "mrr", "ap_others", "auc_others", "mrr_others")


class LastK:
    """Is `dst` among the last `k` nodes that `src` had an event with, as a source or (`both`) either way?"""

    def __init__(self, k=10, both=False):
        self.k, self.both, self.last = k, both, {}

    def observe(self, src, dst, _time):
        self.last.setdefault(src, deque(maxlen=self.k)).append(dst)
        if self.both and src != dst:
            self.last.setdefault(dst, deque(maxlen=self.k)).append(src)

    def score(self, src, dst, _time):
        return np.isin(dst, self.last.get(src, ())).astype(np.float32)


class EdgeBank:
    """Has the pair been seen, ever or within the last `window` ticks?"""

    def __init__(self, window=None):
        self.window, self.seen = window, {}

    def observe(self, src, dst, time):
        self.seen[src, dst] = time

    def score(self, src, dst, time):
        oldest = -np.inf if self.window is None else time - self.window
        return np.array([self.seen.get((src, d), -np.inf) >= oldest and (src, d) in self.seen for d in dst.tolist()], np.float32)


def evaluate(model, events, refresh, count):
    """Metrics of one model on the test split, its history refreshed every `refresh` events."""
    _, first = events.split()
    triples = list(zip(events.src.tolist(), events.dst.tolist(), events.time.tolist()))
    for triple in triples[:first]:
        model.observe(*triple)
    ids = np.arange(first, len(events))
    asked, columns = evaluation_draws(ids, events.dst[first:], events.destinations(), count)
    scores = np.empty(asked.shape, np.float32)
    for begin in range(0, len(ids), refresh):
        batch = range(begin, min(begin + refresh, len(ids)))
        for i in batch:
            src, _, time = triples[first + i]
            scores[i] = model.score(src, asked[i], time)
        for i in batch:
            model.observe(*triples[first + i])
    return judge(scores, columns)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--mrr-negatives", type=int, default=49)
    parser.add_argument("--out", help="also write the numbers as JSON")
    options = parser.parse_args()
    rows = []
    print("| data | model | refreshed every | AP | AUC | MRR | AP, others | AUC, others | MRR, others |\n|---|---|---|---|---|---|---|---|---|")
    for folder in options.data:
        events = read_events(folder, "none")
        _, first = events.split()
        # The window of the EdgeBank paper: as long as the test split lasts.
        window = int(events.time[-1] - events.time[first])
        models = {
            f"last {options.k}": lambda: LastK(options.k),
            f"last {options.k}, either way": lambda: LastK(options.k, both=True),
            "EdgeBank": EdgeBank,
            "EdgeBank, window": lambda window=window: EdgeBank(window),
        }
        for name, make in models.items():
            for refresh in (1, options.batch):
                result = evaluate(make(), events, refresh, options.mrr_negatives)
                rows.append({"data": events.name, "model": name, "refresh": refresh, **result})
                numbers = " | ".join(f"{result[m]:.4f}" for m in METRICS)
                print(f"| {events.name} | {name} | {refresh} | {numbers} |", flush=True)
    if options.out:
        with open(options.out, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
