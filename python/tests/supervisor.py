"""Plays the supervisor: starts workers by exec or by a zygote's fork, and speaks docs/protocol.md to them.

Nothing here sleeps for an effect; every wait names what it waits for and ends after WAIT_S.
"""

import contextlib
import json
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
START = os.path.join(ROOT, "python", "keelback", "start.py")
sys.path.insert(0, os.path.join(ROOT, "python"))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

import environment  # noqa: E402
from keelback import marks, wire  # noqa: E402

environment.settle()

WAIT_S = 40.0 if os.environ.get("KEELBACK_TIMEOUTS") == "extended" else 10.0
CONFORMANCE = os.path.join(ROOT, "tests", "apps", "conformance.py")
PYTHON = sys.executable  # what workers under test run on
STARTED, ENDED, CANCEL, INTERRUPT, RESULT_MAX = range(5)
DISPATCHED = 6
_MARKS_SIZE = 192 * 1024
_STACK_AT = 128 * 1024
_F_ADD_SEALS, _F_SEAL_SHRINK, _F_SEAL_GROW = 1033, 2, 4


def python_with(module):
    """An interpreter that has the module: $KEELBACK_TEST_PYTHON, this one, or the one that scripts/venv made; or None."""
    for python in (os.environ.get("KEELBACK_TEST_PYTHON"), sys.executable, os.path.join(ROOT, ".venv", "bin", "python")):
        if python and os.path.exists(python) and not subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
            return python
    return None


def wait_until(condition, what, timeout=WAIT_S):
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}; last value {value!r}")
        time.sleep(0.001)


