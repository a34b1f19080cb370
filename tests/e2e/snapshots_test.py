"""Sessions that outlive the supervisor: a daemon ends, however it ends, and the next one goes on."""
import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import BACKEND, KEELBACK, ROOT, KeelbackTest, main, wait_until  # noqa: E402

CONFORMANCE = ROOT / "tests" / "apps" / "conformance.py"
BACKENDS = [("fake", "standard"), ("python", CONFORMANCE)]
BYTES = """
import keelback

@keelback.on_session_open
def opened():
    keelback.session().state["seen"] = {"opened"}

@keelback.snapshot
def save(state):
    return ",".join(sorted(state["seen"])).encode()

@keelback.restore
def make(data):
    return {"seen": set(data.decode().split(",")) | {"restored"}}

@keelback.function
def see(word):
    keelback.session().state["seen"].add(word)
    return sorted(keelback.session().state["seen"])
"""


class SnapshotTest(KeelbackTest):
    def setUp(self):
        super().setUp()
        self.store = self.tmp / "sessions.db"

    def start(self, app, backend="python", mode="each_call", **settings):
        return self.serve(app, backend=backend, workers=2,
                          settings={"sessions.snapshot": mode, "sessions.store": f"sqlite:{self.store}", **settings})

    def sigkill(self, daemon):
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        self.assert_no_process_left(5.0)

    def each_backend(self):
        for backend, app in BACKENDS:
            if BACKEND in (None, backend):
                with self.subTest(backend=backend):
                    self.store = self.tmp / f"{backend}.db"
                    yield backend, app


