"""JODIE, DyRep, TGAT, GraphMixer and APAN in plain torch, from README.md alone: checks the golden files, in f64 and in f32.

    python plain_forward.py

Nothing here is fast. A row is one (node, time).
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent


def linear(w, name, x, bias=True):
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if bias else y


def norm(w, name, x):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def merge(w, name, a, b):
    return linear(w, f"{name}.fc2", torch.relu(linear(w, f"{name}.fc1", torch.cat([a, b]))))


class Past:
    """The log's events, and who met whom strictly before a time."""

    def __init__(self, file, dtype):
        self.src, self.dst, self.time, self.negative = (file[f"log.{k}"].tolist() for k in ("src", "dst", "time", "negative"))
        self.features = file["log.features"].to(dtype)

    def neighbours(self, node, at, k):
        """(neighbour, event) of the last `k`, oldest first."""
        found = [(self.dst[e] if self.src[e] == node else self.src[e], e) for e in range(len(self.src)) if node in (self.src[e], self.dst[e]) and self.time[e] < at]
        return found[-k:]


class Model:
    def __init__(self, file, dtype):
        self.w = {k.removeprefix("weight."): v.to(dtype) for k, v in file.items() if k.startswith("weight.")}
        self.setting = {k.removeprefix("setting."): v.item() for k, v in file.items() if k.startswith("setting.")}
        self.past, self.dtype = Past(file, dtype), dtype
        self.nodes, self.width = self.setting["nodes"], self.setting["width"]

    def zeros(self, *shape):
        return torch.zeros(*shape, dtype=self.dtype)

    def phi(self, dt, name="0.time_encoder"):
        return torch.cos(self.w[f"{name}.w.weight"][:, 0] * torch.tensor(float(dt), dtype=self.dtype) + self.w[f"{name}.w.bias"])

    def attention(self, layer, at, own, neighbours):
        """DyGLib's layer for one row: `neighbours` are (row, edge features, event time)."""
        w, h = self.w, self.setting["heads"]
        query = torch.cat([own, self.phi(0)])
        seen = torch.stack([torch.cat([row, e, self.phi(at - t)]) for row, e, t in neighbours])
        q = linear(w, f"{layer}.query_projection", query, bias=False).reshape(h, -1)
        k = linear(w, f"{layer}.key_projection", seen, bias=False).reshape(len(seen), h, -1)
        v = linear(w, f"{layer}.value_projection", seen, bias=False).reshape(len(seen), h, -1)
        a = ((q * k).sum(-1) / q.shape[-1] ** 0.5).softmax(0)
        mixed = (a.unsqueeze(-1) * v).sum(0).reshape(-1)
        return norm(w, f"{layer}.layer_norm", linear(w, f"{layer}.residual_fc", mixed) + query)

    def embed(self, prefix, base, node, at, layer):
        """`base` gives layer 0; node None is padding, a neighbour with zero features at time 0."""
        raw = base(node)
        if layer == 0:
            return raw
        own = self.embed(prefix, base, node, at, layer - 1)
        found = [] if node is None else self.past.neighbours(node, at, self.setting["neighbours"])
        shown = [(self.embed(prefix, base, other, self.past.time[e], layer - 1), self.past.features[e], self.past.time[e]) for other, e in found]
        shown = shown or [(self.embed(prefix, base, None, 0, layer - 1), torch.zeros_like(self.past.features[0]), 0)]
        return merge(self.w, f"{prefix}merge_layers.{layer - 1}", self.attention(f"{prefix}temporal_conv_layers.{layer - 1}", at, own, shown), raw)


class Tgat(Model):
    def step(self, events):
        row = lambda node, at: self.embed("0.", lambda node: self.zeros(self.width), node, at, self.setting["layers"])
        p = self.past
        z = [[row(end[e], p.time[e]) for e in events] for end in (p.src, p.dst, p.negative)]
        return self.scored(z)

    def scored(self, z):
        score = lambda other: torch.stack([merge(self.w, "1", u, v)[0] for u, v in zip(z[0], other)])
        return {"positive": score(z[1]), "negative": score(z[2]), **{f"scored.{k}": torch.stack(v) for k, v in zip(("src", "dst", "negative"), z)}}


