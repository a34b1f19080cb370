"""What the marks say of the event loop: its turns, whose code it runs, and the stack of that."""

import os
import struct
import time
import types
import unittest

from supervisor import SupervisorTest, frame, wait_until

from keelback import marks, wire
from keelback.turns import Turns

APP = """
    import asyncio, ctypes, os, signal, time, traceback, keelback

    def blocks_until(path):
        while not os.path.exists(path):
            time.sleep(0.001)

    @keelback.function(concurrency=8)
    async def waits():
        await asyncio.sleep(60)

    @keelback.function(concurrency=8)
    async def blocks(path):
        blocks_until(path)

    @keelback.function(concurrency=8)
    async def blocks_later(path):
        await asyncio.sleep(0.001)
        blocks_until(path)

    @keelback.function(concurrency=8)
    async def blocks_in_a_task(path):
        async def child():
            blocks_until(path)
        await asyncio.create_task(child())

    @keelback.function(concurrency=8)
    async def blocks_in_a_callback(path):
        done = asyncio.get_running_loop().create_future()
        def callback():
            blocks_until(path)
            done.set_result(None)
        asyncio.get_running_loop().call_later(0.001, callback)
        await done

    @keelback.function(concurrency=8)
    async def streams(path):
        for n in range(2):
            yield n
            blocks_until(path)

    @keelback.function(concurrency=8)
    def thread(path):
        blocks_until(path)

    def watched():
        return "select" in vars(asyncio.get_running_loop()._selector)

    @keelback.function(concurrency=8)
    async def is_watched():
        return watched()

    @keelback.function
    async def is_watched_alone():
        return watched()

    def ends(how):
        {"exit": lambda: os._exit(3), "kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "crash": lambda: ctypes.string_at(0),
         "abort": os.abort}[how]()

    @keelback.function(concurrency=8)
    async def ends_in_a_task(how):
        await asyncio.sleep(0.001)
        ends(how)

    @keelback.function(concurrency=8)
    def ends_in_a_thread(how):
        ends(how)

    @keelback.function(concurrency=8)
    async def ends_a_child():
        pid = os.fork()
        if pid == 0:
            os._exit(status=7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @keelback.function(concurrency=8)
    async def signals_others():
        os.kill(os.getppid(), 0)
        os.kill(os.getpid(), 0)  # asks whether it is there
        try:
            os.kill(os.getpid(), "no signal")
        except TypeError as error:
            return str(error)

    @keelback.function(concurrency=8)
    async def swallows_a_cancel():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            files = [os.path.basename(entry.filename) for entry in traceback.extract_tb(error.__traceback__)]
        try:
            await asyncio.sleep(0)
            raise ValueError("later")
        except ValueError as error:
            return {"files": files, "context": repr(error.__context__)}

    @keelback.function(concurrency=8)
    async def fails_in_a_task():
        async def fails():
            raise KeyError("inner")
        try:
            await asyncio.create_task(fails())
        except KeyError as error:
            return [os.path.basename(entry.filename) for entry in traceback.extract_tb(error.__traceback__)]
"""


class TurnsTest(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))
        self.path = os.path.join(self._folder, "go")

    def word(self, index):
        return self.w.words[index]

    def thread_of(self, call):
        return self.w.words[marks.row_at(self.w.rows[call]) + marks.THREAD]

    def go_on(self):
        open(self.path, "w").close()

    def blocking(self, function):
        """A call that blocks the loop by now."""
        os.path.exists(self.path) and os.unlink(self.path)
        call = self.w.share(function, [self.path], stream=function == "streams")
        self.w.wait_row(call)
        turn = wait_until(lambda: self.word(marks.TURN), "a turn has begun")

        def lasts():
            nonlocal turn
            before, turn = turn, self.word(marks.TURN)
            return turn and turn == before and not self.answers(0.05)

        wait_until(lasts, "a turn that lasts")
        return call

    def answers(self, within):
        """Whether the loop answers a ping in that time."""
        self.w.control.send(frame(wire.PING, 0, struct.pack("<Q", 7), wire.LOOP))
        answered = self.w.pong(7, timeout=within, flags=wire.LOOP) is not None
        self._owed += not answered
        return answered

    _owed = 0

    def end(self, call):
        self.go_on()
        reply = self.w.end_of(call)
        for _ in range(self._owed):
            self.assertIsNotNone(self.w.pong(7, flags=wire.LOOP))
        self._owed = 0
        return reply

    def who(self):
        self.w.control.send(frame(wire.PING, 0, struct.pack("<Q", 8), wire.WHO))
        return self.w.pong(8)


