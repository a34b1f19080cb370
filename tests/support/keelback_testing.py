"""Fixtures for end-to-end tests: an isolated daemon per test, concurrent calls, waiting on observed conditions, leak checks.

Standard library only. Nothing here sleeps for an effect or reads static configuration: every wait names the condition that it observes, and every
bound is stretched by KEELBACK_TIMEOUTS=extended. Everything a test starts carries KEELBACK_TEST_ID in its environment; after each test no living
process may carry it, and the test's private temporary directory must be as empty as it was.
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid
from pathlib import Path

import environment

environment.settle()

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("KEELBACK_BUILD_DIR", ROOT / "build" / "release"))
KEELBACK = BUILD / "keelback"


def switch(name, *known):
    """The value of a test switch, the first of `known` if it is not set; a misspelt one must not silently test something else."""
    value = os.environ.get(name) or known[0]
    if value not in known:
        sys.exit(f"{name}={value}: it is {', '.join(str(word) for word in known if word)}")
    return value


STRETCH = {"normal": 1.0, "extended": 4.0}[switch("KEELBACK_TIMEOUTS", "normal", "extended")]
LEVEL = switch("KEELBACK_LEVEL", "light", "medium", "heavy")
BACKEND = switch("KEELBACK_BACKEND", None, "sim", "fake", "python")


def level(light, medium, heavy):
    """The value for KEELBACK_LEVEL."""
    return {"light": light, "medium": medium, "heavy": heavy}[LEVEL]


def wait_until(condition, what, timeout=10.0):
    """Polls `condition` until it is truthy and returns its value; fails with `what` after timeout seconds (stretched). What can be said only
    then, a log for one, is a function."""
    end = time.monotonic() + timeout * STRETCH
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {timeout * STRETCH:.1f} s: {text}; last value: {value!r}")
        time.sleep(0.002)


# ---- processes, by pid and start time, never by name


def proc_stat(pid):
    """Fields of /proc/PID/stat after the command, or None: [0] state, [1] ppid, [2] pgrp, [19] start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rsplit(")", 1)[1].split()


def alive(pid, start_time=None):
    stat = proc_stat(pid)
    return bool(stat) and stat[0] not in "ZX" and (start_time is None or stat[19] == start_time)


def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = proc_stat(entry)
            if stat and int(stat[1]) == pid:
                found.append(int(entry))
    return found


def descendants(pid):
    found, front = [], [pid]
    while front:
        front = [child for parent in front for child in children_of(parent)]
        found += front
    return found


def marked(test_id):
    """Living processes whose environment carries the test's id."""
    found = []
    needle = f"KEELBACK_TEST_ID={test_id}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        if needle in environment.split(b"\0") and alive(entry):
            found.append(int(entry))
    return found


def describe(pid):
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = "gone"
    return f"{pid}: {command}"


# ---- HTTP


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def outcome(self):
        return "ok" if self.status == 200 else self.json.get("outcome")

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """One keep-alive connection. Not for several threads."""

    def __init__(self, address, timeout=120.0):
        self.address, self.timeout, self._connection = address, timeout * STRETCH, None

    def _connect(self):
        if self.address.startswith("unix:"):
            return _UnixConnection(self.address[5:], self.timeout)
        host, port = self.address.rsplit(":", 1)
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=self.timeout)

    def request(self, method, path, body=None, headers=None):
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.request(method, path, body=body, headers=headers or {})
            response = self._connection.getresponse()
            data = response.read()
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return Reply(response.status, response.headers, data)

    def get(self, path):
        return self.request("GET", path)

    def call(self, function, arguments=None, session=None, deadline_ms=None, **headers):
        """headers: Keelback_Priority="high" becomes Keelback-Priority: high."""
        sent = {"Content-Type": "application/json"}
        if session is not None:
            sent["Keelback-Session"] = session
        if deadline_ms is not None:
            sent["Keelback-Deadline-Ms"] = str(deadline_ms)
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        body = json.dumps([] if arguments is None else arguments)
        return self.request("POST", f"/v1/call/{function}", body=body, headers=sent)

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self):
        self.close()


# ---- the daemon


