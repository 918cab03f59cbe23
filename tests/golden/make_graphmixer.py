"""Writes the golden numbers of GraphMixer: ten forward steps of DyGLib's model on fixed weights.

    pip install torch numpy pandas safetensors
    python make_graphmixer.py DYGLIB      # writes graphmixer.safetensors here

DYGLIB is a checkout of github.com/yule-BUAA/DyGLib at commit 3aacc36b94b8d2d8293d70a74fdf6d39089b4163. README.md lists the tensors and says what is computed.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from forward_log import BATCH, FEATURES, NODES, STEPS, make_log, randomise

WIDTH, TIME_WIDTH, LAYERS, NEIGHBOURS, WINDOW = 8, 6, 2, 6, 9
HERE = Path(__file__).resolve().parent


@torch.no_grad()
def ten_steps():
    from models.GraphMixer import GraphMixer
    from models.modules import MergeLayer
    from utils.utils import NeighborSampler

    log = make_log()
    src, dst, time = log["src"] + 1, log["dst"] + 1, log["time"].astype(np.float64)
    # Not `get_neighbor_sampler`: that has no place for node 11, which has no event.
    events_of = [[] for _ in range(NODES + 1)]
    for u, v, e, t in zip(src, dst, np.arange(1, len(src) + 1), time):
        events_of[u].append((v, e, t))
        events_of[v].append((u, e, t))
    sampler = NeighborSampler(events_of, "recent")
    nodes = np.random.default_rng(5).standard_normal((NODES, WIDTH)).astype(np.float32)
    torch.manual_seed(11)
    backbone = GraphMixer(
        node_raw_features=np.concatenate([np.zeros((1, WIDTH), np.float32), nodes]),
        edge_raw_features=np.concatenate([np.zeros((1, FEATURES), np.float32), log["features"]]),
        neighbor_sampler=sampler, time_feat_dim=TIME_WIDTH, num_tokens=NEIGHBOURS, num_layers=LAYERS, dropout=0.0, device="cpu",
    )
    model = torch.nn.Sequential(backbone, MergeLayer(WIDTH, WIDTH, WIDTH, 1))
    # The time encoding is not trained: its numbers stay those it is made with.
    fixed = {name: p.clone() for name, p in model.named_parameters() if "time_encoder" in name}
    randomise(model)
    for name, p in model.named_parameters():
        p.copy_(fixed.get(name, p))
    model.eval()
    out = {f"weight.{name}": p.clone() for name, p in model.named_parameters()}
    out |= {f"setting.{key}": torch.tensor(value) for key, value in
            dict(nodes=NODES, batch=BATCH, steps=STEPS, neighbours=NEIGHBOURS, window=WINDOW, layers=LAYERS, width=WIDTH, time=TIME_WIDTH).items()}
    out |= {f"log.{key}": torch.from_numpy(value) for key, value in log.items()}
    out["node.features"] = torch.from_numpy(nodes)
    call = model[0].compute_src_dst_node_temporal_embeddings
    seen = []
    for s in range(STEPS):
        of = slice(s * BATCH, (s + 1) * BATCH)
        u, v, w, t = src[of], dst[of], log["negative"][of] + 1, time[of]
        negative = call(u, w, t, num_neighbors=NEIGHBOURS, time_gap=WINDOW)
        positive = call(u, v, t, num_neighbors=NEIGHBOURS, time_gap=WINDOW)
        count = lambda ids: torch.tensor([len(sampler.find_neighbors_before(n, at)[0]) for n, at in zip(ids, t)])
        seen.append(torch.cat([count(u), count(v), count(w)]))
        step = {
            "positive": model[1](*positive).squeeze(-1), "negative": model[1](*negative).squeeze(-1),
            "scored.src": positive[0], "scored.dst": positive[1], "scored.negative": negative[1],
        }
        out |= {f"step{s}.{key}": value.clone() for key, value in step.items()}
    # Nodes without events, fewer than there are tokens, more than tokens, more than the window.
    seen = torch.cat(seen)
    assert (seen == 0).any() and ((seen > 0) & (seen < NEIGHBOURS)).any() and ((seen > NEIGHBOURS) & (seen < WINDOW)).any() and (seen > WINDOW).any()
    return {key: value.contiguous() for key, value in out.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.path.insert(0, sys.argv[1])
    tensors = ten_steps()
    save_file(tensors, HERE / "graphmixer.safetensors")
    scores = torch.cat([tensors[f"step{s}.{kind}"] for s in range(STEPS) for kind in ("positive", "negative")])
    size = (HERE / "graphmixer.safetensors").stat().st_size
    print(f"graphmixer: {len(tensors)} tensors, {size} bytes, scores {scores.min():.3f} to {scores.max():.3f}, std {scores.std():.3f}")
    print({key: tuple(value.shape) for key, value in tensors.items() if key.startswith("weight.")})
