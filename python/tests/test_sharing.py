"""Shared calls: several calls of one worker at once, as tasks of its loop and in threads."""

import os
import struct
import unittest

from supervisor import CANCEL, ENDED, STARTED, SupervisorTest, frame, is_dead, wait_until

from keelback import marks, wire

APP = """
    import asyncio, contextvars, os, subprocess, sys, threading, time, keelback
    from contextlib import suppress

    colour = contextvars.ContextVar("colour", default="none")
    gate = None  # tasks wait for it
    door = threading.Event()  # threads do
    inside = []
    cancels = []

    @keelback.worker_setup
    async def sets_up():
        global gate
        colour.set("blue")
        gate = asyncio.Event()

    @keelback.function
    def echo(value):
        return value

    @keelback.function(concurrency=1)
    async def runs_a_loop():
        await asyncio.sleep(0)
        return await asyncio.to_thread(lambda: "alone")

    @keelback.function
    def naps():
        time.sleep(60)

    @keelback.function
    def has_a_loop_of_its_own():
        return asyncio.run(asyncio.sleep(0, "own"))

    @keelback.function
    def look(name):
        return list(globals()[name])

    @keelback.function(concurrency=1024)
    async def task(value=None):
        return value

    @keelback.function(concurrency=1024)
    def thread(value=None):
        return value

    @keelback.function(concurrency=128)
    async def waits(value=None):
        inside.append(value)
        await gate.wait()
        return value

    @keelback.function(concurrency=2)
    async def opens_gate():
        gate.set()

    @keelback.function(concurrency=128)
    def waits_in_thread(value=None):
        inside.append(value)
        door.wait()
        return value

    @keelback.function(concurrency=128)
    def waits_deep_in_thread(depth=95):
        if depth:
            return waits_deep_in_thread_which_has_a_name_that_makes_each_line_of_the_dump_longer(depth)
        inside.append(1)
        door.wait()
        return 1

    def waits_deep_in_thread_which_has_a_name_that_makes_each_line_of_the_dump_longer(depth):
        return waits_deep_in_thread(depth - 1)

    @keelback.function(concurrency=2)
    def opens_door():
        door.set()

    @keelback.function(concurrency=8)
    async def swallows(times):
        felt = 0
        while felt < times:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                felt += 1
                cancels.append(time.monotonic())
        return felt

    @keelback.function(concurrency=8)
    async def returns_at_once_after_cancel():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "all the same"

    @keelback.function(concurrency=8)
    async def raises(how):
        raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit,
               "CancelledError": asyncio.CancelledError, "ValueError": ValueError, "Interrupted": keelback.Interrupted}[how](how)

    @keelback.function(concurrency=8)
    def raises_in_thread(how):
        raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit,
               "ValueError": ValueError, "Interrupted": keelback.Interrupted}[how](how)

    @keelback.function(concurrency=8)
    async def exits_in_a_subtask(awaited):
        async def leaves():
            sys.exit("out")
        mine = asyncio.ensure_future(leaves())
        if awaited:
            await mine
        else:
            await asyncio.sleep(0.001)
        return "still there"

    @keelback.function(concurrency=8)
    async def blocks(path):
        while not os.path.exists(path):
            time.sleep(0.001)

    @keelback.function(concurrency=8)
    async def about(set=None):
        seen = colour.get()
        colour.set(set)
        await asyncio.sleep(0.001)
        async def child():
            return keelback.attempt()
        return {"seen": seen, "now": colour.get(), "attempt": keelback.attempt(), "deadline": keelback.deadline() is not None,
                "trace": keelback.trace(), "cancelled": keelback.cancelled(), "session": keelback.has_session(),
                "child": await asyncio.create_task(child()), "there": await asyncio.to_thread(keelback.attempt)}

    @keelback.function(concurrency=8)
    def about_thread(set=None):
        seen = colour.get()
        colour.set(set)
        return {"seen": seen, "now": colour.get(), "attempt": keelback.attempt(), "trace": keelback.trace()}

    def ask_in_thread(context=None):
        said = []
        def asks():
            try:
                said.append(keelback.attempt())
            except RuntimeError as error:
                said.append(str(error))
        target = asks if context is None else lambda: context.run(asks)
        thread = threading.Thread(target=target)
        thread.start(); thread.join()
        return said[0]

    @keelback.function(concurrency=8)
    def thread_of_a_call(with_context):
        return ask_in_thread(contextvars.copy_context() if with_context else None)

    @keelback.function
    def thread_of_an_exclusive_call(with_context):
        return ask_in_thread(contextvars.copy_context() if with_context else None)

    @keelback.function(concurrency=8)
    def polls():
        while not keelback.cancelled():
            time.sleep(0.001)
        keelback.check_cancelled()

    @keelback.function(concurrency=8)
    async def polls_as_task():
        while not keelback.cancelled():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass
        return "saw it"

    @keelback.function(concurrency=8)
    async def retires(reasons):
        for reason in reasons:
            keelback.retire(reason)
        return "done"

    @keelback.function(concurrency=8)
    async def leaves_work():
        asyncio.ensure_future(asyncio.sleep(60))
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        return "left"

    @keelback.function(concurrency=8)
    async def program():
        process = subprocess.Popen(["sleep", "60"])
        inside.append(process.pid)
        await asyncio.sleep(60)

    @keelback.function(concurrency=8)
    async def forks(how):
        pid = os.fork()
        if pid == 0:
            if how == "raises":
                raise ValueError("in the child")
            if how == "exits":
                sys.exit(9)
            return "child"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @keelback.function(concurrency=8)
    def forks_in_thread():
        pid = os.fork()
        if pid == 0:
            return keelback.cancelled()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @keelback.function(concurrency=8)
    async def not_json():
        return {"a": [object()]}

    @keelback.function(concurrency=8)
    async def large(size):
        return "x" * size

    @keelback.function(concurrency=8)
    def large_in_thread(size):
        return "y" * size
"""


