"""Calls one after another: arguments, contexts, errors of every kind, order, and what never kills a worker."""

import json
import time
import unittest

from supervisor import ENDED, STARTED, SupervisorTest, frame

from keelback import wire

APP = """
    import os, sys, threading, keelback, asyncio, functools, collections

    @keelback.function
    def add(a, b=10, *, c=0):
        return a + b + c

    @keelback.function
    def context():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(keelback.deadline()))
        thread.start(); thread.join()
        return {"deadline": keelback.deadline(), "thread": seen[0], "cancelled": keelback.cancelled(), "attempt": keelback.attempt(),
                "trace": keelback.trace(), "has_session": keelback.has_session(), "worker": os.environ["KEELBACK_WORKER"]}

    @keelback.function
    async def async_context():
        async def inner():
            return keelback.attempt()
        await asyncio.sleep(0)
        return [await asyncio.create_task(inner()), keelback.deadline() is None]

    @keelback.function
    def leave():
        sys.exit("with a word")

    @keelback.function
    def interrupt_itself():
        raise KeyboardInterrupt("mine")

    @keelback.function
    def generator_exit():
        raise GeneratorExit

    @keelback.function
    def own_cancel():
        raise keelback.Cancelled("nobody asked")

    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    @keelback.function
    def odd():
        raise Odd

    @keelback.function
    def deep(n):
        return 0 if n == 0 else 1 + deep(n - 1)

    @keelback.function
    def chained():
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("bad") from error

    @keelback.function
    def type_error_inside(a):
        return len(a, a)

    @keelback.function
    def long_message():
        raise ValueError("y" * 1_000_000)

    @keelback.function
    def fill_memory():
        return bytearray(1 << 60)

    @keelback.function
    def surrogate():
        print("\\ud800")
        return "\\ud800"

    @keelback.function
    def raise_surrogate():
        raise ValueError("\\ud800")

    @keelback.function
    async def async_fail():
        raise ValueError("in a coroutine")

    @keelback.function
    async def async_exit():
        sys.exit(2)

    @keelback.function
    async def own_async_cancel():
        raise asyncio.CancelledError

    @keelback.function
    def runs_its_own_loop():
        return asyncio.run(async_context())

    @keelback.function
    def forks(how):
        pid = os.fork()
        if pid == 0:
            if how == "returns":
                return "from the child"
            if how == "raises":
                raise ValueError("from the child")
            sys.exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    class Tracked:
        alive = 0

        def __init__(self):
            Tracked.alive += 1

        def __del__(self):
            Tracked.alive -= 1

    @keelback.function
    def fails_with_an_object():
        held = Tracked()
        raise ValueError(held)

    @keelback.function
    async def async_fails_with_an_object():
        held = Tracked()
        raise ValueError(held)

    @keelback.function
    def objects_alive():
        import gc
        gc.disable()
        return Tracked.alive

    @keelback.function
    def forgets_await():
        return async_fail()

    keelback.function(name="upper")(str.upper)
    keelback.function(name="partial")(functools.partial(add, 1, c=5))
"""


