#!/usr/bin/env python3
"""Records blocks of a program against itself, as `keelback bench compare` takes them: fresh agents, a coin for who goes first, windows in ABBA order.

Prints the scores ln(second / first) per metric, one block a line. Run by hand; tests/oracle/recorded_blocks.h holds what came of it, and the replay test judges
the gate by it. `tests/oracle/record_blocks.py build/release/keelback SECONDS SEED`
"""
import json
import math
import random
import statistics
import subprocess
import sys
import time

METRICS = {"p10_us": "call.p10_us", "p50_us": "call.p50_us", "cpu_us_per_call": "call.cpu_us"}


class Agent:
    def __init__(self, program):
        self.process = subprocess.Popen([program, "bench", "agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(op="start", workers=2, cpu=0)

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["ok"], answer
        return answer

    def window(self, ms):
        return self.ask(op="window", callers=1, ms=ms)

    def stop(self):
        self.ask(op="stop")
        self.process.stdin.close()
        self.process.wait()


def block(program, coin):
    agents = {}
    for side in coin.sample((0, 1), 2):
        agents[side] = Agent(program)
    for side in coin.sample((0, 1), 2):
        agents[side].window(10)
    windows = {0: [], 1: []}
    for _ in range(3):
        first = coin.randrange(2)
        for side in (first, 1 - first, 1 - first, first):
            windows[side].append(agents[side].window(40))
    for side in coin.sample((0, 1), 2):
        agents[side].stop()
    return [statistics.median(math.log(b[field] / a[field]) for a, b in zip(windows[0], windows[1])) for field in METRICS]


def main():
    program, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    coin = random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        print(" ".join(f"{score:.5f}" for score in block(program, coin)), flush=True)


if __name__ == "__main__":
    main()
