"""Daemons that share one PostgreSQL: sessions are one on all nodes, outlive their node, and never go back.

Each session has one caller at a time, who counts: an answer is one more than the last one, plus the calls of which nobody knows whether they
counted. KEELBACK_CLUSTER_SECONDS is the length of the long run (60), KEELBACK_CLUSTER_SEED repeats its faults.
"""
import collections
import http.client
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, ROOT, STRETCH, Client, KeelbackTest, main, wait_until  # noqa: E402
from postgres_server import Missing, PostgresServer, free_port, programs  # noqa: E402

APP = ROOT / "examples" / "counter.py"
LEASE = 1.0 * STRETCH
NESTED = """

@keelback.function
def count_in(session: str) -> int:
    return keelback.call("count", session=session)
"""
SEED = int(os.environ.get("KEELBACK_CLUSTER_SEED") or int.from_bytes(os.urandom(4), "little"))


class Session:
    """One id, one call at a time: what the next answer may be."""

    def __init__(self, name):
        self.name, self.value, self.unsure, self.answered_at = name, 0, 0, time.monotonic()
        self.longest = 0.0  # s without an answer
        self.wrong = []

    def note(self, reply):
        if reply is None:  # no answer at all
            self.unsure += 1
            return
        effect = reply.headers.get("Keelback-Effect") or (reply.json or {}).get("effect")
        if reply.status == 200:
            low, high = self.value + 1, self.value + 1 + self.unsure
            if not low <= reply.json <= high:
                self.wrong.append(f"{self.name}: {reply.json}, and {low} to {high} was due; birth {reply.headers['Keelback-Birth']}")
            self.value, self.unsure = reply.json, 0
            now = time.monotonic()
            self.longest = max(self.longest, now - self.answered_at)
            self.answered_at = now
        elif effect != "none":
            self.unsure += 1
        elif reply.outcome not in ("not_ready", "shutting_down", "overloaded", "timeout"):
            self.wrong.append(f"{self.name}: {reply!r}")


class Load:
    """Sessions that are called again and again, at any node."""

    def __init__(self, addresses, sessions=24):
        self.addresses, self.over = addresses, threading.Event()
        self.sessions = [Session(f"s{number}") for number in range(sessions)]
        self.outcomes = collections.Counter()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(session,), daemon=True) for session in self.sessions]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for thread in self.threads:
            thread.join(60 * STRETCH)

    def _run(self, session):
        rng = random.Random(session.name)
        clients = {}
        session.answered_at = time.monotonic()
        while not self.over.is_set():
            address = rng.choice(self.addresses)
            try:
                client = clients.setdefault(address, Client(address, 30))
                reply = client.call("count", session=session.name, deadline_ms=5000)
            except ConnectionRefusedError:
                clients.pop(address, None)
                self.over.wait(0.05)
                continue
            except (OSError, http.client.HTTPException):
                clients.pop(address, None)
                reply = None
            session.note(reply)
            with self.lock:
                self.outcomes[reply.outcome if reply is not None else "no answer"] += 1
            self.over.wait(0.01 if reply is not None and reply.status == 200 else 0.05)

    def answered_since(self, since):
        return all(session.answered_at > since for session in self.sessions)

    def wrong(self):
        return [said for session in self.sessions for said in session.wrong]


class ClusterTest(KeelbackTest):
    POOLED = False  # through pgbouncer

    def setUp(self):
        super().setUp()
        try:
            self.database = PostgresServer(pooled=self.POOLED)
        except Missing as missing:
            raise unittest.SkipTest(str(missing)) from None
        self.addCleanup(self.database.close)
        self.nodes = {}

    def start(self, name, snapshot="each_call", port=None, app=APP, **settings):
        port = port or free_port()
        url = self.database.pooled_url() if self.POOLED else self.database.url()
        node = self.serve(app, workers=2, backend="python", listen=f"127.0.0.1:{port}",
                          settings={"cluster.store": url, "cluster.node": name, "cluster.advertise": f"http://127.0.0.1:{port}",
                                    "cluster.token": "token-of-tests", "cluster.lease": f"{int(LEASE * 1000)}ms",
                                    "sessions.snapshot": snapshot, "log.level": "info", **settings})
        self.nodes[name] = node
        wait_until(lambda: node.client().get("/v1/cluster").json.get("serves_sessions"), f"node {name} is a member", 60)
        return node

    def start_three(self, **settings):
        return [self.start(name, **settings) for name in ("a", "b", "c")]

    def owner(self, session):
        return self.database.query(f"select owner_node from keelback.sessions where session = '{session}'").strip()

    def tell(self, load, what):
        longest = max(session.longest for session in load.sessions)
        print(f"\n{what}: {dict(load.outcomes)}; longest without an answer {longest:.2f} s (lease {LEASE:.1f} s)", file=sys.stderr, flush=True)


