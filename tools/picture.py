#!/usr/bin/env python3
"""Makes the picture of README.md from a real run: eight sessions on four workers, and one worker is killed in a call.

    tools/picture.py [--keelback build/release/keelback] [--out docs/pictures/one-call-is-lost.svg]

Each call says when it began and ended in its worker. What is drawn is what was measured; if the run did not show what
the picture says, there is no picture. Standard library only.
"""
import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "demo"))
from client import Client, Daemon  # noqa: E402

APPLICATION = """
import os
import time
import keelback

@keelback.function
def work(ms):
    begin = time.monotonic()
    if ms > 100:
        open(os.environ["LONG_CALL"], "w").close()  # it runs
    time.sleep(ms / 1000)
    return [begin, time.monotonic()]  # one clock for all processes of a machine
"""
SESSIONS = {"ann": "#0072b2", "bob": "#e69f00", "cyd": "#009e73", "dee": "#cc79a7",
            "eli": "#56b4e9", "fay": "#8c6d1f", "gus": "#6a51a3", "hal": "#5b8c2a"}
RED, INK, PALE = "#d11149", "#1f2933", "#eef1f4"
BEFORE, AFTER = 0.42, 0.58  # seconds around the kill that are drawn
LONG_MS = 160  # the call that is hit


class Session(threading.Thread):
    """Calls again and again, and keeps (begin, end, outcome, worker) of each call."""

    def __init__(self, run, name):
        super().__init__(name=name, daemon=True)
        self.run_, self.records, self.long, self.chance = run, [], threading.Event(), random.Random(name)

    def run(self):
        client = Client(self.run_.address)
        while not self.run_.over.is_set():
            ms = LONG_MS if self.long.is_set() else self.chance.randint(18, 42)
            self.long.clear()
            sent = time.monotonic()
            outcome, value, headers = client.call("work", session=self.name, ms=ms)
            begin, end = value if outcome == "ok" else (sent, time.monotonic())
            self.records.append((begin, end, outcome, headers.get("Keelback-Worker")))
            time.sleep(self.chance.uniform(0.008, 0.04))  # a person thinks
        client.close()

    @property
    def home(self):
        return self.records[-1][3] if self.records else None


class Run:
    def __init__(self, keelback):
        self.over, self.sessions = threading.Event(), [Session(self, name) for name in SESSIONS]
        with tempfile.TemporaryDirectory(prefix="keelback-picture-") as folder:
            application = Path(folder) / "app.py"
            application.write_text(APPLICATION)
            self.runs = Path(folder) / "runs"
            command = [keelback, "serve", str(application), "--workers", "4", "--listen", "127.0.0.1:0"]
            with Daemon(command, {"LONG_CALL": str(self.runs)}) as daemon:
                daemon.wait(lambda: daemon.address, "it listens", 30)
                self.address, self.client = daemon.address, Client(daemon.address)
                daemon.wait(lambda: self.client.get("/v1/pool")["workers"]["ready"] == 4, "4 workers are ready", 60)
                self.play(daemon)
                self.client.close()
                daemon.stop()

    def play(self, daemon):
        for session in self.sessions:
            session.start()
        until = time.monotonic() + BEFORE
        daemon.wait(lambda: time.monotonic() > until and all(session.home for session in self.sessions), "calls go on", 30)
        homes = [session.home for session in self.sessions]
        victim = next((session for session in self.sessions if homes.count(session.home) > 1), self.sessions[0])
        self.victim, self.worker = victim, victim.home
        self.there = {session for session in self.sessions if session.home == victim.home}
        slot, generation = map(int, self.worker.split("."))
        victim.long.set()
        daemon.wait(self.runs.exists, "the long call runs", 30)
        until = time.monotonic() + 0.6 * LONG_MS / 1000
        daemon.wait(lambda: time.monotonic() > until, "the long call is half done", 30)
        workers = {worker["slot"]: worker for worker in self.client.get("/v1/workers")}
        self.killed = time.monotonic()
        os.kill(workers[slot]["pid"], signal.SIGKILL)

        def replaced():
            now = {worker["slot"]: worker for worker in self.client.get("/v1/workers")}[slot]
            return now["generation"] > generation and now["state"] in ("ready", "busy")

        daemon.wait(replaced, "a replacement is ready", 20)
        self.replaced = time.monotonic()
        until = self.killed + AFTER + 0.1
        daemon.wait(lambda: time.monotonic() > until, "calls go on", 20)
        self.over.set()
        for session in self.sessions:
            session.join(20)
        self.check()

    def check(self):
        records = [(session, *record) for session in self.sessions for record in session.records]
        bad = [(session, outcome) for session, _, _, outcome, _ in records if outcome != "ok"]
        died = [session for session, outcome in bad if outcome == "worker_died"]
        lost = {session for session, outcome in bad if outcome == "session_lost"}
        if died != [self.victim] or lost != self.there or len(bad) > 1 + 2 * len(lost):
            raise RuntimeError(f"the run did not show it: {[(session.name, outcome) for session, outcome in bad]}")
        self.records = records