class Restart(SnapshotTest):
    def test_each_call_a_killed_daemon_s_sessions_go_on_in_the_next_one(self):
        for backend, app in self.each_backend():
            daemon = self.start(app, backend)
            client = daemon.client()
            births = {}
            for name in ("ann", "bob"):
                for expected in (1, 2, 3):
                    reply = client.call("counter", session=name)
                    self.assertEqual((expected, "1"), (reply.json, reply.headers["Keelback-Epoch"]))
                births[name] = reply.headers["Keelback-Birth"]
            client.call("counter", session="gone")
            self.assertEqual(204, client.request("DELETE", "/v1/sessions/gone").status)
            wait_until(lambda: daemon.pool()["snapshots"]["stored"] == 2, "the ended session's snapshot is gone")
            self.sigkill(daemon)

            daemon = self.start(app, backend)
            client = daemon.client()
            sessions = daemon.pool()["sessions"]
            self.assertEqual((2, 0, 0), (sessions["active"], sessions["opened"], sessions["restored"]), "known before they are called")
            listed = {item["id"]: item for item in client.get("/v1/sessions").json["items"]}
            self.assertEqual({"ann": 2, "bob": 2}, {name: item["epoch"] for name, item in listed.items()})
            stale = client.call("counter", session="bob", Keelback_Expect_Epoch=f"{births['bob']}.1")
            self.assertEqual(("stale_epoch", "none"), (stale.outcome, stale.json["effect"]), "the caller's fence holds over a restart")
            for name in ("ann", "bob"):
                reply = client.call("counter", session=name)
                self.assertEqual((4, "2", births[name]), (reply.json, reply.headers["Keelback-Epoch"], reply.headers["Keelback-Birth"]))
            sessions = daemon.pool()["sessions"]
            self.assertEqual((2, 2, 0, 0), tuple(sessions[key] for key in ("active", "restored", "opened", "lost")))
            reply = client.call("counter", session="gone")
            self.assertEqual((1, "1"), (reply.json, reply.headers["Keelback-Epoch"]), "what was ended stays ended")
            metrics = daemon.metrics()
            self.assertEqual(2, metrics['keelback_sessions_total{event="restored"}'])
            self.assertEqual((1, 3), (metrics["keelback_snapshot_store_up"], metrics["keelback_snapshots_stored"]))
            status = self.run_cli("status", "--url", f"http://{daemon.address}").stdout
            self.assertIn("3 stored", status)
            self.assertEqual(0, daemon.stop())

    def test_each_call_a_retry_after_the_crash_gets_the_answer_that_was_stored(self):
        for backend, app in self.each_backend():
            daemon = self.start(app, backend)
            self.assertEqual(1, daemon.client().call("counter", session="ann", Idempotency_Key="k1").json)
            self.assertEqual(2, daemon.client().call("counter", session="ann", Idempotency_Key="k2").json)
            self.sigkill(daemon)
            daemon = self.start(app, backend)
            client = daemon.client()
            self.assertEqual(2, client.call("counter", session="ann", Idempotency_Key="k2").json)
            self.assertEqual(2, client.call("peek", session="ann").json, "it did not run again")
            reused = client.call("peek", session="ann", Idempotency_Key="k2")
            self.assertEqual((422, "bad_request", 422), (reused.status, reused.outcome, reused.json["status"]), "the key of another request")
            self.assertEqual(0, daemon.stop())

    def test_each_call_a_retry_after_the_crash_hears_that_attachments_were_not_stored(self):
        octets = {"Content-Type": "application/octet-stream", "Keelback-Attachment": "x", "Keelback-Session": "ann", "Idempotency-Key": "k"}
        for backend, app in self.each_backend():
            daemon = self.start(app, backend)

            def echo(body=b"x" * 100_000):
                return daemon.client().request("POST", "/v1/call/attach_echo", body=body, headers=octets)

            self.assertEqual(("ok", "ok"), (echo().outcome, echo().outcome), "while it lives it has the whole answer")
            self.sigkill(daemon)
            daemon = self.start(app, backend)
            again = echo()
            self.assertEqual(("error", "done"), (again.outcome, again.json["effect"]), "it has run, and does not run again")
            self.assertEqual("keelback.AnswerNotKept", again.json["python"]["type"], again.json)
            self.assertEqual("bad_request", echo(b"y" + b"x" * 99_999).outcome, "the key of another request")
            self.assertEqual(0, daemon.stop())

    def test_on_drain_a_stopped_daemon_s_sessions_go_on_and_a_killed_one_s_do_not_go_back(self):
        for backend, app in self.each_backend():
            daemon = self.start(app, backend, "on_drain")
            births = {}
            for number in range(150):
                births[number] = daemon.client().call("counter", session=f"s{number}").headers["Keelback-Birth"]
            self.assertEqual(0, daemon.pool()["snapshots"]["kept"])
            self.assertEqual(0, daemon.stop())

            daemon = self.start(app, backend, "on_drain")
            client = daemon.client()
            self.assertEqual((150, 150), (daemon.pool()["sessions"]["active"], daemon.pool()["snapshots"]["stored"]))
            for number in range(150):
                reply = client.call("counter", session=f"s{number}")
                self.assertEqual((2, "2", births[number]), (reply.json, reply.headers["Keelback-Epoch"], reply.headers["Keelback-Birth"]))
            self.assertEqual(0, daemon.pool()["snapshots"]["stored"], "rows go at the restore, before the answer does")
            self.assertEqual(150, daemon.pool()["sessions"]["restored"])
            self.sigkill(daemon)

            daemon = self.start(app, backend, "on_drain")
            reply = daemon.client().call("counter", session="s0")
            self.assertEqual((1, "1"), (reply.json, reply.headers["Keelback-Epoch"]), "anew, and never back to 1 as if it were the same")
            self.assertNotEqual(births[0], reply.headers["Keelback-Birth"])
            self.assertEqual(0, daemon.stop())

    def test_sessions_expire_while_nobody_runs(self):
        daemon = self.start("standard", "fake")
        daemon.client().call("counter", session="ann")
        self.sigkill(daemon)
        daemon = self.start("standard", "fake", **{"sessions.idle_ttl": "1ms"})
        wait_until(lambda: daemon.pool()["sessions"]["expired"] == 1, "the session has expired")
        self.assertEqual("session_expired", daemon.client().call("counter", session="ann").outcome)
        wait_until(lambda: daemon.pool()["snapshots"]["stored"] == 0, "its snapshot is gone")


class Hooks(SnapshotTest):
    def test_bytes_of_the_application_s_own_hooks_come_back_on_another_worker_and_in_another_daemon(self):
        app = self.app(BYTES)
        daemon = self.start(app)
        client = daemon.client()
        self.assertEqual(["a", "opened"], client.call("see", ["a"], session="s").json)
        worker = client.call("see", ["b"], session="s").headers["Keelback-Worker"]
        os.kill(next(w["pid"] for w in daemon.workers() if f"{w['slot']}.{w['generation']}" == worker), signal.SIGKILL)
        reply = client.call("see", ["c"], session="s")
        self.assertEqual((["a", "b", "c", "opened", "restored"], "2"), (reply.json, reply.headers["Keelback-Epoch"]))
        self.sigkill(daemon)
        daemon = self.start(app)
        self.assertEqual(["a", "b", "c", "d", "opened", "restored"], daemon.client().call("see", ["d"], session="s").json)