class GraphMixer(Tgat):
    def __init__(self, file, dtype):
        super().__init__(file, dtype)
        self.x = file["node.features"].to(dtype)

    def feed(self, name, x):
        return linear(self.w, f"{name}.ffn.3", torch.nn.functional.gelu(linear(self.w, f"{name}.ffn.0", x)))

    def embed_row(self, node, at):
        k, window = self.setting["neighbours"], self.setting["window"]
        seen = [torch.cat([self.past.features[e], self.phi(at - self.past.time[e])]) for _, e in self.past.neighbours(node, at, k)]
        empty = [self.zeros(self.past.features.shape[1] + self.setting["time"])] * (k - len(seen))
        x = linear(self.w, "0.projection_layer", torch.stack(empty + seen))
        for layer in range(self.setting["layers"]):
            name = f"0.mlp_mixers.{layer}"
            x = x + self.feed(f"{name}.token_feedforward", norm(self.w, f"{name}.token_norm", x.T)).T
            x = x + self.feed(f"{name}.channel_feedforward", norm(self.w, f"{name}.channel_norm", x))
        met = [self.x[other] for other, _ in self.past.neighbours(node, at, window)]
        mean = torch.stack(met).mean(0) / window if met else self.zeros(self.width)
        return linear(self.w, "0.output_layer", torch.cat([x.mean(0), mean + self.x[node]]))

    def step(self, events):
        p = self.past
        return self.scored([[self.embed_row(end[e], p.time[e]) for e in events] for end in (p.src, p.dst, p.negative)])


class Mailed(Tgat):
    """JODIE and DyRep."""

    def __init__(self, file, dtype, kind):
        super().__init__(file, dtype)
        self.kind = kind
        self.memory, self.updated, self.mail = self.zeros(self.nodes, self.width), [0] * self.nodes, {}

    def read(self, node):
        if node not in self.mail:
            return self.memory[node], self.updated[node]
        w, name = self.w, "0.memory_updater.memory_updater"
        message, at = self.mail[node]
        x = message @ w[f"{name}.weight_ih"].T + w[f"{name}.bias_ih"] + self.memory[node] @ w[f"{name}.weight_hh"].T + w[f"{name}.bias_hh"]
        return torch.tanh(x), at

    def step(self, events):
        p, drift = self.past, "0.embedding_module.linear_layer"
        read = [self.read(n) for n in range(self.nodes)]

        def jodie(node, at, role):
            memory, updated = read[node]
            idle = (at - updated - self.setting[f"{role}_mean"]) / self.setting[f"{role}_std"]
            return memory * (1 + linear(self.w, drift, torch.tensor([idle], dtype=self.dtype)))

        def dyrep(node, at):
            return self.embed("0.embedding_module.", lambda n: self.zeros(self.width) if n is None else read[n][0], node, at, self.setting["layers"])

        if self.kind == "jodie":
            z = [[jodie(end[e], p.time[e], role) for e in events] for end, role in ((p.src, "src"), (p.dst, "dst"), (p.negative, "dst"))]
        else:
            z = [[read[end[e]][0] for e in events] for end in (p.src, p.dst, p.negative)]
        out = self.scored(z)
        ends = sorted({p.src[e] for e in events} | {p.dst[e] for e in events})
        said = {(end[e], e): read[end[e]][0] if self.kind == "jodie" else dyrep(end[e], p.time[e]) for e in events for end in (p.src, p.dst)}
        self.memory = self.memory.clone()
        for n in ends:
            self.memory[n], self.updated[n] = read[n]
            self.mail.pop(n, None)
        new = {}
        for e in events:
            for own, other in ((p.src[e], p.dst[e]), (p.dst[e], p.src[e])):
                new[own] = torch.cat([self.memory[own], said[other, e], self.phi(p.time[e] - self.updated[own]), p.features[e]]), p.time[e]
        self.mail |= new
        blank = torch.zeros_like(next(iter(new.values()))[0])
        out["after.memory"] = self.memory
        out["after.last_update"] = torch.tensor(self.updated, dtype=self.dtype)
        out["after.mail"] = torch.stack([self.mail[n][0] if n in self.mail else blank for n in range(self.nodes)])
        out["after.mail_waits"] = torch.tensor([n in self.mail for n in range(self.nodes)])
        return out