class Daemon:
    """`keelback serve` on a free loopback port, in its own process, with everything it starts marked by test_id."""

    def __init__(self, app, *, workers=2, settings=None, backend="python", python=None, env=None, args=(), wait="ready", test_id=None, tmp=None,
                 listen="127.0.0.1:0", expose=None, cwd=ROOT, user=None, program=None):
        self.test_id, self.backend = test_id or uuid.uuid4().hex, (settings or {}).get("pool.backend", backend)
        command = [str(program or KEELBACK), "serve", str(app), "--workers", str(workers), "--listen", listen]
        if expose:
            command += ["--expose", expose]
        settings = dict(settings or {})
        settings.setdefault("pool.backend", backend)
        if python:
            settings.setdefault("workers.python", str(python))
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        command += list(args)
        environment = {**os.environ, "KEELBACK_TEST_ID": self.test_id, **(env or {})}
        environment = {name: value for name, value in environment.items() if value is not None}
        for name in ("KEELBACK_BACKEND", "KEELBACK_LEVEL", "KEELBACK_TIMEOUTS"):
            environment.pop(name, None)
        if tmp:
            environment["TMPDIR"] = str(tmp)
        self.log = []
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, errors="replace",
                                        **({"user": user, "group": user, "extra_groups": []} if user is not None else {}))
        self.start_time = proc_stat(self.process.pid)[19]
        self.addresses = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            if wait:
                wait_until(lambda: self.addresses or self.process.poll() is not None, "the daemon prints where it listens", 30)
                if self.process.poll() is not None:
                    raise AssertionError(f"serve exited {self.process.returncode}: {self.log_text()}")
            if wait == "ready":
                wait_until(lambda: self.client().get("/readyz").status == 200, lambda: f"readyz says ready; log: {self.log_text()}", 60)
        except BaseException:
            self.kill()
            raise

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            marker = "listening on "
            if marker in line:
                address = line.split(marker, 1)[1].split('"')[0].split()[0]
                self.addresses.append(address[7:] if address.startswith("http://") else address)

    def log_text(self):
        return "\n".join(self.log[-60:])

    @property
    def address(self):
        return self.addresses[0]

    @property
    def pid(self):
        return self.process.pid

    def client(self, timeout=120.0):
        return Client(self.address, timeout)

    def pool(self):
        return self.client().get("/v1/pool").json

    def workers(self):
        return self.client().get("/v1/workers").json

    def metrics(self):
        """Prometheus samples as {"name{labels}": value}."""
        found = {}
        for line in self.client().get("/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def prewarm(self, workers):
        """Waits until that many workers are ready, as the pool itself reports them."""
        wait_until(lambda: self.pool()["workers"]["ready"] >= workers, f"{workers} workers ready; log: {self.log_text()}", 60)
        return self

    def held_too_long(self):
        """What the daemon holds of workers that are no more: descriptors of their processes and of their marks, beyond the living ones'."""
        reply = self.client().get("/v1/workers")
        if reply.status == 401:
            return {}  # a daemon with a token keeps its secrets
        pids = {worker["pid"] for worker in reply.json if worker["pid"]}
        workers = len(pids)
        links = []
        try:
            names = os.listdir(f"/proc/{self.pid}/fd")
        except PermissionError:  # only root may look
            return {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        marks = sum(link.startswith("/memfd:keelback-marks") for link in links) - workers
        zygotes = [pid for pid in descendants(self.pid) if pid not in pids and "keelback.zygote" in describe(pid)]
        processes = links.count("anon_inode:[pidfd]") - workers - 1 - max(1, len(zygotes))  # the guard, and each zygote that has workers
        mapped = Path(f"/proc/{self.pid}/maps").read_text().count("/memfd:keelback-marks") - workers
        return {kind: n for kind, n in (("marks", marks), ("pidfds", processes), ("mappings", mapped)) if n > 0}

    def kill_worker(self, index=0, signum=signal.SIGKILL):
        """Signals the index-th worker that has a process; returns what /v1/workers said of it."""
        worker = [worker for worker in self.workers() if worker["pid"]][index]
        os.kill(worker["pid"], signum)
        return worker

    def wait_replaced(self, killed, timeout=10.0):
        """Waits until the slot of a killed worker has a ready successor; returns that one."""
        def replaced():
            worker = next((w for w in self.workers() if w["slot"] == killed["slot"]), None)
            return worker if worker and worker["generation"] > killed["generation"] and worker["state"] == "ready" else None

        return wait_until(replaced, f"slot {killed['slot']} has a ready successor of generation {killed['generation']}", timeout)

    def stop(self, timeout=30.0):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=30.0):
        try:
            self.process.wait(timeout * STRETCH)
        except subprocess.TimeoutExpired:
            log = self.log_text()
            self.kill()
            raise AssertionError(f"the daemon did not exit within {timeout * STRETCH} s; log: {log}") from None
        self._reader.join(5)
        self.process.stderr.close()
        return self.process.returncode

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def concurrently(operations, threads=None):
    """Runs the callables at once, one thread each (or `threads`), and returns their results in order."""
    operations = list(operations)
    barrier = threading.Barrier(len(operations)) if threads is None else None

    def run(operation):
        if barrier:
            barrier.wait()
        return operation()

    with concurrent.futures.ThreadPoolExecutor(threads or max(1, len(operations))) as executor:
        return [future.result() for future in [executor.submit(run, operation) for operation in operations]]


def cli(*args, env=None, input=None, timeout=60.0):
    """Runs the command to its end; returns the CompletedProcess with text output."""
    environment = {**os.environ, **(env or {})}
    return subprocess.run([str(KEELBACK), *map(str, args)], cwd=ROOT, env=environment, input=input, capture_output=True, text=True,
                          timeout=timeout * STRETCH, check=False)


class KeelbackTest(unittest.TestCase):
    """A test whose daemons are its own, and which must leave nothing behind: no process, no file, no shared memory, and in a daemon that lives
    on no descriptor of a worker that is gone."""

    maxDiff = None

    def setUp(self):
        self.test_id = uuid.uuid4().hex
        self.tmp = Path(tempfile.mkdtemp(prefix="keelback-test-"))
        self.private = self.tmp / "daemon"
        self.private.mkdir()
        self.daemons = []
        self._shared_before = self._shared_memory()
        self.addCleanup(self._check_nothing_left)

    def serve(self, app, **options):
        options.setdefault("test_id", self.test_id)
        options.setdefault("tmp", self.private)
        daemon = Daemon(app, **options)
        self.daemons.append(daemon)
        return daemon

    def app(self, source, name="app.py"):
        """Writes an application for this test and returns its path."""
        path = self.tmp / name
        path.write_text(source)
        return path

    def run_cli(self, *args, **options):
        env = {"KEELBACK_TEST_ID": self.test_id, "TMPDIR": str(self.private), **options.pop("env", {})}
        return cli(*args, env=env, **options)

    def assert_no_process_left(self, timeout=1.0):
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not marked(self.test_id), "no process is left", timeout)
        left = marked(self.test_id)
        self.assertEqual([], [describe(pid) for pid in left], "processes left behind")

    @staticmethod
    def _shared_memory():
        """What has our name, but for that of a test beside this one: the number of its maker, who lives, stands in it."""
        names = [name for name in os.listdir("/dev/shm") if "keelback" in name]
        return {name for name in names if not ((maker := re.search(r"\d+", name)) and int(maker[0]) > 1 and alive(int(maker[0])))}

    @staticmethod
    def _held_for_long(daemon, seconds=5):
        """What `held_too_long` says each time for that long. Once is not enough: a worker that starts has its marks before its pid."""
        kinds = {}

        def nothing():
            kinds.clear()
            kinds.update(daemon.held_too_long())
            return not kinds

        with contextlib.suppress(AssertionError):
            wait_until(nothing, "the daemon lets go of workers that are gone", seconds)
        return kinds

    def _check_nothing_left(self):
        statuses, held = [], []
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                if daemon.addresses and daemon.backend != "sim":
                    with contextlib.suppress(OSError, http.client.HTTPException):  # it may be going just now
                        held.append(self._held_for_long(daemon))
                statuses.append((daemon.stop(), daemon))
            elif not daemon.process.stderr.closed:
                daemon.process.stderr.close()
        try:
            self.assert_no_process_left(2.0)
            for status, daemon in statuses:
                self.assertEqual(0, status, f"exit status after SIGTERM; log: {daemon.log_text()}")
            self.assertEqual([], [kinds for kinds in held if kinds], "descriptors that the daemon held of workers that are gone")
            self.assertEqual(set(), self._shared_memory() - self._shared_before, "shared memory left behind")
            self.assertEqual([], sorted(p.name for p in self.private.iterdir()), "files left behind")
        finally:
            for pid in marked(self.test_id):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.tmp, ignore_errors=True)


def main():
    """For the end of a test file: one line a test, and exit status 1 if one failed."""
    if not KEELBACK.exists():
        sys.exit(f"{KEELBACK} is not built: run scripts/build")
    unittest.main(verbosity=2)
