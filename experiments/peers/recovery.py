"""Time to ready of `tempograph serve` after kill -9, by the length of its log of record.

    python recovery.py target/release/tempograph ARTIFACT FOLDER --events 1000000

The artifact, of a model without features, is copied to FOLDER, told so many events and 99,000 more over HTTP, in requests of 1000, with a
snapshot every 100,000; then the server is killed, and started again three times until /health/ready answers. With --without-snapshot also
once from nothing but the artifact and the log.
"""
import argparse
import http.client
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import time

REQUEST, EVERY, TAIL, PORT = 1000, 100_000, 99_000, 18733


def start(args, artifact, every):
    sets = [f"listen.http=127.0.0.1:{PORT}", f"snapshots.every_events={every}", "snapshots.every_mib=0", "logging.level=warn"]
    command = [args.binary, "serve", str(artifact)] + [word for each in sets for word in ("--set", each)]
    begun = time.time()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while server.poll() is None:
        try:
            client = http.client.HTTPConnection("127.0.0.1", PORT)
            if ready(client):
                return server, client, time.time() - begun
        except OSError:
            pass
        time.sleep(0.005)
    raise SystemExit(f"the server ended with {server.returncode}")


def ready(client):
    client.request("GET", "/health/ready")
    response = client.getresponse()
    response.read()
    return response.status == 200


def tell(client, count, clock):
    chance = random.Random(1)
    for _ in range(0, count, REQUEST):
        events = [{"src": chance.randrange(8000), "dst": 8000 + chance.randrange(2000), "time": next(clock)} for _ in range(REQUEST)]
        client.request("POST", "/v1/events", json.dumps({"events": events}), {"content-type": "application/json"})
        response = client.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(answer.decode())


def kill(server):
    server.kill()
    server.wait()


def size(folder):
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("artifact", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--without-snapshot", action="store_true")
    args = parser.parse_args()
    artifact, log, shelf = (args.folder / name for name in ("artifact", "artifact.log", "artifact.snapshots"))
    shutil.copytree(args.artifact, artifact)
    manifest = json.loads((artifact / "manifest.json").read_text())
    count = args.events + TAIL
    first = manifest["newest"] // manifest["time_unit"]["scale"] + 1
    server, client, _ = start(args, artifact, EVERY)
    begun = time.time()
    tell(client, count, iter(range(first, first + count)))
    print(f"{count} events told at {count / (time.time() - begun):.0f} a second, {size(log) / count:.1f} bytes of log each")
    kill(server)
    notes = [json.loads(path.read_text()) for path in shelf.glob("*/snapshot.json")]
    newest = max(notes, key=lambda note: note["number"])
    print(f"a snapshot has {size(shelf) / len(notes) / 1e6:.1f} MB; {manifest['log_position'] + count - newest['log_seq']} events are behind the newest")
    times = []
    for _ in range(3):
        server, _, seconds = start(args, artifact, 0)
        times.append(seconds)
        kill(server)
    print(f"ready after {statistics.median(times):.2f} s, the median of {', '.join(f'{seconds:.2f}' for seconds in times)}")
    if args.without_snapshot:
        shutil.rmtree(shelf)
        server, _, seconds = start(args, artifact, 0)
        print(f"ready after {seconds:.2f} s without a snapshot")
        kill(server)


if __name__ == "__main__":
    main()
