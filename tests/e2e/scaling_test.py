"""A pool that grows and shrinks, with real Python: from zero, under load, with sessions, and what it refuses."""
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, STRETCH, KeelbackTest, main, wait_until  # noqa: E402

APP = """
import os, threading, time
import keelback

@keelback.function
def pid():
    return os.getpid()

@keelback.function
def nap(seconds):
    time.sleep(seconds)
    return os.getpid()

@keelback.function
def count():
    state = keelback.session().state
    state["n"] = state.get("n", 0) + 1
    return state["n"]

@keelback.function
def hold_a_lock():
    keelback.session().state["lock"] = threading.Lock()
    return os.getpid()
"""
THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
SOON = {"pool.scale_down_after": "200ms"}


def there(pool):
    return sum(pool["workers"].values())


class Zero(KeelbackTest):
    def test_only_the_zygote_stays_and_sessions_live_on(self):
        daemon = self.serve(self.app(APP), workers=0, settings={"pool.workers_max": 4, **SOON})
        pool = daemon.pool()
        self.assertEqual((0, True), (there(pool), pool["ready"]))
        self.assertEqual(("zygote", "up"), (pool["start"]["mode"], pool["start"]["state"]))
        self.assertEqual(0, pool["scaling"]["wanted"])
        client = daemon.client()
        self.assertEqual(["count", "hold_a_lock", "nap", "pid"], sorted(f["name"] for f in client.get("/v1/functions").json["functions"]))
        for round in range(1, 4):
            reply = client.call("count", [], session="ann")
            self.assertEqual((200, round), (reply.status, reply.json))
            self.assertEqual(round, int(reply.headers["Keelback-Epoch"]), "each time on another worker")
            wait_until(lambda: there(daemon.pool()) == 0, "the worker has left")
            self.assertTrue(daemon.pool()["ready"])
        pool = daemon.pool()
        self.assertEqual((0, 2, 1), tuple(pool["sessions"][what] for what in ("lost", "restored", "active")))
        self.assertEqual(0, pool["restarts"])
        self.assertEqual(0, daemon.metrics()["keelback_workers_wanted"])
        self.assertIn("wanted", self.run_cli("status", "--url", daemon.address).stdout)

    def test_a_zygote_that_dies_comes_back_for_the_next_call(self):
        daemon = self.serve(self.app(APP), workers=0, settings={"pool.workers_max": 4, **SOON})
        old = daemon.pool()["start"]["zygote_pid"]
        subprocess.run(["kill", "-9", str(old)], check=True)
        wait_until(lambda: daemon.pool()["start"]["zygote_pid"] not in (0, old), "a new zygote")
        self.assertEqual(200, daemon.client().call("pid", []).status)

    def test_new_code_that_fails_is_told_and_tried_again(self):
        gate = self.tmp / "gate"
        gate.touch()
        source = f"import os\nif not os.path.exists({str(gate)!r}):\n    raise RuntimeError('no gate')\n" + APP
        daemon = self.serve(self.app(source), workers=0, settings={"pool.workers_max": 4, **SOON})
        gate.unlink()
        subprocess.run(["kill", "-9", str(daemon.pool()["start"]["zygote_pid"])], check=True)
        wait_until(lambda: not daemon.pool()["ready"], "the pool says that it cannot serve")
        self.assertIn("no gate", " ".join(daemon.pool()["reasons"]))
        reply = daemon.client().call("pid", [])
        self.assertEqual((503, "not_ready"), (reply.status, reply.json["outcome"]))
        gate.touch()
        wait_until(lambda: daemon.pool()["ready"], "it has found out by itself that it can", 60)
        self.assertEqual(200, daemon.client().call("pid", []).status)
        wait_until(lambda: there(daemon.pool()) == 0, "the worker has left")


class Refusals(KeelbackTest):
    def refused(self, status, source, *args):
        command = [str(KEELBACK), "serve", str(self.app(source)), "--listen", "127.0.0.1:0", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * STRETCH, check=False)
        self.assertEqual(status, done.returncode, done.stderr)
        return done.stderr

    def test_a_pool_without_workers_needs_a_zygote(self):
        zero = ("--set", "pool.workers=0", "--set", "pool.workers_max=4")
        self.assertIn("workers.zygote is off", self.refused(2, APP, *zero, "--set", "workers.zygote=off"))
        text = self.refused(4, THREAD + APP, *zero)
        for words in ("pool.workers or pool.min_ready is 0", "not safe to fork: thread from module app", "@keelback.worker_setup"):
            self.assertIn(words, text)
        self.assertIn("not safe to fork", self.refused(4, THREAD + APP, "--set", "pool.workers_max=4", "--set", "pool.min_ready=0"))

    def test_a_reload_to_code_that_cannot_be_forked(self):
        app = self.app(APP)
        daemon = self.serve(app, workers=0, settings={"pool.workers_max": 4})
        self.app(THREAD + APP)
        reply = daemon.client().request("POST", "/v1/reload", headers={"Content-Type": "application/json"})
        self.assertEqual(500, reply.status, reply.body)
        self.assertIn("not safe to fork: thread", reply.body.decode())
        self.assertEqual(("zygote", "up"), tuple(daemon.pool()["start"][what] for what in ("mode", "state")))
        self.assertEqual(200, daemon.client().call("pid", []).status)

    def test_devices_that_somebody_else_has_chosen(self):
        done = self.run_cli("config", "check", "--set", "workers.devices=0,1", env={"CUDA_VISIBLE_DEVICES": "3"})
        self.assertEqual(2, done.returncode)
        self.assertIn("sets CUDA_VISIBLE_DEVICES already", done.stderr)


class Load(KeelbackTest):
    def test_it_grows_for_calls_that_wait_and_shrinks_when_they_are_over(self):
        daemon = self.serve(self.app(APP), workers=2, settings={"pool.workers_max": 12, **SOON})
        pids = []

        def ask():
            pids.append(daemon.client().call("nap", [2 * STRETCH]).json)

        callers = [threading.Thread(target=ask) for _ in range(12)]
        for caller in callers:
            caller.start()
        wait_until(lambda: daemon.pool()["workers"]["busy"] == 12, "all calls run at once", 2 * STRETCH)
        self.assertIn("calls waited", daemon.pool()["scaling"]["why"])
        for caller in callers:
            caller.join()
        self.assertEqual(12, len(set(pids)), pids)
        wait_until(lambda: there(daemon.pool()) == 2, "two are left", 60)
        self.assertEqual([1, 2], sorted(worker["slot"] for worker in daemon.workers()))

    def test_a_session_that_cannot_be_saved_keeps_its_worker(self):
        daemon = self.serve(self.app(APP), workers=1, settings={"pool.workers_max": 4, **SOON})
        client = daemon.client()
        blockers = [threading.Thread(target=lambda: daemon.client().call("nap", [1])) for _ in range(3)]
        for blocker in blockers:
            blocker.start()
        wait_until(lambda: there(daemon.pool()) >= 3, "the pool has grown")
        home = client.call("hold_a_lock", [], session="bob").json
        for blocker in blockers:
            blocker.join()
        wait_until(lambda: "cannot be saved, and stay: 1" in daemon.pool()["scaling"]["why"] or there(daemon.pool()) == 1, "those who can have left", 60)
        self.assertEqual(home, client.call("pid", [], session="bob").json)
        self.assertEqual(0, daemon.pool()["sessions"]["lost"])
        self.assertEqual(204, client.request("DELETE", "/v1/sessions/bob").status)
        wait_until(lambda: there(daemon.pool()) == 1, "its worker has left", 60)


if __name__ == "__main__":
    main()
