"""Writes the golden numbers of JODIE, DyRep and TGAT: ten forward steps of DyGLib's models on fixed weights, memory carried on.

    pip install torch numpy pandas safetensors
    python make_jodie_dyrep_tgat.py DYGLIB      # writes jodie, dyrep, tgat_1 and tgat_2 .safetensors here

DYGLIB is a checkout of github.com/yule-BUAA/DyGLib at commit 3aacc36b94b8d2d8293d70a74fdf6d39089b4163. README.md lists the tensors and says what is computed.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from forward_log import BATCH, FEATURES, NODES, STEPS, make_log, randomise

WIDTH, TIME_WIDTH, HEADS, NEIGHBOURS = 8, 6, 2, 4
HERE = Path(__file__).resolve().parent


def number(value):
    return torch.tensor(float(value), dtype=torch.float32)


def built(name, layers, log):
    """DyGLib's model and decoder, its neighbour sampler over the log, ids from 1 as it wants them."""
    from models.MemoryModel import MemoryModel, compute_src_dst_node_time_shifts
    from models.modules import MergeLayer
    from models.TGAT import TGAT
    from utils.utils import NeighborSampler

    src, dst, time, features = log["src"] + 1, log["dst"] + 1, log["time"].astype(np.float64), log["features"]
    ids = np.arange(1, len(src) + 1)
    # Not `get_neighbor_sampler`: that has no place for node 11, which has no event.
    events_of = [[] for _ in range(NODES + 1)]
    for u, v, e, t in zip(src, dst, ids, time):
        events_of[u].append((v, e, t))
        events_of[v].append((u, e, t))
    sampler = NeighborSampler(events_of, "recent")
    common = dict(
        node_raw_features=np.zeros((NODES + 1, WIDTH)), edge_raw_features=np.concatenate([np.zeros((1, FEATURES)), features]),
        neighbor_sampler=sampler, time_feat_dim=TIME_WIDTH, num_layers=layers, num_heads=HEADS, dropout=0.0, device="cpu",
    )
    shifts = compute_src_dst_node_time_shifts(src, dst, time)
    if name == "tgat":
        backbone = TGAT(**common)
    else:
        mean_std = dict(zip(["src_node_mean_time_shift", "src_node_std_time_shift", "dst_node_mean_time_shift_dst", "dst_node_std_time_shift"], shifts))
        backbone = MemoryModel(model_name={"jodie": "JODIE", "dyrep": "DyRep"}[name], **common, **mean_std)
    return torch.nn.Sequential(backbone, MergeLayer(WIDTH, WIDTH, WIDTH, 1)), sampler, shifts


@torch.no_grad()
def ten_steps(name, layers):
    log = make_log()
    torch.manual_seed(11)
    model, sampler, shifts = built(name, layers, log)
    randomise(model)
    model.eval()
    memory = name != "tgat"
    out = {f"weight.{key}": p.clone() for key, p in model.named_parameters() if "memory_bank" not in key}
    out |= {f"setting.{key}": torch.tensor(value) for key, value in
            dict(nodes=NODES, batch=BATCH, steps=STEPS, neighbours=NEIGHBOURS, heads=HEADS, layers=layers, width=WIDTH, time=TIME_WIDTH).items()}
    out |= {f"log.{key}": torch.from_numpy(value) for key, value in log.items()}
    if name == "jodie":
        out |= {f"setting.{key}": number(value) for key, value in zip(["src_mean", "src_std", "dst_mean", "dst_std"], shifts)}
    call = model[0].compute_src_dst_node_temporal_embeddings
    for s in range(STEPS):
        of = slice(s * BATCH, (s + 1) * BATCH)
        u, v, w, t, e = log["src"][of] + 1, log["dst"][of] + 1, log["negative"][of] + 1, log["time"][of].astype(np.float64), np.arange(of.start, of.stop) + 1
        if memory:
            negative = call(u, w, t, None, edges_are_positive=False, num_neighbors=NEIGHBOURS)
            positive = call(u, v, t, e, edges_are_positive=True, num_neighbors=NEIGHBOURS)
        else:
            negative, positive = call(u, w, t, num_neighbors=NEIGHBOURS), call(u, v, t, num_neighbors=NEIGHBOURS)
        step = {
            "positive": model[1](*positive).squeeze(-1), "negative": model[1](*negative).squeeze(-1),
            "scored.src": positive[0], "scored.dst": positive[1], "scored.negative": negative[1],
        }
        if memory:
            bank = model[0].memory_bank
            step["after.memory"] = bank.node_memories.data[1:].clone()
            step["after.last_update"] = bank.node_last_updated_times.data[1:].clone()
            # The mail that waits now, by node: nothing where `mail.waits` is 0.
            mails = {n: bank.node_raw_messages[n][-1] for n in range(1, NODES + 1) if bank.node_raw_messages.get(n)}
            step["after.mail"] = torch.stack([mails[n][0] if n in mails else torch.zeros(model[0].message_dim) for n in range(1, NODES + 1)])
            step["after.mail_waits"] = torch.tensor([n in mails for n in range(1, NODES + 1)]).to(torch.int64)
        if name != "jodie":
            # Who has no neighbour at all: there DyGLib attends to padding.
            alone = lambda nodes: torch.tensor([len(sampler.find_neighbors_before(n, at)[0]) == 0 for n, at in zip(nodes, t)]).to(torch.int64)
            step |= {"alone.src": alone(u), "alone.dst": alone(v), "alone.negative": alone(w)}
        out |= {f"step{s}.{key}": value.clone() for key, value in step.items()}
    return {key: value.contiguous() for key, value in out.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.path.insert(0, sys.argv[1])
    for name, layers, file in [("jodie", 1, "jodie"), ("dyrep", 1, "dyrep"), ("tgat", 1, "tgat_1"), ("tgat", 2, "tgat_2")]:
        tensors = ten_steps(name, layers)
        save_file(tensors, HERE / f"{file}.safetensors")
        scores = torch.cat([tensors[f"step{s}.{kind}"] for s in range(STEPS) for kind in ("positive", "negative")])
        print(f"{file}: {len(tensors)} tensors, {(HERE / f'{file}.safetensors').stat().st_size} bytes, scores {scores.min():.3f} to {scores.max():.3f}, std {scores.std():.3f}")
