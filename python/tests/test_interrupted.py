"""keelback.Interrupted: in the thread of a shared call, once, and in no other call."""

import threading
import unittest
from unittest import mock

import supervisor  # noqa: F401  (finds the package)
from supervisor import SupervisorTest, wait_until

from keelback import threads, wire
from keelback.calls import Interrupted
from keelback.threads import Window

APP = """
    import asyncio, threading, time, keelback

    felt = []

    @keelback.function(concurrency=64)
    def spins():
        while True:
            time.sleep(0)

    @keelback.function(concurrency=64)
    def short(n):
        total = 0
        for number in range(n):
            total += number
        return total

    @keelback.function(concurrency=64)
    def swallows():
        try:
            while True:
                time.sleep(0)
        except keelback.Interrupted:
            felt.append(1)
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass
        return "swallowed"

    @keelback.function(concurrency=64)
    def cleans_up():
        try:
            while True:
                time.sleep(0)
        finally:
            felt.append(threading.current_thread().name)

    @keelback.function(concurrency=64)
    def translates():
        try:
            while True:
                time.sleep(0)
        except keelback.Interrupted:
            raise ValueError("instead") from None

    @keelback.function(concurrency=64)
    def name():
        return threading.current_thread().name

    @keelback.function(concurrency=64)
    def look():
        return felt

    @keelback.function(concurrency=64)
    def endless():
        while True:
            yield 1

    @keelback.function(concurrency=64)
    def yields_and_spins():
        yield 1
        while True:
            time.sleep(0)

    @keelback.on_session_open
    async def opens():
        await asyncio.sleep(60)
"""


