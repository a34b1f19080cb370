"""The kill ladder as a worker sees it: cancel, interrupt, dump, death; and what a stopped call leaves behind."""

import os
import signal
import time
import unittest

from supervisor import CONFORMANCE, ENDED, INTERRUPT, STARTED, SupervisorTest, is_dead, wait_until

from keelback import wire

APP = """
    import asyncio, concurrent.futures, ctypes, os, queue, signal, threading, time, keelback
    from contextlib import suppress

    lock = threading.Lock()
    pool = None
    release = threading.Event()

    @keelback.function
    def echo(value):
        return value

    @keelback.function
    def sleeps(seconds):
        print("inside")
        time.sleep(seconds)
        return "slept"

    @keelback.function
    def spins():
        while True:
            pass

    @keelback.function
    def reads_a_pipe():
        return os.read(os.pipe()[0], 1)

    @keelback.function
    def waits_for_a_lock():
        with lock, lock:
            pass

    @keelback.function
    def polls():
        while not keelback.cancelled():
            time.sleep(0.001)
        keelback.check_cancelled()

    @keelback.function
    def cleans_up():
        try:
            time.sleep(60)
        finally:
            print("cleaned up", flush=True)

    @keelback.function
    def swallows():
        with suppress(KeyboardInterrupt):
            print("inside")
            time.sleep(60)
        return "swallowed"

    @keelback.function
    def yields_and_sleeps():
        yield 1
        time.sleep(60)

    @keelback.function
    def interrupts_itself():
        raise KeyboardInterrupt("mine")

    @keelback.function
    def raises_while_interrupted():
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            raise ValueError("instead") from None

    @keelback.function
    def holds_the_gil(ms):
        print("inside")
        # A second lock of a mutex; unlike usleep, signals do not wake it.
        library, mutex, until = ctypes.PyDLL(None), ctypes.create_string_buffer(64), time.time_ns() + ms * 1_000_000
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_timedlock(mutex, (ctypes.c_long * 2)(*divmod(until, 1_000_000_000)))

    @keelback.function
    async def async_sleeps(seconds):
        print("inside")
        await asyncio.sleep(seconds)
        return "slept"

    @keelback.function
    async def async_swallows():
        print("inside")
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "swallowed"

    @keelback.function
    async def async_ignores_for(seconds):
        print("inside")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(end - time.monotonic())
        return "outlasted"

    @keelback.function
    async def async_cleans_up():
        try:
            print("inside")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            print("cleaned up", flush=True)

    @keelback.function
    async def async_spins():
        while True:
            pass

    # ---- what is left behind

    @keelback.function
    def leaves_a_thread(daemon):
        release.clear()
        threading.Thread(target=release.wait, args=(20,), daemon=daemon, name="straggler").start()

    @keelback.function
    def lets_it_go():
        release.set()
        while len(threading.enumerate()) > 1:
            time.sleep(0.001)

    @keelback.function
    def uses_a_pool():
        global pool
        pool = pool or concurrent.futures.ThreadPoolExecutor(2)
        return list(pool.map(abs, range(-8, 0)))

    @keelback.function
    def leaves_the_pool_busy():
        uses_a_pool()
        release.clear()
        pool.submit(release.wait, 20)
        while not keelback.cancelled():
            time.sleep(0.001)
        raise keelback.Cancelled

    @keelback.function
    def has_a_queue_thread():
        work = queue.Queue()
        threading.Thread(target=work.get, name="waits for work").start()
        time.sleep(0.005)

    @keelback.function
    def leaves_a_thread_when_stopped(daemon):
        try:
            time.sleep(60)
        finally:
            leaves_a_thread(daemon)

    @keelback.function
    async def leaves_a_task():
        asyncio.get_running_loop().create_task(asyncio.sleep(60), name="straggler")

    @keelback.function
    async def leaves_a_task_that_ends():
        task = asyncio.get_running_loop().create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()

    @keelback.function
    async def in_a_thread():
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 5)
"""

SAYS_INSIDE = ("sleeps", "swallows", "holds_the_gil", "async_sleeps", "async_swallows", "async_ignores_for", "async_cleans_up")