class SharingTest(SupervisorTest):
    APP = APP

    def setUp(self):
        self.w = self.worker(self.app(self.APP))


class Together(SharingTest):
    def test_a_hundred_async_calls_run_at_once(self):
        for worker in self.both(self.app(APP)):
            waiting = worker.share_all([("waits", [number]) for number in range(100)])
            for call in waiting:
                worker.wait_row(call)
            self.assertEqual(0, worker.words[STARTED], "page 0 is of calls that are alone")
            self.assertEqual(0, worker.ping(1))
            worker.end_of(worker.share("opens_gate"))
            self.assertEqual(list(range(100)), [worker.end_of(call).value for call in waiting])
            self.assertEqual("", worker.log())
            self.assertEqual(0, worker.shutdown())

    def test_threads_run_at_once_and_are_used_again(self):
        waiting = [self.w.share("waits_in_thread", [number]) for number in range(8)]
        for call in waiting:
            self.w.wait_row(call)
        self.assertEqual("beside them", self.w.end_of(self.w.share("task", ["beside them"])).value)
        self.w.end_of(self.w.share("opens_door"))
        self.assertEqual(list(range(8)), [self.w.end_of(call).value for call in waiting])
        threads = self.w.threads()
        for number in range(50):
            self.assertEqual(number, self.w.end_of(self.w.share("thread", [number])).value)
        self.assertEqual(threads, self.w.threads())

    def test_exclusive_calls_between_shared_ones(self):
        for _ in range(5):
            shared = self.w.share_all([(name, [number]) for number in range(10) for name in ("task", "thread")])
            self.assertEqual([number for number in range(10) for _ in range(2)], [self.w.end_of(call).value for call in shared])
            for function, value in (("runs_a_loop", "alone"), ("has_a_loop_of_its_own", "own")):
                reply = self.w.call(function)
                self.assertEqual((value, 0), (reply.value, reply.flags), self.w.log())
            self.assertEqual(4, self.w.call("echo", [4]).value)

    def test_a_shared_call_right_behind_an_exclusive_one_and_before_one(self):
        first = self.w.submission("echo", [1])
        shared = self.w.submission("task", [2], row=9)
        self.w.rows[2] = 9
        self.w.send(first + shared)
        self.assertEqual((1, 2), (self.w.reply(1).value, self.w.end_of(2).value))

    def test_a_row_decides_and_not_the_function(self):
        self.assertEqual(5, self.w.call("task", [5]).value)
        self.assertEqual(6, self.w.call("thread", [6]).value)
        self.assertEqual(7, self.w.end_of(self.w.share("echo", [7])).value)
        self.assertEqual("alone", self.w.end_of(self.w.share("runs_a_loop")).value)

    def test_answers_that_are_ready_together_come_in_one_packet(self):
        self.w.share_all([("task", [number]) for number in range(200)])
        packets = []
        while sum(len(packet) for packet in packets) < 200 * 17:
            packets.append(self.w.data.recv(1 << 17))
        self.assertLess(len(packets), 20)
        self.w._buffer = b"".join(packets)
        self.assertEqual(list(range(200)), [self.w.end_of(call + 1).value for call in range(200)])

    def test_marks_are_of_the_row(self):
        call = self.w.share("waits")
        self.w.wait_row(call)
        at = marks.row_at(self.w.rows[call])
        self.assertNotEqual(call, self.w.words[at + ENDED])
        self.w.end_of(self.w.share("opens_gate"))
        self.w.end_of(call)
        self.assertEqual([call, call, 0, 0], list(self.w.words[at : at + 4]))
        last = self.w.submit("thread", [3], row=marks.ROWS_MAX)
        self.w.rows[last] = marks.ROWS_MAX
        self.w.end_of(last)
        self.assertEqual([last, last, 0, 0], list(self.w.words[marks.row_at(marks.ROWS_MAX) :][:4]))

    def test_a_dump_of_any_length_leaves_the_rows_alone(self):
        calls = [self.w.share("waits_deep_in_thread") for _ in range(30)]
        for call in calls:
            self.w.wait_row(call)
        self.assertEqual(30, len(wait_until(lambda: len(self.w.end_of(self.w.share("look", ["inside"])).value) == 30 and calls, "all are inside")))
        at = [marks.row_at(self.w.rows[call]) for call in calls]
        self.w.dump(lambda text: len(text) >= marks.SIZE - marks.DUMP_AT)
        self.assertEqual(calls, [self.w.words[row] for row in at])
        self.w.end_of(self.w.share("opens_door"))
        self.assertEqual([1] * 30, [self.w.end_of(call).value for call in calls])

    def test_answers_longer_than_a_packet_are_whole(self):
        calls = []
        for number in range(6):
            calls += [(self.w.share("large", [70_000 + number]), "x", 70_000 + number),
                      (self.w.share("large_in_thread", [200_000 + number]), "y", 200_000 + number)]
        for call, letter, size in calls:
            self.assertEqual(letter * size, self.w.end_of(call).value)

    def test_a_call_longer_than_a_packet(self):
        text = "z" * 300_000
        for function in ("task", "thread") * 2:  # one after the other: this supervisor does not read while it sends
            self.assertEqual(text, self.w.end_of(self.w.share(function, [text])).value)

    def test_calls_that_cannot_run(self):
        for function, arguments, kind in (("missing", None, wire.KIND_UNKNOWN_FUNCTION), ("task", [1, 2], wire.KIND_BAD_REQUEST),
                                          ("task", "text", wire.KIND_BAD_REQUEST), ("not_json", None, wire.KIND_ERROR)):
            reply = self.w.end_of(self.w.share(function, arguments))
            self.assertEqual(kind, reply.error_kind, reply)
        self.assertEqual(wire.KIND_BAD_REQUEST, self.w.end_of(self.w.share("thread", payload=b"[NaN]")).error_kind)
        self.w.words[4] = 100  # result_max
        reply = self.w.end_of(self.w.share("large", [200]))
        self.assertIn("too large", reply.error["message"])
        self.assertIn("result['a'][0]", self.w.end_of(self.w.share("not_json")).error["message"])

    def test_what_breaks_the_protocol_ends_the_worker(self):
        for nonsense in (frame(wire.CALL, 1, bytes(32), row=1025), frame(wire.SAVE, 0, bytes(20), row=1), frame(wire.CREDIT, 1, bytes(4), row=2)):
            for first in (False, True):
                worker = self.worker(self.app(APP))
                if first:
                    worker.end_of(worker.share("task"))
                worker.send(nonsense)
                self.assertEqual(1, worker.wait())
                self.assertIn("cannot go on", worker.log())

    def test_the_end_of_the_supervisor_is_the_end_while_calls_run(self):
        self.w.wait_row(self.w.share("waits"))
        self.w.wait_row(self.w.share("waits_in_thread"))
        self.w.data.close()
        wait_until(lambda: is_dead(self.w.pid), "the worker has ended")


