#!/usr/bin/env python3
"""A pool of 4 serves DSPy programs to a dozen sessions; one worker is killed in the middle of its calls.

What must come out, and is checked: the calls that the worker was running, and no others, fail with the signal and its last
lines; sessions that lived on it are told so and begin anew; nobody else notices; a replacement is there in milliseconds;
nothing is left when the daemon stops. Standard library only; scripts/demo calls it.
"""

import argparse
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client import Client, Daemon  # noqa: E402

NAMES = ("ann", "bob", "cyd", "dee", "eli", "fay", "gus", "hal", "ivy", "jon", "kim", "lea")
KINDS = ("predict", "chain_of_thought", "react")
DELAY_MS = 20  # of each of the scripted model's answers
LONG_MS = 8000  # the answer that the killed worker was waiting for
SCRIPT = {"delay_ms": DELAY_MS, "rules": [{"match": "think hard", "delay_ms": LONG_MS},
                                          {"match": "capital of France", "answer": "Paris"}]}
CALLS_BEFORE = 15  # of each session, before the kill
LOST_REPLIES_MAX = 3  # a lost session is told once for what waited and once more when it next asks


def say(text=""):
    print(text, flush=True)


class Visitor(threading.Thread):
    """One session: creates its program, then calls it again and again, and keeps a record of each reply."""

    def __init__(self, demo, name, kind):
        super().__init__(name=name, daemon=True)
        self.demo, self.kind = demo, kind
        self.records = []  # (sent at, outcome, ms, worker, birth, epoch, problem or None)
        self.think_hard = threading.Event()
        self.thinking_since = None
        self.created, self.failure = 0, None

    def run(self):
        client = Client(self.demo.daemon.address)
        try:
            self.create(client)
            while not self.demo.enough.is_set():
                question = "What is the capital of France?"
                if self.think_hard.is_set():
                    self.think_hard.clear()
                    self.thinking_since = time.monotonic()
                    question = "Please think hard about this."
                outcome, value = self.execute(client, question)
                if outcome == "ok" and not self.right(value):
                    raise RuntimeError(f"a wrong answer: {value}")
                if outcome in ("worker_died", "session_lost"):
                    self.create(client)  # the session is empty now: its worker had the program
                elif outcome != "ok":
                    raise RuntimeError(f"{outcome}: {value}")
        except Exception as error:  # the demonstration reports it and fails
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            client.close()

    def execute(self, client, question):
        sent = time.monotonic()
        outcome, value, headers = client.call("execute_program", session=self.name, id="qa", inputs={"question": question})
        self.record(sent, outcome, value, headers)
        return outcome, value

    def record(self, sent, outcome, value, headers):
        self.records.append((sent, outcome, (time.monotonic() - sent) * 1e3, headers.get("Keelback-Worker"),
                             headers.get("Keelback-Birth"), headers.get("Keelback-Epoch"), None if outcome == "ok" else value))

    def create(self, client):
        for _ in range(LOST_REPLIES_MAX):
            sent = time.monotonic()
            outcome, value, headers = client.call("create_program", session=self.name, id="qa", signature="question -> answer",
                                                  kind=self.kind, replace=True)
            if outcome == "ok":
                self.created += 1
                return
            self.record(sent, outcome, value, headers)
            if outcome != "session_lost":
                break
        raise RuntimeError(f"create_program: {outcome}: {value}")

    @staticmethod
    def right(value):
        return value["outputs"]["answer"] == "Paris" or "think hard" in value["outputs"]["answer"]

    @property
    def home(self):
        return self.records[-1][3] if self.records else None