class InAWorker(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def interrupted(self, call):
        reply = self.w.end_of(call)
        self.assertEqual((wire.KIND_CANCELLED, True, False), (reply.error_kind, reply.interrupted, reply.unclean), reply)
        self.assertEqual("keelback.Interrupted", reply.error["type"])
        return reply

    def stop(self, function, **options):
        call = self.w.share(function, **options)
        self.w.wait_row(call)
        self.w.interrupt_shared(call)
        return call

    def test_ends_its_call(self):
        for worker in self.both(self.app(APP)):
            self.w = worker
            self.interrupted(self.stop("spins"))
            self.assertEqual("", worker.log())

    def test_may_be_caught_and_comes_once(self):
        call = self.stop("swallows")
        for _ in range(20):
            self.w.interrupt_shared(call)
        reply = self.w.end_of(call)
        self.assertEqual(("swallowed", True), (reply.value, reply.interrupted))
        reply = self.w.end_of(self.stop("translates"))
        self.assertEqual(("ValueError", wire.KIND_ERROR, True), (reply.error["type"], reply.error_kind, reply.interrupted))
        self.assertEqual([1], self.w.end_of(self.w.share("look")).value)

    def test_its_thread_is_used_no_more(self):
        self.interrupted(self.stop("cleans_up"))
        (interrupted,) = self.w.end_of(self.w.share("look")).value
        names = set()

        def used_again():  # not for certain the next time: a thread answers before it is idle
            name = self.w.end_of(self.w.share("name")).value
            known = name in names
            names.add(name)
            return known

        for _ in range(10):
            wait_until(used_again, "an idle thread is used again")
        self.assertNotIn(interrupted, names)
        threads = self.w.threads()
        for _ in range(5):
            self.interrupted(self.stop("spins"))
        wait_until(lambda: self.w.threads() <= threads, "the threads of interrupted calls have ended")

    def test_cancel_alone_does_not_interrupt(self):
        call = self.w.share("swallows")
        self.w.wait_row(call)
        self.w.cancel(call)
        self.assertEqual(3, self.w.end_of(self.w.share("short", [3])).value)
        self.assertIn(call, self.w.rows)
        self.w.interrupt_shared(call)
        self.assertEqual("swallowed", self.w.end_of(call).value)

    def test_ends_a_stream_in_its_generator_and_where_it_waits_for_credit(self):
        for function, items in (("yields_and_spins", 1), ("endless", wire.CREDIT_AT_START)):
            call = self.w.share(function, stream=True)
            self.w.items_of(call, items)
            self.w.interrupt_shared(call)
            self.assertEqual(items, len(self.interrupted(call).items))
        for _ in range(20):  # while it sends
            call = self.w.share("endless", stream=True)
            self.w.credit(call, 1 << 30)
            self.w.items_of(call, 50)
            self.w.interrupt_shared(call)
            self.interrupted(call)

    def test_ends_the_wait_for_an_async_hook(self):
        call = self.w.share("short", [1], session="a", birth=1, epoch=1, opens=True)
        self.w.wait_row(call)
        self.w.interrupt_shared(call)
        self.assertEqual(wire.KIND_CANCELLED, self.w.end_of(call).error_kind)

    def test_reaches_no_other_call(self):
        # Short calls in the same threads, while others are interrupted, also just when they end.
        interrupted = answered = 0
        for _ in range(30):
            calls = self.w.share_all([("short", [5])] * 30 + [("short", [3000])] + [("short", [5])] * 30)
            victim = calls[30]
            self.w.interrupt_shared(victim)
            for call in calls:
                reply = self.w.end_of(call)
                if call != victim:
                    self.assertEqual((10, 0), (reply.value, reply.flags), reply)
                elif reply.error is None:
                    answered += 1
                else:
                    self.assertEqual(wire.KIND_CANCELLED, reply.error_kind, reply)
                    interrupted += 1
        self.assertEqual(30, interrupted + answered)
        self.assertEqual("", self.w.log())


class TheWindow(unittest.TestCase):
    """Without a worker: the race between the end of a call and its interrupt, many times."""

    def test_nothing_comes_after_close(self):
        stray, outcomes = [], {"raised": 0, "cleared": 0, "in time": 0}

        def run(window, began):
            inside = came = False
            try:
                try:
                    window.open()
                    inside = True
                    began.set()
                    for _ in range(50):
                        pass
                    inside = False
                except Interrupted:
                    came = inside
                window.close()
            except Interrupted:
                window.close()
            try:
                for _ in range(2000):
                    pass
            except Interrupted:
                stray.append(1)
            outcomes["raised" if came else "cleared" if window.taken else "in time"] += 1

        for number in range(1500):
            window, began = Window(), threading.Event()
            thread = threading.Thread(target=run, args=(window, began))
            thread.start()
            if number % 3:
                began.wait()
            window.interrupt()
            window.interrupt()
            thread.join()
        self.assertEqual([], stray)
        self.assertEqual(1500, sum(outcomes.values()), outcomes)

    def test_close_waits_for_an_interrupt_that_is_on_its_way(self):
        threads._can_raise()
        window, stray = Window(), []
        opened, taken, go = threading.Event(), threading.Event(), threading.Event()
        really = threads._set

        def late(thread, error):
            taken.set()
            go.wait()
            really(thread, error)

        def run():
            try:
                window.open()
                opened.set()
                taken.wait()
                threading.Timer(0.02, go.set).start()
                window.close()
            except Interrupted:
                window.close()
            try:
                while not window._armed:
                    pass
                for _ in range(10_000):
                    pass
            except Interrupted:
                stray.append(1)

        with mock.patch.object(threads, "_set", late):
            thread = threading.Thread(target=run)
            thread.start()
            opened.wait()
            window.interrupt()
            thread.join()
        self.assertEqual(([], True), (stray, window.taken))

    def test_what_was_wanted_while_it_was_closed_comes_when_it_opens(self):
        window = Window()
        window.open()
        window.close()
        window.interrupt()
        with self.assertRaises(Interrupted):
            window.open()
        window.open()
        window.close()
        self.assertTrue(window.taken)


if __name__ == "__main__":
    unittest.main()