class Failures(SharingTest):
    def test_no_exception_of_a_call_stops_its_neighbours(self):
        neighbours = [self.w.share("waits", [1]), self.w.share("waits_in_thread", [2])]
        for how in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "ValueError", "Interrupted"):
            reply = self.w.end_of(self.w.share("raises", [how]))
            self.assertEqual((wire.KIND_ERROR, 0), (reply.error_kind, reply.flags), reply)
            self.assertTrue(reply.error["type"].endswith(how), reply)
        for how in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "ValueError", "Interrupted"):
            reply = self.w.end_of(self.w.share("raises_in_thread", [how]))
            self.assertEqual((wire.KIND_ERROR, 0), (reply.error_kind, reply.flags), reply)
            self.assertTrue(reply.error["type"].endswith(how), reply)
        reply = self.w.end_of(self.w.share("exits_in_a_subtask", [True]))
        self.assertEqual("SystemExit", reply.error["type"])
        self.assertEqual("still there", self.w.end_of(self.w.share("exits_in_a_subtask", [False])).value)
        self.w.end_of(self.w.share("opens_gate"))
        self.w.end_of(self.w.share("opens_door"))
        self.assertEqual([1, 2], [self.w.end_of(call).value for call in neighbours])

    def test_work_that_is_left_is_no_ones_fault(self):
        self.assertEqual(0, self.w.end_of(self.w.share("leaves_work")).flags)
        sleeper = self.w.submit("echo", [1])
        self.assertEqual(0, self.w.reply(sleeper).flags)
        self.assertEqual(0, self.w.call("runs_a_loop").flags)
        self.assertEqual(0, self.w.end_of(self.w.share("leaves_work")).flags)
        call = self.w.submit("naps")
        self.w.wait_started(call)
        self.w.interrupt(call)
        self.assertEqual(wire.INTERRUPTED, self.w.reply(call).flags, self.w.log())

    def test_retire_comes_right_before_the_answer(self):
        reply = self.w.end_of(self.w.share("retires", [["first", "last"]]))
        self.assertEqual(([(wire.RETIRE, b"last")], "done"), (reply.beside, reply.value))

    def test_a_process_that_a_call_forks_is_no_worker(self):
        neighbour = self.w.share("waits", [1])
        self.w.wait_row(neighbour)
        self.assertEqual(1, self.w.end_of(self.w.share("forks", ["returns"])).value)
        self.assertEqual(1, self.w.end_of(self.w.share("forks", ["raises"])).value)
        self.assertEqual(9, self.w.end_of(self.w.share("forks", ["exits"])).value)
        self.assertEqual(1, self.w.end_of(self.w.share("forks_in_thread")).value)
        self.w.end_of(self.w.share("opens_gate"))
        self.assertEqual(1, self.w.end_of(neighbour).value)


