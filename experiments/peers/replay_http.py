"""Replays a split through a served artifact and compares every score with the offline ones.

    tempograph export RUN --out ART --until val
    tempograph eval RUN --scores scores.safetensors
    tempograph serve ART --listen 127.0.0.1:8080 &
    python replay_http.py scores.safetensors --url http://127.0.0.1:8080 --batch 200

Each batch is asked about first, with its own events as `during` (what exact lookups may see), and then sent as one batch. Needs numpy and safetensors. For
sets without edge features, whole-number times and artifacts exported right before the split.
"""

import argparse
import json
import sys
import urllib.request

import numpy as np
from safetensors.numpy import load_file


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores")
    parser.add_argument("--url", required=True)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--lookup", choices=["exact", "batch"], default="exact")
    options = parser.parse_args()

    table = load_file(options.scores)
    first, worst, asked = int(table["event"].min()), 0.0, 0
    batch_of = (table["event"].astype(np.int64) - first) // options.batch
    edges = np.flatnonzero(np.diff(batch_of)) + 1
    for rows in np.split(np.arange(len(batch_of)), edges):
        pairs = [{"src": int(table["src"][i]), "dst": int(table["dst"][i]), "time": int(table["time"][i])} for i in rows]
        events = [pair for pair, i in zip(pairs, rows) if table["positive"][i]]
        body = {"queries": pairs}
        if options.lookup == "exact":
            body["during"] = events
        scores = np.array(post(options.url + "/v1/score", body)["scores"], dtype=np.float64)
        worst = max(worst, float(np.abs(scores - table["score"][rows]).max()))
        asked += len(rows)
        post(options.url + "/v1/events", {"events": events, "granularity": "batch"})
    print(f"{asked} scores, largest difference {worst:.3g} (tolerance {options.tolerance:g})")
    sys.exit(worst > options.tolerance)


if __name__ == "__main__":
    main()
