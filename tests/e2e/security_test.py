"""What a hostile function, a debugger, a client and a file can do to the daemon: docs/security.md, row by row."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import BUILD, KEELBACK, ROOT, Client, KeelbackTest, alive, children_of, concurrently, main, proc_stat, wait_until  # noqa: E402

HOSTILE = ROOT / "tests" / "apps" / "hostile.py"
NOBODY = 65534
SYSTEM_PYTHON = Path("/usr/bin/python3")  # one that `nobody` can run, too

# Attaches to the process, and keeps it. It never waits for the zombie: that is what blocks others. `run` lets it go on, `exit` stops it in its death.
DEBUGGER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ATTACH, CONT, SETOPTIONS, TRACEEXIT = 16, 7, 0x4200, 0x40
pid, then = int(sys.argv[1]), sys.argv[2]
if libc.ptrace(ATTACH, pid, None, None) < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, 0x40000000)
if then == "exit":
    libc.ptrace(SETOPTIONS, pid, None, TRACEEXIT)
if then in ("run", "exit"):
    libc.ptrace(CONT, pid, None, None)
print("attached", flush=True)
sys.stdin.read()
"""


def zombie(pid):
    stat = proc_stat(pid)
    return bool(stat) and stat[0] == "Z"


class SecurityTest(KeelbackTest):
    def debug(self, pid, then="stopped"):
        debugger = subprocess.Popen([sys.executable, "-c", DEBUGGER, str(pid), then], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True)

        def end():
            debugger.kill()
            debugger.communicate()

        self.addCleanup(end)
        if debugger.stdout.readline() != "attached\n":
            self.skipTest(f"no process may be traced here: {debugger.stderr.read()}")
        return end

    def family(self, daemon):
        """The pids of guard and zygote."""
        guard, = children_of(daemon.pid)
        return guard, daemon.pool()["start"]["zygote_pid"]

    def call(self, daemon, function, *arguments, **options):
        reply = daemon.client().call(function, list(arguments), **options)
        self.assertEqual(200, reply.status, reply)
        return reply.json


class Debugger(SecurityTest):
    """Whoever is traced, calls go on, workers are started, and SIGTERM ends the daemon."""

    def serve_few(self, **settings):
        return self.serve(HOSTILE, workers=2, settings={"calls.grace": "500ms", "workers.start_timeout": "4s", **settings}).prewarm(2)

    def check(self, daemon, dead=()):
        self.assertEqual(3, self.call(daemon, "add", 1, 2))
        killed = daemon.kill_worker()
        self.assertEqual(200, daemon.client(10).get("/livez").status)
        daemon.wait_replaced(killed, 20)
        self.assertEqual([3] * 8, concurrently([lambda: self.call(daemon, "add", 1, 2)] * 8))
        self.assertEqual(0, daemon.stop(10), daemon.log_text())

    def test_a_debugger_on_the_guard_that_is_killed_then(self):
        daemon = self.serve_few()
        guard, _ = self.family(daemon)
        end = self.debug(guard)
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: zombie(guard), "the guard is dead, and the debugger has it")
        self.assertEqual(200, daemon.client(10).get("/livez").status)
        wait_until(lambda: [pid for pid in children_of(daemon.pid) if pid != guard], "there is a new guard", 20)
        daemon.prewarm(2)
        self.check(daemon)
        end()

    def test_a_debugger_on_the_guard_that_has_stopped_it(self):
        daemon = self.serve_few()
        guard, _ = self.family(daemon)
        self.debug(guard)
        left = self.call(daemon, "daemonise")
        self.check(daemon)
        self.assertFalse(alive(left), "what the guard would have killed")

    def test_a_debugger_on_a_worker_that_dies(self):
        daemon = self.serve_few(**{"workers.start_timeout": "60s"})  # a zygote that waits is given up after half of it
        first = daemon.workers()[0]
        end = self.debug(first["pid"], "run")
        os.kill(first["pid"], signal.SIGKILL)
        wait_until(lambda: zombie(first["pid"]), "the worker is dead, and the debugger has it")
        daemon.wait_replaced(first)
        self.check(daemon)
        end()

    def test_a_zombie_that_a_debugger_has_let_go_is_reaped(self):
        daemon = self.serve_few()
        first = daemon.workers()[0]
        end = self.debug(first["pid"], "run")
        os.kill(first["pid"], signal.SIGKILL)
        daemon.wait_replaced(first)
        self.assertTrue(zombie(first["pid"]))
        end()
        wait_until(lambda: proc_stat(first["pid"]) is None, "its zombie is gone")

    def test_a_debugger_on_the_zygote_that_has_stopped_it(self):
        daemon = self.serve_few()
        _, zygote = self.family(daemon)
        self.debug(zygote)
        self.check(daemon)

    def test_a_worker_that_takes_long_to_die_is_not_abandoned(self):
        daemon = self.serve_few(**{"calls.grace": "0"})
        victim = self.call(daemon, "pid", session="s")
        end = self.debug(victim, "exit")  # it stays on its way out until the debugger goes
        slot, = [worker for worker in daemon.workers() if worker["pid"] == victim]
        reply = daemon.client().call("grow_and_wait", [1 << 20], session="s", deadline_ms=500)
        self.assertEqual("timeout", reply.outcome, reply)
        self.assertEqual([3] * 8, concurrently([lambda: self.call(daemon, "add", 1, 2)] * 8))
        self.assertTrue(alive(victim))
        end()
        daemon.wait_replaced(slot)
        self.assertEqual(0, daemon.pool()["abandoned"])

    def test_a_large_worker_is_not_abandoned_without_a_grace(self):
        daemon = self.serve_few(**{"calls.grace": "0"})
        reply = daemon.client().call("grow_and_wait", [512 << 20], deadline_ms=3000)
        self.assertEqual("timeout", reply.outcome)
        wait_until(lambda: daemon.pool()["restarts"] == 1, "it is replaced")
        daemon.prewarm(2)
        self.assertEqual(0, daemon.pool()["abandoned"])