class Words(TurnsTest):
    def test_a_loop_that_waits_is_in_no_turn_and_runs_nobodys_code(self):
        self.assertEqual((0, 0), (self.word(marks.TURN), self.word(marks.LOOP_THREAD)), "before the first shared call")
        call = self.w.share("waits")
        self.w.wait_row(call)
        wait_until(lambda: not self.word(marks.TURN), "the loop waits")
        self.assertEqual(0, self.thread_of(call))
        self.assertNotEqual(0, self.word(marks.LOOP_THREAD))

    def test_a_call_that_blocks_is_named_by_its_row(self):
        for function in ("blocks", "blocks_later", "streams"):
            waiting = self.w.share("waits")
            call = self.blocking(function)
            self.assertEqual(self.word(marks.LOOP_THREAD), self.thread_of(call), function)
            self.assertEqual(0, self.thread_of(waiting))
            at = marks.row_at(self.w.rows[call])
            self.end(call)
            self.assertEqual(0, self.w.words[at + marks.THREAD])
            wait_until(lambda: not self.word(marks.TURN), "the loop waits again")

    def test_a_call_in_a_thread_names_that_thread(self):
        call = self.w.share("thread", [self.path])
        self.w.wait_row(call)
        at = marks.row_at(self.w.rows[call])
        self.assertNotIn(self.thread_of(call), (0, self.word(marks.LOOP_THREAD)))
        wait_until(lambda: not self.word(marks.TURN), "the loop waits")
        self.end(call)
        self.assertEqual(0, self.w.words[at + marks.THREAD])

    def test_a_turn_begins_on_the_monotonic_clock(self):
        before = time.monotonic_ns()
        call = self.blocking("blocks")
        self.assertLessEqual(before, self.word(marks.TURN))
        self.assertLessEqual(self.word(marks.TURN), time.monotonic_ns())
        self.end(call)

    def test_exclusive_calls_pay_nothing(self):
        self.assertFalse(self.w.call("is_watched_alone").value)
        for _ in range(2):
            self.assertTrue(self.w.end_of(self.w.share("is_watched")).value)
            self.assertFalse(self.w.call("is_watched_alone").value)
        self.assertEqual(0, self.word(marks.TURN))


class Who(TurnsTest):
    def test_whose_code_the_loop_runs_also_in_its_tasks_and_callbacks(self):
        self.assertEqual(0, self.who(), "no shared call")
        for function in ("blocks", "blocks_later", "blocks_in_a_task", "blocks_in_a_callback", "streams"):
            self.w.wait_row(self.w.share("waits"))
            call = self.blocking(function)
            self.assertEqual(call, self.who(), function)
            self.end(call)
            # The answer goes out in the last steps of the call's turn.
            wait_until(lambda: self.who() == 0, "the loop runs nobody's code")

    def test_a_thread_has_not_the_loop(self):
        call = self.w.share("thread", [self.path])
        self.w.wait_row(call)
        self.assertEqual(0, self.who())
        self.end(call)


class Stacks(TurnsTest):
    def stack(self):
        self.w.links.expect_stack()
        os.kill(self.w.pid, marks.STACK_SIGNAL)
        return wait_until(lambda: (text := self.w.links.stack()) and "in blocks" in text and text, "the stack is there")

    def test_the_stack_is_written_where_the_supervisor_wants_it(self):
        self.w.wait_row(self.w.share("thread", [self.path]))
        for worker in self.both(self.app(APP)):
            self.w = worker
            call = self.blocking("blocks")
            for _ in range(3):
                text = self.stack()
                self.assertTrue(text.startswith("Stack (most recent call first):\n"), text)
                self.assertIn("in blocks_until", text)
                self.assertNotIn("control.py", text, "another thread's")
            self.assertEqual("", self.w.dump_text())
            self.end(call)

    def test_it_disturbs_nobody(self):
        call = self.w.share("waits")
        self.w.wait_row(call)
        self.w.links.expect_stack()
        for _ in range(20):
            os.kill(self.w.pid, marks.STACK_SIGNAL)
        self.assertTrue(self.w.end_of(self.w.share("is_watched")).value)
        self.w.cancel(call)
        self.assertEqual(wire.KIND_CANCELLED, self.w.end_of(call).error_kind)


