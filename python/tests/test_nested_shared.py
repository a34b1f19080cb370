"""Calls out of Python, where the calling call is one of several in its worker (concurrency)."""

import select
import struct
import unittest

from supervisor import WAIT_S, Nested, SupervisorTest, frame, outcome, wait_until

from keelback import wire

APP = """
    import asyncio, contextvars, threading, time
    import keelback

    kept = {}

    @keelback.function(concurrency=64)
    async def echo(value):
        return value

    @keelback.function
    def kept_so_far():
        return {key: value for key, value in kept.items() if isinstance(value, (str, bool))}

    @keelback.function
    def alone(function, *arguments):
        return keelback.call(function, *arguments)

    @keelback.function(concurrency=64)
    async def relay_shared(function, arguments, session=None, timeout=None):
        return await keelback.acall(function, *arguments, session=session, timeout=timeout)

    @keelback.function(concurrency=64)
    def relay_thread(function, arguments, session=None, timeout=None):
        return keelback.call(function, *arguments, session=session, timeout=timeout)

    @keelback.function(concurrency=64)
    async def ask_host_shared(name, arguments):
        return await keelback.host.acall(name, *arguments)

    @keelback.function(concurrency=64)
    def ask_host_thread(name, arguments):
        return getattr(keelback.host, name)(*arguments)

    @keelback.function(concurrency=64)
    async def stream(n):
        for number in range(n):
            yield await keelback.acall("square", number)

    @keelback.function(concurrency=64)
    def stream_thread(n):
        for number in range(n):
            yield keelback.call("square", number)

    @keelback.function(concurrency=64)
    async def gathers(n):
        return await asyncio.gather(*(keelback.acall("square", number) for number in range(n)))

    @keelback.function(concurrency=64)
    async def waits_at_most(seconds):
        try:
            return await asyncio.wait_for(keelback.acall("slow"), seconds)
        except asyncio.TimeoutError:
            return "it took too long"

    @keelback.function(concurrency=64)
    async def blocking_call():
        try:
            keelback.call("square", 1)
        except RuntimeError as error:
            return str(error)

    @keelback.function(concurrency=64)
    async def in_a_thread(n):
        return await asyncio.gather(*(asyncio.to_thread(keelback.call, "square", number) for number in range(n)))

    @keelback.function(concurrency=64)
    async def without_context():
        def ask():
            try:
                keelback.call("square", 1)
            except RuntimeError as error:
                return str(error)
        return await asyncio.get_running_loop().run_in_executor(None, ask)

    async def wait():
        try:
            await keelback.acall("slow")
        except BaseException as error:
            kept["task"] = f"{type(error).__name__}: {error}"
        try:
            await keelback.acall("too late")
        except BaseException as error:
            kept["again"] = f"{type(error).__name__}: {error}"

    def wait_in_thread():
        try:
            keelback.call("slow")
        except BaseException as error:
            kept["thread"] = f"{type(error).__name__}: {error}"

    @keelback.function(concurrency=64)
    async def leaves_a_task():
        kept.clear()
        kept[1] = asyncio.create_task(wait())
        await asyncio.sleep(0)

    go = threading.Event()

    @keelback.function(concurrency=64)
    def leaves_a_thread():
        kept.clear()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(wait_in_thread,), daemon=True).start()
        go.wait(60)
        go.clear()

    @keelback.function(concurrency=64)
    async def goes():
        go.set()

    @keelback.function(concurrency=64)
    def catches_the_interrupt():
        try:
            keelback.call("slow")
        except keelback.Interrupted:
            kept["caught"] = True
        return keelback.call("square", 3)

    async def asks_on():
        try:
            while True:
                keelback.session()
                asks.append(asyncio.ensure_future(keelback.acall("again")))
                await asyncio.sleep(0)
                if asks[0].done():
                    break
        finally:
            await asyncio.gather(*asks, return_exceptions=True)
            asks.clear()

    asks = []

    @keelback.on_session_open
    async def open():
        if keelback.session().id == "asks":
            kept[1] = asyncio.ensure_future(asks_on())
        if keelback.session().id == "calls":
            keelback.session().state["square"] = await keelback.acall("square", 5)

    @keelback.function(concurrency=64)
    def state_thread():
        return keelback.session().state

    @keelback.function(concurrency=64)
    def takes_a_moment():
        time.sleep(0.005)

    @keelback.function(concurrency=64)
    async def state_task():
        return keelback.session().state
"""


