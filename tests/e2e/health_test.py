"""Workers that live and are broken: what the application says of them, and what the pool does about it."""
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, main, wait_until  # noqa: E402

# A client of a line protocol that connects once, as applications do with their database.
APP = '''
import os, socket, time
import keelback

link = None

@keelback.worker_setup
def connect():
    global link
    link = socket.create_connection(("127.0.0.1", int(os.environ["DATABASE_PORT"])), timeout=10)

def query(text):
    link.sendall(text.encode() + b"\\n")
    answer = link.recv(100)
    if not answer:
        raise ConnectionError("the connection is closed")
    return answer.decode().strip()

@keelback.health
def database_answers():
    query("ping")

@keelback.function
def ask(text):
    state = keelback.session().state if keelback.has_session() else {}
    state["n"] = state.get("n", 0) + 1
    return [query(text), state["n"]]

@keelback.function
def pid():
    return os.getpid()
'''


class Database:
    """Answers each line with it; `restart` breaks all connections, `stop` takes no new ones either."""

    def __init__(self):
        self._links = []
        self._server = None
        self._lock = threading.Lock()
        self.port = 0
        self.start()

    def start(self):
        self._server = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server):
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            with self._lock:
                self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    @staticmethod
    def _serve(link):
        try:
            while data := link.recv(100):
                link.sendall(data)
        except OSError:
            pass

    def restart(self):
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            link.close()

    def stop(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.restart()


class Health(KeelbackTest):
    def setUp(self):
        super().setUp()
        self.database = Database()
        self.addCleanup(self.database.stop)

    def serve_app(self, app=APP, **options):
        settings = {"breaker.failures": 0, **options.pop("settings", {})}
        workers = options.pop("workers", 4)
        daemon = self.serve(self.app(app), workers=workers, settings=settings, env={"DATABASE_PORT": str(self.database.port)}, **options)
        return daemon.prewarm(workers)

    def test_a_restart_of_the_database_under_load_costs_the_calls_in_flight_and_one_more_for_each_worker(self):
        for mode in ("force", "off"):
            with self.subTest(zygote=mode):
                daemon = self.serve_app(settings={"workers.zygote": mode, "calls.retries": 0})
                stop, outcomes, lock = threading.Event(), [], threading.Lock()

                def keep_asking(name):
                    client, n = daemon.client(), 0
                    while not stop.is_set():
                        n += 1
                        reply = client.call("ask", [name], session=name)
                        with lock:
                            outcomes.append((time.monotonic(), reply.outcome, reply.outcome != "ok" or reply.json == [name, n]))

                askers = [threading.Thread(target=keep_asking, args=(f"s{n}",)) for n in range(6)]
                for asker in askers:
                    asker.start()
                wait_until(lambda: len(outcomes) > 200, "there is a load")
                broken_at = time.monotonic()
                self.database.restart()
                wait_until(lambda: daemon.pool()["health"]["failed"] >= 4, "each worker has been found broken", 30)
                wait_until(lambda: daemon.client().get("/readyz").status == 200, "the pool is well again", 30)
                enough = len(outcomes) + 300
                wait_until(lambda: len(outcomes) > enough, "the load goes on", 30)
                stop.set()
                for asker in askers:
                    asker.join()
                self.assertEqual(set(), {outcome for at, outcome, _ in outcomes if at < broken_at} - {"ok"})
                failed = [outcome for _, outcome, _ in outcomes if outcome != "ok"]
                self.assertLessEqual(len(failed), 8, failed)
                self.assertEqual({"error"}, set(failed))
                self.assertTrue(all(right for _, _, right in outcomes), "a session lost its count, or got another's answer")
                self.assertEqual(0, daemon.pool()["sessions"]["lost"])

    def test_a_database_that_stays_away_leaves_the_workers_alive_and_the_pool_not_ready(self):
        for mode in ("force", "off"):
            with self.subTest(zygote=mode):
                daemon = self.serve_app(workers=2, settings={"workers.zygote": mode, "workers.health_every": "300ms"})
                before = {worker["pid"] for worker in daemon.workers()}
                self.database.stop()
                reason = wait_until(lambda: (r := daemon.client().get("/readyz")).status == 503 and r.body.decode(), "the pool is not ready")
                self.assertIn("fails its health check", reason)
                self.assertIn("database_answers", reason)
                wait_until(lambda: any("replacement" in line and "no better" in line for line in daemon.log), "a replacement has been tried", 30)
                wait_until(lambda: daemon.client().call("pid", deadline_ms=5000).outcome == "ok", "what needs no database is served", 30)
                alive = {worker["pid"] for worker in daemon.workers() if worker["state"] != "starting"}
                self.assertLessEqual(before, alive)
                self.assertIn("fails its health check", self.run_cli("workers", "--url", daemon.address).stdout)
                self.database.start()
                wait_until(lambda: daemon.client().get("/readyz").status == 200, "and well again when the database is back", 60)
                self.assertEqual("ok", daemon.client().call("ask", ["x"]).outcome)

    def test_a_function_may_give_its_worker_up(self):
        app = APP + '''
@keelback.function
def give_up():
    keelback.session().state["kept"] = True
    keelback.retire("the licence is used up")
    return os.getpid()

@keelback.function
def kept():
    return [keelback.session().state.get("kept"), os.getpid()]
'''
        daemon = self.serve_app(app, workers=1)
        client = daemon.client()
        first = client.call("give_up", session="ann")
        self.assertEqual("ok", first.outcome, first)
        state, pid = client.call("kept", session="ann").json
        self.assertTrue(state)
        self.assertNotEqual(first.json, pid, "the next call meets another worker")
        self.assertEqual(1, daemon.pool()["health"]["retired"])
        self.assertEqual(1, daemon.metrics()["keelback_workers_retired_total"])
        wait_until(lambda: any("asks to be replaced: the licence is used up" in line for line in daemon.log), "the log has the reason")

    def test_a_check_that_hangs_costs_its_worker(self):
        app = APP.replace('    query("ping")', '    if os.path.exists(os.environ["HANG"]):\n        time.sleep(3600)')
        hang = self.tmp / "hang"
        daemon = self.serve(self.app(app), workers=1, env={"DATABASE_PORT": str(self.database.port), "HANG": str(hang)},
                            settings={"workers.health_every": "100ms", "workers.health_timeout": "200ms", "calls.grace": "500ms"}).prewarm(1)
        before = daemon.workers()[0]["pid"]
        hang.touch()
        wait_until(lambda: any("takes longer than 200ms" in line for line in daemon.log), "it is found")
        hang.unlink()
        wait_until(lambda: (r := daemon.client().call("pid", deadline_ms=20000)).outcome == "ok" and r.json != before, "another worker serves", 30)

    def test_time_without_a_processor_does_not_count(self):
        """The check computes for a fifth of the limit on a processor that it hardly gets."""
        app = APP.replace('    query("ping")', '    end = time.process_time() + 0.02\n    while time.process_time() < end: pass\n    open(os.environ["TOOK"], "a").write("x")')
        took = self.tmp / "took"
        daemon = self.serve(self.app(app), workers=1, env={"DATABASE_PORT": str(self.database.port), "TOOK": str(took)},
                            settings={"workers.health_every": "100ms", "workers.health_timeout": "100ms"}).prewarm(1)
        pid = daemon.workers()[0]["pid"]
        processor = min(os.sched_getaffinity(0))
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {processor})
            os.setpriority(os.PRIO_PROCESS, int(thread), 10)
        spin = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{processor}}})\nwhile True: pass"]
        hogs = [subprocess.Popen(spin) for _ in range(2)]
        try:
            sizes = took.stat().st_size if took.exists() else 0
            wait_until(lambda: took.exists() and took.stat().st_size >= sizes + 2, "two checks have ended", 120)
            self.assertEqual(0, daemon.pool()["health"]["failed"], daemon.log_text())
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()


if __name__ == "__main__":
    main()
