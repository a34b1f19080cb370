"""Faults around the pool that nothing inside it can produce: a daemon that is stopped, out of descriptors or on a bad disk, workers in a frozen
cgroup, sockets with small buffers, memory that somebody scribbles over, a zygote whose children cannot live."""
import contextlib
import ctypes
import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import BACKEND, ROOT, KeelbackTest, alive, concurrently, main, proc_stat, wait_until  # noqa: E402

CONFORMANCE = ROOT / "tests" / "apps" / "conformance.py"
BACKENDS = [("fake", "standard"), ("python", CONFORMANCE)]
SYS_PIDFD_GETFD = 438
FREEZER_V1 = Path("/sys/fs/cgroup/freezer")


def on_each_backend(test):
    """Runs test(self, backend, app) for each that KEELBACK_BACKEND allows."""
    @functools.wraps(test)
    def run(self):
        for backend, app in BACKENDS:
            if BACKEND in (None, backend):
                with self.subTest(backend=backend):
                    test(self, backend, app)

    return run


class FaultTest(KeelbackTest):
    def pids(self, daemon):
        return sorted(worker["pid"] for worker in daemon.workers())


def descriptors(pid):
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


def limit_descriptors(pid, soft):
    """The soft limit that was there before."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, before[1]))
    return before


def last(seconds):
    """Lets a fault last: the one thing here that is a duration and no condition."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, "the fault has lasted", seconds + 5)


