"""The log and the weights of the forward goldens."""

import numpy as np
import torch

NODES, BATCH, STEPS, FEATURES = 12, 8, 10, 3


def make_log(seed=7):
    """src, dst, negative, time [M] int64 and features [M, E] f32.

    The first event is at time 0. No equal times, no self-loops. Node 11 has no event and is only asked about, as a negative. About 40 % repeat an earlier pair.
    Nodes are sources and destinations alike, but one that is both in a batch is a destination last: then the latest row of a node is the last of [sources | destinations].
    """
    rng = np.random.default_rng(seed)
    src, dst = [], []
    while len(src) < BATCH * STEPS:
        if len(src) % BATCH == 0:
            was_dst = set()
        repeat = src and rng.random() < 0.4
        at = rng.integers(len(src)) if repeat else 0
        u, v = (src[at], dst[at]) if repeat else rng.choice(NODES - 1, 2, replace=False).tolist()
        if u in was_dst:
            continue
        was_dst.add(v)
        src.append(u)
        dst.append(v)
    src, dst = np.array(src), np.array(dst)
    negative = rng.choice(np.append(np.unique(dst), NODES - 1), len(src))
    time = np.cumsum(rng.integers(1, 4, len(src)))
    features = rng.standard_normal((len(src), FEATURES)).astype(np.float32)
    assert (negative == NODES - 1).any() and (src != dst).all()
    return {"src": src, "dst": dst, "negative": negative, "time": time - time[0], "features": features}


@torch.no_grad()
def randomise(model, seed=3, spread=0.3):
    """Moves every weight off its default, so that zero biases, unit norms and orders of columns are all seen.

    Frequencies are 0.1 at most: angles then stay below 16 and cosines exact to 1e-6 in f32. Recurrent weights move less, or rounding would grow from step to step.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(dict(model.named_parameters()).items()):
        if "memory_bank" in name:
            continue
        if name.endswith(("time_encoder.w.weight", "time_enc.w.weight")):
            weight.copy_(0.1 * torch.rand(weight.shape, generator=generator))
        else:
            scale = 0.1 if "memory_updater.memory_updater" in name else spread
            weight.add_(scale * torch.randn(weight.shape, generator=generator))