class Nodes(ClusterTest):
    def test_a_session_is_one_on_all_nodes(self):
        nodes = self.start_three()
        values = [nodes[number % 3].client().call("count", session="ann").json for number in range(9)]
        self.assertEqual(list(range(1, 10)), values)

    def test_a_session_is_ended_at_any_node(self):
        nodes = self.start_three()
        self.assertEqual(1, nodes[0].client().call("count", session="ann").json)
        self.assertEqual(["ann"], [item["id"] for item in nodes[0].client().get("/v1/sessions").json["items"]])
        self.assertEqual("a", nodes[0].client().get("/v1/sessions").json["node"])
        self.assertEqual(204, nodes[1].client().request("DELETE", "/v1/sessions/ann").status)
        wait_until(lambda: self.owner("ann") == "", "its row has gone")
        for node in nodes:
            self.assertEqual(404, node.client().request("DELETE", "/v1/sessions/ann").status)
        self.assertEqual(1, nodes[2].client().call("count", session="ann").json)
        self.assertEqual("c", self.owner("ann"))
        nodes[2].process.kill()
        replies = []

        def ended():
            replies.append(nodes[1].client().request("DELETE", "/v1/sessions/ann"))
            return replies[-1].status not in (502, 503)  # the hop broke; the dead node is not retired yet

        wait_until(ended, "the dead node is retired", 60)
        self.assertEqual(204, replies[-1].status, replies[-1])
        self.assertEqual(1, nodes[0].client().call("count", session="ann").json, "its state went with it")

    def test_python_code_calls_into_a_session_of_another_node(self):
        app = self.tmp / "caller.py"
        app.write_text(APP.read_text() + NESTED)
        nodes = self.start_three(app=app)
        self.assertEqual(1, nodes[0].client().call("count", session="ann").json)
        self.assertEqual([2, 3, 4], [node.client().call("count_in", ["ann"]).json for node in nodes])
        self.assertEqual(5, nodes[0].client().call("count", session="ann").json)
        self.assertEqual("a", self.owner("ann"))

    def test_saved_sessions_outlive_a_node_that_is_killed_under_load(self):
        nodes = self.start_three()
        with Load([node.address for node in nodes]) as load:
            wait_until(lambda: load.answered_since(load.sessions[0].answered_at - 3600) and all(s.value > 3 for s in load.sessions), "all sessions are served", 60)
            nodes[0].process.kill()
            killed = time.monotonic()
            load.addresses = [node.address for node in nodes[1:]]
            wait_until(lambda: load.answered_since(killed), "every session answers elsewhere", 20)
            waited = time.monotonic() - killed
        self.tell(load, f"all answered {waited:.2f} s after the kill")
        self.assertEqual([], load.wrong())
        self.assertNotIn("session_lost", load.outcomes)
        self.assertGreater(load.outcomes["ok"], sum(load.outcomes.values()) // 2)

    def test_a_paused_owner_changes_nothing_when_it_wakes_up(self):
        nodes = self.start_three()
        with Load([node.address for node in nodes[1:]], sessions=6) as load:
            wait_until(lambda: all(s.value > 0 for s in load.sessions), "all sessions are served", 60)
            first = nodes[0].client().call("count", session="mine").json
            self.assertEqual(1, first)
            os.kill(nodes[0].pid, signal.SIGSTOP)
            try:
                moved = wait_until(lambda: (r := nodes[1].client().call("count", session="mine", deadline_ms=2000)).status == 200 and r, "another node has it", 30)
                self.assertEqual(2, moved.json)
            finally:
                os.kill(nodes[0].pid, signal.SIGCONT)
            back = wait_until(lambda: (r := nodes[0].client().call("count", session="mine", deadline_ms=2000)).status == 200 and r, "the one that slept serves", 30)
            self.assertEqual(3, back.json)
        self.assertEqual([], load.wrong())

    def test_the_database_restarts_under_load(self):
        nodes = self.start_three()
        with Load([node.address for node in nodes], sessions=12) as load:
            wait_until(lambda: all(s.value > 3 for s in load.sessions), "all sessions are served", 60)
            for how in (self.database.restart, self.database.kill):
                how()
                if how == self.database.kill:
                    self.database.start()
                since = time.monotonic()
                wait_until(lambda since=since: load.answered_since(since), "every session answers again", 60)
        self.tell(load, "the database was restarted and killed")
        self.assertEqual([], load.wrong())  # a node that was away for a lease is retired: the call that it ran then is lost, and says `done`

    def test_a_drain_gives_sessions_away_at_once(self):
        nodes = self.start_three(snapshot="on_drain")
        self.assertEqual(1, nodes[0].client().call("count", session="ann").json)
        self.assertEqual(2, nodes[0].client().call("count", session="ann").json)
        self.assertEqual(0, nodes[0].stop())
        reply = wait_until(lambda: (r := nodes[1].client().call("count", session="ann")).status == 200 and r, "another node has it", 20)
        self.assertEqual(3, reply.json)

    def test_a_node_alone_without_its_database_still_serves_calls_without_a_session(self):
        node = self.start("a")
        self.assertEqual(1, node.client().call("count", session="ann").json)
        self.database.stop()
        wait_until(lambda: node.client().call("count", session="ann", deadline_ms=1000).outcome == "not_ready", "nothing is acknowledged", 30)
        self.assertEqual("hello", node.client().call("hello").json)
        self.database.start()
        reply = wait_until(lambda: (r := node.client().call("count", session="ann", deadline_ms=2000)).status == 200 and r, "it recovers by itself", 60)
        self.assertGreaterEqual(reply.json, 2)


class Pooled(ClusterTest):
    POOLED = True

    test_saved_sessions_outlive_a_node_that_is_killed_under_load = Nodes.test_saved_sessions_outlive_a_node_that_is_killed_under_load


class Demonstration(KeelbackTest):
    """scripts/demo --cluster, without the building."""

    def demonstrate(self, *options):
        try:
            programs()
        except Missing as missing:
            raise unittest.SkipTest(str(missing)) from None
        here = self.tmp / "a directory, très loin"
        for part in ("examples/demo", "tests/support"):
            shutil.copytree(ROOT / part, here / part)
        shutil.copy(APP, here / "examples")
        done = subprocess.run([sys.executable, here / "examples" / "demo" / "cluster.py", "--keelback", KEELBACK, *options],
                              cwd=here, capture_output=True, text=True, check=False, timeout=80 * STRETCH)
        sys.stderr.write(done.stdout + done.stderr)
        return done

    def test_it_comes_out_as_promised(self):
        done = self.demonstrate()
        self.assertEqual(0, done.returncode)
        self.assertIn("Everything came out as promised.", done.stdout)
        self.assertGreater(done.stdout.count("  ok   "), 10)

    def test_a_promise_that_is_not_kept_is_seen(self):
        """Without snapshots the sessions of the killed node are lost."""
        done = self.demonstrate("--set", "sessions.snapshot=off")
        self.assertEqual(1, done.returncode)
        self.assertIn("FAIL nobody was told session_lost", done.stdout)


class Rounds(ClusterTest):
    """A minute of random kills, pauses and restarts of the database under load."""

    def test_nothing_acknowledged_is_lost(self):
        rng = random.Random(SEED)
        seconds = float(os.environ.get("KEELBACK_CLUSTER_SECONDS", "60"))
        print(f"\nseed {SEED}; KEELBACK_CLUSTER_SEED={SEED} repeats it", file=sys.stderr, flush=True)
        nodes = dict(zip("abc", self.start_three()))
        done = collections.Counter()
        with Load([node.address for node in nodes.values()]) as load:
            wait_until(lambda: all(s.value > 0 for s in load.sessions), "all sessions are served", 60)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                name = rng.choice("abc")
                kind = rng.choices(("kill", "pause", "restart", "drain"), (4, 3, 1, 1))[0]
                done[kind] += 1
                node = nodes[name]
                port = int(node.address.rsplit(":", 1)[1])
                if kind == "restart":
                    self.database.restart()
                elif kind == "pause":
                    os.kill(node.pid, signal.SIGSTOP)
                    time.sleep(rng.uniform(0.1, 2.5) * LEASE)  # how long it sleeps is the fault itself
                    os.kill(node.pid, signal.SIGCONT)
                else:
                    if kind == "kill":
                        node.process.kill()
                        node.process.wait()
                    else:
                        self.assertEqual(0, node.stop(60))
                    nodes[name] = self.start(name, port=port)
            since = time.monotonic()
            wait_until(lambda: load.answered_since(since), "every session answers at the end", 60)
        self.tell(load, f"{dict(done)}")
        self.assertEqual([], load.wrong()[:10])
        self.assertGreater(load.outcomes["ok"], sum(load.outcomes.values()) // 3)


if __name__ == "__main__":
    main()
