"""Trains TGM's TGN (`pip install tgm-lib`) on a folder of events and writes its speed as JSON, in the form of pyg_tgn.py.

    python tgm_tgn.py --data DATA/wikipedia --edge-features zeros:172 --epochs 1 --max-batches 200 --out speed.json

TGM's own loader, hooks, memory, attention and decoder, put together as its TGN example does. A query sees earlier events of its own batch
only through the batches before. Accuracy is not examined: in this version a score depends on which others are asked in the same call.
"""

import os
import time

import numpy as np
from events import read_events
from pyg_tgn import Stages, arguments, write


class Run:
    def __init__(self, options, torch):
        from tgm import DGraph
        from tgm.data import DGData, DGDataLoader
        from tgm.hooks import DeduplicationHook, HookManager, NegativeEdgeSamplerHook, RecencyNeighborHook
        from tgm.nn import LinkPredictor, TGNMemory
        from tgm.nn.encoder.tgn import GraphAttentionEmbedding, IdentityMessage, LastAggregator

        self.options, self.torch = options, torch
        torch.manual_seed(options.seed)
        events = read_events(options.data, options.edge_features)
        features = torch.from_numpy(events.features)
        width, columns = options.width, features.size(1)
        keep = events.split()[0]
        if options.max_batches is not None:
            keep = min(keep, options.max_batches * options.batch)
        edges = torch.from_numpy(np.stack([events.src[:keep], events.dst[:keep]], 1)).int()
        data = DGData.from_raw(edge_time=torch.from_numpy(events.time[:keep]), edge_index=edges, edge_x=features[:keep] if columns else None)
        self.hooks = HookManager(keys=["train"])
        destinations = events.destinations()
        self.hooks.register("train", NegativeEdgeSamplerHook(low=int(destinations.min()), high=int(destinations.max()) + 1))
        keys = {"seed_nodes_keys": ["edge_src", "edge_dst", "neg"], "seed_times_keys": ["edge_time", "edge_time", "neg_time"]}
        self.hooks.register("train", RecencyNeighborHook(num_nodes=events.nodes, num_nbrs=[options.neighbours], **keys))
        self.hooks.register("train", DeduplicationHook())
        self.loader = DGDataLoader(DGraph(data), options.batch, hook_manager=self.hooks)
        message = IdentityMessage(columns, width, width)
        self.memory = TGNMemory(events.nodes, columns, width, width, message_module=message, aggregator_module=LastAggregator())
        self.encoder = GraphAttentionEmbedding(width, width, columns, self.memory.time_enc)
        self.decoder = LinkPredictor(node_dim=width, hidden_dim=width)
        parts = (self.memory, self.encoder, self.decoder)
        # The memory's time encoding is the attention's too.
        weights = {id(weight): weight for part in parts for weight in part.parameters()}
        self.optimiser = torch.optim.Adam(list(weights.values()), lr=options.lr)
        self.criterion = torch.nn.BCEWithLogitsLoss()
        self.columns, self.events = columns, events

    def train(self):
        stages, total, seen = Stages(), 0.0, 0
        for part in (self.memory, self.encoder, self.decoder):
            part.train()
        begin = time.perf_counter()
        with self.hooks.activate("train"):
            batches = iter(self.loader)
            while True:
                with stages("loader"):
                    batch = next(batches, None)
                if batch is None:
                    break
                size = batch.edge_src.numel()
                total += self.step(batch, stages) * size
                seen += size
        seconds = time.perf_counter() - begin
        return {"loss": total / seen, "events": seen, "seconds": seconds, "events_per_second": seen / seconds, "stages": stages.seconds}

    def step(self, batch, stages):
        torch, local = self.torch, batch.global_to_local
        with stages("loader"):
            neighbours = batch.nbr_nids[0].flatten()
            there = neighbours >= 0
            centres = batch.seed_nids[0].repeat_interleave(self.options.neighbours)
            edges = torch.stack([local(neighbours[there]), local(centres[there])]).long()
            times = batch.nbr_edge_time[0].flatten()[there]
            features = batch.nbr_edge_x[0].flatten(0, -2)[there] if self.columns else times.new_empty(len(times), 0, dtype=torch.float)
            messages = batch.edge_x if self.columns else features.new_empty(batch.edge_src.numel(), 0)
        self.optimiser.zero_grad()
        with stages("memory_forward"):
            memory, last_update = self.memory(batch.unique_nids.long())
        with stages("embedding"):
            embedding = self.encoder(memory, last_update, edges, times, features)
        with stages("decoder_and_loss"):
            src, dst, negative = (embedding[local(nodes)] for nodes in (batch.edge_src, batch.edge_dst, batch.neg))
            positives, negatives = self.decoder(src, dst), self.decoder(src, negative)
            loss = self.criterion(positives, torch.ones_like(positives)) + self.criterion(negatives, torch.zeros_like(negatives))
        with stages("backward"):
            loss.backward()
        with stages("optimiser"):
            self.optimiser.step()
        with stages("memory_update"):
            self.memory.update_state(batch.edge_src.long(), batch.edge_dst.long(), batch.edge_time, messages.float())
            self.memory.detach()
        return float(loss.detach())

    def report(self):
        import importlib.metadata
        import resource

        report = {
            "system": "tgm",
            "data": self.events.name,
            "settings": {k: v for k, v in vars(self.options).items() if k not in ("data", "out")},
            "seed": self.options.seed,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "tgm-lib")},
            "epochs": [{"train": self.train()}],
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "complete": True,
        }
        write(self.options.out, report)
        train = report["epochs"][0]["train"]
        print(f"loss {train['loss']:.4f}, {train['events_per_second']:.0f} events/s", flush=True)


def main():
    options = arguments()
    if options.epochs != 1:
        raise SystemExit("--epochs: TGM is measured over one epoch")
    # Before torch is imported: its thread pools read these once.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    Run(options, torch).report()


if __name__ == "__main__":
    main()
