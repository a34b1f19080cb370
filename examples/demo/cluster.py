#!/usr/bin/env python3
"""Three nodes share one PostgreSQL and serve sessions; one node is killed in the middle.

What must come out, and is checked: a session is one on all nodes; the sessions of the killed node go on at the others with the
state that was acknowledged; sessions of other nodes and calls without a session never notice; the node comes back; nothing is
left at the end. Everything listens on the loopback, the database lives in a temporary directory. Standard library only;
scripts/demo --cluster calls it.
"""

import argparse
import http.client
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
from client import Client, Daemon  # noqa: E402
from demo import NAMES, percentile, say  # noqa: E402
from postgres_server import Missing, PostgresServer, free_port  # noqa: E402

COUNTER = Path(__file__).resolve().parents[1] / "counter.py"
NODES = ("a", "b", "c")
TOKEN = "only-for-this-demonstration"
LEASE_S = 3.0  # the default of cluster.lease
CALLS_BEFORE = 15  # of each session, before the kill
PAUSE_S = 0.02  # between the calls of a session


class Caller(threading.Thread):
    """Calls one function again and again, at any node that is there, and keeps a record of each reply."""

    def __init__(self, demo, name, session, function):
        super().__init__(name=name, daemon=True)
        self.demo, self.session, self.function = demo, session, function
        self.records = []  # (sent at, answered at, outcome, value, node, birth, epoch)
        self.failure = None

    def run(self):
        clients, rng = {}, random.Random(self.name)
        try:
            while not self.demo.enough.is_set():
                sent = time.monotonic()  # before the choice: what is sent after the kill goes to no dead node
                reachable = self.demo.reachable
                for gone in clients.keys() - set(reachable):
                    clients.pop(gone).close()
                node = rng.choice(reachable)
                client = clients.setdefault(node, Client(self.demo.addresses[node], 15))
                try:
                    outcome, value, headers = client.call(self.function, session=self.session)
                except (OSError, http.client.HTTPException) as error:
                    # No answer of a node: a connection that was refused has carried no call.
                    outcome, value, headers = ("refused" if isinstance(error, ConnectionRefusedError) else "no answer"), {}, {}
                self.records.append((sent, time.monotonic(), outcome, value, node, headers.get("Keelback-Birth"),
                                     headers.get("Keelback-Epoch")))
                self.demo.enough.wait(PAUSE_S)
        except Exception as error:  # the demonstration reports it and fails
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            for client in clients.values():
                client.close()

    def answered(self, since=0.0):
        return [r for r in self.records if r[2] == "ok" and r[0] >= since]

    def went_wrong(self):
        """The first answer that is not the one before plus one, plus the calls between of which nobody said that they had no effect."""
        value = unsure = 0
        for record in self.records:
            if record[2] == "ok":
                if not value + 1 <= record[3] <= value + 1 + unsure:
                    return f"session {self.name}: {record[3]} came after {value}, and {unsure} calls between had no certain end"
                value, unsure = record[3], 0
            elif record[2] != "refused" and record[3].get("effect") != "none":
                unsure += 1
        return None


