"""Trains and evaluates PyG's TGN on a folder of events and writes what came out as JSON.

    python pyg_tgn.py --data DATA/uci --out uci-0.json
    python pyg_tgn.py --data DATA/wikipedia --edge-features zeros:172 --epochs 1 --max-batches 200 --out speed.json

Settings, order of operations and split are those of PyG's TGN example, but for three things: negatives are drawn from the
set of destinations (the example: any id between the least and the greatest destination), evaluation draws depend on the event
alone, and MRR is measured too. Memory is reset when an epoch begins and is carried through validation into test.
"""

import argparse
import json
import os
import platform
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from events import evaluation_draws, read_events
from metrics import judge, mean_over_batches


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with edges.csv and, for real features, edge_feat.npy")
    parser.add_argument("--edge-features", default="real", help="real | zeros:WIDTH | none (default real)")
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--width", type=int, default=100, help="of memory, time encoding and embedding")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--aggregator", choices=["stock", "fixed"], default="stock", help="PyG's LastAggregator or what it is meant to be (pyg_model.py)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mrr-negatives", type=int, default=49, help="0 leaves MRR out")
    parser.add_argument("--evaluate-every", type=int, default=1, help="epochs between AP/AUC; the last epoch always, MRR only there")
    parser.add_argument("--max-batches", type=int, help="stop each epoch after so many batches and do not evaluate: for throughput")
    parser.add_argument("--warm-batches", type=int, default=0, help="the first batches of each epoch, which are trained and not timed (default 0)")
    parser.add_argument("--device", default="cpu", help="where all tensors are, as torch names it: cpu, cuda:0 (default cpu)")
    parser.add_argument("--out", required=True, help="the JSON to write; rewritten after each epoch")
    return parser.parse_args()


class Stages:
    """Seconds spent in each named stage of a step."""

    def __init__(self):
        self.seconds = {}

    @contextmanager
    def __call__(self, name):
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