class Descendants(SecurityTest):
    """What a worker started dies with it, whatever it has made of itself."""

    def check(self, end, **options):
        daemon = self.serve(HOSTILE, workers=2, **options).prewarm(2)
        left, other = concurrently([lambda: daemon.client().call("daemonise", session="one").json] * 1 + [lambda: daemon.client().call("daemonise", session="two").json])
        workers = {session["id"]: session["slot"] for session in daemon.client().get("/v1/sessions").json["items"]}
        self.assertNotEqual(workers["one"], workers["two"])
        self.assertEqual((True, True), (alive(left), alive(other)))
        end(daemon, workers["one"])
        wait_until(lambda: not alive(left), "the daemon of a dead worker is dead")
        self.assertTrue(alive(other), "that of a living worker lives")
        daemon.stop()
        wait_until(lambda: not alive(other), "nothing outlives the daemon")

    @staticmethod
    def kill(daemon, slot):
        worker, = [worker for worker in daemon.workers() if worker["slot"] == slot]
        os.kill(worker["pid"], signal.SIGKILL)

    @staticmethod
    def recycle(daemon, slot):
        daemon.client().request("POST", f"/v1/workers/{slot}/recycle")

    def test_of_a_forked_worker_that_is_killed(self):
        self.check(self.kill)

    def test_of_a_forked_worker_that_is_recycled(self):
        self.check(self.recycle, settings={"workers.drain_timeout": "100ms"})

    def test_of_an_executed_worker_that_is_killed(self):
        self.check(self.kill, settings={"workers.zygote": "off"})