class Store(SnapshotTest):
    def test_a_store_has_one_owner(self):
        daemon = self.start("standard", "fake")
        daemon.client().call("counter", session="ann")
        second = subprocess.run([str(KEELBACK), "serve", "standard", "--listen", "127.0.0.1:0", "--set", "pool.backend=fake", "--set",
                                 f"sessions.store=sqlite:{self.store}"], capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(0, second.returncode)
        self.assertIn("another process is using it", second.stderr)
        self.assertEqual(2, daemon.client().call("counter", session="ann").json)

    def test_a_damaged_store_is_set_aside_and_said(self):
        daemon = self.start("standard", "fake")
        daemon.client().call("counter", session="ann")
        self.assertEqual(0, daemon.stop())
        self.store.write_bytes(b"x" * 16384)
        daemon = self.start("standard", "fake")
        self.assertEqual(1, daemon.pool()["snapshots"]["set_aside"])
        wait_until(lambda: "set aside" in daemon.log_text(), "the log says so")
        self.assertEqual(1, daemon.metrics()["keelback_snapshots_set_aside_total"])
        self.assertEqual("session_lost", daemon.client().call("counter", session="ann").outcome, "the anchor knows whose it was")
        self.assertEqual(1, daemon.client().call("counter", session="ann").json)

    def test_a_damaged_row_is_a_loss_that_is_told(self):
        daemon = self.start("standard", "fake")
        births = {name: daemon.client().call("counter", session=name).headers["Keelback-Birth"] for name in ("ann", "bob", "cyd")}
        self.assertEqual(0, daemon.stop())
        with contextlib.closing(sqlite3.connect(self.store)) as file, file:
            file.execute("UPDATE sessions SET epoch = epoch + 1 WHERE session = CAST('ann' AS BLOB)")  # seen at the start
            file.execute("UPDATE sessions SET state = CAST('{}' AS BLOB) WHERE session = CAST('bob' AS BLOB)")  # when it is needed
        daemon = self.start("standard", "fake")
        client = daemon.client()
        for name in ("ann", "bob"):
            first = client.call("counter", session=name)
            self.assertEqual((410, "session_lost", "none"), (first.status, first.outcome, first.json["effect"]), name)
        for name in ("ann", "bob"):
            anew = client.call("counter", session=name)
            self.assertEqual((200, 1), (anew.status, anew.json), "told once")
            self.assertNotEqual(births[name], anew.headers["Keelback-Birth"])
        self.assertEqual(2, client.call("counter", session="cyd").json, "nobody else's")
        self.assertEqual(2, daemon.pool()["sessions"]["lost"])
        self.sigkill(daemon)
        daemon = self.start("standard", "fake")
        self.assertEqual([2, 2, 3], [daemon.client().call("counter", session=name).json for name in ("ann", "bob", "cyd")], "told once")
        self.assertEqual(0, daemon.pool()["sessions"]["lost"])

    def test_a_store_that_is_full_costs_snapshots_and_no_call(self):
        daemon = self.start("standard", "fake", **{"sessions.store_max": "300B"})
        client = daemon.client()
        self.assertEqual([1] * 5, [client.call("counter", session=f"s{n}").json for n in range(5)])
        snapshots = daemon.pool()["snapshots"]
        self.assertEqual((1, 4, True), (snapshots["kept"], snapshots["failed"], snapshots["up"]), snapshots)
        self.assertIn("store_max", snapshots["error"])
        wait_until(lambda: "store_max" in daemon.log_text(), "the log says so")
        self.assertEqual(4, daemon.metrics()['keelback_snapshots_total{result="failed"}'])

    def test_a_file_that_may_not_grow_costs_snapshots_and_neither_a_call_nor_the_daemon(self):
        daemon = self.start("standard", "fake")
        client = daemon.client()
        self.assertEqual(1, client.call("counter", session="ann").json)
        before = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
        self.assertEqual([2, 3, 4], [client.call("counter", session="ann").json for _ in range(3)])
        self.assertEqual((False, 0), (daemon.pool()["snapshots"]["up"], daemon.pool()["snapshots"]["stored"]))
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)
        wait_until(lambda: client.call("counter", session="ann").status == 200 and daemon.pool()["snapshots"]["up"], "it is used again")
        self.assertEqual(1, daemon.pool()["snapshots"]["stored"])


if __name__ == "__main__":
    main()