class Run:
    def __init__(self, options, torch):
        from pyg_model import LatestMessage, Tgn

        self.options, self.torch, self.device = options, torch, torch.device(options.device)
        torch.manual_seed(options.seed)
        events = self.events = read_events(options.data, options.edge_features)
        self.destinations = events.destinations()
        self.src, self.dst, self.time = (self.tensor(a) for a in (events.src, events.dst, events.time))
        self.features = self.tensor(events.features)
        aggregator = LatestMessage() if options.aggregator == "fixed" else None
        width = options.width
        self.model = Tgn(events.nodes, self.time, self.features, width, width, options.neighbours, aggregator=aggregator).to(self.device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=options.lr)
        self.criterion = torch.nn.BCEWithLogitsLoss()
        self.validation, self.test = events.split()

    def tensor(self, array):
        """The array as a tensor where the model is."""
        return self.torch.from_numpy(array).to(self.device)

    def now(self):
        """The time, once a GPU has done all it was given."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def batches(self, first, end):
        for begin in range(first, end, self.options.batch):
            yield slice(begin, min(begin + self.options.batch, end))

    def train(self, epoch):
        """One pass over the training events; returns loss, throughput and the time of each stage."""
        model, stages = self.model, Stages()
        draws = self.torch.Generator().manual_seed(self.options.seed * 1000 + epoch)
        model.train()
        model.reset()
        total, seen, begin = 0.0, 0, self.now()
        for turn, batch in enumerate(self.batches(0, self.validation)):
            if turn == self.options.max_batches:
                break
            if turn > 0 and turn == self.options.warm_batches:
                total, seen, stages.seconds, begin = 0.0, 0, {}, self.now()
            size = batch.stop - batch.start
            total += self.step(batch, draws, stages) * size
            seen += size
        seconds = self.now() - begin
        return {
            "loss": total / seen,
            "events": seen,
            "seconds": seconds,
            "events_per_second": seen / seconds,
            "stages": stages.seconds,
        }

    def step(self, batch, draws, stages):
        torch, model = self.torch, self.model
        with stages("loader"):
            src, dst = self.src[batch], self.dst[batch]
            picks = torch.randint(len(self.destinations), src.shape, generator=draws)
            negative = self.tensor(self.destinations[picks.numpy()])
            nodes, edges, events = model.gather(torch.cat([src, dst, negative]).unique())
        self.optimiser.zero_grad()
        with stages("memory_forward"):
            memory, last_update = model.memory(nodes)
        with stages("embedding"):
            embedding = model.embed(memory, last_update, edges, events)
        with stages("decoder_and_loss"):
            place = model.place
            positives = model.link_pred(embedding[place[src]], embedding[place[dst]])
            negatives = model.link_pred(embedding[place[src]], embedding[place[negative]])
            loss = self.criterion(positives, torch.ones_like(positives))
            loss = loss + self.criterion(negatives, torch.zeros_like(negatives))
        with stages("memory_update"):
            model.memory.update_state(src, dst, self.time[batch], self.features[batch])
        with stages("neighbour_insert"):
            model.neighbours.insert(src, dst)
        with stages("backward"):
            loss.backward()
        with stages("optimiser"):
            self.optimiser.step()
            model.memory.detach()
        return float(loss)

    def evaluate(self, first, end, rank):
        """AP and AUC of events `first..end` and, with `rank`, MRR; the events are observed as they are scored."""
        model, scores = self.model, []
        model.eval()
        begin = time.perf_counter()
        ids, truth = np.arange(first, end), self.events.dst[first:end]
        asked, columns = evaluation_draws(ids, truth, self.destinations, self.options.mrr_negatives if rank else 0)
        with self.torch.no_grad():
            for batch in self.batches(first, end):
                rows = slice(batch.start - first, batch.stop - first)
                scores.append(self.logits(self.src[batch], self.tensor(asked[rows])))
                model.memory.update_state(self.src[batch], self.dst[batch], self.time[batch], self.features[batch])
                model.neighbours.insert(self.src[batch], self.dst[batch])
        scores = np.concatenate(scores)
        result = judge(scores, columns)
        # The example squashes before it ranks; in f32 that makes ties of all scores above 17.
        squashed = 1.0 / (1.0 + np.exp(-scores))
        pair = (squashed[:, columns[part]][:, 0] for part in ("truth", "one"))
        result["ap_batch_mean"], result["auc_batch_mean"] = mean_over_batches(*pair, self.options.batch)
        return result | {"events": len(ids), "seconds": time.perf_counter() - begin}

    def logits(self, src, dst):
        """[B, C] logits of `src` [B] with `dst` [B, C]: each node is embedded and projected once."""
        torch, model = self.torch, self.model
        nodes, edges, events = model.gather(torch.cat([src, dst.flatten()]).unique())
        embedding = model.embed(*model.memory(nodes), edges, events)
        decoder = model.link_pred
        as_src, as_dst = decoder.lin_src(embedding[model.place[src]]), decoder.lin_dst(embedding)
        return decoder.lin_final((as_src[:, None] + as_dst[model.place[dst]]).relu()).squeeze(-1).cpu().numpy()

    def report(self):
        """Runs all epochs and writes the report after each."""
        options, epochs = self.options, []
        report = {
            "system": "pyg",
            "data": self.events.name,
            "settings": {k: v for k, v in vars(options).items() if k not in ("data", "out")},
            "seed": options.seed,
            "split": {"validation": self.validation, "test": self.test, "events": len(self.events)},
            "versions": versions(),
            "epochs": epochs,
        }
        for epoch in range(options.epochs):
            entry = {"train": self.train(epoch)}
            epochs.append(entry)
            last = epoch + 1 == options.epochs
            if options.max_batches is None and (last or (epoch + 1) % options.evaluate_every == 0):
                rank = last and options.mrr_negatives > 0
                entry["val"] = self.evaluate(self.validation, self.test, rank)
                entry["test"] = self.evaluate(self.test, len(self.events), rank)
                report["val"], report["test"] = entry["val"], entry["test"]
            report["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            report["complete"] = last
            write(options.out, report)
            told = {k: round(v, 4) for k, v in entry.get("test", {}).items()}
            print(f"epoch {epoch + 1}: loss {entry['train']['loss']:.4f}, {entry['train']['events_per_second']:.0f} events/s {told}", flush=True)


def versions():
    import torch
    import torch_geometric

    return {"python": platform.python_version(), "torch": torch.__version__, "torch_geometric": torch_geometric.__version__}


def write(path, report):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1))
    partial.rename(path)


def main():
    options = arguments()
    # Before torch is imported: its thread pools read these once.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    Run(options, torch).report()


if __name__ == "__main__":
    main()
