"""Streams: credit, back-pressure, cancellation, and generators that misbehave."""

import os
import signal
import struct
import unittest

from supervisor import ENDED, INTERRUPT, RESULT_MAX, SupervisorTest, frame, wait_until

from keelback import wire

APP = """
    import asyncio, threading, time, keelback

    made = []

    @keelback.function
    def items(n):
        try:
            for number in range(n):
                made.append(number)
                yield number
        finally:
            made.append("closed")

    @keelback.function
    async def async_items(n):
        try:
            for number in range(n):
                await asyncio.sleep(0)
                made.append(number)
                yield number
        finally:
            await asyncio.sleep(0)
            made.append("closed")

    @keelback.function
    def made_so_far():
        result, made[:] = list(made), []
        return result

    @keelback.function
    def fails_after(n):
        yield from range(n)
        raise ValueError("enough")

    @keelback.function
    async def async_fails_after(n):
        for number in range(n):
            yield number
        raise ValueError("enough")

    @keelback.function
    def odd_item():
        yield 1
        yield object()

    @keelback.function
    def endless():
        while True:
            yield "x" * 1000

    @keelback.function
    def slow_item():
        yield 1
        time.sleep(60)

    @keelback.function(stream=True)
    def an_iterator(n):
        return map(str, range(n))

    @keelback.function(stream=True)
    async def a_coroutine_with_items(n):
        return range(n)

    @keelback.function(stream=True)
    def no_iterator():
        return 5

    @keelback.function
    def stubborn():
        try:
            yield from range(20)
        except GeneratorExit:
            yield "I will not go"

    @keelback.function
    async def ticking():
        # A task of the loop goes on while the stream waits for credit.
        ticks = 0
        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)
        task = asyncio.create_task(tick())
        try:
            for number in range(17):
                yield number
            yield ["ticks", ticks]
        finally:
            task.cancel()

    @keelback.function
    def echo(value):
        return value
"""


def credit(call, n):
    return frame(wire.CREDIT, call, struct.pack("<I", n))