class Stopped(SharingTest):
    def cancelled(self, call):
        reply = self.w.end_of(call)
        self.assertEqual((wire.KIND_CANCELLED, 0), (reply.error_kind, reply.flags), reply)

    def test_cancel_reaches_one_of_many(self):
        waiting = self.w.share_all([("waits", [number]) for number in range(20)])
        for call in waiting:
            self.w.wait_row(call)
        self.w.cancel(waiting[7])
        self.cancelled(waiting[7])
        self.w.end_of(self.w.share("opens_gate"))
        self.assertEqual([n for n in range(20) if n != 7], [self.w.end_of(call).value for call in waiting if call != waiting[7]])

    def test_a_coroutine_that_swallows_is_cancelled_again_and_again(self):
        neighbour = self.w.share("waits", [1])
        call = self.w.share("swallows", [5])
        self.w.wait_row(call)
        self.w.cancel(call)
        reply = self.w.end_of(call)
        self.assertEqual((5, 0), (reply.value, reply.flags), "it returned normally")
        self.assertEqual("fine", self.w.end_of(self.w.share("task", ["fine"])).value)
        self.w.end_of(self.w.share("opens_gate"))
        self.assertEqual(1, self.w.end_of(neighbour).value)
        times = self.w.call("look", ["cancels"]).value
        self.assertEqual(5, len(times))
        self.assertGreater(min(b - a for a, b in zip(times, times[1:])), 0.01)

    def test_a_result_after_the_cancel_counts(self):
        call = self.w.share("returns_at_once_after_cancel")
        self.w.wait_row(call)
        self.w.cancel(call)
        self.assertEqual("all the same", self.w.end_of(call).value)

    def test_an_interrupt_of_a_task_is_a_cancel(self):
        call = self.w.share("waits")
        self.w.wait_row(call)
        self.w.interrupt_shared(call)
        self.cancelled(call)

    def test_cancelled_looks_at_the_calls_own_row(self):
        for function in ("polls", "polls_as_task"):
            first, second = self.w.share(function), self.w.share(function)
            self.w.wait_row(first), self.w.wait_row(second)
            self.w.words[CANCEL] = first  # of page 0: for a call that is alone
            self.w.cancel(second)
            self.assertEqual(function == "polls", self.w.end_of(second).error_kind == wire.KIND_CANCELLED)
            self.assertIn(first, self.w.rows)
            self.w.cancel(first)
            self.w.end_of(first)

    def test_a_call_that_is_cancelled_before_it_starts_does_not(self):
        for function in ("task", "thread"):
            self.w.words[marks.row_at(5) + CANCEL] = self.w._next + 1
            call = self.w.submit(function, row=5)
            self.w.rows[call] = 5
            reply = self.w.end_of(call)
            self.assertEqual((wire.KIND_CANCELLED, "the call was cancelled before it started"), (reply.error_kind, reply.error["message"]))
            self.assertNotEqual(call, self.w.words[marks.row_at(5)])

    def test_a_cancel_behind_a_blocked_loop(self):
        path = os.path.join(self._folder, "go")
        blocking = self.w.share("blocks", [path])
        self.w.wait_row(blocking)
        call = self.w.share("waits")
        self.w.cancel(call)
        open(path, "w").close()
        self.cancelled(call)
        self.w.end_of(blocking)

    def test_the_processes_of_a_cancelled_call_end_and_no_others(self):
        kept, stopped = self.w.share("program"), self.w.share("program")
        self.w.wait_row(kept), self.w.wait_row(stopped)
        self.w.cancel(stopped)
        self.cancelled(stopped)
        self.w.wait_log("program was stopped; what it had started is killed: sleep")
        pids = self.w.end_of(self.w.share("look", ["inside"])).value
        self.assertEqual([False, True], [is_dead(pid) for pid in pids])
        self.w.cancel(kept)
        self.cancelled(kept)


