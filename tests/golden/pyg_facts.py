"""Shows, one experiment a fact, what the installed PyG does where its behaviour is easily taken for something else.

    python pyg_facts.py

Prints each fact with what was seen. Nothing is asserted: a later PyG or torch may differ, which is what one wants to know.
"""

import sys
from pathlib import Path

import torch
import torch_geometric
from torch_geometric.nn import TGNMemory
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments" / "peers"))

from pyg_model import LatestMessage  # noqa: E402

NODES, WIDTH = 12, 4


def ids(*values):
    return torch.tensor(values)


def new_memory(aggregator, features=1):
    torch.manual_seed(1)
    message = IdentityMessage(features, WIDTH, WIDTH)
    return TGNMemory(NODES, features, WIDTH, WIDTH, message, aggregator)


def tell(fact, seen):
    print(f"- {fact}\n    {seen}")


@torch.no_grad()
def nodes_without_mail():
    for name, aggregator in (("LastAggregator", LastAggregator()), ("LatestMessage", LatestMessage())):
        memory = new_memory(aggregator)
        memory.update_state(ids(0, 0, 0), ids(1, 1, 1), ids(1, 2, 3), torch.randn(3, 1))
        alone, with_others = memory(ids(5))[0][0], memory(ids(0, 1, 5))[0][2]
        zero = memory.gru(torch.zeros(1, memory.gru.input_size), torch.zeros(1, WIDTH))[0]
        seen = f"read alone it is GRU(0, 0): {torch.equal(alone, zero)}; read beside nodes 0 and 1: {torch.equal(with_others, zero)}"
        tell(f"{name}: a node with no mail gets a message of zeros", seen)


@torch.no_grad()
def evaluation_flushes():
    memory = new_memory(LatestMessage())
    memory.update_state(ids(0), ids(1), ids(1), torch.randn(1, 1))
    before = memory.memory.clone()
    memory.eval()
    changed = (memory.memory != before).any(1).nonzero().view(-1).tolist()
    tell("eval() applies mail to all nodes, also to those that have none (a message of zeros)", f"rows changed: {changed} of {NODES}")


@torch.no_grad()
def evaluation_is_eager():
    memory = new_memory(LatestMessage())
    memory.eval()
    before = memory.memory.clone()
    memory.update_state(ids(0), ids(1), ids(9), torch.randn(1, 1))
    changed = (memory.memory != before).any(1).nonzero().view(-1).tolist()
    tell("in evaluation update_state applies the batch's own messages at once", f"rows changed by the batch itself: {changed}")


def written_back_before_the_step():
    memory = new_memory(LatestMessage())
    optimiser = torch.optim.SGD(memory.parameters(), lr=1.0)
    memory.update_state(ids(0), ids(1), ids(3), torch.ones(1, 1))
    read = memory(ids(0))[0]
    memory.update_state(ids(0), ids(1), ids(5), torch.ones(1, 1))
    read.sum().backward()
    optimiser.step()
    memory.detach()
    kept = memory.memory[0].clone()
    with torch.no_grad():
        memory.reset_state()
        memory.update_state(ids(0), ids(1), ids(3), torch.ones(1, 1))
        later = memory(ids(0))[0]
    before, after = ((kept - x).abs().max().item() for x in (read, later))
    tell("memory kept by update_state comes from the weights before the optimiser step", f"distance to before: {before:.1e}, to after: {after:.1e}")


@torch.no_grad()
def message_uses_memory_at_reading():
    memory = new_memory(LatestMessage())
    memory.update_state(ids(0), ids(1), ids(1), torch.ones(1, 1))
    first = memory(ids(0))[0]
    memory.memory[1] = 7.0
    tell("pending mail is computed when it is read, with the other end's memory of then", not torch.equal(first, memory(ids(0))[0]))


def ties():
    message, index, time = torch.arange(4.0)[:, None], ids(0, 0, 0, 1), ids(5, 5, 5, 5)
    picked = LastAggregator()(message, index, time, 2).view(-1).tolist()
    tell("LastAggregator, equal times: the last in [messages as source | messages as destination]", f"of 0, 1, 2 it takes {picked[0]:.0f}")
    differs = sum(not torch.equal(x.sort()[1], x.sort(stable=True)[1]) for x in (torch.randint(30, (200,)) for _ in range(100)))
    tell("that order comes from an unstable sort, so ties inside a batch are not decided by event id", f"{differs} of 100 sorts of 200 ids unstable")


def neighbours_beyond_size():
    wrong = 0
    for seed in range(100):
        torch.manual_seed(seed)
        loader = LastNeighborLoader(NODES, size=3)
        src, dst = torch.randint(0, 4, (40,)), torch.randint(4, NODES, (40,))
        loader.insert(src, dst)
        got = sorted(loader(ids(0))[2].tolist())
        wrong += got != (src == 0).nonzero().view(-1).tolist()[-3:]
    tell("LastNeighborLoader keeps the last K of a node with more than K events in one batch", f"not in {wrong} of 100 random batches")
    loader = LastNeighborLoader(NODES, size=3)
    loader.insert(ids(0, 0), ids(1, 1))
    tell("a repeated pair is two neighbours", f"edges of node 0: {loader(ids(0))[2].tolist()}")
    loader.reset_state()
    loader.insert(ids(0), ids(0))
    tell("a self-loop is two entries with one event id", f"edges of node 0: {loader(ids(0))[2].tolist()}")


def no_edge_features():
    memory = new_memory(LatestMessage(), features=0)
    try:
        memory.update_state(ids(0, 2), ids(1, 3), ids(1, 2), torch.empty(2, 0))
        memory(ids(0, 1, 2, 3))
        seen = "works"
    except RuntimeError as error:
        seen = f"RuntimeError: {error}"
    tell("messages of width 0", seen)


def squashed_scores():
    scores = torch.tensor([16.0, 17.0, 18.0, 20.0, 40.0]).sigmoid()
    tell("sigmoid in f32 before ranking, as the example does, makes ties", f"16, 17, 18, 20, 40 -> {scores.unique().numel()} distinct values")


def main():
    print(f"torch {torch.__version__}, torch_geometric {torch_geometric.__version__}, torch_scatter: {torch_geometric.typing.WITH_TORCH_SCATTER}")
    nodes_without_mail()
    evaluation_flushes()
    evaluation_is_eager()
    written_back_before_the_step()
    message_uses_memory_at_reading()
    ties()
    neighbours_beyond_size()
    no_edge_features()
    squashed_scores()


if __name__ == "__main__":
    main()