class Demo:
    def __init__(self, options):
        self.options, self.enough = options, threading.Event()
        self.checks, self.daemons, self.addresses = [], {}, {}
        self.reachable = []

    def check(self, promise, kept):
        self.checks.append((promise, bool(kept)))

    def run(self):
        begin = time.monotonic()
        with PostgresServer(pooled=False) as self.database:
            say(f"  PostgreSQL listens on 127.0.0.1:{self.database.port} after {time.monotonic() - begin:.2f} s; its directory is temporary")
            try:
                for name in NODES:
                    self.addresses[name] = f"127.0.0.1:{free_port()}"
                    self.start(name)
                self.serve()
                self.stop()
            finally:
                self.enough.set()
                for daemon in self.daemons.values():
                    daemon.__exit__()
        return self.report()

    def start(self, name):
        address = self.addresses[name]
        command = [self.options.keelback, "serve", str(COUNTER), "--workers", "2", "--listen", address,
                   "--set", f"cluster.node={name}", "--set", f"cluster.advertise=http://{address}",
                   "--set", "sessions.snapshot=each_call", "--set", f"workers.python={os.path.abspath(self.options.python)}",
                   *(word for setting in self.options.set for word in ("--set", setting))]
        say("$ " + " ".join(command))
        begin = time.monotonic()
        daemon = Daemon(command, {"KEELBACK_CLUSTER_STORE": self.database.url(), "KEELBACK_CLUSTER_TOKEN": TOKEN})
        self.daemons[name] = daemon
        daemon.wait(lambda: daemon.address, f"node {name} says where it listens", 30)
        daemon.wait(lambda: self.status(name).get("serves_sessions"), f"node {name} is a member", 60)
        daemon.wait(lambda: self.get(name, "/v1/pool")["workers"]["ready"] == 2, f"the workers of node {name} are ready", 60)
        self.reachable = [*self.reachable, name]
        say(f"  node {name}, pid {daemon.process.pid}, is a member after {time.monotonic() - begin:.2f} s")

    def get(self, name, path):
        client = Client(self.addresses[name], 15)
        try:
            return client.get(path)
        finally:
            client.close()

    def status(self, name):
        return self.get(name, "/v1/cluster")

    def owners(self):
        """{session: node} as the database has it."""
        rows = self.database.query("SELECT convert_from(session, 'UTF8'), owner_node FROM keelback.sessions;").splitlines()
        return {session: node for session, node in (row.split("|") for row in rows) if node}

    def wait(self, condition, what, seconds):
        """Polls; any node that ends by itself, or a caller that fails, ends the demonstration."""
        until = time.monotonic() + seconds
        while not (value := condition()):
            failed = [f"{c.name}: {c.failure}" for c in self.callers if c.failure]
            failed += [f"node {n} ended with status {d.process.returncode}:\n" + "\n".join(d.lines[-20:]) for n, d in self.daemons.items()
                       if d.process.poll() is not None and n in self.reachable]
            if failed:
                raise RuntimeError("\n".join(failed))
            if time.monotonic() > until:
                raise RuntimeError(f"not within {seconds} s: {what}")
            time.sleep(0.005)
        return value

    def serve(self):
        self.sessions = [Caller(self, name, name, "count") for name in NAMES[:self.options.sessions]]
        self.free = Caller(self, "(no session)", None, "hello")
        self.callers = [*self.sessions, self.free]
        for caller in self.callers:
            caller.start()
        self.wait(lambda: all(len(c.answered()) >= CALLS_BEFORE for c in self.callers), f"every caller has {CALLS_BEFORE} answers", 60)
        owners = self.owners()
        say(f"  {len(self.sessions)} sessions, each called at any node: " + "; ".join(
            f"node {n} owns {' '.join(s.name for s in self.sessions if owners.get(s.name) == n) or 'none'}" for n in NODES))
        self.kill(owners)
        self.come_back()
        until = time.monotonic() + self.options.seconds
        self.wait(lambda: time.monotonic() > until, "calls go on", self.options.seconds + 5)
        self.replay()
        self.enough.set()
        for caller in self.callers:
            caller.join(30)
        self.check("every caller came to its end", not any(c.is_alive() or c.failure for c in self.callers))

    def kill(self, owners):
        """Kills the node that owns the most sessions; its callers go to the other nodes from then on, as a balancer does."""
        of = {n: [s for s in self.sessions if owners.get(s.name) == n] for n in NODES}
        self.killed = max(NODES, key=lambda n: len(of[n]))
        self.moved, self.others = of[self.killed], [s for n in NODES if n != self.killed for s in of[n]]
        self.before = {s.name: s.answered()[-1] for s in self.sessions}
        process = self.daemons[self.killed].process
        self.reachable = [n for n in self.reachable if n != self.killed]
        self.killed_at = time.monotonic()
        process.send_signal(signal.SIGKILL)
        process.wait()
        say(f"  SIGKILL to node {self.killed}, pid {process.pid}: it owns {len(self.moved)} sessions, and the last state of each is in the database")
        self.wait(lambda: all(s.answered(self.killed_at) for s in self.moved), "its sessions are served elsewhere", 10 * LEASE_S)
        self.back = {s.name: s.answered(self.killed_at)[0] for s in self.moved}
        waited = [self.back[s.name][1] - self.killed_at for s in self.moved] or [0.0]
        say(f"  they go on at other nodes {min(waited):.2f} to {max(waited):.2f} s later (the lease is {LEASE_S:.0f} s)")
        now = self.owners()
        self.check("the sessions of the killed node have another owner in the database",
                   self.moved and all(now.get(s.name) in self.reachable for s in self.moved))
        self.check("the other nodes retired it", sum(self.status(n)["counters"]["retired_others"] for n in self.reachable))

    def come_back(self):
        leftover = self.daemons[self.killed].left_behind(10)
        self.check("no process of the killed node is left", not leftover)
        self.start(self.killed)
        came = time.monotonic()
        self.wait(lambda: all(any(r[4] == self.killed for r in c.answered(came)) for c in self.callers), "every caller is served at it", 30)
        self.check("the killed node came back under its name, and serves every session", True)

    def replay(self):
        """One key, every node: the call runs once."""
        told = []
        for name in NODES:
            client = Client(self.addresses[name], 15)
            status, _, value = client.request("POST", "/v1/call/count", "{}", {
                "Content-Type": "application/json", "Keelback-Session": "keyed", "Idempotency-Key": "the-same"})
            told.append((status, value))
            client.close()
        self.check("an Idempotency-Key counts in the whole cluster: three nodes give the one answer", told == [(200, 1)] * 3)

    def stop(self):
        statuses = {}
        for name in NODES:
            self.reachable = [n for n in self.reachable if n != name]
            begin = time.monotonic()
            statuses[name] = self.daemons[name].stop(30)
            say(f"  SIGTERM: node {name} ended with status {statuses[name]} after {(time.monotonic() - begin) * 1e3:.0f} ms")
        self.check("every node drains and exits 0", all(status == 0 for status in statuses.values()))
        self.check("no process is left", not any(d.left_behind() for d in self.daemons.values()))

    def report(self):
        say(f"\n{'session':13} {'calls':>6} {'ok':>5}  {'epoch':6} {'p50 ms':>7} {'p99 ms':>7}  {'before, after the kill':23} what it noticed")
        for caller in self.callers:
            self.row(caller)
        say()
        self.judge()
        for promise, kept in self.checks:
            say(f"  {'ok  ' if kept else 'FAIL'} {promise}")
        return all(kept for _, kept in self.checks)

    def row(self, c):
        ok = c.answered()
        times = [(r[1] - r[0]) * 1e3 for r in ok]
        noticed = [r[2] for r in c.records if r[2] != "ok"]
        said = ", ".join(f"{noticed.count(n)} {n}" for n in dict.fromkeys(noticed)) or "nothing"
        moved = f"{self.before[c.name][3]}, then {self.back[c.name][3]}" if c in self.moved else ""
        say(f"{c.name:13} {len(c.records):6} {len(ok):5}  {'/'.join(sorted({r[6] for r in ok if r[6]})):6} "
            f"{percentile(times, 50):7.1f} {percentile(times, 99):7.1f}  {moved:23} {said}")

    def judge(self):
        wrong = [said for s in self.sessions if (said := s.went_wrong())]
        for said in wrong:
            say(f"wrong: {said}")
        self.check("a session is one on all nodes: each was answered by every node", all({r[4] for r in s.answered()} == set(NODES) for s in self.sessions))
        self.check("no acknowledged state was lost or went back: each answer is the one before plus one", not wrong)
        self.check("the killed node's sessions are the same sessions (one birth), in a later epoch",
                   all(self.back[s.name][5] == self.before[s.name][5] and int(self.back[s.name][6]) > int(self.before[s.name][6])
                       for s in self.moved))
        self.check("nobody was told session_lost", not any(r[2] == "session_lost" for c in self.callers for r in c.records))
        # A call that was on its way to the killed node, or through it, is the only one that may fail.
        self.check("sessions of other nodes never noticed: epoch 1, and no call sent after the kill failed", self.others and all(
            {r[6] for r in s.answered()} == {"1"} and all(r[2] == "ok" for r in s.records if r[0] > self.killed_at) for s in self.others))
        self.check("calls without a session never noticed: every call sent after the kill was answered",
                   all(r[2] == "ok" for r in self.free.records if r[0] > self.killed_at))
        self.check("before the kill every call was ok", all(r[2] == "ok" for c in self.callers for r in c.records if r[1] < self.killed_at))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keelback", default="build/release/keelback")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--sessions", type=int, default=12, choices=range(6, len(NAMES) + 1), metavar="6..12")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long calls go on after the node has come back")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting of each node")
    demo = Demo(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        kept = demo.run()
    except (RuntimeError, AssertionError, Missing, OSError) as error:
        say(f"FAIL {error}")
        kept = False
    say("\n" + ("Everything came out as promised." if kept else "Something did not come out as promised."))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