class Found(SharingTest):
    APP = """
        import gc, threading, keelback
        from keelback import sharing

        door = threading.Event()
        new_window = sharing.Window

        def while_another_thread_looks():
            # What the control thread can do before the call has its window.
            for shared in [thing for thing in gc.get_objects() if isinstance(thing, sharing.SharedCalls)]:
                for call in list(shared.running):
                    shared.cancel(call)
            return new_window()

        sharing.Window = while_another_thread_looks

        @keelback.function(concurrency=8)
        def waits():
            door.wait()
            return "waited"

        @keelback.function(concurrency=8)
        async def opens():
            door.set()
    """

    def test_a_cancel_that_comes_while_a_thread_s_call_is_made_finds_no_half_of_it(self):
        call = self.w.share("waits")
        self.w.wait_row(call)
        self.w.end_of(self.w.share("opens"))
        self.assertEqual("waited", self.w.end_of(call).value)
        self.assertEqual("", self.w.log())


class Pings(SharingTest):
    def test_the_loop_answers_unless_a_call_blocks_it(self):
        self.assertEqual(0, self.w.ping(1, flags=wire.LOOP), "no loop that could be late")
        waiting = self.w.share("waits")
        self.w.wait_row(waiting)
        self.assertEqual(0, self.w.ping(2, flags=wire.LOOP))
        path = os.path.join(self._folder, "go")
        blocking = self.w.share("blocks", [path])
        self.w.wait_row(blocking)
        self.w.control.send(frame(wire.PING, 0, struct.pack("<Q", 3), wire.LOOP))
        self.assertEqual(0, self.w.ping(4), "the control thread overtakes the loop")
        self.assertEqual(0, self.w.ping(5))
        open(path, "w").close()
        self.assertEqual(0, self.w.pong(3, flags=wire.LOOP))
        self.w.end_of(blocking)

    def test_threads_do_not_block_it(self):
        self.w.wait_row(self.w.share("waits_in_thread"))
        self.assertEqual(0, self.w.ping(2, flags=wire.LOOP))