class Walls(SecurityTest):
    def setUp(self):
        super().setUp()
        self.tmp.chmod(0o711)

    def serve_as_nobody(self, **options):
        """Root can read and trace everything: the walls are for everybody else."""
        options["env"] = {"KEELBACK_INSPECTABLE": None}
        if os.getuid() == 0:
            if not SYSTEM_PYTHON.exists():
                self.skipTest(f"there is no {SYSTEM_PYTHON}")
            os.chown(self.private, NOBODY, NOBODY)
            return self.serve_for_all(user=NOBODY, **options)
        return self.serve(HOSTILE, workers=1, cwd="/", **options)

    def serve_for_all(self, **options):
        """What the application's user needs is where everybody can go: the build tree may lie in root's home."""
        prefix, app = self.tmp / "prefix", self.tmp / "hostile.py"
        subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix, "--component", "product"], check=True, stdout=subprocess.DEVNULL)
        shutil.copy(HOSTILE, app)
        return self.serve(app, workers=1, cwd="/", python=SYSTEM_PYTHON, program=prefix / "bin" / "keelback", **options)

    def test_a_function_cannot_look_into_the_daemon_or_its_guard(self):
        daemon = self.serve_as_nobody()
        guard, zygote = self.family(daemon)
        for victim in (daemon.pid, guard):
            found = self.call(daemon, "attack", victim)
            self.assertEqual({"PermissionError"}, set(found.values()), found)
        self.assertIn(None, self.call(daemon, "attack", zygote).values(), "between workers there is no wall")

    def test_workers_user_reaches_neither_the_daemon_nor_what_is_its_own(self):
        if os.getuid() != 0 or not SYSTEM_PYTHON.exists():
            self.skipTest(f"only root can give workers another user, and that needs {SYSTEM_PYTHON}")
        config, socket_path = self.tmp / "keelback.toml", self.tmp / "k.sock"
        config.touch(0o600)
        config.write_text('[server]\ntoken = "t0ken"\n')
        store = self.tmp / "sessions.db"
        daemon = self.serve_for_all(listen=f"unix:{socket_path}", wait="listening", args=["--config", config], env={"KEELBACK_INSPECTABLE": None},
                                    settings={"workers.user": "nobody", "sessions.store": f"sqlite:{store}"})
        client, token = daemon.client(), {"Authorization": "Bearer t0ken"}
        wait_until(lambda: client.get("/readyz").status == 200, "it is ready", 60)
        guard, = children_of(daemon.pid)
        found = client.call("reach", [[daemon.pid, guard], [str(config), str(store)], [str(socket_path)]], **token)
        self.assertEqual(200, found.status, found)
        self.assertEqual({"PermissionError"}, set(found.json.values()), found)
        for victim in (daemon.pid, guard):
            found = client.call("attack", [victim], **token).json
            self.assertEqual({"PermissionError"}, set(found.values()), found)

    def test_they_tell_their_use_themselves(self):
        daemon = self.serve_as_nobody()
        used = wait_until(lambda: (pool := daemon.pool()["processes"])["guard"]["open_fds"] and pool, "it is told")
        for process in used.values():
            self.assertGreater(process["open_fds"], 2, used)
            self.assertGreater(process["rss_bytes"], 100_000, used)
        self.assertGreater(daemon.metrics()["keelback_guard_resident_memory_bytes"], 100_000)

    def test_the_token_is_in_no_environment(self):
        socket_path = self.private / "k.sock"
        daemon = self.serve(HOSTILE, workers=1, listen=f"unix:{socket_path}", wait="listening",
                            env={"KEELBACK_SERVER_TOKEN": "hunter2-the-token"})
        client = daemon.client()
        wait_until(lambda: client.get("/readyz").status == 200, "it is ready", 60)
        with open(f"/proc/{daemon.pid}/environ", "rb") as file:  # as root; nobody else may
            self.assertNotIn(b"hunter2", file.read())
        self.assertNotIn("hunter2", client.call("environment_of", [daemon.pid]).json)

    def test_a_function_cannot_clear_the_token_through_the_unix_socket(self):
        socket_path = self.private / "k.sock"
        daemon = self.serve(HOSTILE, workers=1, listen=f"unix:{socket_path}", wait="listening",
                            settings={"server.token": "t0ken", "server.unix_token": "on"})
        client = daemon.client()
        token = {"Authorization": "Bearer t0ken"}
        wait_until(lambda: client.get("/readyz").status == 200, "it is ready", 60)
        reply = client.call("patch", [str(socket_path), {"server.token": ""}], **token)
        self.assertEqual((200, 401), (reply.status, reply.json), reply)
        self.assertEqual(401, client.get("/v1/pool").status)

    def test_operating_routes_are_where_admin_listen_says(self):
        admin = self.private / "admin.sock"
        daemon = self.serve(HOSTILE, workers=1, wait="listening", settings={"server.admin_listen": f"unix:{admin}"})
        wait_until(lambda: len(daemon.addresses) == 2, "it listens twice")
        wait_until(lambda: daemon.client().get("/readyz").status == 200, "it is ready", 60)
        self.assertEqual(403, daemon.client().request("POST", "/v1/drain").status)
        self.assertEqual(403, daemon.client().get("/v1/config").status)
        self.assertEqual(3, self.call(daemon, "add", 1, 2))
        self.assertEqual(200, Client(f"unix:{admin}").get("/v1/config").status)
        self.daemons.remove(daemon)
        self.assertEqual(0, daemon.stop())

    def test_what_a_worker_forges_is_no_answer(self):
        daemon = self.serve(HOSTILE, workers=1)
        for body in ("<html>", "", '{"a":', "\xff", '"a" "b"'):
            reply = daemon.client().call("forge", [body])
            self.assertEqual("worker_died", reply.outcome, (body, reply))
            self.assertIn("not JSON", reply.json["death"]["detail"])
            daemon.prewarm(1)


