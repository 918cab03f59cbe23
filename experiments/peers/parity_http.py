"""Replays a split through a served artifact, event by event as a server meets it, and sets the metrics beside the offline ones.

    tempograph export RUN --out ART --until val
    tempograph eval RUN --scores scores.safetensors
    tempograph serve ART --listen 127.0.0.1:8080 --set log.kind=memory &
    python parity_http.py scores.safetensors --url http://127.0.0.1:8080

Every event is asked about (with the negatives of the offline evaluation, at its time), and then happens: nothing is hidden in a batch. `--group 200` asks
about 200 events before they happen, each by itself: what is left of the gap is then the batch's own mail. Needs numpy and safetensors, on this side only;
for sets without edge features and with whole-number times.
"""

import argparse
import http.client
import json
import urllib.parse

import numpy as np
from safetensors.numpy import load_file


class Server:
    """One kept connection."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {answer}")
        return answer


def average_precision(positive, negative):
    """Equal scores enter together, as in scikit-learn."""
    scores = np.concatenate([positive, negative])
    truth = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    found = np.cumsum(truth)[ends]
    precision = found / (ends + 1)
    return float(np.sum(np.diff(found, prepend=0) / len(positive) * precision))


def metrics(rows_of, score, positive):
    """AP against each event's first negative; MRR among all of them, half of the equal ones before it."""
    pos, first, reciprocal = [], [], []
    for rows in rows_of:
        own, others = score[rows[positive[rows]]][0], score[rows[~positive[rows]]]
        pos.append(own)
        first.append(others[0])
        reciprocal.append(1 / (1 + np.sum(others > own) + np.sum(others == own) / 2))
    return average_precision(np.array(pos), np.array(first)), float(np.mean(reciprocal))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores")
    parser.add_argument("--url", required=True)
    parser.add_argument("--group", type=int, default=1, help="events asked about before they happen")
    parser.add_argument("--most", type=int, default=None, help="events replayed; all where it is left out")
    options = parser.parse_args()

    table = load_file(options.scores)
    positive = table["positive"].astype(bool)
    order = np.argsort(table["event"], kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(table["event"][order])) + 1)[: options.most]
    server, served = Server(options.url), np.zeros(len(positive))
    for start in range(0, len(rows_of), options.group):
        rows = np.concatenate(rows_of[start : start + options.group])
        pairs = [{"src": int(table["src"][i]), "dst": int(table["dst"][i]), "time": int(table["time"][i])} for i in rows]
        served[rows] = server.post("/v1/score", {"queries": pairs})["scores"]
        server.post("/v1/events", {"events": [pair for pair, i in zip(pairs, rows) if positive[i]]})
    print(f"{len(rows_of)} events, {options.group} at a time")
    for name, score in [("offline", table["score"].astype(np.float64)), ("served", served)]:
        ap, mrr = metrics(rows_of, score, positive)
        print(f"{name:<8} AP {ap:.4f}  MRR {mrr:.4f}")


if __name__ == "__main__":
    main()
