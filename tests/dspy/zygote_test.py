"""The DSPy application under the real zygote and the real worker loop, driven by the protocol: no daemon needed."""
import array
import json
import mmap
import os
import random
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START = ROOT / "python" / "keelback" / "start.py"
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.path.insert(0, str(ROOT / "python"))
import environment  # noqa: E402
from fake_lm import FakeLm  # noqa: E402
from keelback import marks, wire  # noqa: E402

environment.settle()

SHARED_SIZE = 64 * 1024
PATIENCE_S = 30.0 * (4 if os.environ.get("KEELBACK_TIMEOUTS") == "extended" else 1)


def numbered(fds):
    """For a child: puts descriptors at the numbers that the protocol gives them."""
    def place():
        high = {number: os.dup2(os.dup(fd), 100 + number) for number, fd in fds.items()}
        for number, fd in high.items():
            os.dup2(fd, number)
            os.close(fd)
    return place


class Worker:
    """The supervisor's end of one worker."""

    def __init__(self):
        self.data, self.far_data = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control, self.far_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.data.settimeout(PATIENCE_S)
        self.marks = os.memfd_create("marks")
        os.ftruncate(self.marks, marks.SIZE)
        self.words = memoryview(mmap.mmap(self.marks, marks.SIZE)).cast("Q")
        self.log, self.far_log = os.pipe()
        self.calls, self.pid = 0, None
        self.births = {}

    @property
    def far(self):
        return [self.far_data.fileno(), self.far_control.fileno(), self.marks, self.far_log]

    def born(self, pid=None):
        """The child has its ends now; ours of them close. Waits until it is ready."""
        self.pid = pid
        self.far_data.close()
        self.far_control.close()
        os.close(self.far_log)
        kinds = []
        while wire.READY not in kinds:
            kinds += [kind for kind, _, _ in self.frames()]
        return self

    def frames(self):
        for kind, flags, _, body in self.frames_of_calls():
            yield kind, flags, body

    def frames_of_calls(self):
        packet = self.data.recv(wire.PACKET_MAX)
        if not packet:
            raise ConnectionResetError("the worker is gone: " + os.read(self.log, 65536).decode())
        while packet:
            length, kind, flags, _, call = wire.HEADER.unpack_from(packet)
            yield kind, flags, call, packet[wire.HEADER_SIZE:length]
            packet = packet[length:]

    def start(self, function, session=None, row=0, **arguments):
        """Sends a call and returns its number. With a row it runs beside others."""
        self.calls += 1
        name, id, payload = function.encode(), (session or "").encode(), json.dumps(arguments).encode()
        opens = bool(session) and session not in self.births
        birth = self.births.setdefault(session, random.getrandbits(63)) if session else 0
        length = wire.CALL_HEADER.size + len(name) + len(id) + len(payload)
        self.data.send(wire.CALL_HEADER.pack(length, wire.CALL, 0, row, self.calls, 0, birth, 1 if session else 0, 1, len(name),
                                             len(id), 0, wire.CALL_OPENS_SESSION if opens else 0) + name + id + payload)
        return self.calls

    def finish(self):
        """(result, None) or (None, error object) of the running call; UNCLEAN is a failure of the test."""
        (kind, flags, body), = self.frames()
        if flags & wire.UNCLEAN:
            raise AssertionError(f"the call left something behind: {os.read(self.log, 65536).decode()}")
        return (json.loads(body), None) if kind == wire.RESULT else (None, json.loads(body[1:]))

    def call(self, function, session=None, **arguments):
        self.start(function, session, **arguments)
        return self.finish()

    def ok(self, function, session=None, **arguments):
        result, error = self.call(function, session, **arguments)
        if error:
            raise AssertionError(error)
        return result

    def ended(self, count):
        """{call: (its result or None, the kind of its error)} of the next that end."""
        found = {}
        while len(found) < count:
            for kind, _, call, body in self.frames_of_calls():
                found[call] = (json.loads(body), None) if kind == wire.RESULT else (None, body[0])
        return found

    def cancel(self, call, row):
        """What the supervisor's ladder does first to a shared call."""
        self.words[marks.row_at(row) + marks.CANCEL] = call
        self.control.send(wire.frame(wire.CANCEL, call))

    def started(self, call, row):
        return self.words[marks.row_at(row) + marks.STARTED] == call

    def close(self):
        self.data.close()
        self.control.close()
        os.close(self.log)


