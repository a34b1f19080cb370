"""Calls out of Python, where the calling call has its worker alone: of other functions, and of the embedding program's."""

import os
import pickle
import select
import signal
import socket
import struct
import threading
import unittest

from supervisor import INTERRUPT, RESULT_MAX, WAIT_S, Nested, SupervisorTest, frame, outcome, wait_until

from keelback import calls, marks, nested, wire
from keelback.channel import Channel
from keelback.inbox import Inbox

APP = """
    import asyncio, concurrent.futures, contextvars, dataclasses, datetime, os, threading, time
    import keelback
    from keelback import calls

    @dataclasses.dataclass
    class Item:
        name: str
        price: float

    class Money:
        def __init__(self, cents):
            self.cents = cents

    @keelback.encoder(Money)
    def write_money(money):
        return f"{money.cents} cents"

    kept = {}

    @keelback.function
    def echo(value):
        return value

    @keelback.function
    def other(a, b=2, *, c=3):
        pass

    @keelback.function
    def relay(function, arguments, session=None, timeout=None):
        if isinstance(arguments, dict):
            return keelback.call(function, session=session, timeout=timeout, **arguments)
        return keelback.call(function, *arguments, session=session, timeout=timeout)

    @keelback.function
    async def arelay(function, arguments, session=None, timeout=None):
        return await keelback.acall(function, *arguments, session=session, timeout=timeout)

    @keelback.function
    def ask_host(name, arguments):
        return getattr(keelback.host, name)(*arguments)

    @keelback.function
    async def aask_host(name, arguments):
        return await keelback.host.acall(name, *arguments)

    @keelback.function
    def twice(function):
        return [keelback.call(function, 1), keelback.call(function, 2)]

    @keelback.function
    def sends_values():
        return keelback.call("other", Item("cup", 4.5), datetime.date(2026, 12, 1), Money(350))

    @keelback.function
    def sends_both():
        return keelback.call("other", 1, c=5)

    @keelback.function
    def wrong_arguments():
        import array
        told = []
        for call in (lambda: keelback.call("other", object()),
                     lambda: keelback.call("other", a={"x": [b"bytes"]}),
                     lambda: keelback.call("other", keelback.Attachment(b"x")),
                     lambda: keelback.call("other", array.array("d", [1.0])),
                     lambda: keelback.call("other", float("nan")),
                     lambda: keelback.call("other", 1, a=2),
                     lambda: keelback.call("other", 1, 2, 3, c=4),
                     lambda: keelback.host.lookup(1, key=2),
                     lambda: keelback.call("other", timeout=0),
                     lambda: keelback.call("other", session=5),
                     lambda: keelback.call(""),
                     lambda: keelback.call("other", "x" * 4000)):
            try:
                call()
            except Exception as error:
                told.append([type(error).__name__, str(error)])
        return told

    @keelback.function
    def catches(function):
        try:
            keelback.call(function)
        except keelback.CallFailed as error:
            return [type(error).__name__, str(error), error.outcome]

    @keelback.function
    def catches_host():
        try:
            keelback.host.lookup()
        except keelback.HostGone as error:
            return [str(error), error.outcome]

    @keelback.function
    def stream_with_calls(n):
        for number in range(n):
            yield keelback.call("square", number)

    @keelback.function
    async def async_stream_with_calls(n):
        for number in range(n):
            yield await keelback.acall("square", number)

    @keelback.function
    def stream_with_threads(n):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(keelback.call, "square", number) for number in range(2)]
            yield from range(n)
            yield sum(answer.result() for answer in answers)

    @keelback.function
    def in_threads(n):
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            return sorted(pool.map(lambda number: keelback.call("square", number), range(n)))

    @keelback.function
    def main_and_threads(n):
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            others = [pool.submit(keelback.call, "square", number) for number in range(n)]
            own = keelback.call("square", n)
            return sorted([own, *(each.result() for each in others)])

    def leave():
        try:
            kept["outcome"] = keelback.call("slow")
        except BaseException as error:
            kept["outcome"] = f"{type(error).__name__}: {error}"
        try:
            keelback.call("too late")
        except BaseException as error:
            kept["again"] = f"{type(error).__name__}: {error}"
        kept["over"] = True

    def leave_and_say():
        leave()
        print("the thread was told", flush=True)

    def leave_later():
        kept["go"].wait(60)
        leave()

    @keelback.function
    def leaves_a_thread(waits):
        kept.clear()
        kept["go"] = threading.Event()
        later = contextvars.copy_context()
        kept["thread"] = threading.Thread(target=leave if waits else lambda: later.run(leave_later), daemon=True)
        kept["thread"].start()
        if waits:
            time.sleep(waits)

    pool = concurrent.futures.ThreadPoolExecutor(1)

    @keelback.function
    def makes_pool():
        return pool.submit(int).result()

    @keelback.function
    def leaves_work_in_pool():
        kept.clear()
        pool.submit(leave)
        return keelback.call("square", 3)

    @keelback.function
    def items_beside_a_thread(n):
        # The thread waits for its outcome and reads; the items wait for credit meanwhile.
        thread = threading.Thread(target=leave, daemon=True)
        kept.clear()
        thread.start()
        yield "ready"
        yield from range(n)

    @keelback.function
    def kept_so_far():
        if kept.get("go"):
            kept["go"].set()
        if kept.get("thread"):
            kept["thread"].join(60)
        return {key: value for key, value in kept.items() if isinstance(value, (str, bool, list))}

    @keelback.function
    async def gathers(n):
        return await asyncio.gather(*(keelback.acall("square", number) for number in range(n)))

    @keelback.function
    async def waits_at_most(seconds):
        try:
            return await asyncio.wait_for(keelback.acall("slow"), seconds)
        except asyncio.TimeoutError:
            return "it took too long"

    @keelback.function
    async def cancels_twice():
        task = asyncio.ensure_future(keelback.acall("slow"))
        await asyncio.sleep(0)
        task.cancel()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    @keelback.function
    async def async_with_threads():
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        answers = await asyncio.gather(keelback.acall("square", 1), loop.run_in_executor(None, context.run, keelback.call, "square", 2),
                                       keelback.acall("square", 3))
        return answers

    @keelback.function
    async def thread_reads_first():
        inbox = calls.here.requests_of(calls.own_call())
        first = asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, keelback.call, "square", 1)
        while inbox._leader is None:
            await asyncio.sleep(0.001)
        second = asyncio.ensure_future(keelback.acall("square", 2))
        await asyncio.sleep(0)
        print("both wait", flush=True)
        return [await first, await second]

    @keelback.function
    async def task_and_thread(n):
        for number in range(n):
            await asyncio.gather(keelback.acall("square", number), asyncio.to_thread(keelback.call, "square", number))
        return n

    @keelback.function
    def loops_in_threads(n):
        for number in range(n):
            done = []

            async def asks():
                await keelback.acall("square", number)
                done.append(number)
                while len(done) < 2:  # this loop goes on to watch
                    await asyncio.sleep(0.001)

            with concurrent.futures.ThreadPoolExecutor(2) as both:
                list(both.map(lambda _: asyncio.run(asks()), range(2)))
        return n

    @keelback.function
    async def blocks_its_loop():
        # Not wise; but the thread reads for itself.
        waits = asyncio.ensure_future(keelback.acall("square", 1))
        await asyncio.sleep(0.01)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(keelback.call, "square", 2).result()
        return [first, await waits]

    @keelback.function
    async def blocking_call_in_async():
        told = []
        for call in (lambda: keelback.call("square", 1), lambda: keelback.host.lookup(1)):
            try:
                call()
            except RuntimeError as error:
                told.append(str(error))
        return told

    @keelback.function
    def own_loop(n):
        async def all():
            return await asyncio.gather(*(keelback.acall("square", number) for number in range(n)))
        return [*asyncio.run(all()), keelback.call("square", n)]

    async def wait():
        try:
            await keelback.acall("slow")
        except BaseException as error:
            kept["outcome"] = f"{type(error).__name__}: {error}"

    @keelback.function
    async def leaves_a_waiting_task():
        kept.clear()
        kept["task"] = asyncio.create_task(wait())
        await asyncio.sleep(0.01)

    @keelback.function
    def swallows_the_interrupt():
        try:
            keelback.call("slow")
        except KeyboardInterrupt:
            pass
        return keelback.call("square", 3)

    @keelback.function
    def interrupted_follower():
        # The thread reads for both; the main thread waits beside it.
        thread = threading.Thread(target=leave, daemon=True)
        kept.clear()
        thread.start()
        time.sleep(0.05)
        try:
            keelback.call("slow")
        except KeyboardInterrupt:
            pass
        return keelback.call("square", 3)

    @keelback.function
    def forks():
        out, into = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                keelback.call("square", 1)
                text = "it called out"
            except RuntimeError as error:
                text = str(error)
            os.write(into, text.encode())
            os._exit(0)
        os.close(into)
        text = os.read(out, 1000).decode()
        os.waitpid(pid, 0)
        return [text, keelback.call("square", 2)]

    @keelback.function(batch=8)
    def together(n: "list[int]"):
        return [keelback.call("square", each) for each in n]

    @keelback.function
    async def attached():
        # Its result needs a slab while a thread that it leaves reads the socket.
        kept.clear()
        kept["thread"] = threading.Thread(target=leave_and_say, daemon=True)
        kept["thread"].start()
        await asyncio.sleep(0.05)
        return b"x" * 100_000

    def note_refusal(where):
        try:
            keelback.call("square", 5)
        except RuntimeError as error:
            kept[where] = str(error)

    @keelback.on_session_open
    def open():
        if keelback.session().id == "calls":
            keelback.session().state["square"] = keelback.call("square", 5)

    @keelback.on_session_end
    def end(reason):
        note_refusal("end")

    @keelback.health
    def well():
        note_refusal("health")

    @keelback.worker_setup
    def prepare():
        note_refusal("setup")

    @keelback.function
    def in_session():
        return keelback.session().state
"""


