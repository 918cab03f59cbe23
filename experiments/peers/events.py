"""A folder of events (`edges.csv`, optional `edge_feat.npy`) as numpy arrays, and the draws that every peer shares."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# One purpose per stream of random numbers, so that no two uses ever share a number.
EVALUATION_SEED = 12345
ONE, ONE_OTHER, RANK, RANK_OTHERS = 1, 2, 3, 4


@dataclass
class Events:
    """`M` events sorted by time; ids are dense from zero, times are int64 ticks."""

    name: str
    src: np.ndarray  # [M] int64
    dst: np.ndarray  # [M] int64
    time: np.ndarray  # [M] int64
    features: np.ndarray  # [M, E] float32; E may be 0

    def __len__(self):
        return len(self.src)

    @property
    def nodes(self):
        return int(max(self.src.max(), self.dst.max())) + 1

    def destinations(self):
        """Every node that is ever a destination, ascending: what negatives are drawn from."""
        return np.unique(self.dst)

    def split(self, validation=0.15, test=0.15):
        """First events of validation and of test, by PyG's rule: quantiles of the times, equal times kept together."""
        cuts = np.quantile(self.time, [1.0 - validation - test, 1.0 - test])
        return tuple(int((self.time <= cut).sum()) for cut in cuts)


def read_events(folder, edge_features="real"):
    """Reads a folder; `edge_features` is `real`, `none` (width 0) or `zeros:WIDTH`."""
    folder = Path(folder)
    table = pd.read_csv(folder / "edges.csv", usecols=["src", "dst", "ts"])
    time = table["ts"].to_numpy()
    ticks = time.astype(np.int64)
    if not np.array_equal(ticks, time):
        raise SystemExit(f"{folder}/edges.csv: fractional times; PyG's TGN wants integers")
    if np.any(np.diff(ticks) < 0):
        raise SystemExit(f"{folder}/edges.csv: times are not sorted")
    return Events(
        name=folder.resolve().name,
        src=table["src"].to_numpy(np.int64),
        dst=table["dst"].to_numpy(np.int64),
        time=ticks,
        features=_features(folder, edge_features, len(table)),
    )


def _features(folder, choice, events):
    if choice == "none":
        return np.zeros((events, 0), np.float32)
    if choice.startswith("zeros:"):
        return np.zeros((events, int(choice.removeprefix("zeros:"))), np.float32)
    if choice != "real":
        raise SystemExit(f"edge features `{choice}`: expected real, none or zeros:WIDTH")
    features = np.load(folder / "edge_feat.npy").astype(np.float32)
    if len(features) != events:
        raise SystemExit(f"{folder}/edge_feat.npy has {len(features)} rows for {events} events")
    return features


def uniform(seed, purpose, events, columns):
    """[events, columns] uint64 that depend on the seed, the purpose, the event id and the column only (splitmix64)."""
    with np.errstate(over="ignore"):
        key = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(purpose) * np.uint64(0xA0761D6478BD642F)
        counter = np.asarray(events, np.uint64)[:, None] * np.uint64(1 << 12) + np.arange(columns, dtype=np.uint64)
        x = _mix(key) ^ (counter * np.uint64(0x9E3779B97F4A7C15))
        return _mix(_mix(x))


def _mix(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw(seed, purpose, events, columns, candidates):
    """Uniform draws from the candidates, the true destination allowed; [events, columns]."""
    picks = uniform(seed, purpose, events, columns) % np.uint64(len(candidates))
    return candidates[picks.astype(np.int64)]


def draw_others(seed, purpose, events, columns, candidates, truth):
    """Uniform draws from the candidates other than `truth` (one per event, itself a candidate)."""
    picks = (uniform(seed, purpose, events, columns) % np.uint64(len(candidates) - 1)).astype(np.int64)
    place = np.searchsorted(candidates, truth)[:, None]
    return candidates[picks + (picks >= place)]


def evaluation_draws(ids, truth, candidates, rank):
    """What each event of `ids` is judged against, in columns, and the columns of each part.

    `one` and `rank` are drawn from all destinations, as in PyG's example, so now and then they are the true one;
    `one_other` and `rank_others` leave the true one out. `rank` is how many negatives an event is ranked among; may be 0.
    """
    every = {"one": draw(EVALUATION_SEED, ONE, ids, 1, candidates), "rank": draw(EVALUATION_SEED, RANK, ids, rank, candidates)}
    others = {
        "one_other": draw_others(EVALUATION_SEED, ONE_OTHER, ids, 1, candidates, truth),
        "rank_others": draw_others(EVALUATION_SEED, RANK_OTHERS, ids, rank, candidates, truth),
    }
    parts = {"truth": truth[:, None]} | every | others
    ends = np.cumsum([part.shape[1] for part in parts.values()])
    columns = {name: slice(end - part.shape[1], end) for (name, part), end in zip(parts.items(), ends.tolist())}
    return np.concatenate(list(parts.values()), 1), columns