class SharedTest(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def tearDown(self):
        self.assertEqual("next", self.w.end_of(self.w.share("echo", ["next"])).value)

    def square(self, call):
        asked = self.w.nested(call)
        self.assertEqual("square", asked.name)
        self.w.answer(asked, asked.arguments[0] ** 2)
        return asked


class Asking(SharedTest):
    def test_tasks_and_threads_say_what_is_called(self):
        for function in ("relay_shared", "relay_thread"):
            call = self.w.share(function, ["square", [1, "two"], "ann", 2.5])
            asked = self.w.nested(call)
            self.assertEqual((wire.NESTED_FUNCTION, "square", "ann", 2_500_000_000, [1, "two"]),
                             (asked.target, asked.name, asked.session, asked.timeout_ns, asked.arguments))
            self.w.answer(asked, {"deep": ["é"]})
            self.assertEqual({"deep": ["é"]}, self.w.end_of(call).value)

    def test_host_functions(self):
        for function in ("ask_host_shared", "ask_host_thread"):
            call = self.w.share(function, ["lookup", ["key"]])
            asked = self.w.nested(call)
            self.assertEqual((wire.NESTED_HOST, "lookup", ["key"]), (asked.target, asked.name, asked.arguments))
            self.w.fail_nested(asked, "host_gone", message="nobody provides lookup")
            self.assertEqual("keelback.HostGone", self.w.end_of(call).error["type"])

    def test_many_calls_wait_beside_each_other(self):
        called = [self.w.share(function, ["square", [number]]) for number, function in enumerate(["relay_shared", "relay_thread"] * 8)]
        asked = {}
        while len(asked) < len(called):
            kind, _, of, body = self.w.receive()
            self.assertEqual(wire.NESTED, kind)
            asked[of] = body
        self.assertEqual(16, len({body[:8] for body in asked.values()}))
        self.w.send(b"".join(outcome(Nested(call, asked[call]), call) for call in reversed(called)))
        self.assertEqual(called, [self.w.end_of(call).value for call in called])

    def test_one_call_asks_for_many(self):
        for function in ("gathers", "in_a_thread"):
            call = self.w.share(function, [6])
            asked = [self.w.nested(call) for _ in range(6)]
            for each in reversed(asked):
                self.w.answer(each, each.arguments[0] ** 2)
            self.assertEqual([number ** 2 for number in range(6)], self.w.end_of(call).value, function)

    def test_large_arguments_and_results_span_packets(self):
        text = "x" * 300_000
        for function in ("relay_shared", "relay_thread"):
            call = self.w.share(function, ["other", [text]])
            asked = self.w.nested(call)
            self.assertEqual([text], asked.arguments)
            self.w.answer(asked, text)
            self.assertEqual(text, self.w.end_of(call).value)

    def test_streams_get_their_credit(self):
        for function in ("stream", "stream_thread"):
            call = self.w.share(function, [40], stream=True)
            for number in range(40):
                asked = self.w.nested(call)
                more = frame(wire.CREDIT, call, struct.pack("<I", 8)) if number % 8 == 0 else b""
                self.w.send(more + outcome(asked, number))
                self.assertEqual(wire.ITEM, self.w.next_shared()[0])
            self.assertEqual((wire.END, list(range(40))), ((reply := self.w.end_of(call)).kind, reply.items), function)

    def test_what_would_block_the_loop_is_refused(self):
        self.assertIn("await keelback.acall()", self.w.end_of(self.w.share("blocking_call")).value)

    def test_a_thread_without_context_does_not_know_its_call(self):
        self.assertIn("copy_context", self.w.end_of(self.w.share("without_context")).value)

    def test_the_opening_of_a_session_is_part_of_its_call(self):
        for birth, function in enumerate(("state_task", "state_thread"), 7):
            call = self.w.share(function, opens=True, session="calls", birth=birth, epoch=1)
            self.square(call)
            self.assertEqual({"square": 25}, self.w.end_of(call).value)

    def test_calls_that_run_alone_and_beside_others_name_no_request_twice(self):
        call = self.w.share("relay_shared", ["square", [2]])
        first = self.square(call)
        self.w.end_of(call)
        call = self.w.submit("alone", ["square", 3])
        second = self.w.nested(call)
        self.assertNotEqual(first.request, second.request)
        self.w.answer(first, "crossed")
        self.w.answer(second, 9)
        self.assertEqual(9, self.w.reply(call).value)


class Ending(SharedTest):
    def test_a_cancelled_task_cancels_its_call_once(self):
        call = self.w.share("waits_at_most", [0.01])
        asked = self.w.nested(call)
        self.w.nested_cancel(asked)
        self.assertEqual("it took too long", self.w.end_of(call).value)
        self.w.fail_nested(asked, "cancelled")

    def test_a_cancelled_call_cancels_what_it_waits_for(self):
        call = self.w.share("relay_shared", ["slow", []])
        asked = self.w.nested(call)
        self.w.cancel(call)
        self.w.nested_cancel(asked)
        self.assertEqual(wire.KIND_CANCELLED, self.w.end_of(call).error_kind)

    def test_a_cancelled_thread_hears_it_from_its_outcome(self):
        call = self.w.share("relay_thread", ["slow", []])
        asked = self.w.nested(call)
        self.w.cancel(call)
        self.w.fail_nested(asked, "cancelled", message="its parent was cancelled")
        reply = self.w.end_of(call)
        self.assertEqual((wire.KIND_CANCELLED, "keelback.Cancelled"), (reply.error_kind, reply.error["type"]))

    def test_an_interrupt_ends_the_wait_of_a_thread(self):
        call = self.w.share("relay_thread", ["slow", []])
        asked = self.w.nested(call)
        self.w.cancel(call)
        self.w.interrupt_shared(call)
        self.w.nested_cancel(asked)
        reply = self.w.end_of(call)
        self.assertEqual((wire.KIND_CANCELLED, True), (reply.error_kind, reply.interrupted))
        self.w.answer(asked, "crossed")

    def test_after_an_interrupt_a_thread_can_go_on(self):
        call = self.w.share("catches_the_interrupt")
        asked = self.w.nested(call)
        self.w.interrupt_shared(call)
        self.w.nested_cancel(asked)
        self.w.answer(asked, "crossed")
        self.square(call)
        self.assertEqual((9, True), ((reply := self.w.end_of(call)).value, reply.interrupted))

    def test_an_interrupt_loses_and_splits_no_frame(self):
        text = "x" * 1_000_000
        for number in range(20):
            call = self.w.share("relay_thread", ["other", [text]])
            self.w.wait_row(call)
            if number % 2:
                select.select([self.w.data], [], [], WAIT_S)  # the request is on its way
            self.w.interrupt_shared(call)
            while True:
                kind, _, of, body = self.w.receive()  # what comes behind half a frame would be none
                self.assertEqual(call, of)
                if kind == wire.ERROR:
                    break
                self.assertIn(kind, (wire.NESTED, wire.NESTED_CANCEL))
            self.assertEqual(wire.KIND_CANCELLED, body[0])
            del self.w.rows[call]

    def test_a_task_that_is_left_is_told_at_the_end(self):
        call = self.w.share("leaves_a_task")
        asked = self.w.nested(call)
        self.assertEqual(wire.RESULT, self.w.end_of(call).kind)
        self.w.answer(asked, "crossed")
        told = wait_until(lambda: (got := self.w.call("kept_so_far").value) and "again" in got and got, "the task was told")
        self.assertIn("has ended", told["task"])
        self.assertIn("has ended", told["again"])

    def test_a_thread_that_is_left_is_told_at_the_end(self):
        call = self.w.share("leaves_a_thread")
        asked = self.w.nested(call)
        self.w.end_of(self.w.share("goes"))
        self.assertEqual(wire.RESULT, self.w.end_of(call).kind)
        self.w.answer(asked, "crossed")
        told = wait_until(lambda: (got := self.w.call("kept_so_far").value) and "thread" in got and got, "the thread was told")
        self.assertIn("has ended", told["thread"])

    def test_nothing_is_asked_for_after_the_last_frame(self):
        # A task that the call's hook has left on the loop asks on and on, while the call's thread answers.
        for birth in range(1, 9):
            call = self.w.share("takes_a_moment", opens=True, session="asks", birth=birth, epoch=1)
            self.assertEqual(wire.RESULT, self.w.end_of(call).kind)
            self.assertEqual("next", self.w.end_of(self.w.share("echo", ["next"])).value)

    def test_the_end_of_the_socket_ends_the_worker(self):
        for function in ("relay_shared", "relay_thread"):
            w = self.worker(self.app(APP))
            w.nested(w.share(function, ["slow", []]))
            w.data.close()
            self.assertEqual(1, w.wait())


if __name__ == "__main__":
    unittest.main()
