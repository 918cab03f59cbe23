"""Writes the golden numbers of APAN: ten forward steps of TGL's model on fixed weights, memory and mailboxes carried on.

    pip install "torch==2.2.2" "dgl==1.1.3" "numpy<2" torch_scatter safetensors pyyaml pandas
    python make_apan.py TGL                     # writes apan_mean.safetensors and apan_last.safetensors here

TGL is a checkout of github.com/amazon-science/tgl at commit 241b336b7e54186f71273d8f2e0d0f08ca52389e. Its sampler is not used and
need not be built: it shows a root fewer than the last K events. README.md lists the tensors and says what is computed.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from forward_log import BATCH, FEATURES, NODES, STEPS, make_log, randomise

WIDTH, TIME_WIDTH, HEADS, NEIGHBOURS, SLOTS = 8, 6, 2, 4, 3
HERE = Path(__file__).resolve().parent


class Sampled:
    """The last `NEIGHBOURS` events strictly before each root's time, newest first, in the form TGL's `to_dgl_blocks` reads."""

    def __init__(self, log, roots, times):
        row, col, eid, ts, dts = [], [], [], list(times), [0.0] * len(roots)
        nodes = list(roots)
        for i, (node, at) in enumerate(zip(roots, times)):
            mine = np.flatnonzero(((log["src"] == node) | (log["dst"] == node)) & (log["time"] < at))[-NEIGHBOURS:]
            for event in mine[::-1]:
                row.append(i)
                col.append(len(nodes))
                eid.append(event)
                ts.append(log["time"][event])
                dts.append(at - log["time"][event])
                nodes.append(log["dst"][event] if log["src"][event] == node else log["src"][event])
        ints = lambda values: np.array(values, np.int32)
        self.parts = dict(row=ints(row), col=ints(col), eid=ints(eid), nodes=ints(nodes), ts=np.array(ts, np.float32), dts=np.array(dts, np.float32),
                          dim_in=len(nodes), dim_out=len(roots))

    def __getattr__(self, name):
        return lambda: self.parts[name]


@torch.no_grad()
def ten_steps(combine):
    from memorys import MailBox
    from modules import GeneralModel
    from utils import node_to_dgl_blocks, prepare_input, to_dgl_blocks

    log = make_log()
    torch.manual_seed(11)
    sample = {"layer": 1, "neighbor": [NEIGHBOURS], "strategy": "recent", "prop_time": False, "history": 1, "duration": 0, "no_neg": True}
    memory = {"type": "node", "dim_time": TIME_WIDTH, "deliver_to": "neighbors", "mail_combine": combine, "memory_update": "transformer",
              "attention_head": HEADS, "mailbox_size": SLOTS, "combine_node_feature": False, "dim_out": WIDTH}
    model = GeneralModel(0, FEATURES, sample, memory, {"arch": "identity"}, {"dropout": 0.0, "att_dropout": 0.0})
    randomise(model, spread=0.7)
    model.eval()
    embeddings = []
    model.layers["l0h0"].register_forward_hook(lambda module, given, made: embeddings.append(made))
    box = MailBox(memory, NODES, FEATURES)
    features = torch.from_numpy(log["features"])
    out = {f"weight.{key}": p.clone() for key, p in model.named_parameters()}
    out |= {f"setting.{key}": torch.tensor(value) for key, value in
            dict(nodes=NODES, batch=BATCH, steps=STEPS, neighbours=NEIGHBOURS, heads=HEADS, slots=SLOTS, width=WIDTH, time=TIME_WIDTH).items()}
    out |= {f"log.{key}": torch.from_numpy(value) for key, value in log.items()}
    for s in range(STEPS):
        of = slice(s * BATCH, (s + 1) * BATCH)
        roots = np.concatenate([log["src"][of], log["dst"][of], log["negative"][of]]).astype(np.int32)
        times = np.tile(log["time"][of], 3).astype(np.float32)
        sampled = [Sampled(log, roots[: 2 * BATCH], times[: 2 * BATCH])]
        blocks = prepare_input(node_to_dgl_blocks(roots, times, cuda=False), None, features)
        box.prep_input_mails(blocks[0])
        positive, negative = model(blocks)
        updater = model.memory_updater
        block = to_dgl_blocks(sampled, 1, reverse=True, cuda=False)[0][0]
        box.update_mailbox(updater.last_updated_nid, updater.last_updated_memory, roots, times, features[of], block)
        box.update_memory(updater.last_updated_nid, updater.last_updated_memory, roots, updater.last_updated_ts)
        z = embeddings.pop()
        step = {
            "positive": positive.squeeze(-1), "negative": negative.squeeze(-1),
            "scored.src": z[:BATCH], "scored.dst": z[BATCH : 2 * BATCH], "scored.negative": z[2 * BATCH :],
            "after.memory": box.node_memory, "after.last_update": box.node_memory_ts,
            "after.mailbox": box.mailbox, "after.mailbox_time": box.mailbox_ts, "after.next_slot": box.next_mail_pos,
        }
        out |= {f"step{s}.{key}": value.clone() for key, value in step.items()}
    return {key: value.contiguous() for key, value in out.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # TGL moves tensors to a GPU wherever it is; here they stay
    sys.path.insert(0, sys.argv[1])
    for combine in ("mean", "last"):
        tensors, path = ten_steps(combine), HERE / f"apan_{combine}.safetensors"
        save_file(tensors, path)
        scores = torch.cat([tensors[f"step{s}.{kind}"] for s in range(STEPS) for kind in ("positive", "negative")])
        print(f"apan_{combine}: {len(tensors)} tensors, {path.stat().st_size} bytes, scores {scores.min():.3f} to {scores.max():.3f}, std {scores.std():.3f}")