class DaemonFaults(FaultTest):
    @on_each_backend
    def test_a_daemon_that_is_stopped_for_a_while_goes_on_where_it_was(self, backend, app):
        daemon = self.serve(app, backend=backend, workers=2, settings={"calls.grace": "500ms"})
        daemon.prewarm(2)
        client = daemon.client()
        self.assertEqual(1, client.call("counter", session="ann").json)
        before, log = self.pids(daemon), self.tmp / f"{daemon.backend}.effects"

        def patient():
            return daemon.client().call("append", [str(log), "patient", 100], deadline_ms=60_000)

        def hasty():
            return daemon.client().call("append", [str(log), "hasty", 100], deadline_ms=700)

        def stop():
            wait_until(lambda: daemon.pool()["workers"]["busy"] == 2, "both run")
            daemon.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: proc_stat(daemon.pid)[0] == "T", "the daemon is stopped")
            wait_until(lambda: log.exists() and len(log.read_text().split()) == 2, "both have had their effect")
            last(2.0)
            daemon.process.send_signal(signal.SIGCONT)

        waited, due, _ = concurrently([patient, hasty, stop])
        self.assertEqual("ok", waited.outcome, waited)
        self.assertIn((due.outcome, due.headers["Keelback-Effect"]), [("ok", "done"), ("timeout", "maybe")], "answered in time, heard too late")
        self.assertEqual(2, client.call("counter", session="ann").json, "the session is where it was")
        self.assertEqual(before, self.pids(daemon), "standing still is no reason to kill a worker")
        self.assertEqual(0, daemon.pool()["restarts"])
        self.assertEqual(["hasty", "patient"], sorted(log.read_text().split()))

    @on_each_backend
    def test_a_daemon_without_descriptors_serves_who_is_in_and_lets_others_in_later(self, backend, app):
        daemon = self.serve(app, backend=backend, workers=2).prewarm(2)
        client = daemon.client()
        self.assertEqual(1, client.call("counter", session="ann").json)
        killed = next(w for w in client.get("/v1/workers").json if not w["sessions"])
        most = max(descriptors(daemon.pid)) + 16  # a worker takes five, and as many more while it is started
        before = limit_descriptors(daemon.pid, most)
        host, port = daemon.address.rsplit(":", 1)
        flood = [socket.create_connection((host, int(port))) for _ in range(60)]
        wait_until(lambda: descriptors(daemon.pid) >= set(range(most)), "no descriptor is left")
        for n in range(20):
            self.assertEqual(n + 2, client.call("counter", session="ann").json, "who is in is served")
        os.kill(killed["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(killed["pid"]), "a worker dies meanwhile")
        self.assertEqual(22, client.call("counter", session="ann").json)
        for connection in flood:
            connection.close()
        newcomer = daemon.client(30)
        self.assertEqual(23, newcomer.call("counter", session="ann").json, "others are let in when there is room")
        daemon.wait_replaced(killed, 60)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
        self.assertEqual(0, daemon.pool()["sessions"]["lost"])

    @on_each_backend
    def test_small_socket_buffers_are_only_slower(self, backend, app):
        daemon = self.serve(app, backend=backend, workers=2).prewarm(2)
        client = daemon.client()
        self.assertEqual(1, client.call("counter", session="ann").json)
        shrunk = [shrink_sockets(pid) for pid in (daemon.pid, *self.pids(daemon))]
        self.assertTrue(all(shrunk), f"sockets with another buffer: {shrunk}")
        text = "x" * 3_000_000
        self.assertTrue(client.call("echo", [text]).json == text)
        self.assertEqual(3_000_000, len(client.call("blob", [3_000_000]).json))
        events = client.call("items", [500], Accept="text/event-stream").body.decode()
        self.assertEqual(500, events.count("event: item"))
        octets = {"Content-Type": "application/octet-stream", "Keelback-Attachment": "x"}
        for size in (50_000, 1_000_000):
            summed = client.request("POST", "/v1/call/attach_sum", body=b"y" * size, headers=octets)
            self.assertEqual([[size, size * ord("y")]], summed.json)
            made = client.call("attach_make", [3, size])
            self.assertEqual(200, made.status)
            self.assertTrue(all(letter * size in made.body for letter in (b"a", b"b", b"c")))
        self.assertEqual(2, client.call("counter", session="ann").json)
        self.assertEqual(0, daemon.pool()["restarts"])


def shrink_sockets(pid):
    """Gives every socket of the process that is a worker's or a client's a send buffer that holds little more than one packet; how many."""
    libc, pidfd, changed = ctypes.CDLL(None, use_errno=True), os.pidfd_open(pid), 0
    for fd in descriptors(pid):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
                continue
        copy = libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
        if copy < 0:
            continue
        with socket.socket(fileno=copy) as shared:
            if shared.type == socket.SOCK_SEQPACKET and shared.family == socket.AF_UNIX:
                shared.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 40_000)  # the kernel doubles it: a packet has 64 KiB
                changed += 1
            elif shared.type == socket.SOCK_STREAM and shared.family == socket.AF_INET:
                shared.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
                changed += 1
    os.close(pidfd)
    return changed


class WorkerFaults(FaultTest):
    @on_each_backend
    def test_a_worker_in_a_frozen_cgroup_costs_its_call_and_no_other(self, backend, app):
        daemon = self.serve(app, backend=backend, workers=2, settings={"calls.grace": "400ms"})
        daemon.prewarm(2)
        client = daemon.client()
        home = client.call("counter", session="ann").headers["Keelback-Worker"]
        frozen = next(w for w in daemon.workers() if f"{w['slot']}.{w['generation']}" == home)
        with frozen_cgroup(self, frozen["pid"]):
            late = client.call("counter", session="ann", deadline_ms=300)
            self.assertEqual("timeout", late.outcome, late)
            self.assertIn(late.json["effect"], ("none", "maybe"))
            for _ in range(20):
                self.assertEqual([1], [client.call("echo", [1]).json], "the other one serves")
            daemon.wait_replaced(frozen, 60)
            self.assertEqual("session_lost", client.call("counter", session="ann").outcome)
            self.assertEqual(1, client.call("counter", session="ann").json)
        wait_until(lambda pid=frozen["pid"]: not alive(pid), "it dies at the latest when it thaws")

    def test_a_worker_that_damages_its_marks_and_dies_may_have_run(self):
        if BACKEND not in (None, "python"):
            self.skipTest("it is Python code that scribbles")
        app = self.app(SCRIBBLES)
        log = self.tmp / "effects"
        daemon = self.serve(app, workers=1, settings={"breaker.failures": 100}).prewarm(1)
        client = daemon.client()
        for word in (0, 1, 2**63, 2**64 - 1):
            self.assertEqual(1, client.call("one").json)
            log.write_text("")
            died = client.call("scribble", [str(log), word])
            self.assertEqual(("worker_died", "maybe"), (died.outcome, died.json["effect"]), hex(word))
            self.assertEqual("1", died.headers["Keelback-Attempts"])
            self.assertEqual("x\n", log.read_text(), "it ran once")

    def test_what_a_function_leaks_ends_with_its_worker(self):
        if BACKEND not in (None, "python"):
            self.skipTest("it is Python code that leaks")
        daemon = self.serve(self.app(LEAKS), workers=1, settings={"workers.max_calls": 10}).prewarm(1)
        client = daemon.client()
        self.assertEqual("ok", client.call("leak", [0]).outcome)
        first, held = self.pids(daemon), len(descriptors(daemon.pid))
        for _ in range(60):
            self.assertEqual("ok", client.call("leak", [20]).outcome)
        wait_until(lambda: client.call("leak", [0]).json[0] < 100 and not set(first) & set(self.pids(daemon)), "those who leaked are gone")
        wait_until(lambda: len(descriptors(daemon.pid)) <= held + 4, "the daemon has leaked nothing for it")

    def test_a_zygote_whose_children_cannot_live_is_not_ready_and_says_so(self):
        if BACKEND not in (None, "python"):
            self.skipTest("fake workers have no zygote")
        app = self.app("import os, sys\nos.register_at_fork(after_in_child=lambda: os._exit(7))\n" + ONE)
        daemon = self.serve(app, workers=2, wait="listening", args=["--wait-for-app"], settings={"workers.zygote": "force"})
        client = daemon.client()
        refused = client.call("one")
        self.assertEqual((503, "not_ready", "none"), (refused.status, refused.outcome, refused.json["effect"]), refused)
        reason = wait_until(lambda: (r := client.get("/readyz")).status == 503 and "exit code 7" in r.body.decode() and r, "readyz says what they die of")
        self.assertIn("start", reason.body.decode())
        self.assertTrue(client.get("/livez").json["live"])
        app.write_text(ONE)
        wait_until(lambda: client.request("POST", "/v1/reload", headers={"Content-Type": "application/json"}).status == 200, "good code is taken", 60)
        wait_until(lambda: client.call("one").outcome == "ok", "and served", 60)


ONE = """
import keelback

@keelback.function
def one():
    return 1
"""
SCRIBBLES = ONE + """
import os, signal

@keelback.function
def scribble(path, word):
    with open(path, "a") as log:
        log.write("x\\n")
    words = keelback.calls.here.words
    words[0] = words[1] = word  # started, ended
    os.kill(os.getpid(), signal.SIGKILL)
"""
LEAKS = """
import os, threading, keelback

kept = []

@keelback.function
def leak(n):
    kept.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(n))
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return len(os.listdir("/proc/self/fd")), threading.active_count()
"""


@contextlib.contextmanager
def frozen_cgroup(test, pid):
    """The process in a cgroup of its own that is frozen: it takes no signal, and its state looks like sleep."""
    if (Path("/sys/fs/cgroup/cgroup.controllers")).exists():
        parent = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().split("::")[1].strip().lstrip("/")
        switch, on, off = "cgroup.freeze", "1", "0"
    else:
        parent, switch, on, off = FREEZER_V1, "freezer.state", "FROZEN", "THAWED"
    group = parent / f"keelback-test-{os.getpid()}-{pid}"
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        test.skipTest(f"no cgroup of ours can be frozen here: {error}")
    try:
        (group / switch).write_text(on)
        wait_until(lambda: "FREEZING" not in (group / switch).read_text(), "it is frozen")
        yield
    finally:
        (group / switch).write_text(off)
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "whoever was frozen is gone", 30)
        group.rmdir()


