"""Deadlines over HTTP, with the defaults: the client hears in time, what runs on behind the answer is nobody else's, and a worker whose
function was interrupted at an arbitrary line serves no other caller."""
import socketserver
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, main, wait_until  # noqa: E402

APP = '''
import asyncio, ctypes, os, socket, sys, time
import keelback

connection = None

@keelback.function
def pid():
    return os.getpid()

@keelback.function
def ask(port, question):
    """A client of a line protocol that keeps one connection."""
    global connection
    if connection is None:
        connection = socket.create_connection(("127.0.0.1", port)).makefile("rw", newline="\\n")
    connection.write(question + "\\n")
    connection.flush()
    return connection.readline().strip()

@keelback.function
def slow_module():
    import slow_to_import
    return slow_to_import.whole

@keelback.function
def sleep(seconds):
    time.sleep(seconds)
    return "slept"

@keelback.function
def spin():
    while True:
        pass

@keelback.function
def hold_gil():
    lock = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)
    ctypes.PyDLL(None).pthread_mutex_lock(lock)

@keelback.function
async def wait(seconds):
    await asyncio.sleep(seconds)

@keelback.function
def count():
    state = keelback.session().state
    state["n"] = state.get("n", 0) + 1
    return state["n"]

@keelback.function
def count_and_spin():
    count()
    while True:
        pass
'''

SLOW_MODULE = '''
import time
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    pass
whole = True
'''


class Lines(socketserver.StreamRequestHandler):
    """Answers each line; one that begins with "slow" when the test says so."""

    def handle(self):
        for line in self.rfile:
            text = line.decode().strip()
            if text.startswith("slow"):
                self.server.asked.set()
                self.server.go_on.wait(60)
            try:
                self.wfile.write(f"answer to {text}\n".encode())
            except OSError:
                return


class Backend(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Lines)
        self.asked, self.go_on = threading.Event(), threading.Event()


class DeadlineTest(KeelbackTest):
    def late(self, daemon, function, arguments=(), deadline_ms=300, **more):
        began = time.monotonic()
        reply = daemon.client().call(function, list(arguments), deadline_ms=deadline_ms, **more)
        self.assertEqual(("timeout", "maybe"), (reply.outcome, reply.headers["Keelback-Effect"]), reply)
        return reply, time.monotonic() - began


class OverHttp(DeadlineTest):
    def test_a_client_hears_at_its_deadline_whatever_the_call_does(self):
        daemon = self.serve(self.app(APP), workers=1, settings={"calls.grace": "30s", "breaker.failures": 0}).prewarm(1)
        for function, arguments in (("sleep", [60]), ("spin", []), ("hold_gil", []), ("wait", [60])):
            with self.subTest(function=function):
                _, took = self.late(daemon, function, arguments)
                self.assertGreaterEqual(took, 0.3)
                self.assertLess(took, 10, "far below deadline and grace")
                daemon.wait_replaced(daemon.kill_worker())
                self.assertEqual(0, daemon.pool()["calls"]["late"])

    def test_the_stacks_can_be_read_afterwards(self):
        daemon = self.serve(self.app(APP), workers=1, settings={"calls.grace": "500ms"}).prewarm(1)
        reply, _ = self.late(daemon, "hold_gil", Keelback_Call="job-7")
        client = daemon.client()
        by_number = reply.json["dump_at"]
        wait_until(lambda: client.get(by_number).status == 200, "the stacks have been taken")
        self.assertIn(b"in hold_gil", client.get(by_number).body)
        self.assertEqual(client.get(by_number).body, client.get("/v1/calls/job-7/dump").body)
        missing = client.get("/v1/calls/999999/dump")
        self.assertEqual((404, "urn:keelback:http:no_such_dump"), (missing.status, missing.json["type"]))

    def test_a_retry_with_the_key_gets_the_real_answer(self):
        daemon = self.serve(self.app(APP), workers=2, settings={"calls.grace": "20s"}).prewarm(2)
        self.late(daemon, "sleep", [1.5], Idempotency_Key="k")
        self.assertEqual(1, daemon.pool()["calls"]["late"])
        again = daemon.client().call("sleep", [1.5], deadline_ms=30_000, Idempotency_Key="k")
        self.assertEqual(("ok", "slept"), (again.outcome, again.json))
        self.assertEqual(1, sum(worker["calls"] for worker in daemon.workers()), "it ran once")


class Interrupted(DeadlineTest):
    def test_the_next_caller_gets_its_own_answer(self):
        backend = Backend()
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        self.addCleanup(backend.server_close)
        self.addCleanup(backend.shutdown)
        self.addCleanup(backend.go_on.set)
        port = backend.server_address[1]
        daemon = self.serve(self.app(APP), workers=1, settings={"calls.grace": "500ms"}).prewarm(1)
        self.assertEqual("answer to one", daemon.client().call("ask", [port, "one"]).json)
        self.late(daemon, "ask", [port, "slow secret of ann"])
        self.assertTrue(backend.asked.is_set())
        wait_until(lambda: daemon.pool()["calls"]["late"] == 0, "the call has been stopped")
        backend.go_on.set()
        self.assertEqual("answer to two", daemon.client().call("ask", [port, "two"]).json)
        self.assertEqual("answer to three", daemon.client().call("ask", [port, "three"]).json)

    def test_a_module_that_was_half_imported_is_imported_again(self):
        module = self.tmp / "slow_to_import.py"
        module.write_text(SLOW_MODULE.format(seconds=60))
        daemon = self.serve(self.app(APP), workers=1, settings={"calls.grace": "500ms"}).prewarm(1)
        self.late(daemon, "slow_module")
        wait_until(lambda: daemon.pool()["calls"]["late"] == 0, "the call has been stopped")
        module.write_text(SLOW_MODULE.format(seconds="0.01 + 0"))
        self.assertIs(True, daemon.client().call("slow_module").json)

    def test_sessions_move_with_what_they_have(self):
        daemon = self.serve(self.app(APP), workers=1, settings={"calls.grace": "500ms"}).prewarm(1)
        client = daemon.client()
        self.assertEqual([1, 1], [client.call("count", session=name).json for name in ("ann", "bob")])
        before = client.call("pid").json
        self.late(daemon, "count_and_spin", session="ann")
        self.assertEqual([3, 2], [client.call("count", session=name).json for name in ("ann", "bob")])
        self.assertNotEqual(before, client.call("pid").json)
        self.assertEqual(0, daemon.pool()["sessions"]["lost"])

    def test_under_each_call_the_last_acknowledged_state_moves(self):
        settings = {"calls.grace": "500ms", "sessions.snapshot": "each_call"}
        daemon = self.serve(self.app(APP), workers=1, settings=settings).prewarm(1)
        client = daemon.client()
        self.assertEqual(1, client.call("count", session="ann").json)
        self.late(daemon, "count_and_spin", session="ann")
        self.assertEqual(2, client.call("count", session="ann").json, "the interrupted call's count was never acknowledged")


if __name__ == "__main__":
    main()
