"""Writes the golden numbers: ten training steps of PyG's TGN, and one layer of the TGN paper's attention.

    pip install torch torch_geometric safetensors numpy pandas scikit-learn
    python make_golden.py            # writes tgn_ten_steps.safetensors and paper_attention.safetensors here

README.md lists the tensors and says exactly what is computed.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch_geometric
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "experiments" / "peers"))

from paper_attention import make as make_paper_attention  # noqa: E402
from plain_tgn import PlainTgn  # noqa: E402
from pyg_model import LatestMessage, Tgn  # noqa: E402

NODES, EVENTS, BATCH, FEATURES = 30, 200, 20, 5
WIDTH, TIME_WIDTH, HEADS, NEIGHBOURS = 8, 8, 2, 4


def make_log(seed=7):
    """src, dst, negative, time [M] int64 and features [M, E] f32; see README.md for what it avoids and why."""
    rng = np.random.default_rng(seed)
    pairs, busy = [], {}
    while len(pairs) < EVENTS:
        if len(pairs) % BATCH == 0:
            busy = {}
        repeat = pairs and rng.random() < 0.4
        src, dst = pairs[rng.integers(len(pairs))] if repeat else rng.choice(NODES - 1, 2, replace=False).tolist()
        if max(busy.get(src, 0), busy.get(dst, 0)) == NEIGHBOURS:
            continue
        busy[src], busy[dst] = busy.get(src, 0) + 1, busy.get(dst, 0) + 1
        pairs.append((src, dst))
    src, dst = np.array(pairs).T
    # Node 29 has no events: it is only ever asked about, as a negative, so that a node without history is covered.
    negative = rng.choice(np.append(np.unique(dst), NODES - 1), EVENTS)
    time = 5 + np.cumsum(rng.integers(1, 4, EVENTS))
    features = rng.standard_normal((EVENTS, FEATURES)).astype(np.float32)
    assert (negative == NODES - 1).any()
    return [torch.from_numpy(part) for part in (src, dst, negative, time, features)]


def parameters(model):
    """Every parameter once, under the first of its names (`gnn.time_enc` is `memory.time_enc`)."""
    return dict(model.named_parameters())


def ten_steps(log, weights, dtype):
    """Runs PyG; returns tensors by name."""
    src, dst, negative, time, features = log
    features = features.to(dtype)
    model = Tgn(NODES, time, features, WIDTH, TIME_WIDTH, NEIGHBOURS, HEADS, dropout=0.0, aggregator=LatestMessage()).to(dtype)
    model.load_state_dict(weights, strict=False)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    out = {}
    model.train()
    model.reset()
    for s in range(EVENTS // BATCH):
        batch = slice(s * BATCH, (s + 1) * BATCH)
        step = {f"weight.{name}": w.clone() for name, w in parameters(model).items()}
        optimiser.zero_grad()
        asked = torch.cat([src[batch], dst[batch], negative[batch]]).unique()
        nodes, edges, events = model.gather(asked)
        memory, last_update = model.memory(nodes)
        embedding = model.embed(memory, last_update, edges, events)
        place = model.place
        positive = model.link_pred(embedding[place[src[batch]]], embedding[place[dst[batch]]])
        other = model.link_pred(embedding[place[src[batch]]], embedding[place[negative[batch]]])
        loss = criterion(positive, torch.ones_like(positive)) + criterion(other, torch.zeros_like(other))
        model.memory.update_state(src[batch], dst[batch], time[batch], features[batch])
        model.neighbours.insert(src[batch], dst[batch])
        loss.backward()
        step |= {"loss": loss, "positive": positive[:, 0], "negative": other[:, 0]}
        step |= {"nodes": nodes, "read.memory": memory, "read.last_update": last_update}
        step |= {"asked": asked, "embedding": embedding[place[asked]]}
        step |= {"edge.node": nodes[edges[1]], "edge.neighbour": nodes[edges[0]], "edge.event": events}
        step |= {f"grad.{n}": w.grad for n, w in parameters(model).items()}
        optimiser.step()
        model.memory.detach()
        step |= {"after.memory": model.memory.memory, "after.last_update": model.memory.last_update}
        out |= {f"step{s}.{name}": value.detach().clone() for name, value in step.items()}
    out |= {f"final.weight.{name}": w.detach().clone() for name, w in parameters(model).items()}
    # What a reader sees now: the last batch is still pending mail, applied here to every node.
    memory, last_update = model.memory(torch.arange(NODES))
    out |= {"final.memory": model.memory.memory.clone(), "final.last_update": model.memory.last_update.clone()}
    out |= {"final.read.memory": memory.detach().clone(), "final.read.last_update": last_update}
    return out


def check_against_plain(log, weights, golden):
    """The README's semantics, written in plain torch, must give PyG's numbers (both in f64)."""
    log = log[:4] + [log[4].double()]
    plain = PlainTgn({n: w.double() for n, w in weights.items()}, NODES, log, BATCH, NEIGHBOURS, HEADS)
    for s in range(EVENTS // BATCH):
        lists = {int(n): plain.recent(int(n)) for n in golden[f"step{s}.asked"]}
        theirs = zip(*(golden[f"step{s}.edge.{part}"].tolist() for part in ("node", "neighbour", "event")))
        assert {(n, *pair) for n, pairs in lists.items() for pair in pairs} == set(theirs), f"step {s}: neighbours differ"
        for name, value in zip(("loss", "positive", "negative"), plain.step()):
            near(f"step{s}.{name}", value, golden)
        for name, w in plain.weights.items():
            near(f"step{s}.grad.{name}", w.grad, golden)
        near(f"step{s}.after.memory", plain.memory, golden)
        assert torch.equal(plain.last_update, golden[f"step{s}.after.last_update"])
    for name, w in plain.weights.items():
        if name != "gnn.conv.lin_key.bias":  # its gradient is rounding noise around zero, which Adam turns into steps
            near(f"final.weight.{name}", w.detach(), golden)


def near(name, value, golden, tolerance=1e-9):
    difference = (value - golden[name]).abs().max().item()
    assert difference < tolerance, f"{name}: plain torch and PyG differ by {difference}"


def tolerances(single, double):
    """Per kind of tensor (all steps together): ten times PyG's own f32 error, plus a millionth of the largest value."""
    error, scale = {}, {}
    for name, value in single.items():
        if value.is_floating_point():
            kind = name.split(".", 1)[1] if name.startswith("step") else name
            error[kind] = max(error.get(kind, 0.0), (value.double() - double[name]).abs().max().item())
            scale[kind] = max(scale.get(kind, 0.0), value.abs().max().item())
    return {f"tolerance.{kind}": torch.tensor(10 * error[kind] + 1e-6 * scale[kind]) for kind in error}


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    log = make_log()
    model = Tgn(NODES, log[3], log[4], WIDTH, TIME_WIDTH, NEIGHBOURS, HEADS, dropout=0.0, aggregator=LatestMessage())
    weights = {name: w.detach().clone() for name, w in parameters(model).items()}
    single, double = ten_steps(log, weights, torch.float32), ten_steps(log, weights, torch.float64)
    check_against_plain(log, weights, double)
    tensors = {f"log.{name}": part for name, part in zip(("src", "dst", "negative", "time", "features"), log)}
    settings = {"nodes": NODES, "batch": BATCH, "neighbours": NEIGHBOURS, "heads": HEADS}
    tensors |= {f"setting.{name}": torch.tensor(value) for name, value in settings.items()}
    save(HERE / "tgn_ten_steps.safetensors", tensors | single | tolerances(single, double))
    save(HERE / "paper_attention.safetensors", make_paper_attention())


def save(path, tensors):
    # One entry only: the order of several differs from run to run, and the file is to be the same byte for byte.
    made_with = {"made_with": f"torch {torch.__version__}, torch_geometric {torch_geometric.__version__}"}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, made_with)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")
    for name, value in tensors.items():
        if name.startswith("tolerance."):
            print(f"  {name}: {value:.1e}")


if __name__ == "__main__":
    main()
