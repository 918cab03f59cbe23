#!/usr/bin/env python3
"""Every check and timing that needs a GPU, in one call that builds nothing and keeps a time budget.

    python3 experiments/gpu.py target/release/tempograph --out runs/gpu
    python3 experiments/gpu.py target/release/tempograph --out runs/gpu --test kernels=target/release/deps/cuda-0123 --pyg-python venv/bin/python
    python3 experiments/gpu.py --self-test

Writes `gpu.json` and `gpu.md` into the output folder. Needs Python 3.9 and its standard library. Without a GPU it says so, measures the CPU,
and exits with 0 unless `--require-gpu` is given. The exit code is 1 if a check fails.

The parts, in this order, each with a share of the time that is left when it begins:

- tests: each test binary that is named by --test;
- rates: training throughput on the GPU at each batch size, in f32, tf32 and bf16;
- cpu: the same in f32 on the CPU of this machine;
- pyg: PyTorch Geometric's TGN on the same events and the same GPU, where --pyg-python names a Python that has it;
- lanes: two lanes on the one GPU;
- agreement: one epoch on the GPU and on the CPU from the same seed, without dropout, ends at the same loss;
- kinds: throughput of every other kind of model that devices know.
"""

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The settings of PyG's TGN example, as in experiments/paired.
PAIRED = """
[model]
kind = "tgn"
memory = 100
time = 100
width = 100
heads = 2
neighbours = 10
dropout = 0.1
history = "batch"
attention = "transformer-conv"
time_delta = "since-update"
time_init = "uniform"
mail_memory = "at-read"
update_without_mail = true

[train]
lr = 1e-4
negative_rule = "random-with-positive"
"""
PRECISIONS = ["f32", "tf32", "bf16"]
SHARES = {"tests": 8, "rates": 9, "cpu": 4, "pyg": 4, "lanes": 2, "agreement": 4, "kinds": 4}
# A command that would get fewer seconds is not started.
LEAST_SECONDS = 3.0
# Of the budget, kept for stopping commands and writing the files.
RESERVE_SECONDS = 5.0
# Largest relative difference of the training loss after one epoch, by precision of the products.
TOLERANCE = {"f32": 0.01, "tf32": 0.02, "bf16": 0.05}


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?", type=Path, help="the `tempograph` binary, built with the feature `cuda`")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results (default runs/gpu)")
    parser.add_argument("--test", action="append", default=[], metavar="NAME=PATH", help="a test binary to run; may be repeated")
    parser.add_argument("--device", default="cuda:0", help="device of the timings (default cuda:0); `cpu` rehearses the script")
    parser.add_argument("--data", help="a prepared folder or synthetic:… (default: events that this script writes)")
    parser.add_argument("--pyg-events", type=Path, help="with --data, a folder with the same events as edges.csv, for PyG")
    parser.add_argument("--pyg-python", help="a Python with torch, torch_geometric, numpy, pandas and scikit-learn")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds in all (default 480)")
    parser.add_argument("--batch", type=int, nargs="+", default=[200, 600, 2000])
    parser.add_argument("--steps", type=int, default=150, help="steps of a timing; a device's first 64 are not timed (default 150)")
    parser.add_argument("--events", type=int, default=440_000, help="events this script writes (default 440000)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the host; 0 takes every core (default 0)")
    parser.add_argument("--require-gpu", action="store_true", help="exit with 2 where there is no GPU")
    parser.add_argument("--self-test", action="store_true", help="test this script against a binary of its own, then exit")
    options = parser.parse_args(argv)
    if options.binary is None and not options.self_test:
        parser.error("the `tempograph` binary is needed")
    return options


class Clock:
    """Deals out what is left of the budget."""

    def __init__(self, budget):
        self.end = time.monotonic() + budget - min(RESERVE_SECONDS, budget / 10)

    def left(self):
        return max(0.0, self.end - time.monotonic())


