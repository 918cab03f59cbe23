# %% [markdown]
# # A user's next page
#
# A notebook in a file: editors that know `# %%` run it cell by cell, `python example.py` runs all of it. It wants a server:
#
#     tempograph train experiments/quickstart.toml
#     tempograph serve runs/quickstart/artifact

# %%
import os
import sys

from tempograph_client import Client, Event

client = Client(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TEMPOGRAPH_URL", "http://127.0.0.1:8080"))
model = client.model()
print(model["model"], "has seen", model["log_seq"], "events of", model["nodes"], "nodes; the newest is of", model["newest"])

# %% [markdown]
# To whom will 1 turn next?

# %%
before = client.rank(1, k=5)
for one in before.ranked:
    print(f"{one.dst:>6}  {one.probability:.1%}")

# %% [markdown]
# It turns to the last of these instead. The receipt names the event, and a read that asks for `min_seq` has seen it.

# %%
chosen = before.ranked[-1].dst
receipt = client.send([Event(src=1, dst=chosen, time=int(model["newest"]))], ack="durable")
after = client.score([(1, one.dst) for one in before.ranked], min_seq=receipt.first_seq + 1)
for one, probability in zip(before.ranked, after.probabilities):
    print(f"{one.dst:>6}  {one.probability:.1%} -> {probability:.1%}" + ("   it happened" if one.dst == chosen else ""))

# %% [markdown]
# What does the score rest on? The last layer's weights, mean of its heads.

# %%
for neighbour in client.explain(1, chosen).src:
    heads = neighbour.weights[-1] if neighbour.weights else []
    weight = sum(heads) / len(heads) if heads else float("nan")
    print(f"event {neighbour.seq:>8} with {neighbour.node:>6} at {neighbour.time}: {weight:.1%}")
