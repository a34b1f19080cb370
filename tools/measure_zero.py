#!/usr/bin/env python3
"""Measures the first call of a pool that keeps no worker, against a fork and a call of the same run.

    tools/measure_zero.py [--keelback build/release/keelback] [--rounds 30] [--app APP.py]

Each round, on one daemon: the first call when there is no worker (A); the start of one more worker,
from the change of pool.workers until it is ready (B); a call on a worker that is there (C). Prints
the medians, and A / (B + C) by rounds.
"""
import argparse
import http.client
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = """
import keelback, decimal, email.message, fractions, http.client, unittest, xml.dom.minidom

@keelback.function
def add(a, b):
    return a + b
"""


class Daemon:
    def __init__(self, program, app):
        settings = ("pool.workers=0", "pool.workers_max=4", "pool.scale_down_after=0", "log.level=warn")
        command = [program, "serve", app, "--listen", "127.0.0.1:0"]
        for setting in settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "listening on" in line:
                self.address = line.split("http://")[1].split()[0]
                break
        self.connection = http.client.HTTPConnection(self.address)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        text = reply.read()
        assert reply.status == 200, (path, reply.status, text)
        return json.loads(text)

    def workers(self, state=None):
        counts = self.ask("GET", "/v1/pool")["workers"]
        return counts[state] if state else sum(counts.values())

    def await_workers(self, number, state=None):
        while self.workers(state) != number:
            time.sleep(0.0002)

    def configure(self, **values):
        self.ask("PATCH", "/v1/config", json.dumps({f"pool.{key}": value for key, value in values.items()}))

    def call(self):
        begin = time.perf_counter()
        assert self.ask("POST", "/v1/call/add", "[1, 2]") == 3
        return time.perf_counter() - begin

    def start_one(self):
        begin = time.perf_counter()
        self.configure(workers=2)
        self.await_workers(2, "ready")
        return time.perf_counter() - begin

    def round(self):
        self.await_workers(0)
        first = self.call()
        call = statistics.median(self.call() for _ in range(5))
        self.configure(workers=1)
        self.await_workers(1, "ready")
        fork = self.start_one()
        self.configure(workers=0)
        return first, fork, call


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keelback", default=str(ROOT / "build/release/keelback"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--app")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = options.app or f"{folder}/app.py"
        if not options.app:
            Path(app).write_text(APP)
        daemon = Daemon(options.keelback, app)
        try:
            rounds = [daemon.round() for _ in range(options.rounds)]
        finally:
            daemon.process.terminate()
            daemon.process.wait()
    ratios = sorted(first / (fork + call) for first, fork, call in rounds)
    for name, values in zip(("first call from zero", "start of a worker", "call"), zip(*rounds)):
        print(f"{name:22} median {statistics.median(values) * 1e3:8.2f} ms")
    print(f"first / (start + call) median {statistics.median(ratios):8.2f}   quartiles "
          f"{ratios[len(ratios) // 4]:.2f} {ratios[3 * len(ratios) // 4]:.2f}   {len(ratios)} rounds")


if __name__ == "__main__":
    main()