class Ends(TurnsTest):
    """Which thread ends the worker, and that it is its call's."""

    def end_of_worker(self, function, how):
        self.w.wait_row(self.w.share("waits"))
        self.w.wait_row(self.w.share("thread", [self.path]))
        call = self.w.share(function, [how])
        status = self.w.wait()
        row = marks.row_at(self.w.rows[call])
        self.assertEqual(call, self.w.words[row])
        rows = {at: self.w.words[marks.row_at(at) + marks.THREAD] for at in self.w.rows.values()}
        own = rows[self.w.rows[call]]
        self.assertEqual([own], [thread for thread in rows.values() if thread == own], "no other call has this thread")
        self.assertEqual(function == "ends_in_a_task", own == self.word(marks.LOOP_THREAD))
        return status, own

    def test_one_that_ends_itself_says_who_it_was(self):
        for start in (self.worker, lambda app: self.exec_worker(app).wait_ready()):
            for function in ("ends_in_a_task", "ends_in_a_thread"):
                for how, status, signum in (("exit", 3, 0), ("kill", -9, 9)):
                    self.w = start(self.app(APP))
                    self.assertEqual(0, self.word(marks.ENDING))
                    ended, thread = self.end_of_worker(function, how)
                    self.assertEqual((status, thread, signum), (ended, self.word(marks.ENDING), self.word(marks.ENDING_SIGNAL)))

    def test_one_that_crashes_says_so_in_its_log(self):
        for function in ("ends_in_a_task", "ends_in_a_thread"):
            for how, signum, name in (("crash", 11, "Segmentation fault"), ("abort", 6, "Aborted")):
                self.w = self.worker(self.app(APP))
                status, thread = self.end_of_worker(function, how)
                self.assertEqual((-signum, 0), (status, self.word(marks.ENDING)))
                log = self.w.log()
                self.assertIn(f"Fatal Python error: {name}", log)
                self.assertIn(f"Current thread 0x{thread:016x}", log)

    def test_children_and_other_processes_are_not_noted(self):
        self.assertEqual(7, self.w.end_of(self.w.share("ends_a_child")).value)
        self.assertIn("int", self.w.end_of(self.w.share("signals_others")).value)
        self.assertEqual(0, self.word(marks.ENDING))


class Errors(TurnsTest):
    def test_what_is_thrown_into_a_call_looks_as_if_nothing_were_between(self):
        call = self.w.share("swallows_a_cancel")
        self.w.wait_row(call)
        wait_until(lambda: not self.word(marks.TURN), "it sleeps")
        self.w.cancel(call)
        value = self.w.end_of(call).value
        self.assertNotIn("turns.py", value["files"])
        self.assertEqual("None", value["context"])
        self.assertNotIn("turns.py", self.w.end_of(self.w.share("fails_in_a_task")).value)


class OtherLoops(unittest.TestCase):
    """A loop without a selector does not say when it turns: the steps of calls count as turns."""

    def test_a_step_is_a_turn(self):
        words = memoryview(bytearray(marks.SIZE)).cast("Q")
        turns = Turns(words, object())
        call = types.SimpleNamespace(marks_at=marks.row_at(3))
        at = call.marks_at + marks.THREAD
        seen = []

        @types.coroutine
        def pause():
            yield "waits"

        async def code():
            for _ in range(2):
                seen.append((words[marks.TURN] > 0, words[at]))
                try:
                    await pause()
                except KeyError:
                    seen.append("thrown")
            return "over"

        turns.watch()
        steps = turns.steps(call, code())
        self.assertEqual("waits", steps.send(None))
        self.assertEqual((0, 0), (words[marks.TURN], words[at]))
        self.assertEqual("waits", steps.throw(KeyError("x")))
        with self.assertRaises(StopIteration) as end:
            steps.send(None)
        self.assertEqual("over", end.exception.value)
        self.assertEqual([(True, turns.thread), "thrown", (True, turns.thread)], seen)
        self.assertEqual((0, 0), (words[marks.TURN], words[at]))
        turns.ignore()


if __name__ == "__main__":
    unittest.main()