class Demo:
    def __init__(self, options):
        self.options, self.enough = options, threading.Event()
        self.checks = []

    def check(self, promise, kept):
        self.checks.append((promise, bool(kept)))

    def run(self):
        command = [self.options.keelback, "serve", "keelback.apps.dspy", "--workers", "4", "--listen", "127.0.0.1:0",
                   "--set", f"workers.python={os.path.abspath(self.options.python)}"]
        say("$ " + " ".join(command))
        begin = time.monotonic()
        with Daemon(command, {"KEELBACK_DSPY_LOG": "info"}) as self.daemon:
            self.daemon.wait(lambda: self.daemon.address, "the daemon says where it listens", 30)
            self.client = Client(self.daemon.address)
            self.daemon.wait(lambda: self.client.get("/v1/pool")["workers"]["ready"] == 4, "4 workers are ready", 60)
            start = self.client.get("/v1/pool")["start"]
            say(f"  4 workers ready after {time.monotonic() - begin:.2f} s, {start['import_s']:.2f} s of it the one import of dspy "
                f"({start['mode']})")
            self.configure()
            self.serve()
            self.stop()
        return self.report()

    def configure(self):
        outcome, value, headers = self.client.call("configure_lm", kind="scripted", script=SCRIPT, num_retries=0)
        if outcome != "ok":
            raise RuntimeError(f"configure_lm: {outcome}: {value}")
        say(f"  the model is configured through worker {headers.get('Keelback-Worker')}, for every worker: {DELAY_MS} ms an answer")

    def serve(self):
        self.visitors = [Visitor(self, name, KINDS[i % 3]) for i, name in enumerate(NAMES[:self.options.sessions])]
        for visitor in self.visitors:
            visitor.start()
        self.daemon.wait(lambda: all(len(v.records) >= CALLS_BEFORE or v.failure for v in self.visitors),
                         f"every session has made {CALLS_BEFORE} calls", 30)
        self.raise_failures()
        homes = {v.name: v.home for v in self.visitors}
        say(f"  {len(homes)} sessions on " + ", ".join(
            f"worker {w} ({' '.join(n for n, h in homes.items() if h == w)})" for w in sorted(set(homes.values()))))
        self.kill(self.visitors[1])
        until = time.monotonic() + self.options.seconds
        self.daemon.wait(lambda: time.monotonic() > until, "calls go on", self.options.seconds + 5)
        self.enough.set()
        for visitor in self.visitors:
            visitor.join(30)
        self.raise_failures()

    def raise_failures(self):
        failed = [f"session {v.name}: {v.failure}" for v in self.visitors if v.failure]
        if failed:
            raise RuntimeError("\n".join(failed))

    def kill(self, victim):
        """Kills the victim's worker once it is seen to wait for the answer to the long question."""
        self.victim, self.killed = victim, victim.home
        slot, generation = map(int, self.killed.split("."))
        victim.think_hard.set()
        self.daemon.wait(lambda: victim.thinking_since, "the long question is asked", 10)

        def thinks():
            worker = self.worker(slot)
            # Every other answer takes a few times DELAY_MS: a call that takes ten times as long has the long question.
            return worker if any(call.get("session") == victim.name and call["age_s"] > 0.030 * DELAY_MS
                                 for call in worker["running_calls"]) else None

        worker = self.daemon.wait(thinks, f"worker {self.killed} waits for the long answer", 10)
        say(f"  session {victim.name} asks a hard question: worker {self.killed}, pid {worker['pid']}, waits for the answer"
            f" and runs {worker['running'] - 1} other calls meanwhile")
        self.killed_at = time.monotonic()
        os.kill(worker["pid"], signal.SIGKILL)
        successor = self.daemon.wait(
            lambda: next((w for w in self.client.get("/v1/workers")
                          if w["slot"] == slot and w["generation"] > generation and w["state"] in ("ready", "busy")), None),
            "a replacement is ready", 20)
        self.replaced_ms = (time.monotonic() - self.killed_at) * 1e3
        self.successor = f"{slot}.{successor['generation']}"
        say(f"  SIGKILL to {worker['pid']}; worker {self.successor}, pid {successor['pid']}, is ready {self.replaced_ms:.1f} ms later")

    def worker(self, slot):
        return next(w for w in self.client.get("/v1/workers") if w["slot"] == slot)

    def stop(self):
        pool = self.client.get("/v1/pool")
        self.pool = pool
        self.client.close()
        begin = time.monotonic()
        status = self.daemon.stop()
        say(f"  SIGTERM: the daemon ended with status {status} after {(time.monotonic() - begin) * 1e3:.0f} ms")
        self.check("the daemon drains and exits 0", status == 0)
        self.check("no process is left", not self.daemon.left_behind())

    def report(self):
        say(f"\n{'session':8} {'program':17} {'calls':>6} {'ok':>5}  {'worker':15} {'epoch':6} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7}  what it noticed")
        touched = [v for v in self.visitors if any(r[3] == self.killed or r[1] != "ok" for r in v.records)]
        for v in self.visitors:
            self.row(v)
        deaths = [(v, r) for v in self.visitors for r in v.records if r[1] == "worker_died"]
        lost = {v.name: sum(r[1] == "session_lost" for r in v.records) for v in touched}
        self.tell_death(deaths)
        say(f"sessions that lived on worker {self.killed} and were told session_lost (nothing of theirs ran): "
            + (", ".join(name for name, count in lost.items() if count) or "none"))
        others = [v for v in self.visitors if v not in touched]
        before, since = ([r[2] for v in others for r in v.records if (r[0] < self.killed_at) == early] for early in (True, False))
        say(f"the {len(others)} other sessions: p50 {percentile(before, 50):.1f} ms, p99 {percentile(before, 99):.1f} ms before the kill; "
            f"p50 {percentile(since, 50):.1f} ms, p99 {percentile(since, 99):.1f} ms after it")
        say(f"replacement ready after {self.replaced_ms:.1f} ms (seen from outside, by polling)\n")
        self.judge(deaths, lost, touched, others)
        for promise, kept in self.checks:
            say(f"  {'ok  ' if kept else 'FAIL'} {promise}")
        return all(kept for _, kept in self.checks)

    def row(self, v):
        ok = [r for r in v.records if r[1] == "ok"]
        workers = list(dict.fromkeys(r[3] for r in ok))
        times = [r[2] for r in ok]
        noticed = [r[1] for r in v.records if r[1] != "ok"]
        said = ", ".join(f"{noticed.count(n)} {n}" for n in dict.fromkeys(noticed)) or "nothing"
        say(f"{v.name:8} {v.kind:17} {len(v.records):6} {len(ok):5}  {' then '.join(workers):15} {'/'.join(sorted({r[5] for r in ok})):6} "
            f"{percentile(times, 50):7.1f} {percentile(times, 99):7.1f} {max(times):7.1f}  {said}")

    def tell_death(self, deaths):
        say()
        for visitor, record in deaths:
            death = record[6].get("death") or {}
            say(f"failed: a call that worker {self.killed} was running, of session {visitor.name}, after {record[2]:.0f} ms")
            say(f"  outcome worker_died, effect {record[6].get('effect')}, signal {death.get('signal')}, cause {death.get('cause')}, "
                f"role {death.get('role')}; its worker's last words:")
            for line in (death.get("stderr_tail") or "").splitlines()[-3:]:
                say(f"  | {line}")

    def judge(self, deaths, lost, touched, others):
        died = [v for v, _ in deaths]
        ends = [record[6] for _, record in deaths]
        self.check("the calls that the worker was running died with it, one of each session, the long one too",
                   self.victim in died and len(set(died)) == len(died) and all(record[3] == self.killed for _, record in deaths))
        self.check("their outcomes say signal 9 and effect maybe, and that each may have been the cause",
                   all(end.get("death", {}).get("signal") == 9 and end.get("effect") == "maybe" for end in ends)
                   and all(end["death"].get("role") == ("suspect" if len(ends) > 1 else None) for end in ends))
        self.check("they show the worker's last lines",
                   all(any(f"session '{v.name}'" in (end["death"].get("stderr_tail") or "") for v in touched) for end in ends))
        self.check("only sessions of the dead worker were lost, and each was told",
                   all(lost[v.name] <= LOST_REPLIES_MAX and all(r[3] == self.killed for r in v.records
                                                               if r[0] < self.killed_at and r[1] == "ok") for v in touched)
                   and all(lost[v.name] >= 1 for v in touched if v not in died))
        self.check("those sessions began anew (another birth) and are served again",
                   all(v.records[-1][1] == "ok" and len({r[4] for r in v.records if r[1] == "ok"}) == 2 for v in touched))
        self.check("the other sessions never noticed: every call ok, on one worker, one birth, epoch 1",
                   others and all(len({(r[1], r[3], r[4], r[5]) for r in v.records}) == 1 and v.records[0][1] == "ok"
                                  and v.records[0][5] == "1" for v in others))
        self.check("a worker of a newer generation took the slot, and it alone was restarted", self.pool["restarts"] == 1)
        calls = self.pool["calls"]
        counted = sum(count for name, count in calls.items() if name not in ("accepted", "in_flight", "late"))
        self.check("every call has exactly one outcome: accepted = in_flight + outcomes",
                   calls["accepted"] == calls["in_flight"] + counted)
        self.check("the pool counts as many deaths as the callers saw", calls["worker_died"] == len(deaths))


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] if ordered else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keelback", default="build/release/keelback")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has dspy")
    parser.add_argument("--sessions", type=int, default=12, choices=range(5, len(NAMES) + 1), metavar="5..12")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long calls go on after the kill")
    demo = Demo(parser.parse_args())
    try:
        kept = demo.run()
    except RuntimeError as error:
        say(f"FAIL {error}")
        kept = False
    say("\n" + ("Everything came out as promised." if kept else "Something did not come out as promised."))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