class Zygote:
    """The supervisor's end of a zygote that serves the application."""

    def __init__(self, lifeline, shared=None, **environment):
        self.orders, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.orders.settimeout(PATIENCE_S)
        fds = {3: far.fileno(), 6: lifeline}
        if shared is not None:
            fds[7] = shared
            environment["KEELBACK_SHARED_FD"] = "7"
        self.process = subprocess.Popen([sys.executable, START, "keelback.zygote", "--app", "keelback.apps.dspy"], stdin=subprocess.DEVNULL,
                                        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **environment}, close_fds=False,
                                        preexec_fn=numbered(fds))
        far.close()
        self.notices, self.number = [], 0
        self.ready = self.until("ready")

    def until(self, op):
        while True:
            packet = json.loads(self.orders.recv(65536))
            if packet["op"] == op:
                return packet
            if packet["op"] != "notice":
                raise AssertionError(packet)
            self.notices.append(packet["text"])

    def fork(self):
        worker = Worker()
        self.number += 1
        self.orders.sendmsg([json.dumps({"op": "fork", "worker": f"0.{self.number}"}).encode()],
                            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", worker.far))])
        return worker.born(self.until("forked")["pid"])

    def end(self):
        self.orders.close()
        return self.process.wait(PATIENCE_S)


class UnderTheZygote(unittest.TestCase):
    def setUp(self):
        lifeline, self.held = os.pipe()
        self.lifeline = lifeline
        self.addCleanup(os.close, lifeline)
        self.shared = os.memfd_create("shared")
        os.ftruncate(self.shared, SHARED_SIZE)
        self.addCleanup(os.close, self.shared)
        self.zygotes = []
        self.addCleanup(self.end)

    def end(self):
        os.close(self.held)  # the lifeline: zygotes and workers die of it
        for zygote in self.zygotes:
            zygote.orders.close()
            zygote.process.wait(PATIENCE_S)

    def zygote(self, **options):
        self.zygotes.append(Zygote(self.lifeline, **options))
        return self.zygotes[-1]

    def worker(self, zygote):
        worker = zygote.fork()
        self.addCleanup(worker.close)
        return worker

    SCRIPT = {"rules": [{"match": "France", "answer": "Paris"}, {"match": "hang", "fail": "hang"}]}

    def ask(self, worker, question="France?"):
        return worker.ok("run_once", signature="question -> answer", inputs={"question": question})["outputs"]["answer"]

    def test_it_may_be_forked_and_its_functions_are_those_of_the_documentation(self):
        zygote = self.zygote()
        self.assertEqual({"configure_lm", "create_program", "execute_program", "run_once", "list_programs", "program_info",
                          "delete_program", "reset_session", "stats"}, {f["name"] for f in zygote.ready["hello"]["functions"]})
        worker = self.worker(zygote)  # "unsafe" instead of "forked" would fail here
        self.assertEqual(worker.pid, worker.ok("stats")["worker"]["pid"])

    def test_a_configuration_reaches_workers_there_are_and_workers_to_come(self):
        zygote = self.zygote()
        one, other = self.worker(zygote), self.worker(zygote)
        self.assertEqual("zygote", one.ok("configure_lm", kind="scripted", script=self.SCRIPT)["reach"])
        self.assertEqual(["Paris"] * 3, [self.ask(worker) for worker in (one, other, self.worker(zygote))])
        other.ok("configure_lm", kind="scripted", script={"rules": [{"match": ".", "answer": "Lyon"}]})
        self.assertEqual(["Lyon"] * 2, [self.ask(worker) for worker in (one, other)])

    def test_the_supervisors_memory_carries_the_configuration_to_another_zygote(self):
        first = self.zygote(shared=self.shared)
        self.assertEqual("pool", self.worker(first).ok("configure_lm", kind="scripted", script=self.SCRIPT)["reach"])
        first.process.kill()
        first.process.wait(PATIENCE_S)
        self.assertEqual("Paris", self.ask(self.worker(self.zygote(shared=self.shared))))

    def test_without_it_another_zygote_knows_nothing_and_says_so(self):
        self.worker(self.zygote()).ok("configure_lm", kind="scripted", script=self.SCRIPT)
        _, error = self.worker(self.zygote()).call("run_once", signature="a -> b", inputs={"a": "?"})
        self.assertTrue(error["type"].endswith("LmNotConfigured"), error)

    def test_programs_live_in_their_session_and_calls_without_one_are_refused(self):
        worker = self.worker(self.zygote())
        worker.ok("configure_lm", kind="scripted", script=self.SCRIPT)
        worker.ok("create_program", session="ann", signature="question -> answer", id="qa")
        worker.ok("create_program", session="bob", signature="question -> answer", id="other")
        self.assertEqual(["qa"], [program["program"] for program in worker.ok("list_programs", session="ann")])
        self.assertEqual("Paris", worker.ok("execute_program", session="ann", id="qa", inputs={"question": "France?"})["outputs"]["answer"])
        _, error = worker.call("list_programs")
        self.assertTrue(error["type"].endswith("NoSession"), error)

    def test_a_cancel_ends_a_hanging_model_and_touches_no_neighbour(self):
        with FakeLm(self.SCRIPT) as lm:
            worker = self.worker(self.zygote())
            for configuration in ({"kind": "scripted", "script": self.SCRIPT}, {"model": "openai/fake", "api_base": lm.url, "api_key": "k"}):
                worker.ok("configure_lm", **configuration)
                lm.fault("hang", match="hang")
                calls = [worker.start("run_once", row=row, signature="question -> answer", inputs={"question": question})
                         for row, question in enumerate(("hang?", "hang!", "France?"), 1)]
                self.assertEqual("Paris", worker.ended(1)[calls[2]][0]["outputs"]["answer"])
                self.wait(lambda: all(map(worker.started, calls[:2], (1, 2))) and (configuration.get("kind") or lm.report()["hanging"] == 2))
                worker.cancel(calls[0], 1)
                self.assertEqual({calls[0]: (None, wire.KIND_CANCELLED)}, worker.ended(1))
                self.wait(lambda: configuration.get("kind") or lm.report()["hanging"] == 1)
                beside = worker.start("run_once", row=1, signature="question -> answer", inputs={"question": "France?"})
                self.assertEqual("Paris", worker.ended(1)[beside][0]["outputs"]["answer"])
                worker.cancel(calls[1], 2)
                self.assertEqual({calls[1]: (None, wire.KIND_CANCELLED)}, worker.ended(1))
                self.assertEqual("Paris", self.ask(worker))
            self.wait(lambda: lm.report()["hanging"] == 0)

    def test_all_its_functions_may_run_beside_each_other(self):
        """So that none of them has to wait until a model has answered another call."""
        functions = self.zygote().ready["hello"]["functions"]
        self.assertEqual({(True, 64)}, {(function["async"], function["concurrency"]) for function in functions})

    def wait(self, condition):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.002)


if __name__ == "__main__":
    unittest.main(verbosity=2)
