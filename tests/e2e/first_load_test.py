"""How `keelback serve` begins: it serves, or it says why it cannot and ends; and when it tells a service manager that it is ready."""
import os
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, ROOT, STRETCH, KeelbackTest, main, wait_until  # noqa: E402

GOOD = """
import keelback

@keelback.function
def one():
    return 1
"""
WAITS = """
import os, time
while not os.path.exists({gate!r}):
    time.sleep(0.01)
""" + GOOD
PORT = """
import keelback, socket
server = socket.create_server(("127.0.0.1", {port}))
""" + GOOD
FAILING_SETUP = """
import keelback

@keelback.worker_setup
def connect():
    raise ConnectionError("no database")

@keelback.function
def one():
    return 1
"""
REASONS = (  # name, source, what is said
    ("missing.py", None, ["missing.py"]),
    ("syntax.py", "def f(:\n", ["SyntaxError", "syntax.py", "line 1"]),
    ("import_error.py", "\nimport not_there_at_all\n", ["ModuleNotFoundError", "not_there_at_all", "import_error.py:2", "Hint: install the module"]),
    ("raises.py", "def load():\n    raise RuntimeError('no licence')\n\nload()\n", ["RuntimeError", "no licence", "raises.py:2"]),
    ("setup.py", FAILING_SETUP, ["ConnectionError", "no database", "setup.py:6"]),
    ("dies.py", "import os, sys\nprint('last words', file=sys.stderr)\nos._exit(3)\n", ["exit code 3", "last words"]),
)


class FirstLoad(KeelbackTest):
    def start(self, app, *args, env=None, **options):
        """serve as a process of its own, to its end; returns it with its texts."""
        command = [str(KEELBACK), "serve", str(app), "--listen", "127.0.0.1:0", "--workers", "2", *args]
        environment = {**os.environ, "KEELBACK_TEST_ID": self.test_id, "TMPDIR": str(self.private), **(env or {})}
        for name in ("KEELBACK_BACKEND", "NOTIFY_SOCKET"):
            if name not in (env or {}):
                environment.pop(name, None)
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60 * STRETCH, check=False, **options)

    def test_an_application_that_cannot_be_loaded_ends_the_daemon_which_says_why(self):
        for zygote in ("auto", "off"):
            for name, source, words in REASONS:
                path = self.app(source, name) if source else self.tmp / name
                with self.subTest(zygote=zygote, name=name):
                    ended = self.start(path, "--set", f"workers.zygote={zygote}")
                    self.assertEqual(4, ended.returncode, ended.stderr)
                    said = ended.stderr[ended.stderr.index(f"keelback: {path} cannot be loaded"):]
                    for word in words:
                        self.assertIn(word, said)
                    self.assertIn("--wait-for-app", said)
                    self.assert_no_process_left(5.0)

    def test_with_json_it_is_said_on_stdout_too(self):
        ended = self.start(self.tmp / "missing.py", "--json")
        self.assertEqual(4, ended.returncode, ended.stderr)
        self.assertIn('"kind":"start"', ended.stdout)

    def test_an_interpreter_that_is_not_there_ends_the_daemon(self):
        ended = self.start(self.app(GOOD), "--set", "workers.python=/no/such/python")
        self.assertEqual(4, ended.returncode, ended.stderr)
        self.assertIn("/no/such/python", ended.stderr)
        self.assertIn("keelback doctor", ended.stderr)

    def test_told_to_wait_it_serves_once_the_application_can_be_loaded(self):
        app = self.app("import not_there_at_all\n")
        daemon = self.serve(app, args=["--wait-for-app"], wait="listening")
        reason = wait_until(lambda: (r := daemon.client().get("/readyz")).status == 503 and "not_there_at_all" in r.body.decode() and r,
                            lambda: f"readyz says why; log {daemon.log_text()}")
        self.assertIn("app.py:1", " ".join(reason.json["reasons"]))
        wait_until(lambda: "did not start" in daemon.log_text() and "app.py:1" in daemon.log_text(), "the log says why, and where")
        app.write_text(GOOD)
        wait_until(lambda: daemon.client().get("/readyz").status == 200, lambda: f"it is ready; log {daemon.log_text()}", 60)
        self.assertEqual(1, daemon.client().call("one").json)

    def test_a_later_load_that_fails_ends_nobody(self):
        app = self.app(GOOD)
        daemon = self.serve(app, workers=1, settings={"workers.zygote": "off"})
        app.write_text("import not_there_at_all\n")
        daemon.kill_worker()
        wait_until(lambda: "not_there_at_all" in daemon.client().get("/readyz").body.decode(), "readyz says why")
        app.write_text(GOOD)
        wait_until(lambda: daemon.client().get("/readyz").status == 200, lambda: f"it is ready; log {daemon.log_text()}", 60)

    def test_a_port_that_only_one_worker_can_have_is_said_with_its_line(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        daemon = self.serve(self.app(PORT.format(port=port)), workers=2, args=["--wait-for-app"], wait="listening")
        ready = wait_until(lambda: (r := daemon.client().get("/readyz")).status == 200 and r.json.get("degraded") and r,
                           lambda: f"one worker serves, and readyz says why the other does not; log {daemon.log_text()}", 60)
        self.assertIn("1 of 2 workers serve", ready.json["degraded"][0])
        self.assertIn("Address already in use", ready.json["degraded"][0])
        self.assertIn("app.py:3", ready.json["degraded"][0])
        self.assertEqual(1, daemon.client().call("one").json)

    def test_ready_is_said_when_the_pool_is_ready_and_not_before(self):
        gate = self.tmp / "gate"
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(notify.close)
        notify.bind(str(self.tmp / "notify"))
        notify.settimeout(30 * STRETCH)
        daemon = self.serve(self.app(WAITS.format(gate=str(gate))), workers=1, env={"NOTIFY_SOCKET": str(self.tmp / "notify")}, wait="listening")
        client = daemon.client()
        # The daemon answers; only then is it looked whether it has said anything.
        for _ in range(20):
            self.assertEqual(503, client.get("/readyz").status)
        notify.settimeout(0)
        with self.assertRaises(BlockingIOError):
            notify.recv(100)
        notify.settimeout(30 * STRETCH)
        gate.touch()
        self.assertEqual(b"READY=1", notify.recv(100))
        self.assertEqual(200, client.get("/readyz").status)


if __name__ == "__main__":
    main()
