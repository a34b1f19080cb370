#!/usr/bin/env python3
"""How long a pool takes when all its sessions wait for a slow model at once: .venv/bin/python tests/dspy/waiting_bench.py

Two pools of the same build take turns: one with the default settings, one whose workers run one call at a time
(workers.concurrency = 1). In each round every session executes its program once; a round's time is from the moment
when all callers begin until the last has its answer. The model is a server on loopback that answers after a fixed time.
The last line is JSON: the median of each pool in seconds, and how many times as fast the first is.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "examples" / "demo"))
from client import Client, Daemon  # noqa: E402

POOLS = {"at_once": (), "one_by_one": ("--set", "workers.concurrency=1")}


class Failed(Exception):
    pass


class Model:
    """tests/support/fake_lm.py as a process: it must not share an interpreter with the callers."""

    def __init__(self, delay_ms, directory):
        script = Path(directory) / "script.json"
        script.write_text(json.dumps({"delay_ms": delay_ms}))
        self.process = subprocess.Popen([sys.executable, str(ROOT / "tests/support/fake_lm.py"), "--script", str(script)],
                                        stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()


class Sessions:
    """One pool's sessions, each with a connection and a thread of its own."""

    def __init__(self, daemon, model, count):
        self.clients = [Client(daemon.address, timeout=300) for _ in range(count)]
        self.ok(self.clients[0].call("configure_lm", model="openai/fake", api_base=model.url, api_key="none"))
        for number in range(count):  # one after another, so that each worker gets as many
            self.call(number, "create_program", id="qa", signature="question -> answer")

    @staticmethod
    def ok(reply):
        outcome, value, _ = reply
        if outcome != "ok":
            raise Failed(f"{outcome}: {value}")
        return value

    def call(self, number, function, **arguments):
        return self.ok(self.clients[number].call(function, session=f"s{number}", **arguments))

    def in_threads(self, call):
        """Seconds from the moment when all begin until the last has ended."""
        gate, failures = threading.Barrier(len(self.clients) + 1), []

        def run(number):
            gate.wait()
            try:
                call(number)
            except Exception as error:
                failures.append(f"session {number}: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(self.clients))]
        for thread in threads:
            thread.start()
        gate.wait()
        begin = time.monotonic()
        for thread in threads:
            thread.join()
        if failures:
            raise Failed("; ".join(failures[:3]))
        return time.monotonic() - begin

    def round(self):
        def ask(number):
            value = self.call(number, "execute_program", id="qa", inputs={"question": f"Who is {number}?"})
            if value["outputs"]["answer"] != f"answer to: Who is {number}?":
                raise Failed(f"a wrong answer: {value}")
        return self.in_threads(ask)


def measure(options, directory):
    found = {name: [] for name in POOLS}
    with Model(options.delay_ms, directory) as model:
        daemons = {name: Daemon([options.keelback, "serve", "keelback.apps.dspy", "--workers", str(options.workers), "--listen", "127.0.0.1:0",
                                 "--set", f"workers.python={sys.executable}", "--set", "calls.deadline=5m", *more], {})
                   for name, more in POOLS.items()}
        with daemons["at_once"], daemons["one_by_one"]:
            sessions = {}
            for name, daemon in daemons.items():
                daemon.wait(lambda: daemon.address, "the daemon says where it listens", 30)
                client = Client(daemon.address)
                daemon.wait(lambda: client.get("/v1/pool")["workers"]["ready"] == options.workers, "the workers are ready", 60)
                sessions[name] = Sessions(daemon, model, options.sessions)
                sessions[name].round()  # the first one opens connections and starts threads
            for _ in range(options.rounds):
                for name in POOLS:
                    found[name].append(sessions[name].round())
            for daemon in daemons.values():
                daemon.stop()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keelback", default=os.path.join(ROOT, "build", "release", "keelback"))
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--delay-ms", type=float, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keelback-waiting-") as directory:
        found = measure(options, directory)
    medians = {name: statistics.median(times) for name, times in found.items()}
    print(f"{options.sessions} sessions, {options.workers} workers, a model that answers after {options.delay_ms:g} ms")
    for name, times in found.items():
        print(f"  {name:11} {medians[name]:.3f} s  ({min(times):.3f} to {max(times):.3f}, {len(times)} rounds)")
    print(json.dumps({**medians, "times_as_fast": medians["one_by_one"] / medians["at_once"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