def credit(call, n):
    return frame(wire.CREDIT, call, struct.pack("<I", n))


class NestedTest(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def tearDown(self):
        self.assertEqual("next", self.w.call("echo", ["next"]).value)  # nothing is left on the socket, and nobody reads

    def square(self, call):
        """Answers one nested call with the square of its argument."""
        asked = self.w.nested(call)
        self.assertEqual("square", asked.name)
        self.w.answer(asked, asked.arguments[0] ** 2)
        return asked


class Plain(NestedTest):
    def test_says_what_is_called(self):
        call = self.w.submit("relay", ["square", [1, "two"], "ann", 2.5])
        asked = self.w.nested(call)
        self.assertEqual((wire.NESTED_FUNCTION, "square", "ann", 2_500_000_000, [1, "two"]),
                         (asked.target, asked.name, asked.session, asked.timeout_ns, asked.arguments))
        self.w.answer(asked, {"deep": [1.5, None, "é"]})
        self.assertEqual({"deep": [1.5, None, "é"]}, self.w.reply(call).value)
        call = self.w.submit("relay", ["square", {"n": 1}])
        asked = self.w.nested(call)
        self.assertEqual((0, "", {"n": 1}), (asked.timeout_ns, asked.session, asked.arguments))
        self.w.answer(asked, 1)
        self.assertEqual(1, self.w.reply(call).value)

    def test_names_no_request_twice(self):
        numbers = []
        for function in ("twice", "twice"):
            call = self.w.submit(function, ["square"])
            numbers += [self.square(call).request for _ in range(2)]
            self.assertEqual([1, 4], self.w.reply(call).value)
        self.assertEqual(4, len(set(numbers)))

    def test_host_functions_are_asked_for_by_attribute_and_by_name(self):
        for function in ("ask_host", "aask_host"):
            call = self.w.submit(function, ["lookup", ["key"]])
            asked = self.w.nested(call)
            self.assertEqual((wire.NESTED_HOST, "lookup", "", 0, ["key"]),
                             (asked.target, asked.name, asked.session, asked.timeout_ns, asked.arguments))
            self.w.answer(asked, "value")
            self.assertEqual("value", self.w.reply(call).value)

    def test_arguments_are_written_as_results_are(self):
        call = self.w.submit("sends_values")
        asked = self.w.nested(call)
        self.assertEqual([{"name": "cup", "price": 4.5}, "2026-12-01", "350 cents"], asked.arguments)
        self.w.answer(asked, None)
        self.assertIsNone(self.w.reply(call).value)

    def test_positions_and_keywords_together_are_one_object(self):
        call = self.w.submit("sends_both")
        asked = self.w.nested(call)
        self.assertEqual({"a": 1, "c": 5}, asked.arguments)
        self.w.answer(asked, None)
        self.w.reply(call)

    def test_arguments_that_cannot_be_sent_are_refused_before_anything_is_sent(self):
        self.w.words[RESULT_MAX] = 4000
        told = self.w.call("wrong_arguments").value
        for (kind, text), (wanted, part) in zip(told, (
                ("TypeError", "arguments[0] is of type object"),
                ("TypeError", "arguments['a']['x'][0] is bytes, an array or an attachment: nested calls carry no attachments"),
                ("TypeError", "carry no attachments"),
                ("TypeError", "carry no attachments"),
                ("TypeError", "nan"),
                ("TypeError", "multiple values for argument 'a'"),
                ("TypeError", "by position or by keyword"),
                ("TypeError", "by position or by keyword"),
                ("ValueError", "timeout is a positive number of seconds, not 0"),
                ("TypeError", "session is a str or None, not 5"),
                ("ValueError", "is empty"),
                ("ValueError", "the arguments are too large: 4004 bytes; calls.payload_max is 4000"))):
            self.assertEqual(wanted, kind, text)
            self.assertIn(part, text)
        self.assertEqual(12, len(told))
        self.w.words[RESULT_MAX] = 0

    def test_failed_outcomes_raise(self):
        whole = {"outcome": "overloaded", "effect": "none", "reason": "would_deadlock", "message": "all workers wait", "call": 17}
        call = self.w.submit("catches", ["other"])
        self.w.fail_nested(self.w.nested(call), **whole)
        self.assertEqual(["CallFailed", "overloaded (would_deadlock): all workers wait", whole], self.w.reply(call).value)
        call = self.w.submit("relay", ["other", []])
        self.w.fail_nested(self.w.nested(call), "error", message="no", error={"type": "ValueError", "message": "no", "traceback": ""})
        reply = self.w.reply(call)
        self.assertEqual((wire.KIND_ERROR, "keelback.CallFailed", "error: no"), (reply.error_kind, reply.error["type"], reply.error["message"]))

    def test_a_host_that_is_gone_has_an_error_of_its_own(self):
        call = self.w.submit("catches_host")
        self.w.fail_nested(self.w.nested(call), "host_gone", message="nobody provides lookup")
        self.assertEqual(["host_gone: nobody provides lookup", {"outcome": "host_gone", "message": "nobody provides lookup"}],
                         self.w.reply(call).value)
        call = self.w.submit("relay", ["other", []])
        self.w.fail_nested(self.w.nested(call), "cancelled", message="it was cancelled")
        self.assertEqual("keelback.CallFailed", self.w.reply(call).error["type"])

    def test_a_cancelled_call_hears_that_it_is_cancelled(self):
        call = self.w.submit("relay", ["slow", []])
        asked = self.w.nested(call)
        self.w.cancel(call)
        self.w.fail_nested(asked, "cancelled", message="its parent was cancelled")
        reply = self.w.reply(call)
        self.assertEqual((wire.KIND_CANCELLED, "keelback.Cancelled"), (reply.error_kind, reply.error["type"]))

    def test_large_arguments_and_results_span_packets(self):
        text = "x" * 300_000
        for function in ("relay", "arelay"):
            call = self.w.submit(function, ["echo", [text]])
            asked = self.w.nested(call)
            self.assertEqual([text], asked.arguments)
            self.w.answer(asked, text)
            self.assertEqual(text, self.w.reply(call).value)

    def test_an_unknown_outcome_means_nothing(self):
        call = self.w.submit("twice", ["square"])
        first = self.square(call)
        self.w.answer(first, "again")
        self.square(call)
        self.assertEqual([1, 4], self.w.reply(call).value)
        self.w.answer(first, "and again")

    def test_the_end_of_the_socket_ends_the_worker(self):
        for function in ("relay", "arelay"):
            w = self.worker(self.app(APP))
            w.nested(w.submit(function, ["slow", []]))
            w.data.close()
            self.assertEqual(1, w.wait())

    def test_a_forked_child_cannot_call_out(self):
        call = self.w.submit("forks")
        self.square(call)
        reply = self.w.reply(call)
        self.assertIn("cannot call out", reply.value[0])
        self.assertEqual(4, reply.value[1])


class Hooks(NestedTest):
    def test_the_opening_of_a_session_is_part_of_its_call(self):
        session = {"session": "calls", "birth": 3, "epoch": 1}
        call = self.w.submit("in_session", opens=True, **session)
        self.square(call)
        self.assertEqual({"square": 25}, self.w.reply(call).value)

    def test_other_hooks_are_refused(self):
        call = self.w.submit("relay", ["square", [2]])
        self.square(call)
        self.w.reply(call)
        self.w.call("in_session", opens=True, session="s", birth=4, epoch=1)
        self.w.send(frame(wire.SESSION_END, 0, struct.pack("<QB", 4, 1) + b"s"))
        self.w.send(frame(wire.CHECK))
        self.assertEqual(wire.CHECKED, self.w.receive()[0])
        told = self.w.call("kept_so_far").value
        self.assertEqual({"setup", "end", "health"}, set(told))
        for text in told.values():
            self.assertIn("only while a call runs", text)


class Streams(NestedTest):
    def test_credit_that_comes_with_outcomes_counts(self):
        for function in ("stream_with_calls", "async_stream_with_calls"):
            call = self.w.submit(function, [40], stream=True)
            for number in range(40):
                asked = self.w.nested(call)
                # In one packet: it is read by who waits for the outcome.
                self.w.send((credit(call, 8) if number % 8 == 0 else b"") + outcome(asked, number))
                self.assertEqual(wire.ITEM, self.w.receive()[0])
            reply = self.w.reply(call)
            self.assertEqual((wire.END, []), (reply.kind, reply.items), function)

    def test_an_outcome_that_comes_while_items_wait_for_credit_reaches_its_thread(self):
        call = self.w.submit("stream_with_threads", [20], stream=True)
        asked, items = [], 0
        while len(asked) < 2 or items < 16:
            kind, _, _, body = self.w.receive()
            if kind == wire.NESTED:
                asked.append(body)
            else:
                items += 1
        for body in asked:
            self.w.answer(Nested(call, body), 100)
        self.assertTrue(self.w.quiet(0.05))
        self.w.send(credit(call, 10))
        reply = self.w.reply(call)
        self.assertEqual([16, 17, 18, 19, 200], reply.items)

    def test_credit_that_a_thread_reads_reaches_the_items(self):
        call = self.w.submit("items_beside_a_thread", [30], stream=True)
        asked, items = None, 0
        while asked is None or items < 16:
            kind, _, _, body = self.w.receive()
            asked, items = (body, items) if kind == wire.NESTED else (asked, items + 1)
        for _ in range(15):
            self.w.send(credit(call, 1))
            self.assertEqual(wire.ITEM, self.w.receive()[0])
        self.assertEqual(wire.END, self.w.reply(call).kind)

    def test_a_cancelled_stream_beside_a_thread_that_reads_ends(self):
        call = self.w.submit("items_beside_a_thread", [30], stream=True)
        seen = 0
        while seen < 17:
            self.w.receive()
            seen += 1
        self.w.cancel(call, wake=True)
        self.assertEqual(wire.KIND_CANCELLED, self.w.reply(call).error_kind)


class Threads(NestedTest):
    def test_many_threads_wait_and_one_reads(self):
        for function, n in (("in_threads", 8), ("main_and_threads", 7)):
            for order in (list, reversed):
                call = self.w.submit(function, [n])
                asked = [self.w.nested(call) for _ in range(8)]
                for each in order(asked):
                    self.w.answer(each, each.arguments[0] ** 2)
                self.assertEqual([number ** 2 for number in range(8)], self.w.reply(call).value)

    def test_all_outcomes_in_one_packet(self):
        call = self.w.submit("main_and_threads", [7])
        asked = [self.w.nested(call) for _ in range(8)]
        self.w.send(b"".join(outcome(each, each.arguments[0]) for each in asked))
        self.assertEqual(list(range(8)), self.w.reply(call).value)

    def test_a_thread_that_waits_is_told_at_the_end_and_reads_no_more(self):
        for _ in range(5):
            call = self.w.submit("leaves_a_thread", [0.02])
            asked = self.w.nested(call)
            self.assertEqual(wire.RESULT, self.w.reply(call).kind)
            self.w.answer(asked, "crossed")
            told = self.w.call("kept_so_far").value
            self.assertIn("has ended", told["outcome"])
            self.assertIn("only while a call runs", told["again"])

    def test_a_thread_of_a_call_that_has_ended_cannot_call_out(self):
        self.w.call("leaves_a_thread", [0])
        told = self.w.call("kept_so_far").value
        self.assertIn("has ended", told["outcome"])
        self.assertIn("has ended", told["again"])

    def test_a_thread_of_an_earlier_call_that_waits_for_this_one_reads_no_more(self):
        self.w.call("makes_pool")  # its thread is known when the next call ends
        call = self.w.submit("leaves_work_in_pool")
        for asked in (self.w.nested(call), self.w.nested(call)):
            if asked.name == "square":
                self.w.answer(asked, 9)
        self.assertEqual((9, True), ((reply := self.w.reply(call)).value, not reply.unclean))
        for _ in range(20):
            self.assertEqual("mine", self.w.call("echo", ["mine"]).value)
        wait_until(lambda: "has ended" in self.w.call("kept_so_far").value.get("outcome", ""), "the thread was told")

    def test_a_slab_for_the_result_is_not_taken_by_a_thread(self):
        call = self.w.submit("attached")
        self.w.nested(call)
        kind, _, _, body = self.w.receive()
        self.assertEqual((wire.SLAB_WANTED, 100_000), (kind, struct.unpack("<Q", body)[0]))
        self.w.wait_log("the thread was told")
        self.w.send(frame(wire.SLAB, 0, struct.pack("<BIQ", wire.SLAB_NONE, 0, 0)))
        self.assertEqual(wire.ATTACHED, self.w.receive()[0])
        self.assertEqual({"$attachment": "0"}, self.w.reply(call).value)


class Async(NestedTest):
    def test_tasks_wait_together(self):
        call = self.w.submit("gathers", [8])
        asked = [self.w.nested(call) for _ in range(8)]
        for each in reversed(asked):
            self.w.answer(each, each.arguments[0] ** 2)
        self.assertEqual([number ** 2 for number in range(8)], self.w.reply(call).value)

    def test_a_cancelled_task_cancels_its_call_once(self):
        call = self.w.submit("waits_at_most", [0.01])
        asked = self.w.nested(call)
        self.w.nested_cancel(asked)
        self.assertEqual("it took too long", self.w.reply(call).value)
        self.w.fail_nested(asked, "cancelled")
        call = self.w.submit("cancels_twice")
        self.w.nested_cancel(self.w.nested(call))
        self.assertIs(True, self.w.reply(call).value)

    def test_an_outcome_in_time_is_not_cancelled(self):
        call = self.w.submit("waits_at_most", [30])
        self.w.answer(self.w.nested(call), "in time")
        self.assertEqual("in time", self.w.reply(call).value)

    def test_a_cancelled_call_cancels_what_it_waits_for(self):
        call = self.w.submit("arelay", ["slow", []])
        asked = self.w.nested(call)
        self.w.cancel(call)
        self.w.nested_cancel(asked)
        self.assertEqual(wire.KIND_CANCELLED, self.w.reply(call).error_kind)

    def test_threads_and_tasks_wait_together(self):
        call = self.w.submit("async_with_threads")
        asked = [self.w.nested(call) for _ in range(3)]
        for each in sorted(asked, key=lambda each: each.arguments):
            self.w.answer(each, each.arguments[0] ** 2)
        self.assertEqual([1, 4, 9], self.w.reply(call).value)
        call = self.w.submit("async_with_threads")
        asked = [self.w.nested(call) for _ in range(3)]
        for each in sorted(asked, key=lambda each: -each.arguments[0]):
            self.w.answer(each, each.arguments[0] ** 2)
        self.assertEqual([1, 4, 9], self.w.reply(call).value)

    def test_a_loop_reads_when_the_thread_that_read_for_it_has_left(self):
        call = self.w.submit("thread_reads_first")
        first, second = self.w.nested(call), self.w.nested(call)
        self.w.wait_log("both wait")
        self.w.answer(first, 1)
        self.w.answer(second, 4)
        self.assertEqual([1, 4], self.w.reply(call).value)

    def test_one_of_several_reads_a_packet(self):
        for function in ("task_and_thread", "loops_in_threads"):
            call = self.w.submit(function, [50])
            for _ in range(50):
                for asked in (self.w.nested(call), self.w.nested(call)):
                    self.w.answer(asked, 0)
            self.assertEqual(50, self.w.reply(call).value)

    def test_a_thread_reads_where_the_loop_is_blocked(self):
        call = self.w.submit("blocks_its_loop")
        first, second = self.w.nested(call), self.w.nested(call)
        self.w.answer(second, 4)
        self.w.answer(first, 1)
        self.assertEqual([4, 1], self.w.reply(call).value)

    def test_what_would_block_the_loop_is_refused(self):
        told = self.w.call("blocking_call_in_async").value
        self.assertIn("await keelback.acall()", told[0])
        self.assertIn("await keelback.host.acall('lookup')", told[1])

    def test_a_loop_of_the_function_itself(self):
        for _ in range(2):
            call = self.w.submit("own_loop", [3])
            for _ in range(4):
                self.square(call)
            self.assertEqual([0, 1, 4, 9], self.w.reply(call).value)

    def test_a_task_that_is_left_is_told_at_the_end(self):
        call = self.w.submit("leaves_a_waiting_task")
        asked = self.w.nested(call)
        self.assertEqual(wire.RESULT, self.w.reply(call).kind)
        self.w.answer(asked, "crossed")
        wait_until(lambda: "has ended" in self.w.call("kept_so_far").value.get("outcome", ""), "the task was told")


class Stopped(NestedTest):
    def test_an_interrupt_ends_the_wait(self):
        call = self.w.submit("relay", ["slow", []])
        asked = self.w.nested(call)
        self.w.interrupt(call)
        self.w.nested_cancel(asked)
        reply = self.w.reply(call)
        self.assertEqual((wire.KIND_CANCELLED, True), (reply.error_kind, reply.interrupted))
        self.w.answer(asked, "crossed")

    def test_after_an_interrupt_no_frame_is_lost(self):
        for function in ("swallows_the_interrupt", "interrupted_follower"):
            call = self.w.submit(function)
            asked = self.w.nested(call)
            if function == "interrupted_follower":
                asked = self.w.nested(call)  # the main thread's
            self.w.words[INTERRUPT] = call
            self.once_until(call, asked)
            self.w.answer(asked, "crossed")
            self.square(call)
            reply = self.w.reply(call)
            self.assertEqual((9, True), (reply.value, reply.interrupted))

    def once_until(self, call, asked):
        """Signals until the request is cancelled."""
        def cancelled():
            os.kill(self.w.pid, signal.SIGINT)
            return select.select([self.w.data], [], [], 0.01)[0]

        wait_until(cancelled, "the wait ended")
        self.w.nested_cancel(asked)

    def test_interrupts_lose_and_split_no_frame(self):
        # Signals that mean nothing to the call come at any moment of its waits; one that means something, at last.
        text = "x" * 100_000
        for _ in range(20):
            call = self.w.submit("relay", ["echo", [text]])
            os.kill(self.w.pid, signal.SIGINT)
            asked = self.w.nested(call)
            os.kill(self.w.pid, signal.SIGINT)
            self.w.answer(asked, text)
            os.kill(self.w.pid, signal.SIGINT)
            self.assertEqual(text, self.w.reply(call).value)


class Batches(NestedTest):
    def batch(self, values):
        packet = b""
        called = []
        for row, value in enumerate(values, 1):
            packet += self.w.submission("together", [value], row=row)
            called.append(self.w._next)
            self.w.rows[self.w._next] = row
        self.w.send(frame(wire.BATCH, called[0], struct.pack("<I", len(called))) + packet)
        return called

    def test_the_first_call_of_a_batch_is_the_parent(self):
        called = self.batch([1, 2, 3])
        for _ in called:
            self.square(called[0])
        self.assertEqual([1, 4, 9], [self.w.end_of(call).value for call in called])

    def test_a_cancelled_call_is_no_parent(self):
        called = self.batch([1, 2])
        first = self.w.nested(called[0])
        self.w.cancel(called[0])
        self.w.answer(first, 1)
        self.square(called[1])
        self.assertEqual([1, 4], [self.w.end_of(call).value for call in called])


class InterruptedWhileHandingOver(unittest.TestCase):
    """The main thread is told to read for the others, and in that instant is interrupted."""

    def setUp(self):
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (ours, self.theirs):
            self.addCleanup(each.close)
        self.words = memoryview(bytearray(8 * 16)).cast("Q")
        self.words[marks.STARTED] = 7
        self.channel = Channel(ours.fileno())
        self.about = calls.here.call = calls.Call(7, 0, None, 1, b"")
        self.addCleanup(setattr, calls.here, "call", None)
        self.inbox = Inbox(self.channel, self.words, self, threading.get_ident(), lambda: None, lambda: None)
        self.interrupted = False

    def mask(self):
        if self.woken:
            self.woken = False
            self.interrupted = True
            raise KeyboardInterrupt

    woken = False

    def unmask(self):
        pass

    def waits(self):
        with self.inbox._lock:
            return [each for each in self.inbox._waiting.values() if each.lock is not None]

    def interrupted_by(self, wait):
        request = bytearray(frame(wire.NESTED, 0, bytes(24) + b"square[]"))
        answers = {}

        def ask(name):
            answers[name] = self.inbox.ask(self.about, request[:])

        threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in ("first", "last")]

        def main():
            wait_until(self.waits, "the main thread waits")
            threads[1].start()
            wait_until(lambda: len(self.waits()) == 2, "the last thread waits")
            self.woken = True
            self.theirs.send(self.outcome(1))  # the first one hands over to the main thread

        threads[0].start()
        wait_until(lambda: self.inbox._leader is not None, "the first thread reads")
        helper = threading.Thread(target=main, daemon=True)
        helper.start()
        with self.assertRaises(KeyboardInterrupt):
            wait(request)
        helper.join(WAIT_S)
        self.assertTrue(self.interrupted)
        self.theirs.send(self.outcome(2) + self.outcome(3))
        for thread in threads:
            thread.join(WAIT_S)
        self.assertEqual({"first", "last"}, set(answers))

    @staticmethod
    def outcome(request):
        return frame(wire.OUTCOME, 7, struct.pack("<QB7x", request, 1) + b"0")

    def test_while_it_waits_for_an_outcome(self):
        self.interrupted_by(lambda request: self.inbox.ask(self.about, request))

    def test_while_it_waits_for_credit(self):
        self.interrupted_by(lambda request: self.inbox.wait_for_credit(7))


class Texts(unittest.TestCase):
    def test_a_failure_can_be_pickled_and_says_what_it_knows(self):
        failed = nested.CallFailed({"outcome": "error", "error": {"type": "ValueError", "message": "no"}})
        again = pickle.loads(pickle.dumps(failed))
        self.assertEqual((failed.outcome, "error: ValueError: no"), (again.outcome, str(again)))
        self.assertEqual("timeout", str(nested.CallFailed({"outcome": "timeout"})))

    def test_outside_of_a_call_there_is_nobody_to_ask(self):
        with self.assertRaisesRegex(RuntimeError, "only while a call runs"):
            nested.call("other")
        with self.assertRaisesRegex(RuntimeError, "only while a call runs"):
            nested.host.lookup()


if __name__ == "__main__":
    unittest.main()