class Disk(FaultTest):
    """A daemon with a session store whose disk fills up under it, and which is killed and started on that disk."""

    def start(self, backend, app, store):
        return self.serve(app, backend=backend, workers=2, settings={"sessions.snapshot": "each_call", "sessions.store": f"sqlite:{store}"})

    def sigkill(self, daemon):
        daemon.process.kill()
        daemon.process.wait()
        self.assert_no_process_left(5.0)

    def go_on_and_on(self, backend, app, file, fill, free):
        """`fill` makes the disk full for all that run and are started, `free` makes room."""
        daemon = self.start(backend, app, file)
        client = daemon.client()
        births = {name: client.call("counter", session=name).headers["Keelback-Birth"] for name in ("ann", "bob")}
        fill(daemon, file)
        self.assertEqual(2, client.call("counter", session="ann").json, "calls go on")
        self.assertFalse(daemon.pool()["snapshots"]["up"])
        self.sigkill(daemon)

        daemon = self.start(backend, app, file)
        client = daemon.client()
        snapshots = daemon.pool()["snapshots"]
        self.assertFalse(snapshots["up"], snapshots)
        self.assertTrue(snapshots["error"], snapshots)
        ready = client.get("/readyz")
        self.assertEqual((200, True), (ready.status, ready.json["ready"]))
        self.assertIn(str(file), ready.json["degraded"][0], "readyz names the store that cannot be written to")
        self.assertEqual(0, daemon.metrics()["keelback_snapshot_store_up"])
        self.assertIn("cannot be stored", daemon.log_text())
        lost = client.call("counter", session="ann")
        self.assertEqual((410, "session_lost", "none"), (lost.status, lost.outcome, lost.json["effect"]), "its row was out of date")
        anew = client.call("counter", session="ann")
        self.assertEqual(1, anew.json)
        self.assertNotEqual(births["ann"], anew.headers["Keelback-Birth"])
        good = client.call("counter", session="bob")
        self.assertEqual((2, births["bob"]), (good.json, good.headers["Keelback-Birth"]), "what is good is read")

        free(daemon, file)
        wait_until(lambda d=daemon: d.client().call("counter", session="cyd").status == 200 and d.pool()["snapshots"]["up"], "it is used again")
        self.assertEqual([], client.get("/readyz").json.get("degraded", []))
        self.assertEqual([2, 3], [client.call("counter", session=name).json for name in ("ann", "bob")])
        self.sigkill(daemon)
        daemon = self.start(backend, app, file)
        client = daemon.client()
        self.assertEqual([3, 4], [client.call("counter", session=name).json for name in ("ann", "bob")], "stored, and restored")
        self.assertEqual(0, daemon.stop())

    @on_each_backend
    def test_a_start_where_files_may_not_grow_loses_loudly_and_nothing_else(self, backend, app):
        limit = 1 << 20
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)

        def fill(daemon, file):
            # The log of changes has to be longer than what may be written: only its end is refused.
            wal = Path(f"{file}-wal")
            client = daemon.client()
            wait_until(lambda: client.call("counter", session="filler").status == 200 and wal.stat().st_size > limit + 65536, "the log has grown", 60)
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (limit, before[1]))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # who is started inherits it

        def free(daemon, file):
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)

        self.go_on_and_on(backend, app, self.tmp / f"{backend}.db", fill, free)

    @on_each_backend
    def test_a_start_on_a_full_file_system_loses_loudly_and_nothing_else(self, backend, app):
        where = self.tmp / backend
        where.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(where)], capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", str(where)], check=True)

        def fill(daemon, file):
            with contextlib.suppress(OSError), open(where / "filler", "ab", buffering=0) as filler:
                while filler.write(b"x" * 4096):
                    pass

        def free(daemon, file):
            (where / "filler").unlink()

        self.go_on_and_on(backend, app, where / "sessions.db", fill, free)


if __name__ == "__main__":
    main()
