"""Daemons that share one PostgreSQL: sessions are one on all nodes, outlive their node, and never go back.

Each session has one caller at a time, who counts: an answer is one more than the last one, plus the calls of which nobody knows whether they
counted. KEELBACK_CLUSTER_ROUNDS is how many nodes the long run kills (50), KEELBACK_CLUSTER_SEED repeats its faults.
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
        self.window = None  # (outcome, s) of each call while somebody measures
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
            began = time.monotonic()
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
                outcome = reply.outcome if reply is not None else "no answer"
                self.outcomes[outcome] += 1
                if self.window is not None:
                    self.window.append((outcome, time.monotonic() - began))
            self.over.wait(0.01 if reply is not None and reply.status == 200 else 0.05)

    def measure(self, calls=2000):
        """(how many of so many calls are ok, 0 to 1; the median of their times in s)."""
        self.window = []
        wait_until(lambda: len(self.window) >= calls, f"{calls} calls", 60)
        window, self.window = self.window, None
        times = sorted(seconds for outcome, seconds in window if outcome == "ok")
        return len(times) / len(window), times[len(times) // 2]

    def answered_since(self, since):
        return all(session.answered_at > since for session in self.sessions)

    def wrong(self):
        return [said for session in self.sessions for said in session.wrong]


class Audit:
    """Who wrote each row of keelback.sessions, as the database saw it: every process has an application_name of its own. A row lock is held from
    the write to the end of its transaction, so the writes of one session are numbered in the order in which they count."""

    def __init__(self, database):
        self.database = database
        database.query("""
            CREATE TABLE public.audit (at bigserial PRIMARY KEY, session text, writer text, birth bigint, token bigint, epoch bigint, number bigint);
            CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
              INSERT INTO public.audit (session, writer, birth, token, epoch, number) VALUES (convert_from(NEW.session, 'UTF8'),
                current_setting('application_name'), NEW.birth, NEW.token, NEW.epoch, NEW.number);
              RETURN NULL;
            END $$;
            CREATE TRIGGER note AFTER INSERT OR UPDATE ON keelback.sessions FOR EACH ROW EXECUTE FUNCTION public.note();""")

    def read(self):
        """(claims, commits, what is wrong). The write that brings a token claims the session; whoever writes with this token later must be the
        process that brought it. Within a birth numbers and epochs do not fall, and a token that another one has followed does not come back."""
        claims = commits = 0
        last, past, wrong = {}, set(), []
        for line in self.database.query("SELECT session, writer, birth, token, epoch, number FROM public.audit ORDER BY at;").splitlines():
            session, writer, *numbers = line.split("|")
            birth, token, epoch, number = map(int, numbers)
            before = last.get(session)
            if before is None or before[2] != token:
                claims += 1
                if (session, token) in past:
                    wrong.append(f"{session}: token {token} came back, of {writer}")
                past.add((session, token))
            else:
                commits += number > before[4]
                if before[0] != writer:
                    wrong.append(f"{session}: {writer} wrote with the token of {before[0]}")
            if before is not None and before[1] == birth and (epoch < before[3] or number < before[4]):
                wrong.append(f"{session}: {writer} went back from {before[3:]} to {(epoch, number)}")
            last[session] = (writer, birth, token, epoch, number)
        return claims, commits, wrong


class ClusterTest(KeelbackTest):
    POOLED = False  # through pgbouncer

    def setUp(self):
        super().setUp()
        try:
            self.database = PostgresServer(pooled=self.POOLED)
        except Missing as missing:
            raise unittest.SkipTest(str(missing)) from None
        self.addCleanup(self.database.close)
        self.nodes, self.started = {}, 0

    def start(self, name, snapshot="each_call", port=None, app=APP, **settings):
        port = port or free_port()
        self.started += 1
        url = f"{self.database.pooled_url() if self.POOLED else self.database.url()}?application_name={name}-{self.started}"
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
        for node in nodes:  # one worker alone would run the caller and be the session's home
            wait_until(lambda node=node: node.client().get("/v1/pool").json["workers"]["ready"] == 2, "both workers are up", 60)
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

    def test_the_audit_names_who_writes_without_a_claim(self):
        nodes = [self.start("a"), self.start("b")]
        audit = Audit(self.database)
        for node in [*nodes, *nodes]:
            self.assertEqual(200, node.client().call("count", session="ann").status)
        claims, commits, wrong = audit.read()
        self.assertEqual((1, 4, []), (claims, commits, wrong))
        self.database.query("UPDATE keelback.sessions SET number = number - 1;")
        wrong = audit.read()[2]
        self.assertEqual(2, len(wrong), wrong)
        self.assertIn("wrote with the token of", wrong[0])
        self.assertIn("went back", wrong[1])


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
    """Many nodes are killed under load, and between that nodes are paused and drained, and the database is restarted."""

    def test_nothing_acknowledged_is_lost(self):
        rng = random.Random(SEED)
        rounds = int(os.environ.get("KEELBACK_CLUSTER_ROUNDS", "50"))
        print(f"\nseed {SEED}; KEELBACK_CLUSTER_SEED={SEED} repeats it", file=sys.stderr, flush=True)
        nodes = dict(zip("abc", self.start_three()))
        audit = Audit(self.database)
        done = collections.Counter()
        with Load([node.address for node in nodes.values()]) as load:
            wait_until(lambda: all(s.value > 0 for s in load.sessions), "all sessions are served", 60)
            before = load.measure()
            while done["kill"] < rounds:
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
                        if rng.random() < 0.5:
                            time.sleep(rng.uniform(0.1, 2.0) * LEASE)  # so too how long it is away: others take its sessions, or it does
                    else:
                        self.assertEqual(0, node.stop(60))
                    nodes[name] = self.start(name, port=port)
            since = time.monotonic()
            wait_until(lambda: load.answered_since(since), "every session answers at the end", 60)
            wait_until(lambda: all(n.client().get("/v1/cluster").json["serves_sessions"] for n in nodes.values()), "every node serves sessions", 60)
            after = load.measure()
        claims, commits, wrong = audit.read()
        self.tell(load, f"{dict(done)}; {claims} claims, {commits} commits, {len(wrong)} by a process that had lost the session or backwards; ok and median "
                  f"before {before[0]:.3f}, {before[1] * 1e3:.1f} ms, after {after[0]:.3f}, {after[1] * 1e3:.1f} ms")
        self.assertEqual([], load.wrong()[:10])
        self.assertEqual([], wrong[:10])
        self.assertGreaterEqual(commits, load.outcomes["ok"], "what was acknowledged is in the database")
        self.assertGreater(claims, len(load.sessions) + rounds, "sessions moved")
        self.assertGreater(load.outcomes["ok"], sum(load.outcomes.values()) // 3)
        self.assertGreaterEqual(after[0], before[0] - 0.02, "as many calls are ok as before the faults")
        self.assertLessEqual(after[1], 4 * before[1], "they take as long as before the faults")


class PooledRounds(ClusterTest):
    POOLED = True

    test_nothing_acknowledged_is_lost = Rounds.test_nothing_acknowledged_is_lost


if __name__ == "__main__":
    main()
