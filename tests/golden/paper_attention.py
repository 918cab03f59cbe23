"""One layer of the TGN paper's temporal attention in plain torch, forward and gradients on random inputs.

    query      q_r = [h_r | phi(0)]
    key, value c_rk = [g_rk | e_rk | phi(t_r - t_rk)]
    attention  torch.nn.MultiheadAttention(D + T, H, kdim = vdim = D + E + T) over the first count_r of K slots
    output     fc2(relu(fc1([attention | h])))

A root without neighbours gets zeros in the place of its attention (after the output projection, so without its bias).
"""

import torch
from torch import nn

ROOTS, SLOTS, WIDTH, TIME_WIDTH, FEATURES, HEADS = 7, 4, 8, 8, 5, 2
COUNTS = [4, 0, 1, 3, 2, 4, 0]


class PaperAttention(nn.Module):
    def __init__(self):
        super().__init__()
        query, context = WIDTH + TIME_WIDTH, WIDTH + FEATURES + TIME_WIDTH
        self.time = nn.Linear(1, TIME_WIDTH)
        self.attn = nn.MultiheadAttention(query, HEADS, kdim=context, vdim=context, batch_first=True)
        self.fc1 = nn.Linear(query + WIDTH, WIDTH)
        self.fc2 = nn.Linear(WIDTH, WIDTH)

    def phi(self, delta):
        return self.time(delta[..., None]).cos()

    def forward(self, h, neighbours, features, delta, count):
        """h [R, D], neighbours [R, K, D], features [R, K, E], delta [R, K] = t_r - t_rk, count [R]."""
        query = torch.cat([h, self.phi(h.new_zeros(len(h)))], -1)
        context = torch.cat([neighbours, features, self.phi(delta)], -1)
        bq, bk, bv = self.attn.in_proj_bias.chunk(3)
        q, k, v = query @ self.attn.q_proj_weight.T + bq, context @ self.attn.k_proj_weight.T + bk, context @ self.attn.v_proj_weight.T + bv
        q, k, v = (x.unflatten(-1, (HEADS, -1)) for x in (q, k, v))
        scores = torch.einsum("rhc,rkhc->rhk", q, k) / q.shape[-1] ** 0.5
        valid = (torch.arange(delta.shape[1]) < count[:, None])[:, None]
        # A root without neighbours would divide by zero: let it see its slots, its result is dropped below.
        scores = scores.masked_fill(~(valid | (count == 0)[:, None, None]), float("-inf"))
        mixed = torch.einsum("rhk,rkhc->rhc", scores.softmax(-1), v).flatten(1)
        attended = self.attn.out_proj(mixed).masked_fill((count == 0)[:, None], 0.0)
        return self.fc2(self.fc1(torch.cat([attended, h], -1)).relu()), attended

    def by_torch(self, h, neighbours, features, delta, count):
        """The attention of `torch.nn.MultiheadAttention` itself, for roots that have neighbours."""
        query = torch.cat([h, self.phi(h.new_zeros(len(h)))], -1)[:, None]
        context = torch.cat([neighbours, features, self.phi(delta)], -1)
        hidden = torch.arange(delta.shape[1]) >= count[:, None]
        return self.attn(query, context, context, key_padding_mask=hidden)[0][:, 0]


def make(seed=11):
    """Inputs, weights, results, gradients and tolerances by name."""
    torch.manual_seed(seed)
    layer = PaperAttention()
    with torch.no_grad():
        layer.attn.in_proj_bias.normal_(0, 0.3)  # torch starts both at zero, which would hide a missing bias
        layer.attn.out_proj.bias.normal_(0, 0.3)
    count = torch.tensor(COUNTS)
    inputs = {
        "h": torch.randn(ROOTS, WIDTH),
        "neighbours": torch.randn(ROOTS, SLOTS, WIDTH),
        "features": torch.randn(ROOTS, SLOTS, FEATURES),
    }
    delta = torch.randint(1, 200, (ROOTS, SLOTS))
    upstream = torch.randn(ROOTS, WIDTH)
    single, double = (run(layer, inputs, delta, count, upstream, dtype) for dtype in (torch.float32, torch.float64))
    error = {n: (single[n].double() - double[n]).abs().max().item() for n in single}
    tolerance = {f"tolerance.{n}": torch.tensor(10 * error[n] + 1e-6 * single[n].abs().max().item()) for n in single}
    tensors = {f"input.{n}": x for n, x in inputs.items()} | {"input.delta": delta, "input.count": count, "upstream": upstream}
    tensors |= {f"weight.{n}": w.detach().clone() for n, w in layer.float().named_parameters()}
    return tensors | single | tolerance | {"setting.heads": torch.tensor(HEADS)}


def run(layer, inputs, delta, count, upstream, dtype):
    layer = layer.to(dtype)
    layer.zero_grad()
    inputs = {n: x.to(dtype, copy=True).requires_grad_() for n, x in inputs.items()}
    output, attended = layer(**inputs, delta=delta.to(dtype), count=count)
    some = count > 0
    chosen = {n: x[some] for n, x in inputs.items()}
    reference = layer.by_torch(**chosen, delta=delta[some].to(dtype), count=count[some])
    assert torch.allclose(attended[some], reference, atol=1e-5), "differs from torch.nn.MultiheadAttention"
    (output * upstream.to(dtype)).sum().backward()
    out = {"attended": attended, "output": output}
    out |= {f"grad.input.{n}": x.grad for n, x in inputs.items()}
    out |= {f"grad.weight.{n}": w.grad for n, w in layer.named_parameters()}
    return {n: x.detach().clone() for n, x in out.items()}