class Apan(Model):
    def __init__(self, file, dtype, combine):
        super().__init__(file, dtype)
        self.combine = combine
        slots, mail = self.setting["slots"], 2 * self.width + self.past.features.shape[1]
        self.memory, self.updated = self.zeros(self.nodes, self.width), self.zeros(self.nodes)
        self.box, self.box_time, self.next = self.zeros(self.nodes, slots, mail), self.zeros(self.nodes, slots), [0] * self.nodes

    def row(self, node, at):
        w, name, h = self.w, "memory_updater", self.setting["heads"]
        own = self.memory[node]
        seen = torch.stack([torch.cat([mail, self.phi(at - time, f"{name}.time_enc")]) for mail, time in zip(self.box[node], self.box_time[node])])
        q = linear(w, f"{name}.w_q", own).reshape(h, -1)
        k, v = (linear(w, f"{name}.{x}", seen).reshape(len(seen), h, -1) for x in ("w_k", "w_v"))
        a = torch.nn.functional.leaky_relu((q * k).sum(-1), 0.2).softmax(0)
        mixed = (a.unsqueeze(-1) * v).sum(0).reshape(-1)
        return torch.relu(linear(w, f"{name}.mlp", norm(w, f"{name}.layer_norm", mixed + own)))

    def step(self, events):
        p, w = self.past, self.w
        h = [[self.row(end[e], p.time[e]) for e in events] for end in (p.src, p.dst, p.negative)]
        z = [[norm(w, "layers.l0h0.norm", row) for row in rows] for rows in h]
        score = lambda other: torch.stack([
            linear(w, "edge_predictor.out_fc", torch.relu(linear(w, "edge_predictor.src_fc", u) + linear(w, "edge_predictor.dst_fc", v)))[0] for u, v in zip(z[0], other)])
        out = {"positive": score(z[1]), "negative": score(z[2]), **{f"scored.{k}": torch.stack(v) for k, v in zip(("src", "dst", "negative"), z)}}
        sent = []  # (receiver, mail, time), in the order that `last` goes by
        ends = [(p.src[e], e, torch.cat([h[0][i], h[1][i], p.features[e]])) for i, e in enumerate(events)]
        ends += [(p.dst[e], e, torch.cat([h[1][i], h[0][i], p.features[e]])) for i, e in enumerate(events)]
        sent += [(n, mail, p.time[e]) for n, e, mail in ends]
        for n, e, mail in ends:
            sent += [(other, mail, p.time[e]) for other, _ in p.neighbours(n, p.time[e], self.setting["neighbours"])[::-1]]
        self.box, self.box_time = self.box.clone(), self.box_time.clone()
        for n in sorted({n for n, _, _ in sent}):
            mine = [(mail, time) for receiver, mail, time in sent if receiver == n]
            mine = mine[-1:] if self.combine == "last" else mine
            self.box[n, self.next[n]] = torch.stack([mail for mail, _ in mine]).mean(0)
            self.box_time[n, self.next[n]] = torch.tensor([float(t) for _, t in mine], dtype=self.dtype).mean()
            self.next[n] = (self.next[n] + 1) % self.setting["slots"]
        self.memory, self.updated = self.memory.clone(), self.updated.clone()
        for i, e in enumerate(events):  # the latest event of a node stays
            for end, rows in ((p.src, h[0]), (p.dst, h[1])):
                self.memory[end[e]], self.updated[end[e]] = rows[i], p.time[e]
        return out | {"after.memory": self.memory, "after.last_update": self.updated, "after.mailbox": self.box, "after.mailbox_time": self.box_time,
                      "after.next_slot": torch.tensor(self.next)}


MODELS = {
    "jodie": lambda file, dtype: Mailed(file, dtype, "jodie"), "dyrep": lambda file, dtype: Mailed(file, dtype, "dyrep"), "tgat_1": Tgat, "tgat_2": Tgat,
    "graphmixer": GraphMixer,
    "apan_mean": lambda file, dtype: Apan(file, dtype, "mean"), "apan_last": lambda file, dtype: Apan(file, dtype, "last"),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, make in MODELS.items():
        if not (HERE / f"{name}.safetensors").exists():
            sys.exit(f"{name}.safetensors is missing")
        file = load_file(HERE / f"{name}.safetensors")
        for dtype in (torch.float64, torch.float32):
            model, worst = make(file, dtype), {}
            batch = model.setting["batch"]
            for s in range(model.setting["steps"]):
                for key, value in model.step(range(s * batch, (s + 1) * batch)).items():
                    theirs = file[f"step{s}.{key}"].to(torch.float64)
                    worst[key] = max(worst.get(key, 0.0), (value.to(torch.float64) - theirs).abs().max().item())
            print(f"{name:10} {str(dtype):14}", " ".join(f"{k} {v:.1e}" for k, v in worst.items()))
            assert max(worst.values()) < 1e-5, f"{name} is off"
