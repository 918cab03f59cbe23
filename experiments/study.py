"""What the studies share: runs that are not run twice, tables between marks, and panels of a plot. Needs Python and nothing else."""

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


class Plot:
    """An SVG of panels."""

    def __init__(self, wide, high):
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12">',
                      '<rect width="100%" height="100%" fill="white"/>']

    def text(self, x, y, words, anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>')

    def line(self, points, colour, dots=False, wide=2):
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
        if dots:
            self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]

    def heights(self, x0, wide, top, high, values):
        """Draws the scale of a panel for `values` and gives what maps a value to its height."""
        pad = max(max(values) - min(values), 0.01) * 0.12
        low, most = min(values) - pad, max(values) + pad
        at = lambda value: top + high * (most - value) / (most - low)
        for tick in range(5):
            value = low + (most - low) * tick / 4
            self.line([(x0, at(value)), (x0 + wide, at(value))], "#ddd", wide=1)
            self.text(x0 - 6, at(value) + 4, f"{value:.3f}", "end")
        return at

    def save(self, path):
        path.write_text("\n".join(self.parts + ["</svg>", ""]))
