"""TGN out of PyG's parts (`TGNMemory`, `LastNeighborLoader`, `TransformerConv`), put together as PyG's TGN example does.

The order of a training step, which decides what the numbers are:

1. neighbours of the batch's nodes: those inserted by earlier batches, the whole batch is hidden from itself;
2. memory of those nodes with their pending mail applied, embedding, scores, loss;
3. `update_state`: pending mail of the batch's nodes is applied once more and now kept, computed with the weights from
   *before* this step's optimiser step; then the batch becomes the pending mail;
4. the batch is inserted into the neighbour lists;
5. backward, optimiser step, detach.
"""

import torch
from torch import nn
from torch_geometric.nn import TGNMemory, TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader


class FeaturelessMemory(TGNMemory):
    """`TGNMemory` for messages of width 0, which PyG's own drops from its list as if they were no messages at all."""

    def _compute_msg(self, n_id, msg_store, msg_module):
        src, dst, t, _ = (torch.cat(part) for part in zip(*(msg_store[i] for i in n_id.tolist())))
        t_enc = self.time_enc((t - self.last_update[src]).to(self.memory.dtype))
        return msg_module(self.memory[src], self.memory[dst], self.memory.new_empty(len(src), 0), t_enc), t, src, dst


class LatestMessage(nn.Module):
    """`LastAggregator` as it is meant: the latest message (the last of equals), and zeros for a node that has none.

    Without the torch_scatter package PyG 2.8's own gives a node that has no message the message number
    `nodes - 1` of the batch, which is some other node's, wherever there are that many messages.
    """

    def forward(self, msg, index, t, dim_size):
        latest = t.new_zeros(dim_size).scatter_reduce_(0, index, t, "amax", include_self=False)
        candidates = (t == latest[index]).nonzero().view(-1)
        chosen = t.new_full((dim_size,), -1).scatter_reduce_(0, index[candidates], candidates, "amax")
        out = msg.new_zeros(dim_size, msg.size(-1))
        out[chosen >= 0] = msg[chosen[chosen >= 0]]
        return out


class TemporalAttention(nn.Module):
    """Attention over recent events; the time of an event is encoded relative to its neighbour's last update."""

    def __init__(self, memory_width, width, message_width, time_enc, heads, dropout):
        super().__init__()
        self.time_enc = time_enc
        edge_width = message_width + time_enc.out_channels
        self.conv = TransformerConv(memory_width, width // heads, heads=heads, dropout=dropout, edge_dim=edge_width)

    def forward(self, x, last_update, edge_index, t, msg):
        relative = self.time_enc((last_update[edge_index[0]] - t).to(x.dtype))
        return self.conv(x, edge_index, torch.cat([relative, msg], dim=-1))


class LinkPredictor(nn.Module):
    """Logit of a link: one hidden layer over the sum of both ends' projections."""

    def __init__(self, width):
        super().__init__()
        self.lin_src = nn.Linear(width, width)
        self.lin_dst = nn.Linear(width, width)
        self.lin_final = nn.Linear(width, 1)

    def forward(self, src, dst):
        return self.lin_final((self.lin_src(src) + self.lin_dst(dst)).relu())


class Tgn(nn.Module):
    """The three modules and the neighbour lists over one stream of events (`time` [M] int64, `features` [M, E])."""

    def __init__(self, nodes, time, features, width, time_width, neighbours, heads=2, dropout=0.1, aggregator=None):
        """On the CPU, or on the device where `time` is, once the modules were moved there, too."""
        super().__init__()
        message_width = features.size(-1)
        memory = TGNMemory if message_width else FeaturelessMemory
        self.memory = memory(
            nodes,
            message_width,
            width,
            time_width,
            message_module=IdentityMessage(message_width, width, time_width),
            aggregator_module=aggregator or LastAggregator(),
        )
        self.gnn = TemporalAttention(width, width, message_width, self.memory.time_enc, heads, dropout)
        self.link_pred = LinkPredictor(width)
        self.neighbours = LastNeighborLoader(nodes, size=neighbours, device=time.device)
        self.time, self.features = time, features
        self.place = torch.empty(nodes, dtype=torch.long, device=time.device)

    def reset(self):
        """Forgets all events; weights stay."""
        self.memory.reset_state()
        self.neighbours.reset_state()

    def gather(self, asked):
        """All nodes needed to embed the asked ones, and the events between them; fills `place` (node id -> row)."""
        nodes, edges, events = self.neighbours(asked)
        self.place[nodes] = torch.arange(nodes.numel(), device=nodes.device)
        return nodes, edges, events

    def embed(self, memory, last_update, edges, events):
        return self.gnn(memory, last_update, edges, self.time[events], self.features[events])