def proc_state(pid):
    """The process' state letter; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_dead(pid):
    return proc_state(pid) in (None, "Z", "X")


def frame(kind, call=0, body=b"", flags=0, row=0):
    return struct.pack("<IBBHQ", 16 + len(body), kind, flags, row, call) + body


def outcome(nested, value):
    """OUTCOME of a nested call that is ok."""
    return frame(wire.OUTCOME, nested.parent, struct.pack("<QB7x", nested.request, 1) + json.dumps(value).encode())


def failed_outcome(nested, outcome, **more):
    told = json.dumps({"outcome": outcome, **more}).encode()
    return frame(wire.OUTCOME, nested.parent, struct.pack("<QB7x", nested.request, 0) + told)


class Reply:
    """How a call ended: kind (a frame type), the value or the error object, the items before it, the flags."""

    def __init__(self, kind, body, flags, items):
        self.kind, self.flags, self.items = kind, flags, items
        self.unclean, self.interrupted = bool(flags & 1), bool(flags & 2)
        self.value = self.error = self.error_kind = None
        self.state = None  # of a SAVED: format and bytes
        if kind == wire.RESULT:
            self.value = json.loads(body)
        elif kind == wire.ERROR:
            self.error_kind, self.error = body[0], json.loads(body[1:])

    def __repr__(self):
        how = f"{self.value!r:.200}" if self.error is None else f"kind {self.error_kind} {self.error!r}"
        return f"<{self.kind} {how} flags {self.flags} items {self.items}>"


def _reply(kind, body, flags, items):
    if kind != wire.SAVED:
        return Reply(kind, body, flags, items)
    kind, how, zero, length = struct.unpack_from("<BBHI", body)
    assert zero == 0
    reply = Reply(kind, body[8 + length:], flags, items)
    reply.state = (how, body[8 : 8 + length])
    return reply


class Nested:
    """What a NESTED says."""

    def __init__(self, parent, body):
        self.parent = parent
        self.request, self.timeout_ns, name_len, session_len, self.target, zero, zeros = struct.unpack_from("<QqHHBBH", body)
        assert self.request and (zero, zeros) == (0, 0), body
        text = body[24:]
        self.name = text[:name_len].decode()
        self.session = text[name_len : name_len + session_len].decode()
        self.arguments = json.loads(text[name_len + session_len :])


class Links:
    """The supervisor's ends of one worker's descriptors, and the worker's ends until they are given away."""

    def __init__(self):
        self.data, self._data = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control, self._control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._marks = os.memfd_create("marks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._marks, _MARKS_SIZE)
        import fcntl

        fcntl.fcntl(self._marks, _F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_GROW)
        self._position = os.dup(self._marks)  # where the worker writes a stack: the same for both
        self.map = mmap.mmap(self._marks, _MARKS_SIZE)
        self.words = memoryview(self.map).cast("Q")
        self.log_fd, self._log = os.pipe()
        os.set_blocking(self.log_fd, False)

    def theirs(self):
        return [self._data.fileno(), self._control.fileno(), self._marks, self._log]

    def give_away(self):
        self._data.close()
        self._control.close()
        os.close(self._marks)
        os.close(self._log)

    def expect_stack(self):
        """The worker's next stack goes to where stack() reads, and the last one is gone."""
        self.map[_STACK_AT:] = bytes(_MARKS_SIZE - _STACK_AT)
        os.lseek(self._position, _STACK_AT, os.SEEK_SET)

    def stack(self):
        return bytes(self.map[_STACK_AT:]).split(b"\0")[0].decode(errors="replace")

    def close(self):
        self.data.close()
        self.control.close()
        os.close(self.log_fd)
        os.close(self._position)
        self.words.release()
        self.map.close()


class WorkerUnderTest:
    """One worker, by exec or fork. `call` is the ordinary way; the rest is for looking closely."""

    def __init__(self, links, pid, reap):
        self.links, self.pid, self._reap = links, pid, reap
        self.words, self.data, self.control = links.words, links.data, links.control
        self._buffer = b""
        self._log = b""
        self._next = 0
        self._dispatched = {}  # by call: when it was sent
        self.rows = {}  # by shared call, until it has ended
        self._items = {}  # by shared call
        self._beside = {}  # by shared call: frames that came before its answer, as (kind, body)
        self._ended = {}  # by shared call: the reply that nobody has asked for
        self.hello = None
        self.status = None

    # ---- frames

    def receive(self, timeout=WAIT_S):
        """The next frame as (kind, flags, call, body); None at the end of the stream."""
        while True:
            if len(self._buffer) >= 16:
                length, kind, flags, zero, call = struct.unpack_from("<IBBHQ", self._buffer)
                assert zero == 0
                if len(self._buffer) >= length:
                    body, self._buffer = self._buffer[16:length], self._buffer[length:]
                    return kind, flags, call, body
            if not select.select([self.data], [], [], timeout)[0]:
                raise AssertionError(f"no frame within {timeout} s; state {proc_state(self.pid)}; log {self.log()!r}")
            try:
                packet = self.data.recv(1 << 17)
            except ConnectionResetError:
                packet = b""
            if not packet:
                return None
            assert len(packet) <= wire.PACKET_MAX
            self._buffer += packet

    def quiet(self, seconds):
        """True when nothing comes for so long."""
        return not self._buffer and not select.select([self.data], [], [], seconds)[0]

    def send(self, data):
        for at in range(0, len(data), wire.PACKET_MAX):
            self.data.send(data[at : at + wire.PACKET_MAX])

    def wait_ready(self):
        kind, _, _, body = self.receive()
        assert kind == wire.CONNECT and body == struct.pack("<I", 1), (kind, body)
        kind, _, _, body = self.receive()
        assert kind == wire.HELLO, (kind, body, self.log())
        self.hello = json.loads(body)
        kind, _, _, body = self.receive()
        assert kind == wire.READY, (kind, body, self.log())
        return self

    def start_failure(self):
        """The START_FAILED object."""
        while True:
            got = self.receive()
            assert got is not None, self.log()
            if got[0] == wire.START_FAILED:
                return json.loads(got[3])
            assert got[0] in (wire.CONNECT, wire.HELLO), got

    # ---- calls

    def submit(self, function, arguments=None, session=None, birth=0, epoch=0, opens=False, stream=False, deadline=0,
               payload=None, trace=b"", attempt=1, saves=False, restore=None, row=0, attach=()):
        """Sends a CALL and returns its id. `arguments`: a list or a dict; `payload`: bytes instead of them; `restore`: a format and a state.
        `attach`: bodies of ATTACH frames."""
        packet = self.submission(function, arguments, session, birth, epoch, opens, stream, deadline, payload, trace, attempt, saves, restore,
                                 row, attach)
        self.send(packet)
        return self._next

    def submission(self, function, arguments=None, session=None, birth=0, epoch=0, opens=False, stream=False, deadline=0,
                   payload=None, trace=b"", attempt=1, saves=False, restore=None, row=0, attach=()):
        """What submit() sends; the call is the last one."""
        self._next += 1
        before = b""
        if restore is not None:
            before = frame(wire.RESTORE, self._next, bytes((restore[0],)) + restore[1])
        before += b"".join(frame(wire.ATTACH, self._next, body) for body in attach)
        if payload is None:
            payload = b"" if arguments is None else json.dumps(arguments).encode()
        name, session = function.encode(), (session or "").encode()
        fixed = struct.pack("<qQIIHHHH", deadline, birth, epoch, attempt, len(name), len(session), len(trace),
                            int(opens) | 2 * int(stream) | 4 * bool(attach) | 8 * int(restore is not None) | 16 * int(saves))
        self._dispatched[self._next] = time.monotonic_ns()
        return before + frame(wire.CALL, self._next, fixed + name + session + trace + payload, row=row)

    def share(self, function, arguments=None, **options):
        """Submits a shared call."""
        row = self._free_row()
        call = self.submit(function, arguments, row=row, **options)
        self.rows[call] = row
        return call

    def share_all(self, requests):
        """Submits shared calls, (function, arguments) each, in as few packets as possible."""
        packet, called = b"", []
        for function, arguments in requests:
            row = self._free_row()
            packet += self.submission(function, arguments, row=row)
            self.rows[self._next] = row
            called.append(self._next)
        self.send(packet)
        return called

    def _free_row(self):
        taken = set(self.rows.values())
        return next(row for row in range(1, marks.ROWS_MAX + 1) if row not in taken)

    def end_of(self, call, timeout=WAIT_S):
        """The reply to a shared call; those to others are kept. Its `beside`: frames that came before it."""
        while call not in self._ended:
            self.next_shared(timeout)
        return self._ended.pop(call)

    def next_shared(self, timeout=WAIT_S):
        """Reads one frame of a shared call and returns it."""
        got = self.receive(timeout)
        assert got is not None, f"the worker is gone: {self.wait()}; log {self.log()}"
        kind, flags, of, body = got
        assert of in self.rows, (got, self.rows)
        if kind == wire.ITEM:
            self._items.setdefault(of, []).append(json.loads(body))
        elif kind in (wire.RESULT, wire.ERROR, wire.END, wire.SAVED):
            reply = self._ended[of] = _reply(kind, body, flags, self._items.pop(of, []))
            reply.beside = self._beside.pop(of, [])
            del self.rows[of]
        else:
            self._beside.setdefault(of, []).append((kind, body))
        return got

    def items_of(self, call, count):
        """Reads until the stream of a shared call has sent so many."""
        while len(self._items.get(call, [])) < count:
            self.next_shared()
        return self._items[call]

    def credit(self, call, count):
        self.send(frame(wire.CREDIT, call, struct.pack("<I", count)))

    def wait_row(self, call, word=STARTED):
        wait_until(lambda: self.words[marks.row_at(self.rows[call]) + word] == call, f"call {call} is at mark {word}; log {self.log()}")

    def reply(self, call, timeout=WAIT_S):
        items = []
        while True:
            got = self.receive(timeout)
            assert got is not None, f"the worker is gone: {self.wait()}; log {self.log()}"
            kind, flags, of, body = got
            assert of == call, (got, call)
            if kind == wire.ITEM:
                items.append(json.loads(body))
                continue
            assert kind in (wire.RESULT, wire.ERROR, wire.END, wire.SAVED), got
            return _reply(kind, body, flags, items)

    def call(self, function, arguments=None, **options):
        return self.reply(self.submit(function, arguments, **options))

    def save(self, session, birth, epoch):
        """What SNAPSHOT answers to SAVE: format and bytes."""
        id = session.encode()
        self.send(frame(wire.SAVE, 0, struct.pack("<QI", birth, epoch) + id))
        kind, _, _, body = self.receive()
        assert kind == wire.SNAPSHOT, (kind, body)
        birth_back, epoch_back, length, how, zero = struct.unpack_from("<QIHBB", body)
        assert (birth_back, epoch_back, body[16 : 16 + length], zero) == (birth, epoch, id, 0), body
        return how, body[16 + length:]

    # ---- calls that a call makes

    def nested(self, parent):
        """The next frame: a NESTED of this call."""
        got = self.receive()
        assert got is not None, f"the worker is gone: {self.wait()}; log {self.log()}"
        kind, flags, of, body = got
        assert (kind, flags, of) == (wire.NESTED, 0, parent), got
        return Nested(parent, body)

    def nested_cancel(self, nested):
        """The next frame: the NESTED_CANCEL of this request."""
        kind, flags, of, body = self.receive()
        assert (kind, flags, of, body) == (wire.NESTED_CANCEL, 0, nested.parent, struct.pack("<Q", nested.request)), (kind, of, body)

    def answer(self, nested, value):
        self.send(outcome(nested, value))

    def fail_nested(self, nested, outcome, **more):
        self.send(failed_outcome(nested, outcome, **more))

    def wait_started(self, call):
        wait_until(lambda: self.words[STARTED] == call, f"call {call} has started")

    # ---- the ladder

    def cancel(self, call, wake=False):
        self.words[DISPATCHED] = self._dispatched.get(call, 0)
        self.words[(marks.row_at(self.rows[call]) if call in self.rows else 0) + CANCEL] = call
        self.control.send(frame(wire.CANCEL, call))
        if wake:
            self.send(frame(wire.CREDIT, call, struct.pack("<I", 0)))

    def interrupt_shared(self, call):
        self.control.send(frame(wire.INTERRUPT, call))

    def interrupt(self, call):
        """Until the call has ended: a signal just before a blocking system call does not end that call."""
        self.interrupt_once(call)

        def ended():
            if self.words[ENDED] != call:
                os.kill(self.pid, signal.SIGINT)
            return self.words[ENDED] == call

        wait_until(ended, f"the interrupt ended call {call}; log {self.log()}")

    def interrupt_once(self, call):
        self.words[INTERRUPT] = call
        os.kill(self.pid, signal.SIGINT)

    def dump(self, complete=lambda text: True):
        os.kill(self.pid, 63)
        return wait_until(lambda: (text := self.dump_text()) and complete(text) and text, "the dump is there")

    def dump_text(self):
        return bytes(self.links.map[marks.DUMP_AT:]).split(b"\0")[0].decode(errors="replace")

    def ping(self, token, timeout=WAIT_S, flags=0):
        """The running call, or None without an answer in time."""
        self.control.send(frame(wire.PING, 0, struct.pack("<Q", token), flags))
        return self.pong(token, timeout, flags)

    def pong(self, token, timeout=WAIT_S, flags=0):
        if not select.select([self.control], [], [], timeout)[0]:
            return None
        answer = self.control.recv(1024)
        kind = answer[4]
        got, running = struct.unpack_from("<QQ", answer, 16)
        assert (kind, got, answer[5]) == (wire.PONG, token, flags), answer
        return running

    # ---- the process

    def log(self):
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.links.log_fd, 1 << 16):
                self._log += chunk
        return self._log.decode(errors="replace")

    def wait_log(self, text):
        wait_until(lambda: text in self.log(), f"the log has {text!r}")
        return self.log()

    def wait(self):
        """The exit status, negative for a signal."""
        if self.status is None:
            self.status = self._reap(self.pid)
        return self.status

    def shutdown(self):
        self.send(frame(wire.SHUTDOWN))
        return self.wait()

    def close(self):
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.links.close()

    # ---- what /proc says

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def descriptors(self):
        found = {}
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found[int(name)] = os.readlink(f"/proc/{self.pid}/fd/{name}")
        return found

    def proc_status(self):
        with open(f"/proc/{self.pid}/status") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def _spawn(program, descriptors, log, environment=None, cwd=None):
    """Starts a program with the descriptors {number in the child: ours} and stdin from /dev/null."""
    # Every source moves above the targets first, so no dup2 overwrites a source that is still needed.
    moved = {}

    def place():
        for target, source in descriptors.items():
            moved[target] = os.dup2(source, 100 + target)
        for target in descriptors:
            os.dup2(moved[target], target)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in descriptors:
                with contextlib.suppress(OSError):
                    os.set_inheritable(int(name), False)

    env = {**os.environ, "PYTHONPATH": os.path.join(ROOT, "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    env.update(environment or {})
    env = {name: value for name, value in env.items() if value is not None}
    return subprocess.Popen([PYTHON, *program], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                            cwd=cwd, close_fds=False, preexec_fn=place)


class ZygoteUnderTest:
    def __init__(self, app, expose="", environment=None, cwd=None):
        self.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline, self.lifeline = os.pipe()
        self.log_fd, log = os.pipe()
        os.set_blocking(self.log_fd, False)
        self._log = b""
        program = [START, "keelback.zygote", "--app", app] + (["--expose", expose] if expose else [])
        self.process = _spawn(program, {3: theirs.fileno(), 6: lifeline}, log, environment, cwd)
        self.pid = self.process.pid
        theirs.close()
        os.close(lifeline)
        os.close(log)
        self.notices = []
        self.workers = []

    def receive(self):
        if not select.select([self.orders], [], [], WAIT_S)[0]:
            raise AssertionError(f"no word from the zygote; log {self.log()}")
        packet = self.orders.recv(1 << 18)
        return json.loads(packet) if packet else None

    def expect(self, op):
        parts = []
        while True:
            got = self.receive()
            assert got is not None, f"the zygote is gone; log {self.log()}"
            if got["op"] == "hello":
                parts.append(got["text"])
                continue
            if parts:
                got["hello"] = json.loads("".join(parts))
            if got["op"] == "notice" and op != "notice":
                self.notices.append(got["text"])
                continue
            assert got["op"] == op, got
            return got

    def order_fork(self, name, **more):
        links = Links()
        socket.send_fds(self.orders, [json.dumps({"op": "fork", "worker": name, **more}).encode()], links.theirs())
        links.give_away()
        return links

    def fork(self, name="0.1", **more):
        links = self.order_fork(name, **more)
        answer = self.expect("forked")
        assert answer["worker"] == name
        worker = WorkerUnderTest(links, answer["pid"], self._reap)
        self.workers.append(worker)
        return worker

    def refused(self, name="0.1"):
        """The answer to an order that is refused as unsafe."""
        links = self.order_fork(name)
        try:
            return self.expect("unsafe")
        finally:
            links.close()

    def _reap(self, pid):
        """The exit status as the supervisor learns it: read from the zombie, then order the reaping."""
        wait_until(lambda: proc_state(pid) in ("Z", None), f"{pid} has ended")
        with open(f"/proc/{pid}/stat") as file:
            status = int(file.read().rsplit(")", 1)[1].split()[49])
        self.orders.send(json.dumps({"op": "reap", "pid": pid}).encode())
        wait_until(lambda: proc_state(pid) is None, f"the zombie {pid} is reaped")
        return -(status & 127) if status & 127 else status >> 8

    def log(self):
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.log_fd, 1 << 16):
                self._log += chunk
        return self._log.decode(errors="replace")

    def close(self):
        for worker in self.workers:
            if self.process.poll() is None:
                worker.close()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                worker.links.close()
        self.orders.close()
        status = self.process.wait(WAIT_S)
        with contextlib.suppress(OSError):
            os.close(self.lifeline)
        os.close(self.log_fd)
        return status


class ExecWorker(WorkerUnderTest):
    def __init__(self, app, expose="", name="0.1", environment=None, cwd=None):
        links = Links()
        lifeline, self.lifeline = os.pipe()
        data, control, marks, log = links.theirs()
        program = [START, "keelback.worker", "--app", app, "--worker", name] + (["--expose", expose] if expose else [])
        self.process = _spawn(program, {3: data, 4: control, 5: marks, 6: lifeline}, log, environment, cwd)
        links.give_away()
        os.close(lifeline)
        super().__init__(links, self.process.pid, lambda pid: self.process.wait(WAIT_S))

    def close(self):
        super().close()
        with contextlib.suppress(OSError):
            os.close(self.lifeline)


def has_shared_memory():
    """Whether multiprocessing works here: its locks and values are files in /dev/shm."""
    return os.access("/dev/shm", os.W_OK)


class SupervisorTest(unittest.TestCase):
    """Applications are written to a directory of the test; what it starts ends with it."""

    def app(self, source, name="app.py"):
        folder = getattr(self, "_folder", None)
        if folder is None:
            folder = self._folder = tempfile.mkdtemp(prefix="keelback-test-")
            self.addCleanup(subprocess.run, ["rm", "-rf", folder], check=True)
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(textwrap.dedent(source))
        return path

    def zygote(self, app, **options):
        zygote = ZygoteUnderTest(app, **options)
        self.__dict__.setdefault("zygotes", []).append(zygote)
        self.addCleanup(zygote.close)
        return zygote

    def exec_worker(self, app, **options):
        worker = ExecWorker(app, **options)
        self.addCleanup(worker.close)
        return worker

    @classmethod
    def use_python(cls, python):
        """For setUpClass(): the workers of this class run on that interpreter."""
        global PYTHON
        cls.addClassCleanup(globals().__setitem__, "PYTHON", PYTHON)
        PYTHON = python

    def worker(self, app, **options):
        """A ready worker, forked by a zygote: the usual kind."""
        zygote = self.zygote(app, **options)
        zygote.expect("ready")
        return zygote.fork().wait_ready()

    def both(self, app, **options):
        """A ready worker of each way to start one."""
        yield self.worker(app, **options)
        yield self.exec_worker(app, **options).wait_ready()