def picture(run):
    left, top, lane, width = 96, 74, 46, 960
    right = width - 24
    lanes_end = top + 5 * lane

    def x(at):
        return left + (at - run.killed + BEFORE) / (BEFORE + AFTER) * (right - left)

    def text(at, y, words, size=13, color=INK, anchor="start", weight="normal"):
        return f'<text x="{at:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'

    first, last = run.killed - BEFORE, run.killed + AFTER
    # The call that is hit ends with the kill, whenever its caller hears of that.
    records = [(session, max(begin, first), run.killed, outcome, worker) if outcome == "worker_died" else (session, begin, end, outcome, worker)
               for session, begin, end, outcome, worker in run.records]
    drawn = [record for record in records if first <= record[1] and record[2] <= last]
    lost = [record for record in drawn if record[3] == "session_lost"]
    slot = int(run.worker.split(".")[0])
    ready_ms = (run.replaced - run.killed) * 1e3
    out = [text(24, 32, "One of four workers is killed in the middle of a call", 19, weight="bold"),
           text(24, 54, "Each bar is a call on its worker. Its colour is its session.", 13)]
    for number in range(1, 5):
        y = top + (number - 1) * lane
        out.append(f'<rect x="{left}" y="{y + 6}" width="{right - left}" height="{lane - 12}" fill="{PALE}"/>')
        out.append(text(24, y + lane / 2 + 5, f"worker {number}"))
    y = top + 4 * lane
    out.append(text(24, y + lane / 2 + 5, "told"))
    gap_begin, gap_end = x(run.killed), x(run.replaced)
    y_slot = top + (slot - 1) * lane
    out.append(f'<rect x="{gap_begin:.1f}" y="{y_slot + 6}" width="{max(gap_end - gap_begin, 1.5):.1f}" height="{lane - 12}" fill="white"/>')
    for session, begin, end, outcome, worker in drawn:
        if outcome == "session_lost":
            at = x(end)
            out.append(f'<path d="M{at:.1f} {y + 12} l8 11 l-8 11 l-8 -11 z" fill="{SESSIONS[session.name]}" stroke="{RED}" stroke-width="2"/>')
            continue
        y_bar = top + (int(worker.split(".")[0]) - 1) * lane + 10
        color = SESSIONS[session.name] if outcome == "ok" else RED
        out.append(f'<rect x="{x(begin):.1f}" y="{y_bar}" width="{x(end) - x(begin) - .8:.1f}" height="{lane - 20}" rx="2" fill="{color}">'
                   f"<title>{session.name}: {outcome}, {(end - begin) * 1e3:.0f} ms</title></rect>")
    out.append(f'<line x1="{gap_begin:.1f}" y1="{top - 4}" x2="{gap_begin:.1f}" y2="{lanes_end}" stroke="{RED}" stroke-width="1.5" stroke-dasharray="4 3"/>')
    out.append(text(gap_begin + 6, top - 2, f"SIGKILL to worker {slot}; its replacement is ready {ready_ms:.0f} ms later", 13, RED, weight="bold"))
    if lost:
        at = x(max(record[2] for record in lost)) + 14
        out.append(text(at, y + lane / 2 + 5, "session_lost: nothing ran, the state is gone, they begin anew", 13))
    bad = 1 + len(lost)
    for second in range(-4, 6):
        at = x(run.killed + second / 10)
        label = "0" if second == 0 else f"{second * 100:+d} ms"
        out.append(text(at, lanes_end + 18, label, 11, "#52606d", "middle"))
    out.append(text(24, lanes_end + 44, f"{len(drawn)} calls: {len(drawn) - bad} ok; 1 worker_died, the red one; {len(lost)} session_lost. "
                    "Sessions of the other workers noticed nothing.", 14, weight="bold"))
    height = lanes_end + 62
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
            f'aria-label="One of four workers is killed; one call fails" font-family="system-ui, DejaVu Sans, sans-serif">\n'
            f"<!-- A real run, drawn by tools/picture.py -->\n"
            f'<rect width="{width}" height="{height}" rx="8" fill="white" stroke="#cbd2d9"/>\n' + "\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keelback", default=str(ROOT / "build/release/keelback"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs/pictures/one-call-is-lost.svg")
    options = parser.parse_args()
    try:
        drawing = picture(Run(options.keelback))
    except RuntimeError as error:
        sys.exit(str(error))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(drawing)
    print(options.out)


if __name__ == "__main__":
    main()