class LadderTest(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def start(self, function, arguments=None, **options):
        call = self.w.submit(function, arguments, **options)
        self.w.wait_started(call)
        if function in SAYS_INSIDE:  # started is a little earlier, and a task may be cancelled before its first step
            self._inside = getattr(self, "_inside", 0) + 1
            wait_until(lambda: self.w.log().count("inside") == self._inside, "the coroutine is inside")
        return call

    def serves(self):
        self.assertEqual("next", self.w.call("echo", ["next"]).value)


class Marks(LadderTest):
    def test_started_and_ended_name_the_call_before_and_after_its_code(self):
        self.assertEqual((0, 0), (self.w.words[STARTED], self.w.words[ENDED]))
        call = self.start("sleeps", [0.05])
        self.assertNotEqual(call, self.w.words[ENDED])
        self.w.reply(call)
        self.assertEqual(call, self.w.words[ENDED], "written before the reply is sent")
        failed = self.start("raises_while_interrupted")
        self.w.interrupt(failed)
        self.w.reply(failed)
        self.assertEqual(failed, self.w.words[ENDED])


class Cancel(LadderTest):
    def test_a_sync_function_sees_the_mark(self):
        call = self.start("polls")
        self.w.cancel(call)
        reply = self.w.reply(call)
        self.assertEqual((wire.KIND_CANCELLED, "keelback.Cancelled", False), (reply.error_kind, reply.error["type"], reply.unclean))
        self.serves()

    def test_a_coroutine_is_cancelled(self):
        for function in ("async_sleeps", "async_cleans_up"):
            call = self.start(function, [60] if function == "async_sleeps" else None)
            self.w.cancel(call)
            reply = self.w.reply(call)
            self.assertEqual((wire.KIND_CANCELLED, False), (reply.error_kind, reply.unclean), reply)
        self.assertIn("cleaned up", self.w.wait_log("cleaned up"))
        self.serves()

    def test_a_coroutine_is_cancelled_once_however_often_it_is_told(self):
        call = self.start("async_cleans_up")
        for _ in range(20):
            self.w.cancel(call)
        self.assertEqual(wire.KIND_CANCELLED, self.w.reply(call).error_kind)
        self.assertIn("cleaned up", self.w.wait_log("cleaned up"), "a second cancel would have broken the clean-up")

    def test_a_coroutine_may_swallow_it_and_answer(self):
        call = self.start("async_swallows")
        self.w.cancel(call)
        self.assertEqual("swallowed", self.w.reply(call).value)

    def test_a_coroutine_that_goes_on_is_not_interrupted_and_can_be_dumped_and_killed(self):
        call = self.start("async_ignores_for", [60])
        self.w.cancel(call)
        self.w.interrupt_once(call)
        self.assertIn("asyncio", self.w.dump(lambda text: "run_until_complete" in text))
        self.assertEqual(call, self.w.ping(1))
        self.assertTrue(self.w.quiet(0.05))
        os.kill(self.w.pid, signal.SIGKILL)
        self.assertEqual(-signal.SIGKILL, self.w.wait())

    def test_a_call_cancelled_before_it_starts_never_starts(self):
        for function in ("sleeps", "async_sleeps"):
            running = self.start("sleeps", [0.05])
            waiting = self.w.submit(function, [60])
            self.w.cancel(waiting)
            self.assertEqual("slept", self.w.reply(running).value)
            self.assertEqual(wire.KIND_CANCELLED, self.w.reply(waiting).error_kind)
            self.assertEqual(running, self.w.words[STARTED])
        self.serves()

    def test_a_cancel_for_another_call_does_nothing(self):
        call = self.start("async_sleeps", [0.05])
        self.w.cancel(call - 1)
        self.assertEqual("slept", self.w.reply(call).value)


class Interrupt(LadderTest):
    def test_ends_whatever_a_sync_function_waits_for_or_computes(self):
        for function, arguments in (("spins", None), ("sleeps", [60]), ("reads_a_pipe", None), ("waits_for_a_lock", None), ("cleans_up", None)):
            call = self.start(function, arguments)
            self.w.interrupt(call)
            reply = self.w.reply(call)
            self.assertEqual((wire.KIND_CANCELLED, "KeyboardInterrupt", False), (reply.error_kind, reply.error["type"], reply.unclean), function)
            self.assertNotIn("keelback/", reply.error["traceback"])
            self.serves()

    def test_is_ignored_when_it_is_meant_for_another_call(self):
        call = self.start("sleeps", [0.1])
        self.w.interrupt_once(call + 1)
        self.assertEqual("slept", self.w.reply(call).value)
        self.w.interrupt_once(call)  # late: the call is over
        self.assertTrue(self.w.quiet(0.02))
        self.serves()

    def test_signals_of_a_terminal_or_a_service_manager_are_ignored(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(self.w.pid, number)
            call = self.start("sleeps", [0.05])
            os.kill(self.w.pid, number)
            self.assertEqual("slept", self.w.reply(call).value)

    def test_a_function_may_swallow_it_or_fail_otherwise(self):
        call = self.start("swallows")
        self.w.interrupt(call)
        self.assertEqual("swallowed", self.w.reply(call).value)
        call = self.start("raises_while_interrupted")
        self.w.interrupt(call)
        reply = self.w.reply(call)
        self.assertEqual((wire.KIND_ERROR, "ValueError"), (reply.error_kind, reply.error["type"]))

    def test_at_any_instant_it_costs_the_call_or_nothing(self):
        # Signals rain while short calls come and go: each call is answered once, and the worker lives on.
        outcomes = {wire.RESULT: 0, wire.ERROR: 0}
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            call = self.w.submit("echo", [1])
            self.w.words[INTERRUPT] = call
            for _ in range(3):
                os.kill(self.w.pid, signal.SIGINT)
            reply = self.w.reply(call)
            outcomes[reply.kind] += 1
            if reply.kind == wire.ERROR:
                self.assertEqual(wire.KIND_CANCELLED, reply.error_kind, reply)
            self.assertEqual(call, self.w.words[ENDED])
        self.assertGreater(outcomes[wire.RESULT], 0)
        self.serves()


class Interrupted(LadderTest):
    """The flag that tells the supervisor that user code was broken off at an arbitrary line."""

    def test_is_set_when_the_interrupt_was_raised_whatever_the_function_made_of_it(self):
        for function in ("spins", "sleeps", "swallows", "raises_while_interrupted", "cleans_up"):
            kind = wire.RESULT if function == "swallows" else wire.ERROR
            for cancelled in (False, True):
                call = self.start(function, [60] if function == "sleeps" else None)
                if cancelled:
                    self.w.cancel(call)
                self.w.interrupt(call)
                reply = self.w.reply(call)
                self.assertEqual((kind, True), (reply.kind, reply.interrupted), (function, reply))
                self.assertFalse(self.w.call("echo", [1]).interrupted, "only the call that it hit")

    def test_is_set_beside_unclean(self):
        call = self.start("leaves_a_thread_when_stopped", [True])
        self.w.interrupt(call)
        self.assertEqual(wire.UNCLEAN | wire.INTERRUPTED, self.w.reply(call).flags)
        self.w.call("lets_it_go")

    def test_is_set_for_a_stream_and_for_a_session_s_saved_state(self):
        call = self.start("yields_and_sleeps", stream=True)
        self.w.interrupt(call)
        self.assertTrue(self.w.reply(call).interrupted)
        call = self.start("sleeps", [60], session="ann", birth=7, epoch=1, opens=True, saves=True)
        self.w.interrupt(call)
        reply = self.w.reply(call)
        self.assertTrue(reply.interrupted)
        self.assertIsNotNone(reply.state)

    def test_is_not_set_when_no_interrupt_was_raised(self):
        call = self.start("polls")
        self.w.cancel(call)
        self.assertFalse(self.w.reply(call).interrupted, "it heeded its cancel")
        for function in ("async_swallows", "async_cleans_up"):
            call = self.start(function)
            self.w.interrupt_once(call)  # a coroutine is never interrupted
            self.w.cancel(call)
            self.assertFalse(self.w.reply(call).interrupted, function)
        call = self.start("sleeps", [0.1])
        self.w.interrupt_once(call + 1)
        self.assertFalse(self.w.reply(call).interrupted, "another call's")
        self.assertFalse(self.w.call("interrupts_itself").interrupted, "the function's own")


class Dump(LadderTest):
    def test_shows_the_stack_while_the_gil_is_held_and_pings_go_unanswered(self):
        call = self.start("holds_the_gil", [700])
        self.assertIn("in holds_the_gil", self.w.dump(lambda text: "in holds_the_gil" in text))
        self.assertIsNone(self.w.ping(3, timeout=0.1), "no Python code can run")
        self.assertIsNone(self.w.reply(call).value)

    def test_stands_alone_each_time(self):
        for function in ("sleeps", "swallows"):
            call = self.start(function, [60] if function == "sleeps" else None)
            self.w.cancel(call)
            text = self.w.dump(lambda text, name=function: f"in {name}" in text and text.endswith("in <module>\n"))
            # Once, whichever thread the kernel chose for the signal: one that has not begun has no current Python thread.
            self.assertEqual(1, text.count("in <module>"), text)
            self.assertEqual(function == "swallows", "in swallows" in text)
            self.assertNotEqual("in sleeps" in text, "in swallows" in text, text)
            self.w.interrupt(call)
            self.w.reply(call)
            self.assertEqual(text, self.w.dump_text(), "it can be read until the next call")
        self.serves()
        self.assertEqual("", self.w.dump_text())
        self.w.dump(lambda text: text.endswith("in <module>\n"))  # idle: whoever asked was too late
        self.serves()
        self.assertEqual("", self.w.dump_text())

    def test_a_ping_names_the_running_call(self):
        self.assertEqual(0, self.w.ping(1))
        for function in ("sleeps", "spins"):
            call = self.start(function, [60] if function == "sleeps" else None)
            self.assertEqual(call, self.w.ping(2), function)
            self.w.interrupt(call)
            self.w.reply(call)
        self.assertEqual(0, self.w.ping(3))


class LeftBehind(LadderTest):
    def test_a_call_that_ended_by_itself_may_leave_services_and_idle_pools(self):
        for function, arguments in (("uses_a_pool", None), ("uses_a_pool", None), ("leaves_a_thread", [True]), ("in_a_thread", None),
                                    ("in_a_thread", None), ("has_a_queue_thread", None), ("leaves_a_task_that_ends", None)):
            reply = self.w.call(function, arguments)
            self.assertEqual((wire.RESULT, False), (reply.kind, reply.unclean), (function, self.w.log()))

    def test_a_call_may_leave_no_other_thread_and_no_task(self):
        reply = self.w.call("leaves_a_thread", [False])
        self.assertTrue(reply.unclean)
        self.w.wait_log("leaves_a_thread left work behind: thread 'straggler'")
        self.assertFalse(self.w.call("echo", [1]).unclean, "only the call that did it is blamed")
        self.assertFalse(self.w.call("lets_it_go").unclean)
        self.assertTrue(self.w.call("leaves_a_task").unclean)
        self.w.wait_log("leaves_a_task left work behind: task 'straggler'")
        self.assertFalse(self.w.call("async_sleeps", [0]).unclean)

    def test_a_stopped_call_may_leave_nothing_that_runs(self):
        for daemon in (True, False):
            call = self.start("leaves_a_thread_when_stopped", [daemon])
            self.w.cancel(call)
            self.w.interrupt(call)
            reply = self.w.reply(call)
            self.assertEqual((wire.KIND_CANCELLED, True), (reply.error_kind, reply.unclean))
            self.w.call("lets_it_go")

    def test_a_stopped_call_may_not_leave_a_known_pool_busy(self):
        self.assertFalse(self.w.call("uses_a_pool").unclean)
        call = self.start("leaves_the_pool_busy")
        self.w.cancel(call)
        self.assertTrue(self.w.reply(call).unclean)


class HeldGil(SupervisorTest):
    def test_nothing_but_sigkill_ends_a_c_call_that_holds_the_gil(self):
        worker = self.worker(CONFORMANCE)
        call = worker.submit("hold", [60_000])
        worker.wait_started(call)
        # Started is not yet held: before the C call an interrupt would be heard.
        wait_until(lambda: worker.ping(1, timeout=0.3) is None, "the GIL is held")
        worker.cancel(call)
        worker.interrupt_once(call)
        self.assertTrue(worker.quiet(0.05))
        os.killpg(worker.pid, signal.SIGKILL)
        wait_until(lambda: is_dead(worker.pid), "the worker is dead")


if __name__ == "__main__":
    unittest.main()
