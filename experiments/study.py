"""What the studies share: runs that are not run twice, tables between marks, and panels of a plot. Needs Python; a plot needs matplotlib."""

import json
import statistics
import subprocess
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def finished(out):
    """The report of a run that came to its end, or None."""
    path = Path(out) / "report.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    return report if report.get("status") == "finished" else None


def command(program, name, spec, out, settings):
    """What trains or pretrains a spec into `out` with settings laid over it."""
    return [program, name, str(spec), "--force", "--out", str(out), *(part for one in settings for part in ("--set", one))]


def run(command):
    """What a command printed; the study ends with what it said of a failure."""
    told = subprocess.run(command, capture_output=True, text=True)
    if told.returncode:
        raise SystemExit(f"{' '.join(command)}: {told.stderr.strip()}")
    return told.stdout


def train(program, spec, out, settings):
    """Trains unless `out` holds a finished run, and gives its report."""
    if not finished(out):
        run(command(program, "train", spec, out, settings))
    return finished(out)


def parallel(plan):
    """The settings of a plan such as 1x2x4."""
    return [f"parallel.{axis}={count}" for axis, count in zip(("minibatch", "epoch", "memory"), plan.split("x"))]


def write_between(path, mark, text):
    """Replaces what stands between <!-- mark --> and <!-- /mark -->; what is written around it stays."""
    old = path.read_text()
    before, rest = old.split(f"<!-- {mark} -->", 1)
    _, after = rest.split(f"<!-- /{mark} -->", 1)
    path.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{after}")


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def short(value):
    """.7012, without the zero."""
    return f"{value:.4f}".replace("0.", ".", 1)


def cell(values):
    """The mean of values by seed, with their standard deviation in brackets where there are several."""
    values = list(values.values())
    if not values:
        return "–"
    spread = f" ({short(statistics.stdev(values))})" if len(values) > 1 else ""
    return short(statistics.mean(values)) + spread


def gain(without, beside):
    """Mean difference over the seeds both have."""
    both = [beside[seed] - without[seed] for seed in without if seed in beside]
    return f"{statistics.mean(both):+.4f}".replace("0.", ".", 1) if both else "–"


class Panel:
    """One set of axes: lines by name, each a list of (x, y)."""

    def __init__(self, title, lines):
        self.title, self.lines = title, lines


def plot(path, title, rows, colours, labels=None, log=True, dots=False):
    """Draws rows of panels into an SVG; the panels of a column share their x axis. Needs matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as figures

    labels = labels or {}
    wide, high = len(rows[0]), len(rows)
    figure, axes = figures.subplots(high, wide, sharex="col", squeeze=False, figsize=(3.6 * wide, 2.6 * high + 0.8), layout="constrained")
    shown = {}
    for panel, place in zip((panel for row in rows for panel in row), axes.flat):
        place.set_title(panel.title, fontsize=10)
        place.grid(alpha=0.3)
        if log:
            place.set_xscale("log")
        for name, points in panel.lines.items():
            shown[name], = place.plot(*zip(*points), color=colours[name], marker="o" if dots else None, label=labels.get(name, name))
    figure.suptitle(title)
    figure.legend(handles=list(shown.values()), loc="outside lower center", ncols=max(len(shown), 1))
    figure.savefig(path, metadata={"Date": None})