class Contexts(SharingTest):
    def test_each_call_has_its_own_context(self):
        calls = [self.w.share("about", [f"set {n}"], attempt=n + 1, trace=f"trace {n}".encode(), deadline=n % 2) for n in range(8)]
        for n, call in enumerate(calls):
            self.assertEqual({"seen": "blue", "now": f"set {n}", "attempt": n + 1, "deadline": bool(n % 2), "trace": f"trace {n}",
                              "cancelled": False, "session": False, "child": n + 1, "there": n + 1}, self.w.end_of(call).value)
        calls = [self.w.share("about_thread", [f"set {n}"], attempt=n + 1, trace=f"trace {n}".encode()) for n in range(8)]
        for n, call in enumerate(calls):
            self.assertEqual({"seen": "blue", "now": f"set {n}", "attempt": n + 1, "trace": f"trace {n}"}, self.w.end_of(call).value)

    def test_a_thread_without_the_context_does_not_know_its_call(self):
        self.assertIn("contextvars.copy_context()", self.w.call("thread_of_an_exclusive_call", [False]).value, "before any shared call")
        self.assertIn("contextvars.copy_context()", self.w.end_of(self.w.share("thread_of_a_call", [False])).value)
        self.assertEqual(1, self.w.end_of(self.w.share("thread_of_a_call", [True])).value)
        self.assertIn("contextvars.copy_context()", self.w.call("thread_of_an_exclusive_call", [False]).value, "in a shared worker")
        self.assertEqual(1, self.w.call("thread_of_an_exclusive_call", [True]).value)


if __name__ == "__main__":
    unittest.main()