class Bounds(SecurityTest):
    """What people and clients write is bounded before it costs anything."""

    def deep(self, path, dots):
        path.write_text("a." * dots + "a = 1\n")
        return path

    def test_deep_configuration_is_refused(self):
        done = self.run_cli("config", "check", "--config", str(self.deep(self.tmp / "deep.toml", 40_000)))
        self.assertEqual(2, done.returncode, done)
        self.assertIn("deep.toml:1: a key has more than 16 dots", done.stderr)
        config = self.tmp / "keelback.toml"
        config.write_text("")
        daemon = self.serve("model", backend="sim", args=("--config", str(config)))
        for text in ("a." * 50_000 + "a = 1", "a = " + "[" * 50_000, "a = " + "{a=" * 50_000):
            config.write_text(text)
            before = len(daemon.log)
            daemon.process.send_signal(signal.SIGHUP)
            wait_until(lambda at=before: any("keelback.toml:1:" in line for line in daemon.log[at:]), daemon.log_text)
            self.assertEqual(200, daemon.client().get("/livez").status)

    def test_unfinished_headers_keep_nobody_out(self):
        daemon = self.serve("model", backend="sim")
        host, port = daemon.address.rsplit(":", 1)
        slow = []
        try:
            for _ in range(1100):  # more than there may be
                slow.append(socket.create_connection((host, int(port))))
                slow[-1].sendall(b"GET /livez HTTP/1.1\r\nHos")
            for _ in range(20):
                self.assertEqual(200, daemon.client().get("/livez").status)
        finally:
            for each in slow:
                each.close()

    def test_closed_standard_descriptors_are_not_reused(self):
        address = self.private / "k.sock"
        process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", str(KEELBACK), "serve", "model", "--backend", "sim", "--listen", f"unix:{address}"],
                                   env={**os.environ, "KEELBACK_TEST_ID": self.test_id})
        try:
            def answers():
                try:
                    return Client(f"unix:{address}").get("/livez").status == 200
                except OSError:  # the socket has its name before it listens
                    return False

            wait_until(answers, "it answers")
            self.assertEqual(["/dev/null"] * 3, [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)])
        finally:
            process.terminate()
            process.wait()

    def test_files_of_a_result_harm_no_others(self):
        app = self.app("""
import keelback
from keelback import Attachment
@keelback.function
def files():
    return [Attachment(name.encode(), name=name) for name in ("a/b", "a_b", "link", "x" + "é" * 120)]
""")
        out = self.tmp / "out"
        out.mkdir()
        precious = self.tmp / "precious"
        precious.write_text("precious")
        (out / "link").symlink_to(precious)
        done = self.run_cli("run", app, "files", "--out", out, "--json")
        self.assertEqual(0, done.returncode, done)
        self.assertEqual("precious", precious.read_text())
        self.assertFalse((out / "link").is_symlink())
        names = [Path(entry["file"]).name for entry in json.loads(done.stdout)["attachments"]]
        self.assertEqual(["a_b", "a_b-2", "link", "x" + "é" * 99], names)
        self.assertEqual({"a_b": "a/b", "a_b-2": "a_b"}, {name: (out / name).read_text() for name in names[:2]})
        self.assertEqual(sorted(names), sorted(path.name for path in out.iterdir()))


if __name__ == "__main__":
    main()
