"""One training step of PyG's TGN written out in plain torch: the semantics of README.md as code, with none of PyG's.

`make_golden.py` runs it beside PyG and refuses to write anything if the two differ.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce


class PlainTgn:
    """State: `weights` (name -> tensor), `memory` [N, D], `last_update` [N], the log so far and each node's pending mail."""

    def __init__(self, weights, nodes, log, batch, neighbours, heads):
        self.weights = {name: w.clone().requires_grad_() for name, w in weights.items()}
        width = weights["memory.gru.weight_hh"].shape[1]
        self.memory = torch.zeros(nodes, width, dtype=weights["memory.gru.weight_hh"].dtype)
        self.last_update = torch.zeros(nodes, dtype=torch.long)
        self.log, self.batch, self.neighbours, self.heads = log, batch, neighbours, heads
        self.mail = {}  # node -> its latest event in any batch observed so far
        self.observed = 0
        self.optimiser = torch.optim.Adam(self.weights.values(), lr=1e-3)

    def step(self):
        src, dst, negative, _ = (part[self.observed : self.observed + self.batch] for part in self.log[:4])
        self.optimiser.zero_grad()
        z = {n: self.embed(n) for n in set(torch.cat([src, dst, negative]).tolist())}
        rows = [torch.stack([z[n] for n in ids.tolist()]) for ids in (src, dst, negative)]
        positive, other = self.decode(rows[0], rows[1]), self.decode(rows[0], rows[2])
        loss = bce(positive, torch.ones_like(positive)) + bce(other, torch.zeros_like(other))
        self.observe(src.tolist(), dst.tolist())  # before the optimiser step: the weights are still the old ones
        loss.backward()
        for w in self.weights.values():  # a weight that was not used has a gradient of zero, and Adam counts the step
            w.grad = torch.zeros_like(w) if w.grad is None else w.grad
        self.optimiser.step()
        return loss.detach(), positive.detach(), other.detach()

    def observe(self, src, dst):
        touched = sorted(set(src + dst))
        kept = [self.read(n) for n in touched]  # all read before any is written
        self.memory, self.last_update = self.memory.clone(), self.last_update.clone()  # the loss still needs the old ones
        for n, (memory, last_update) in zip(touched, kept):
            self.memory[n], self.last_update[n] = memory.detach(), last_update
        for offset, pair in enumerate(zip(src, dst)):
            for n in pair:
                self.mail[n] = self.observed + offset
        self.observed += len(src)

    def read(self, n):
        """Memory and last update of a node with its pending mail applied; changes nothing. No mail: a message of zeros."""
        w, event = self.weights, self.mail.get(n)
        width = w["memory.gru.weight_ih"].shape[1]
        if event is None:
            message, last_update = self.memory.new_zeros(width), torch.tensor(0)
        else:
            src, dst, _, time, features = (part[event] for part in self.log)
            other = dst if n == int(src) else src
            since = self.phi(time - self.last_update[n])
            message, last_update = torch.cat([self.memory[n], self.memory[other], features, since]), time
        return self.gru(message, self.memory[n]), last_update

    def gru(self, x, h):
        w = self.weights
        a = w["memory.gru.weight_ih"] @ x + w["memory.gru.bias_ih"]
        b = w["memory.gru.weight_hh"] @ h + w["memory.gru.bias_hh"]
        (ar, az, an), (br, bz, bn) = a.chunk(3), b.chunk(3)
        r, z = (ar + br).sigmoid(), (az + bz).sigmoid()
        return (1 - z) * (an + r * bn).tanh() + z * h

    def phi(self, delta):
        w = self.weights
        return (w["memory.time_enc.lin.weight"][:, 0] * delta.to(self.memory.dtype) + w["memory.time_enc.lin.bias"]).cos()

    def recent(self, n):
        """The node's last K events before this batch, either direction: (other end, event id), a repeated pair repeated."""
        found = []
        for event in reversed(range(self.observed)):
            src, dst = int(self.log[0][event]), int(self.log[1][event])
            if n in (src, dst):
                found.append((dst if n == src else src, event))
        return found[: self.neighbours]

    def embed(self, n):
        h, _ = self.read(n)
        skip = self.lin("gnn.conv.lin_skip", h)
        recent = self.recent(n)
        if not recent:
            return skip
        others, last_updates = zip(*(self.read(other) for other, _ in recent))
        events = torch.tensor([event for _, event in recent])
        relative = torch.stack(last_updates) - self.log[3][events]  # the neighbour's last update, not this batch's time
        edges = torch.cat([torch.stack([self.phi(d) for d in relative]), self.log[4][events]], dim=1)
        edges = edges @ self.weights["gnn.conv.lin_edge.weight"].T
        others = torch.stack(others)
        key, value = self.lin("gnn.conv.lin_key", others) + edges, self.lin("gnn.conv.lin_value", others) + edges
        query = self.lin("gnn.conv.lin_query", h)
        key, value, query = (x.view(-1, self.heads, x.shape[-1] // self.heads) for x in (key, value, query))
        attention = ((query * key).sum(-1) / query.shape[-1] ** 0.5).softmax(0)
        return (attention[:, :, None] * value).sum(0).flatten() + skip

    def lin(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def decode(self, src, dst):
        hidden = (self.lin("link_pred.lin_src", src) + self.lin("link_pred.lin_dst", dst)).relu()
        return self.lin("link_pred.lin_final", hidden)[:, 0]
