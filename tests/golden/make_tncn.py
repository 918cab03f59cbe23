"""Writes the golden numbers of TNCN: ten forward steps of the authors' modules on fixed weights, memory carried on, each pair scored alone.

    pip install torch torch_geometric numpy safetensors
    python make_tncn.py TNCN      # writes tncn_1 and tncn_01 .safetensors here

TNCN is a checkout of github.com/GraphPKU/TNCN at commit 241c69f9da478e4fea10095b48dd8a375bda7772. README.md lists the tensors and says what is computed.
"""

import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

from forward_log import BATCH, FEATURES, NODES, STEPS, make_log, randomise

WIDTH, TIME_WIDTH, HEADS, NEIGHBOURS, DECODER = 8, 6, 2, 8, 10
HERE = Path(__file__).resolve().parent


class SparseTensor:
    """What the authors use of torch_sparse, which has to be compiled: rows, columns and values of the entries that are there."""

    def __init__(self, rows, cols, values, sizes):
        self.rows, self.cols, self.values, self.sizes = rows, cols, values, sizes

    @staticmethod
    def eye(n, device=None):
        return SparseTensor(torch.arange(n), torch.arange(n), torch.ones(n), (n, n))

    @staticmethod
    def from_edge_index(edges, sparse_sizes):
        return SparseTensor(edges[0], edges[1], None, sparse_sizes)

    def fill_value_(self, value):
        # In place, as torch_sparse does it: what was selected before has the new values, too.
        self.values = torch.full((len(self.rows),), value)
        return self

    def coalesce(self):
        places, entry = torch.unique(self.rows * self.sizes[1] + self.cols, return_inverse=True)
        values = torch.zeros(len(places)).index_add_(0, entry, self.values)
        return SparseTensor(places // self.sizes[1], places % self.sizes[1], values, self.sizes)

    def to(self, device):
        return self

    def __getitem__(self, selected):
        found = [(at, entry) for at, row in enumerate(selected.tolist()) for entry in (self.rows == row).nonzero()[:, 0].tolist()]
        rows, entries = (torch.tensor([one[i] for one in found], dtype=torch.long) for i in (0, 1))
        return SparseTensor(rows, self.cols[entries], self.values[entries], (len(selected), self.sizes[1]))

    def entries(self):
        return dict(zip(zip(self.rows.tolist(), self.cols.tolist()), self.values.tolist()))

    def __mul__(self, other):
        mine, theirs = self.entries(), other.entries()
        both = sorted(mine.keys() & theirs.keys())
        rows, cols = (torch.tensor([place[i] for place in both], dtype=torch.long) for i in (0, 1))
        return SparseTensor(rows, cols, torch.tensor([mine[place] * theirs[place] for place in both]), self.sizes)


def spmm_add(matrix, x):
    return torch.zeros(matrix.sizes[0], x.shape[1]).index_add_(0, matrix.rows, matrix.values[:, None] * x[matrix.cols])


def scatter_max(src, index, dim, dim_size):
    """Of torch_scatter: the greatest of each group and where it is, the number of all where a group is empty."""
    where = [max((i for i in range(len(src)) if index[i] == group), key=lambda i: src[i], default=len(src)) for group in range(dim_size)]
    return None, torch.tensor(where)


def authors(path):
    """The authors' modules, with what they import of packages that have to be compiled."""
    sparse, matmul, scatter = (types.ModuleType(name) for name in ("torch_sparse", "torch_sparse.matmul", "torch_scatter"))
    sparse.SparseTensor, scatter.scatter_max = SparseTensor, scatter_max
    matmul.spmm_add = matmul.spmm_max = matmul.spmm_mean = spmm_add
    sys.modules |= {"torch_sparse": sparse, "torch_sparse.matmul": matmul, "torch_scatter": scatter}
    sys.path.insert(0, path)
    from modules.emb_module import GraphAttentionEmbedding
    from modules.memory_module import TGNMemory
    from modules.msg_agg import LastAggregator
    from modules.msg_func import IdentityMessage
    from modules.NCNDecoder.NCNPred import NCNPredictor
    from modules.neighbor_loader import LastNeighborLoader

    return GraphAttentionEmbedding, TGNMemory, LastAggregator, IdentityMessage, NCNPredictor, LastNeighborLoader


@torch.no_grad()
def ten_steps(modules, mode):
    Embedding, Memory, Last, Message, Predictor, Loader = modules
    log = {key: torch.from_numpy(value) for key, value in make_log().items()}
    src, dst, negative, time, features = (log[key] for key in ("src", "dst", "negative", "time", "features"))
    torch.manual_seed(11)
    memory = Memory(NODES, FEATURES, WIDTH, TIME_WIDTH, Message(FEATURES, WIDTH, TIME_WIDTH), Last(), t_enc_grad=True)
    model = torch.nn.ModuleDict({
        "memory": memory, "gnn": Embedding(WIDTH, WIDTH, FEATURES, memory.time_enc), "link_pred": Predictor(WIDTH, DECODER, 1, mode),
    })
    randomise(model)
    # Angles stay small, so that cosines agree in f32.
    memory.time_enc.lin.weight.copy_(0.1 * torch.rand(TIME_WIDTH, 1, generator=torch.Generator().manual_seed(5)))
    # As in training, where mail waits until it is read, but without dropout.
    model["gnn"].eval()
    memory.train()
    memory.reset_state()
    loader = Loader(NODES, NEIGHBOURS)
    place = torch.empty(NODES, dtype=torch.long)

    def score(u, v):
        nodes, edges, events = loader(torch.stack([u, v]).unique())
        place[nodes] = torch.arange(len(nodes))
        rows, last_update = memory(nodes)
        rows = model["gnn"](rows, last_update, edges, time[events], features[events])
        pair = torch.stack([place[u], place[v]]).view(2, 1)
        return model["link_pred"](rows, edges, pair, mode)[0, 0], rows[place[u]], rows[place[v]]

    # `xslin` of the decoder is never called.
    out = {f"weight.{name}": p.clone() for name, p in model.named_parameters() if "xslin" not in name}
    settings = dict(nodes=NODES, batch=BATCH, steps=STEPS, neighbours=NEIGHBOURS, heads=HEADS, width=WIDTH, time=TIME_WIDTH, decoder=DECODER)
    out |= {f"setting.{key}": torch.tensor(value) for key, value in settings.items()} | {f"log.{key}": value for key, value in log.items()}
    for s in range(STEPS):
        of = slice(s * BATCH, (s + 1) * BATCH)
        positive, others = ([score(u, v) for u, v in zip(src[of], to[of])] for to in (dst, negative))
        step = {
            "positive": torch.stack([one[0] for one in positive]), "negative": torch.stack([one[0] for one in others]),
            "scored.src": torch.stack([one[1] for one in positive]), "scored.dst": torch.stack([one[2] for one in positive]),
            "scored.negative": torch.stack([one[2] for one in others]),
        }
        memory.update_state(src[of], dst[of], time[of], features[of])
        loader.insert(src[of], dst[of])
        step |= {"after.memory": memory.memory.clone(), "after.last_update": memory.last_update.float()}
        out |= {f"step{s}.{key}": value.clone() for key, value in step.items()}
    return {key: value.contiguous() for key, value in out.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    modules = authors(sys.argv[1])
    for mode, file in [(1, "tncn_1"), (0, "tncn_01")]:
        tensors = ten_steps(modules, mode)
        save_file(tensors, HERE / f"{file}.safetensors")
        scores = torch.cat([tensors[f"step{s}.{kind}"] for s in range(STEPS) for kind in ("positive", "negative")])
        print(f"{file}: {len(tensors)} tensors, {(HERE / f'{file}.safetensors').stat().st_size} bytes, scores {scores.min():.3f} to {scores.max():.3f}, std {scores.std():.3f}")
