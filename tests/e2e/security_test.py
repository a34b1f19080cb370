"""What a hostile function, a debugger, a client and a file can do to the daemon: docs/security.md, row by row."""
import json
import os
import signal
import socket
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KEELBACK, ROOT, Client, KeelbackTest, alive, children_of, concurrently, main, proc_stat, wait_until  # noqa: E402

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
            wait_until(address.exists, "it listens")
            self.assertEqual(200, Client(f"unix:{address}").get("/livez").status)
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