class Streams(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def tearDown(self):
        self.assertEqual("next", self.w.call("echo", ["next"]).value)

    def items(self, call, n):
        found = []
        for _ in range(n):
            kind, _, of, body = self.w.receive()
            self.assertEqual((wire.ITEM, call), (kind, of), body)
            found.append(body)
        return found

    def made(self):
        return self.w.call("made_so_far").value

    def test_sixteen_items_come_unasked_and_the_rest_for_credit(self):
        for function in ("items", "async_items"):
            call = self.w.submit(function, [100], stream=True)
            self.items(call, 16)
            self.assertTrue(self.w.quiet(0.05), "no credit, no item")
            self.w.send(credit(call, 3))
            self.items(call, 3)
            self.assertTrue(self.w.quiet(0.05))
            self.w.send(credit(call, 40) + credit(call, 40))
            self.items(call, 80)
            self.w.send(credit(call, 10))
            self.items(call, 1)
            self.assertEqual(wire.END, self.w.receive()[0])
            self.assertEqual([*range(100), "closed"], self.made())

    def test_a_stream_of_exactly_its_credit_ends_without_more(self):
        for function in ("items", "async_items"):
            reply = self.w.call(function, [16], stream=True)
            self.assertEqual((wire.END, 16), (reply.kind, len(reply.items)))
            self.assertEqual(wire.END, self.w.call(function, [0], stream=True).kind)

    def test_without_credit_the_generator_is_one_item_ahead_at_most(self):
        for function in ("items", "async_items"):
            self.made()
            call = self.w.submit(function, [100], stream=True)
            self.items(call, 16)
            self.assertTrue(self.w.quiet(0.05))
            self.w.cancel(call, wake=True)
            self.assertEqual(wire.KIND_CANCELLED, self.w.reply(call).error_kind)
            self.assertEqual([*range(17), "closed"], self.made())

    def test_a_waiting_stream_is_interrupted(self):
        call = self.w.submit("items", [100], stream=True)
        self.items(call, 16)
        self.w.interrupt(call)
        reply = self.w.reply(call)
        self.assertEqual((wire.KIND_CANCELLED, "KeyboardInterrupt"), (reply.error_kind, reply.error["type"]))
        self.assertEqual("closed", self.made()[-1])

    def test_a_working_generator_is_interrupted_between_and_inside_items(self):
        call = self.w.submit("slow_item", stream=True)
        self.items(call, 1)
        self.w.interrupt(call)
        self.assertEqual(wire.KIND_CANCELLED, self.w.reply(call).error_kind)

    def test_interrupts_never_leave_half_a_frame_behind(self):
        for _ in range(30):
            call = self.w.submit("endless", stream=True)
            self.w.send(credit(call, 1 << 20))
            self.items(call, 2)
            self.w.words[INTERRUPT] = call
            os.kill(self.w.pid, signal.SIGINT)
            reply = self.w.reply(call)
            self.assertEqual(wire.KIND_CANCELLED, reply.error_kind, reply)
            self.assertTrue(all(item == "x" * 1000 for item in reply.items))

    def test_a_call_and_a_session_end_behind_a_stream_wait_for_their_turn(self):
        call = self.w.submit("items", [20], stream=True)
        self.items(call, 16)
        following = self.w.submit("echo", ["behind"])
        self.w.send(frame(wire.SESSION_END, 0, bytes(9) + b"nobody"))
        self.w.send(credit(call, 10))
        self.assertEqual([16, 17, 18, 19], self.w.reply(call).items)
        self.assertEqual("behind", self.w.reply(following).value)

    def test_failures_in_the_middle_come_after_the_items(self):
        for function in ("fails_after", "async_fails_after"):
            reply = self.w.call(function, [3], stream=True)
            self.assertEqual(([0, 1, 2], wire.KIND_ERROR, "enough"), (reply.items, reply.error_kind, reply.error["message"]))
        reply = self.w.call("odd_item", stream=True)
        self.assertEqual(([1], "keelback.ResultError"), (reply.items, reply.error["type"]))
        self.assertEqual("TypeError", self.w.call("no_iterator", stream=True).error["type"])

    def test_iterators_of_every_kind_stream(self):
        self.assertEqual(["0", "1"], self.w.call("an_iterator", [2], stream=True).items)
        self.assertEqual([0, 1, 2], self.w.call("a_coroutine_with_items", [3], stream=True).items)

    def test_a_caller_that_takes_no_stream_gets_a_list(self):
        for function in ("items", "async_items", "a_coroutine_with_items"):
            self.assertEqual([0, 1, 2], self.w.call(function, [3]).value, function)
        self.assertEqual([], self.w.call("items", [0]).value)
        self.assertEqual("enough", self.w.call("fails_after", [3]).error["message"])

    def test_an_endless_list_ends_at_the_limit_of_a_result(self):
        self.w.words[RESULT_MAX] = 100_000
        self.assertIn("too large", self.w.call("endless").error["message"])
        self.w.words[RESULT_MAX] = 500
        self.assertIn("too large", self.w.call("endless", stream=True).error["message"])
        self.w.words[RESULT_MAX] = 0

    def test_an_endless_list_is_cancelled(self):
        self.w.words[RESULT_MAX] = 1 << 31
        call = self.w.submit("endless")
        self.w.wait_started(call)
        self.w.cancel(call)
        self.assertEqual(wire.KIND_CANCELLED, self.w.reply(call).error_kind)
        self.w.words[RESULT_MAX] = 0

    def test_a_generator_that_will_not_close_is_cancelled_all_the_same(self):
        call = self.w.submit("stubborn", stream=True)
        self.items(call, 16)
        self.w.cancel(call, wake=True)
        self.assertEqual(wire.KIND_CANCELLED, self.w.reply(call).error_kind)

    def test_the_loop_runs_while_an_async_stream_waits(self):
        call = self.w.submit("ticking", stream=True)
        self.items(call, 16)
        self.assertTrue(self.w.quiet(0.05))
        self.w.send(credit(call, 5))
        reply = self.w.reply(call)
        self.assertGreater(reply.items[-1][1], 5)
        self.assertFalse(reply.unclean)

    def test_the_ended_mark_waits_for_the_last_item(self):
        call = self.w.submit("items", [17], stream=True)
        self.items(call, 16)
        self.assertNotEqual(call, self.w.words[ENDED])
        self.w.send(credit(call, 1))
        self.w.reply(call)
        wait_until(lambda: self.w.words[ENDED] == call, "ended")


if __name__ == "__main__":
    unittest.main()
