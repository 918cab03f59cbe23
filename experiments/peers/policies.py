"""The scheduler's policies through the real server: one artifact served with `fifo` and with `deadline`, under the same load.

    python policies.py target/release/tempograph ARTIFACT --data data/wikipedia --arrivals bursty --pairs 256 --untold
    python policies.py target/release/tempograph ARTIFACT --data data/wikipedia --mix score=95,rank=5 --deadline-ms 20 --rank-deadline-ms 2000

What is compared is who waits in the server's queue, so requests have to wait there and nowhere else: they are to cost more to compute than to
carry (`--pairs`, rankings), and there are more connections than requests that are answered within a deadline. With `--untold` nobody tells the
server how long an answer is of use, and both go by `scheduler.deadline_ms`, set to `--deadline-ms`; told, a read whose deadline passes while it
waits is not computed under `fifo` either. With `--mix` rankings of all destinations, which may take long, stand beside scores that may not.

Saturation is looked for once, with `deadline`; then each share of it is offered to both, turn by turn, each time to a server that was started
anew and keeps nothing on the disk. `--rate` says what is offered at load 1 instead. Goodput counts what was answered within its deadline,
latencies are of all that was answered, and what was refused (429, 503 and 504) is told apart from what found no connection and was never sent.
The table is Markdown; `--json FILE` keeps everything that `tempograph load` reported. Run it on a machine that does nothing else.
"""
import argparse
import http.client
import json
import pathlib
import subprocess
import time

PORT = 18734
POLICIES = ("fifo", "deadline")
KINDS = ("scores", "ranks")


def serve(args, policy):
    """A server that is ready, as a process."""
    sets = [f"listen.http=127.0.0.1:{PORT}", "log.kind=memory", "logging.level=warn", f"scheduler.policy={policy}"]
    sets += [f"scheduler.deadline_ms={args.deadline_ms}"] * args.untold + [f"limits.connections={args.connections + 16}"] + args.set
    command = [args.binary, "serve", str(args.artifact)] + [word for each in sets for word in ("--set", each)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while server.poll() is None:
        try:
            client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            client.request("GET", "/health/ready")
            if client.getresponse().status == 200:
                return server
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"the server ended with {server.returncode}")


def load(args, policy, *options):
    """What `tempograph load` reports of a server of its own."""
    server = serve(args, policy)
    try:
        command = [args.binary, "load", f"127.0.0.1:{PORT}", "--data", args.data, "--mix", args.mix, "--arrivals", args.arrivals]
        command += ["--deadline-ms", str(args.deadline_ms), "--connections", str(args.connections), "--seconds", str(args.seconds)]
        command += ["--pairs", str(args.pairs)] + ["--untold"] * args.untold
        if args.rank_deadline_ms:
            command += ["--rank-deadline-ms", str(args.rank_deadline_ms)]
        done = subprocess.run(command + ["--json", *options], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)
    finally:
        server.terminate()
        server.wait()


def row(policy, share, kind, tally):
    errors = tally["errors"]
    refused = sum(count for what, count in errors.items() if what.startswith(("429", "503", "504")))
    latency = tally["latency"]
    quantiles = [latency[name] for name in ("p50_ms", "p99_ms", "p999_ms")]
    cells = [f"{share:g}", policy, kind, f"{tally['offered_per_second']:,.0f}", f"{tally['goodput_per_second']:,.0f}"]
    cells += [f"{quantile:.1f}" for quantile in quantiles]
    cells += [f"{number:,}" for number in (tally["late"], refused, sum(errors.values()) - refused)]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("artifact", type=pathlib.Path)
    parser.add_argument("--data", required=True, help="the set the artifact was made from")
    parser.add_argument("--arrivals", default="replay", choices=("replay", "bursty", "poisson"))
    parser.add_argument("--mix", default="score=100", help="as of `tempograph load`")
    parser.add_argument("--rate", type=float, help="operations a second at load 1; looked for where it is left out")
    parser.add_argument("--at", default="0.5,1,1.5,2", help="shares of it")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--deadline-ms", type=int, default=50)
    parser.add_argument("--rank-deadline-ms", type=int, help="of rankings, where it is not the same")
    parser.add_argument("--untold", action="store_true", help="the server goes by its own deadline, which is the same")
    parser.add_argument("--pairs", type=int, default=1, help="pairs of a request to score")
    parser.add_argument("--connections", type=int, default=512, help="more than are answered within a deadline, so that waiting is the server's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of both servers")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the whole reports")
    args = parser.parse_args()
    rate = args.rate
    if rate is None:
        # Where saturation is, independent users say best: a burst would be late at any rate.
        arrivals, args.arrivals = args.arrivals, "poisson"
        rate = load(args, "deadline", "--find-saturation", "--at", "1")["phases"][0]["rate"]
        args.arrivals = arrivals
    told = "untold" if args.untold else "told"
    deadlines = f"{args.deadline_ms} ms, of rankings {args.rank_deadline_ms or args.deadline_ms} ms, {told} to the server"
    print(f"{args.arrivals} arrivals of `{args.mix}`, {args.pairs} pairs to score, deadline {deadlines}; load 1 is {rate:,.0f} a second, {args.seconds:g} s each\n")
    print("| load | policy | what | offered/s | goodput/s | p50 ms | p99 ms | p99.9 ms | late | refused | not sent or failed |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    reports = []
    for share in map(float, args.at.split(",")):
        for policy in POLICIES:
            report = load(args, policy, "--rate", str(share * rate))
            reports.append({"policy": policy, "load": share, "report": report})
            tallies = report["phases"][0]["report"]
            for kind in KINDS:
                if tallies[kind]["offered_per_second"]:
                    print(row(policy, share, kind, tallies[kind]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(reports, indent=1))


if __name__ == "__main__":
    main()