class Calls(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def tearDown(self):
        # Whatever a test did, the worker answers the next call.
        self.assertEqual(3, self.w.call("add", [1, 2]).value)
        self.assertEqual(self.w.words[STARTED], self.w.words[ENDED])

    def failed(self, name, arguments=None, **options):
        reply = self.w.call(name, arguments, **options)
        self.assertEqual(wire.ERROR, reply.kind, reply)
        return reply.error_kind, reply.error["type"], reply.error["message"]

    def test_arguments_bind_by_name_and_by_position(self):
        self.assertEqual(13, self.w.call("add", {"a": 1, "c": 2}).value)
        self.assertEqual(6, self.w.call("add", [1, 5]).value)
        self.assertEqual("ABC", self.w.call("upper", ["abc"]).value)
        self.assertEqual(16, self.w.call("partial").value)
        self.assertEqual(13, self.w.call("add", payload=b' {"a": 1,\n"c": 2} ').value)

    def test_arguments_that_do_not_bind_are_a_bad_request_and_nothing_starts(self):
        before = self.w.words[STARTED]
        for payload in (b"[]", b"[1,2,3]", b'{"a":1,"d":2}', b'"text"', b"7", b"null", b"{", b"[1] x", b'{"a":"\xff"}', b"[" * 100_000, b""):
            kind, _, message = self.failed("add", payload=payload)
            self.assertEqual(wire.KIND_BAD_REQUEST, kind, payload[:20])
            self.assertLess(len(message), 300)
        self.assertIn("missing 1 required positional argument: 'a'", self.failed("add", [])[2])
        self.assertIn("unexpected keyword argument 'd'", self.failed("add", {"a": 1, "d": 2})[2])
        self.assertIn("not JSON", self.failed("add", payload=b"{nope")[2])
        self.assertEqual(before, self.w.words[STARTED])

    def test_a_type_error_inside_the_function_is_its_error(self):
        self.assertEqual((wire.KIND_ERROR, "TypeError"), self.failed("type_error_inside", [[]])[:2])

    def test_the_context_of_a_call(self):
        reply = self.w.call("context", deadline=time.monotonic_ns() + 5_000_000_000, trace=b"00-ab-cd-01", attempt=3).value
        self.assertTrue(4 < reply.pop("deadline") <= 5)
        self.assertTrue(4 < reply.pop("thread") <= 5, "known in a thread that the call started")
        self.assertEqual({"cancelled": False, "attempt": 3, "trace": "00-ab-cd-01", "has_session": False, "worker": "0.1"}, reply)
        self.assertIsNone(self.w.call("context").value["deadline"])
        self.assertEqual([2, True], self.w.call("async_context", attempt=2).value)
        self.assertEqual([1, True], self.w.call("runs_its_own_loop").value)

    def test_every_way_to_raise_is_an_error_of_its_own_type(self):
        self.assertEqual((wire.KIND_ERROR, "SystemExit", "with a word"), self.failed("leave"))
        self.assertEqual((wire.KIND_ERROR, "SystemExit", "2"), self.failed("async_exit"))
        self.assertEqual((wire.KIND_ERROR, "KeyboardInterrupt", "mine"), self.failed("interrupt_itself"))
        self.assertEqual((wire.KIND_ERROR, "GeneratorExit"), self.failed("generator_exit")[:2])
        self.assertEqual((wire.KIND_ERROR, "keelback.Cancelled"), self.failed("own_cancel")[:2])
        self.assertEqual((wire.KIND_ERROR, "asyncio.exceptions.CancelledError"), self.failed("own_async_cancel")[:2])
        self.assertEqual((wire.KIND_ERROR, "ValueError", "in a coroutine"), self.failed("async_fail"))
        self.assertEqual((wire.KIND_ERROR, "MemoryError"), self.failed("fill_memory")[:2])
        self.assertEqual((wire.KIND_ERROR, "RecursionError"), self.failed("deep", [100_000])[:2])
        kind, name, message = self.failed("odd")
        self.assertEqual((wire.KIND_ERROR, "app.Odd"), (kind, name))
        self.assertIn("str() of it raised RuntimeError", message)

    def test_a_traceback_shows_the_users_frames_and_not_ours(self):
        error = self.w.call("chained").error
        self.assertIn("KeyError: 'missing'", error["traceback"])
        self.assertIn("direct cause", error["traceback"])
        self.assertIn("app.py", error["traceback"])
        for name in ("chained", "async_fail", "leave"):
            self.assertNotIn("keelback/", self.w.call(name).error["traceback"], name)

    def test_an_error_is_readable_whatever_its_text_holds(self):
        error = self.w.call("raise_surrogate").error
        self.assertEqual("\\ud800", error["message"], "as an escape: strict parsers refuse a lone surrogate")
        error["traceback"].encode()

    def test_errors_are_bounded(self):
        error = self.w.call("long_message").error
        self.assertLess(len(json.dumps(error)), 200_000)
        self.assertIn("characters left out", error["message"])
        self.assertLess(len(self.w.call("deep", [100_000]).error["traceback"]), 40_000)

    def test_what_a_failed_call_used_is_freed_at_once(self):
        self.w.call("objects_alive")  # the collector is off from here on
        for name in ("fails_with_an_object", "async_fails_with_an_object"):
            self.failed(name)
            self.assertEqual(0, self.w.call("objects_alive").value, name)

    def test_odd_results(self):
        self.assertIn("only an async function's answer is awaited", self.failed("forgets_await")[2])
        self.assertEqual("\ud800", self.w.call("surrogate").value)
        self.assertIn("\\ud800", self.w.wait_log("ud800"))

    def test_a_process_that_a_function_forks_is_no_worker(self):
        self.assertEqual(1, self.w.call("forks", ["returns"]).value)
        self.assertIn("forked returned from it", self.w.wait_log("ends here"))
        self.assertEqual(1, self.w.call("forks", ["raises"]).value)
        self.assertEqual(9, self.w.call("forks", ["exits"]).value)

    def test_calls_sent_ahead_are_answered_in_order(self):
        calls = [self.w.submit("add", [number, 0]) for number in range(50)]
        self.assertEqual(list(range(50)), [self.w.reply(call).value for call in calls])

    def test_two_calls_in_one_packet_and_one_call_in_many(self):
        body = bytes(8 + 8 + 4 + 4) + b"\x03\x00" + bytes(6) + b"add"
        self.w.send(frame(wire.CALL, 7, body + b"[1,1]") + frame(wire.CALL, 8, body + b"[2,2]"))
        self.assertEqual([2, 4], [self.w.reply(7).value, self.w.reply(8).value])
        whole = frame(wire.CALL, 9, body + b"[3,3]")
        for at in range(0, len(whole), 10):
            self.w.data.send(whole[at : at + 10])
        self.assertEqual(6, self.w.reply(9).value)
        self.w._next = 9

    def test_credit_for_a_stream_that_is_over_is_ignored(self):
        self.w.send(frame(wire.CREDIT, 1234, b"\x05\x00\x00\x00"))


class Nonsense(SupervisorTest):
    def test_what_is_no_frame_ends_the_worker_with_a_word_in_its_log(self):
        for nonsense in (b"hello worker, this is not a frame", bytes(64), frame(99), frame(wire.CALL, 1, b"short")):
            worker = self.worker(self.app(APP))
            worker.data.send(nonsense)
            self.assertEqual(1, worker.wait())
            self.assertIn("cannot go on", worker.log())


if __name__ == "__main__":
    unittest.main()