class Commands:
    """Runs commands within the time of a part. A command that takes longer is stopped with all that it started."""

    def __init__(self, clock):
        self.clock, self.end, self.rest = clock, 0.0, 1

    def begin(self, seconds, commands):
        """A part of `commands` commands may take `seconds` from now."""
        self.end, self.rest = time.monotonic() + seconds, max(1, commands)

    def run(self, command):
        """What became of it: `status` is ok, failed, stopped or skipped, with a `reason` unless it is ok; `stdout` and `stderr` as text."""
        # Half of what is left at most, so that a slow command leaves time for others.
        limit = max(0.0, min(self.end - time.monotonic(), self.clock.left())) / min(self.rest, 2)
        self.rest = max(1, self.rest - 1)
        if limit < LEAST_SECONDS:
            return {"status": "skipped", "reason": f"no time: {limit:.1f} s left", "seconds": 0.0, "stdout": "", "stderr": ""}
        begun = time.monotonic()
        # Files, not pipes: a grandchild that keeps a pipe open must not hold the script up.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                child = subprocess.Popen(
                    [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
            except OSError as error:
                return {"status": "failed", "reason": str(error), "seconds": 0.0, "stdout": "", "stderr": ""}
            try:
                code, reason = child.wait(limit), None
            except subprocess.TimeoutExpired:
                code, reason = None, f"stopped after {limit:.0f} s"
            finally:
                kill_group(child)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        if code not in (0, None):
            reason = last_line(texts[1]) or last_line(texts[0]) or f"exit code {code}"
        status = "ok" if code == 0 else "failed" if code is not None else "stopped"
        told = {"status": status, "seconds": round(time.monotonic() - begun, 2), "stdout": texts[0], "stderr": texts[1]}
        return told | ({"reason": reason} if reason else {})


def kill_group(child):
    """Ends the child and every process of its group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    child.wait()


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def read_test_summary(text):
    """Passed, failed and ignored tests of a libtest binary, and why it skipped any; nothing where no summary is."""
    found = re.findall(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", text)
    if not found:
        return None
    passed, failed, ignored = (sum(int(row[i]) for row in found) for i in range(3))
    skipped = sorted(set(re.findall(r"^skipped: (.*)$", text, re.MULTILINE)))
    return {"passed": passed, "failed": failed, "ignored": ignored, "skipped": skipped}


def json_of(text):
    """The last line that is JSON, or the whole text."""
    for part in [text, *reversed(text.splitlines())]:
        try:
            return json.loads(part)
        except ValueError:
            continue
    return None


class Checks:
    """One call of the script."""

    def __init__(self, options):
        self.options, self.clock, self.rows = options, Clock(options.budget), []
        self.commands = Commands(self.clock)
        self.commands.begin(self.clock.left(), 4)
        self.work = options.out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.spec = self.data = self.pyg_events = None

    def add(self, part, name, told, **more):
        """Notes a result; what the command printed is left out."""
        kept = {key: value for key, value in told.items() if key not in ("stdout", "stderr")}
        row = {"part": part, "name": name} | more | kept
        self.rows.append(row)
        rate = f", {row['events_per_second']:.0f} events/s" if row.get("events_per_second") else ""
        reason = f": {row['reason']}" if row.get("reason") else ""
        print(f"[{self.clock.left():4.0f} s left] {part}: {name}: {row['status']}{rate}{reason}", flush=True)
        return row

    def machine(self):
        """What is here. `gpu` is its name or null; `no_gpu` says why there is none."""
        told = self.commands.run([self.options.binary, "devices", "--json"])
        devices = json_of(told["stdout"]) or {}
        gpus = devices.get("cuda")
        machine = {"system": platform.platform(), "cpu": cpu_name(), "devices": devices, "gpu": None}
        if isinstance(gpus, list) and gpus:
            number = self.options.device.partition(":")[2].split(",")[0]
            index = int(number) if number.isdigit() and int(number) < len(gpus) else 0
            machine["gpu"] = gpus[index]
            query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
            machine["driver"] = self.commands.run(query)["stdout"].strip().splitlines()
        else:
            why = gpus.get("none") if isinstance(gpus, dict) else None
            machine["no_gpu"] = f"no GPU: {why or told.get('reason') or 'the driver shows none'}"
        return machine

    def prepare(self):
        """Writes the events and specs, and prepares the data. Says what went wrong, if anything."""
        options = self.options
        self.data = options.data
        if self.data is None:
            folder = self.work / "events"
            write_events(folder, options.events)
            self.data = str((self.work / "data").resolve())
            told = {"status": "ok"}
            if not Path(self.data).exists():
                told = self.commands.run([options.binary, "prepare", folder / "edges.csv", "--out", self.data])
            if told["status"] != "ok":
                return told["reason"]
            self.pyg_events = folder
        else:
            self.pyg_events = options.pyg_events
        self.spec = self.write_spec("paired", PAIRED)
        return None

    def write_spec(self, name, text, data=None):
        path = self.work / f"{name}.toml"
        path.write_text(f"threads = {self.options.threads}\nexport = false\n\n[data]\npath = {json.dumps(data or self.data)}\n{text}")
        return path

    def bench(self, part, name, sets, spec=None, **more):
        """One timing in a process of its own."""
        command = [self.options.binary, "bench", spec or self.spec, "--once", "--steps", self.options.steps]
        for key, value in sets.items():
            command += ["--set", f"{key}={value}"]
        told = self.commands.run(command)
        measured = json_of(told["stdout"]) if told["status"] == "ok" else None
        if measured:
            told |= {
                "events_per_second": measured["events_per_second"],
                "step_microseconds": 1e6 * measured["step_seconds"][0],
                "launches_per_step": measured.get("launches_per_step"),
                "busy": measured.get("busy"),
                "peak_memory_bytes": measured["peak_memory_bytes"],
                "stages": measured["stages"],
            }
            if notice := last_line(told["stderr"]):
                told["notice"] = notice
        elif told["status"] == "ok":
            told |= {"status": "failed", "reason": "the timing printed no JSON"}
        return self.add(part, name, told, **more)

    def tests(self):
        for named in self.options.test:
            name, _, path = named.rpartition("=")
            told = self.commands.run([path, "--show-output", "--test-threads=4"])
            if summary := read_test_summary(told["stdout"]):
                told |= summary
                if summary["skipped"] and told["status"] == "ok":
                    told |= {"status": "skipped", "reason": "; ".join(summary["skipped"])}
                elif summary["failed"]:
                    told["reason"] = f"{summary['failed']} tests fail"
            self.add("tests", name or Path(path).name, told)

    def rates(self):
        device = self.options.device
        for precision in PRECISIONS:
            for batch in self.options.batch:
                sets = {"device": device, "train.batch": batch, "model.precision": precision}
                self.bench("rates", f"{device}, batch {batch}, {precision}", sets, device=device, batch=batch, precision=precision)

    def cpu(self):
        for batch in self.options.batch:
            sets = {"device": "cpu", "train.batch": batch}
            self.bench("cpu", f"cpu, batch {batch}, f32", sets, device="cpu", batch=batch, precision="f32")

    def lanes(self):
        device = self.options.device
        for batch in self.options.batch:
            sets = {"device": device, "train.batch": batch, "parallel.memory": 2}
            self.bench("lanes", f"{device}, batch {batch}, two lanes", sets, device=device, batch=batch, precision="f32", lanes=2)

    def pyg(self):
        script, device = Path(__file__).parent / "peers" / "pyg_tgn.py", self.options.device
        threads = self.options.threads or os.cpu_count() or 1
        for batch in self.options.batch:
            out = self.work / f"pyg-{batch}.json"
            out.unlink(missing_ok=True)
            command = [self.options.pyg_python, script, "--data", self.pyg_events, "--edge-features", "none", "--batch", batch]
            command += ["--epochs", 1, "--max-batches", self.options.steps, "--warm-batches", self.options.steps // 3]
            told = self.commands.run(command + ["--threads", threads, "--device", device, "--out", out])
            if told["status"] == "ok":
                report = json.loads(out.read_text())
                train = report["epochs"][0]["train"]
                told |= {
                    "events_per_second": train["events_per_second"],
                    "step_microseconds": 1e6 * batch / train["events_per_second"],
                    "stages": train["stages"],
                    "versions": report["versions"],
                }
            self.add("pyg", f"PyG on {device}, batch {batch}", told, device=device, batch=batch, precision="f32")

    def agreement(self):
        """The first run of each plan is the CPU's; the others are held to it."""
        # Only the training loss is compared, so little is evaluated.
        text = "\n[model]\ndropout = 0.0\n\n[eval]\nnegatives = 1\nval_every = 100\n"
        spec = self.write_spec("agreement", text, "synthetic:events=6000")
        device = self.options.device
        for lanes, precisions in ((1, PRECISIONS), (2, ["f32"])):
            loss = self.loss(spec, "cpu", "f32", lanes)
            for precision in precisions:
                name = f"{device} and cpu, {precision}, {lanes} lane{'s' * (lanes > 1)}"
                more = {"device": device, "precision": precision, "lanes": lanes}
                if loss["status"] != "ok":
                    self.add("agreement", name, loss, **more)
                    continue
                told = self.loss(spec, device, precision, lanes)
                if told["status"] == "ok":
                    difference = abs(told["loss"] - loss["loss"]) / abs(loss["loss"])
                    told |= {"cpu_loss": loss["loss"], "difference": difference}
                    if not difference <= TOLERANCE[precision]:
                        reason = f"the loss is {told['loss']:.5f}, on the CPU {loss['loss']:.5f}: {100 * difference:.2f} % apart"
                        told |= {"status": "failed", "reason": reason}
                self.add("agreement", name, told, **more)

    def loss(self, spec, device, precision, lanes):
        """Training loss of the last epoch."""
        command = [self.options.binary, "train", spec, "--json", "--force", "--out", self.work / "agreement"]
        sets = {"device": device, "model.precision": precision, "parallel.memory": lanes, "train.epochs": lanes}
        told = self.commands.run(command + [part for key, value in sets.items() for part in ("--set", f"{key}={value}")])
        if told["status"] == "ok":
            report = json_of(told["stdout"])
            if report and report.get("epochs"):
                told["loss"] = report["epochs"][-1]["train"]["loss"]
            else:
                told |= {"status": "failed", "reason": "the run printed no report"}
        return told

    def kinds(self):
        device = self.options.device
        listed = json_of(self.commands.run([self.options.binary, "models", "--json"])["stdout"]) or []
        batch = self.options.batch[min(1, len(self.options.batch) - 1)]
        on_device = [kind for kind in listed if kind["device"] or device == "cpu"]
        self.commands.rest = len(on_device) + 1
        for kind in listed:
            more = {"kind": kind["kind"], "device": device, "batch": batch, "precision": "f32"}
            if kind in on_device:
                spec = self.write_spec(f"kind-{kind['kind']}", f'\n[model]\nkind = "{kind["kind"]}"\n')
                sets = {"device": device, "train.batch": batch}
                if kind.get("settings", {}).get("static", {}).get("how", "off") != "off":
                    sets["data.static_memory"] = vectors = self.work / "static.safetensors"
                    if not vectors.exists():
                        told = self.commands.run([self.options.binary, "pretrain", spec, "--out", vectors])
                        if told["status"] != "ok":
                            self.add("kinds", f"pre-training for {kind['kind']}", told, **more)
                            continue
                self.bench("kinds", f"{kind['kind']} on {device}", sets, spec, **more)
            else:
                why = kind.get("device_why_not") or "devices do not know it"
                self.add("kinds", kind["kind"], {"status": "skipped", "reason": why}, **more)

    def why_not(self, part, machine):
        """Why a part cannot run here, if so."""
        if part == "tests":
            return None if self.options.test else "no test binary was named (--test)"
        if part == "pyg" and not self.options.pyg_python:
            return "no Python with PyG was named (--pyg-python)"
        if part == "pyg" and not self.pyg_events:
            return "with --data, PyG needs --pyg-events"
        if part != "cpu" and self.options.device != "cpu" and machine["gpu"] is None:
            return machine["no_gpu"]
        return None

    def run(self):
        started, begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()
        machine = self.machine()
        if machine["gpu"] is None:
            print(machine["no_gpu"], flush=True)
        problem = self.prepare()
        batches = len(self.options.batch)
        commands = {"tests": len(self.options.test), "rates": batches * len(PRECISIONS), "cpu": batches}
        commands |= {"pyg": batches, "lanes": batches, "agreement": 6, "kinds": 8}
        reasons = {part: self.why_not(part, machine) or (problem if part != "tests" else None) for part in SHARES}
        todo = [part for part in SHARES if not reasons[part]]
        for part in SHARES:
            if reasons[part]:
                self.add(part, part, {"status": "skipped", "reason": reasons[part]})
                continue
            shares = sum(SHARES[other] for other in todo)
            self.commands.begin(self.clock.left() * SHARES[part] / shares, commands[part])
            todo.remove(part)
            try:
                getattr(self, part)()
            except (KeyError, TypeError, ValueError, OSError) as error:
                self.add(part, part, {"status": "failed", "reason": f"its results cannot be read: {error!r}"})
        compare(self.rows)
        report = {"schema": 1, "started": started, "seconds": round(time.monotonic() - begun, 1), "budget": self.options.budget}
        report |= {"machine": machine, "gpu": machine["gpu"] or machine["no_gpu"], "settings": settings(self.options), "results": self.rows}
        report["failed"] = [row["name"] for row in self.rows if row["status"] == "failed"]
        write(self.options.out / "gpu.json", json.dumps(report, indent=1) + "\n")
        write(self.options.out / "gpu.md", table(report))
        print(f"{report['seconds']:.0f} s; {self.options.out / 'gpu.json'}, {self.options.out / 'gpu.md'}", flush=True)
        return report


def compare(rows):
    """Adds to each timing its ratio to the CPU's and to PyG's at the same batch."""
    timed = [row for row in rows if row.get("events_per_second")]
    for part, key in (("cpu", "ratio_to_cpu"), ("pyg", "ratio_to_pyg")):
        base = {row["batch"]: row["events_per_second"] for row in timed if row["part"] == part}
        for row in timed:
            if row["part"] in ("rates", "lanes", "cpu") and row["part"] != part and row["batch"] in base:
                row[key] = row["events_per_second"] / base[row["batch"]]


def table(report):
    """All results in Markdown: the timings, then everything else."""
    machine = report["machine"]
    lines = ["# GPU checks and timings", "", f"{report['gpu']}; {machine['cpu']}, {os.cpu_count()} cores; {machine['system']}.", ""]
    lines += [f"{report['started']}, {report['seconds']:.0f} of {report['budget']:.0f} s. Settings: PyG's TGN example, "
              f"{report['settings']['steps']} steps a timing.", ""]
    head = ["timing", "batch", "precision", "lanes", "events/s", "x CPU", "x PyG", "step µs", "launches", "busy", "remark"]
    lines += ruled(head)
    for row in report["results"]:
        if "batch" not in row:
            continue
        cells = [f"{row['part']}: {row['name']}", row["batch"], row["precision"], row.get("lanes", 1)]
        cells += [number(row.get("events_per_second"), "{:,.0f}"), number(row.get("ratio_to_cpu"), "{:.2f}")]
        cells += [number(row.get("ratio_to_pyg"), "{:.2f}"), number(row.get("step_microseconds"), "{:,.0f}")]
        cells += [number(row.get("launches_per_step"), "{:.1f}"), number(row.get("busy"), "{:.0%}"), remark(row)]
        lines.append(ruled_row(cells))
    lines += ["", *ruled(["check", "result", "remark"])]
    for row in report["results"]:
        if "batch" not in row:
            counts = f"{row['passed']} passed, {row['failed']} failed" if "passed" in row else ""
            apart = f"losses {100 * row['difference']:.3f} % apart" if "difference" in row else ""
            lines.append(ruled_row([f"{row['part']}: {row['name']}", row["status"], row.get("reason") or counts or apart]))
    return "\n".join(lines) + "\n"


def remark(row):
    if not row.get("reason"):
        return row.get("notice", "")
    return row["reason"] if row["status"] == "stopped" else f"{row['status']}: {row['reason']}"


def number(value, form):
    return "" if value is None else form.format(value)


def ruled(head):
    return [ruled_row(head), "|" + "---|" * len(head)]


def ruled_row(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def settings(options):
    keys = ["device", "data", "batch", "steps", "events", "threads", "budget"]
    return {key: getattr(options, key) for key in keys}


def write(path, text):
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def cpu_name():
    try:
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def write_events(folder, count, users=8000, items=1000):
    """A stream of the size of wikipedia's, or larger: few users make most events, and most events repeat the user's last item."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "edges.csv"
    draw, last, time_now = random.Random(1), {}, 0
    lines = ["src,dst,ts,label"]
    for event in range(count):
        time_now += draw.randrange(8)
        # Every node comes up once at the beginning, so that ids are dense.
        if event < users:
            user, item = event, event % items
        else:
            user = int(users * draw.random() ** 3)
            item = last[user] if draw.random() < 0.6 else int(items * draw.random() ** 3)
        last[user] = item
        lines.append(f"{user},{users + item},{time_now},0")
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


# What stands in for `tempograph` in the script's own test. FAKE_HANGS lets timings hang, with a child that hangs as well.
FAKE = '''#!{python}
import json, os, subprocess, sys
command, rest = sys.argv[1], sys.argv[2:]
sets = dict(part.split("=", 1) for flag, part in zip(rest, rest[1:]) if flag == "--set")
if command == "devices":
    print(json.dumps({{"cpu": {{"cores": 2}}, "cuda": {gpus}}}))
elif command == "prepare":
    os.makedirs(rest[rest.index("--out") + 1])
elif command == "models":
    print(json.dumps([{{"kind": "tgn", "device": True}}, {{"kind": "apan", "device": False, "device_why_not": "no mailboxes"}}]))
elif command == "bench":
    if {hangs}:
        subprocess.Popen(["sleep", "60"])
        subprocess.run(["sleep", "60"])
    if sets.get("model.precision") == "bf16":
        sys.exit("error: model.precision = \\"bf16\\"; this processor has none")
    rate = 1000.0 * (4 if sets["device"] != "cpu" else 1)
    print("trains on it", file=sys.stderr)
    print(json.dumps({{"events_per_second": rate, "seconds": 1.0, "peak_memory_bytes": 7, "stages": {{}}, "step_seconds": [0.5, 0.4]}}))
elif command == "train":
    loss = 0.9 if sets["device"] == "cpu" else 0.901 if sets["model.precision"] != "tf32" else 1.5
    print(json.dumps({{"epochs": [{{"train": {{"loss": loss}}}}]}}))
elif command.endswith("pyg_tgn.py"):
    train = {{"events_per_second": 500.0, "stages": {{}}}}
    with open(rest[rest.index("--out") + 1], "w") as out:
        json.dump({{"epochs": [{{"train": train}}], "versions": {{"torch": "2"}}}}, out)
elif command == "--show-output":
    print("test a ... ok\\n\\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out")
'''


def self_test():
    """Runs the whole script against a binary that answers at once, one that hangs, and one without a GPU."""

    def call(gpus, hangs, *more):
        folder = Path(tempfile.mkdtemp(dir=root))
        binary = folder / "fake"
        binary.write_text(FAKE.format(python=sys.executable, gpus=gpus, hangs=hangs))
        binary.chmod(0o755)
        begun = time.monotonic()
        code = main([str(binary), "--out", str(folder / "out"), "--events", "9000", "--test", f"kernels={binary}", "--pyg-python", str(binary), *more])
        report = json.loads((folder / "out" / "gpu.json").read_text())
        return code, report, (folder / "out" / "gpu.md").read_text(), time.monotonic() - begun

    def rows(report, part):
        return [row for row in report["results"] if row["part"] == part]

    with tempfile.TemporaryDirectory() as root:
        code, report, text, _ = call('["A GPU"]', False)
        assert code == 1, "tf32 ends at another loss, which is a failed check"
        assert report["gpu"] == "A GPU"
        assert rows(report, "tests")[0] | {"seconds": 0} == {
            "part": "tests", "name": "kernels", "status": "ok", "seconds": 0, "passed": 3, "failed": 0, "ignored": 1, "skipped": [],
        }  # fmt: skip
        rates = rows(report, "rates")
        assert len(rates) == 9 and [row["ratio_to_cpu"] for row in rates if row["precision"] != "bf16"] == [4.0] * 6
        assert all("this processor has none" in row["reason"] for row in rates if row["precision"] == "bf16")
        assert [row["ratio_to_pyg"] for row in rates if row["precision"] == "f32"] == [8.0] * 3
        assert [row["status"] for row in rows(report, "agreement")] == ["ok", "failed", "ok", "ok"]
        assert [row["status"] for row in rows(report, "kinds")] == ["ok", "skipped"]
        assert "| cpu: cpu, batch 600, f32 | 600 | f32 | 1 | 1,000 |" in text and "66.482 % apart" not in text

        code, report, text, _ = call('{"none": "no driver"}', False)
        assert code == 0 and report["gpu"] == "no GPU: no driver" and report["machine"]["gpu"] is None
        assert all(row["reason"] == "no GPU: no driver" for row in rows(report, "rates")) and "no GPU: no driver" in text
        assert len(rows(report, "cpu")) == 3 and rows(report, "cpu")[0]["events_per_second"] == 1000.0
        assert call('{"none": "no driver"}', False, "--require-gpu")[0] == 2

        code, report, _, took = call('["A GPU"]', True, "--budget", "25", "--batch", "200")
        assert took < 27, f"a budget of 25 s took {took:.0f} s"
        assert code == 0 and all(row["status"] in ("stopped", "skipped") for row in rows(report, "rates"))
        assert all(row["reason"].startswith(("stopped after", "no time")) for row in rows(report, "rates"))
    assert read_test_summary("nothing") is None and json_of("a\n{\"b\": 1}\n") == {"b": 1} and json_of("a") is None
    summary = read_test_summary("skipped: no driver\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured")
    assert summary["skipped"] == ["no driver"]
    print("gpu.py keeps its promises")


def main(argv=None):
    options = arguments(argv)
    if options.self_test:
        self_test()
        return 0
    options.binary = options.binary.resolve()
    report = Checks(options).run()
    if report["machine"]["gpu"] is None and options.require_gpu:
        return 2
    # A timing that the machine refuses (bf16 without such instructions) is no failed check.
    return int(any(row["status"] == "failed" and row["part"] in ("tests", "agreement") for row in report["results"]))


if __name__ == "__main__":
    sys.exit(main())
