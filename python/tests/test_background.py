"""The asyncio loop of a worker runs while the worker waits for its next call, if it has something to do."""

import contextlib
import os
import socket
import struct
import unittest

import test_attachments
from supervisor import SupervisorTest, frame, wait_until, wire

HEARTBEAT = """
    import asyncio as _asyncio
    import keelback as _keelback

    beats = []

    async def heartbeat():
        try:
            while True:
                beats.append(1)
                await _asyncio.sleep(0.001)
        finally:
            print("the heart stands still", flush=True)

    @_keelback.worker_setup
    async def starts():
        _asyncio.get_running_loop().kept = _asyncio.create_task(heartbeat())
"""
APP = HEARTBEAT + """
    import asyncio, os, socket, time, keelback
    kept = []

    @keelback.function
    def beaten() -> int:
        return len(beats)

    @keelback.function
    def items(n: int):
        yield from range(n)

    @keelback.function(concurrency=1)
    async def async_items(n: int):
        for number in range(n):
            yield number

    @keelback.function(concurrency=1)
    async def later(path: str) -> str:
        async def work():
            while not os.path.isdir(path + "-wanted"):
                await asyncio.sleep(0.001)
            os.mkdir(path)
        kept.append(asyncio.create_task(work()))
        return "accepted"

    @keelback.function(concurrency=1)
    async def never() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(600), name="straggler"))

    @keelback.function(concurrency=1)
    async def fails(how: str) -> None:
        async def failing():
            await asyncio.sleep(0.001)
            raise {"SystemExit": SystemExit, "ValueError": ValueError}[how]("on purpose")
        kept.append(asyncio.create_task(failing()))

    @keelback.function
    def sleeps() -> None:
        time.sleep(600)
"""
CALLBACKS = """
    import asyncio, keelback
    ticks, said = [], []

    @keelback.worker_setup
    async def timer():
        loop = asyncio.get_running_loop()
        def tick():
            ticks.append(1)
            loop.call_later(0.001, tick)
        tick()

    @keelback.function
    def ticked() -> int:
        return len(ticks)
"""
SERVER = """
    import asyncio, keelback

    async def answer(reader, writer):
        writer.write(b"from the worker: " + await reader.readline())
        writer.close()

    @keelback.worker_setup
    async def listens():
        global server
        server = await asyncio.start_server(answer, "127.0.0.1", 0)

    @keelback.function
    def port() -> int:
        return server.sockets[0].getsockname()[1]
"""


class BetweenCalls(SupervisorTest):
    def test_a_task_of_worker_setup_runs(self):
        for worker in self.both(self.app(APP)):
            for _ in range(3):
                before = worker.call("beaten").value
                wait_until(lambda w=worker, b=before: w.call("beaten").value >= b + 5, "the heart beats between calls of sync functions")
            self.assertEqual(0, worker.shutdown())
            self.assertIn("the heart stands still", worker.log(), "it may clean up at the end")
            self.assertNotIn("keelback:", worker.log())

    def test_a_timer_runs(self):
        for worker in self.both(self.app(CALLBACKS)):
            before = worker.call("ticked").value
            wait_until(lambda w=worker, b=before: w.call("ticked").value >= b + 5, "the timer goes on")

    def test_a_server_answers(self):
        for worker in self.both(self.app(SERVER)):
            port = worker.call("port").value
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
                    link.sendall(b"hello\n")
                    self.assertEqual(b"from the worker: hello\n", link.makefile("rb").readline())

    def test_a_task_that_a_call_left_runs_on_and_is_told_of(self):
        app = self.app(APP)
        for number, worker in enumerate(self.both(app)):
            path = os.path.join(os.path.dirname(app), f"made-{number}")
            reply = worker.call("later", [path])
            self.assertEqual(("accepted", True), (reply.value, reply.unclean))
            os.mkdir(path + "-wanted")
            wait_until(lambda p=path: os.path.isdir(p), "it is done without another call")
            worker.wait_log("later left work behind: task")
            self.assertFalse(worker.call("beaten").unclean)

    def test_what_will_not_be_done_is_named_at_the_end(self):
        for worker in self.both(self.app(APP)):
            worker.call("never")
            self.assertEqual(0, worker.shutdown())
            self.assertIn("tasks that calls left are cancelled with their worker: 'straggler'\n", worker.log())

    def test_a_task_that_fails_ends_no_worker(self):
        for worker in self.both(self.app(APP)):
            for how in ("ValueError", "SystemExit"):
                worker.call("fails", [how])
                before = worker.call("beaten").value
                wait_until(lambda w=worker, b=before: w.call("beaten").value >= b + 5, "the others go on")
            worker.wait_log("a task that runs between calls failed")

    def test_streams_and_the_ladder_are_as_ever(self):
        for worker in self.both(self.app(APP)):
            for function in ("items", "async_items"):
                call = worker.submit(function, [2 * wire.CREDIT_AT_START], stream=True)
                for _ in range(wire.CREDIT_AT_START):
                    self.assertEqual(wire.ITEM, worker.receive()[0])
                worker.send(frame(wire.CREDIT, call, struct.pack("<I", wire.CREDIT_AT_START)))
                for _ in range(wire.CREDIT_AT_START):
                    self.assertEqual(wire.ITEM, worker.receive()[0])
                self.assertEqual(wire.END, worker.receive()[0])
            call = worker.submit("sleeps")
            worker.wait_started(call)
            worker.cancel(call)
            worker.interrupt(call)
            self.assertEqual(wire.KIND_CANCELLED, worker.reply(call).error_kind)
            before = worker.call("beaten").value
            wait_until(lambda w=worker, b=before: w.call("beaten").value >= b + 5, "the heart beats")

    def test_a_worker_whose_supervisor_is_gone_ends(self):
        for worker in self.both(self.app(APP)):
            worker.data.close()
            self.assertEqual(1, worker.wait())


class AttachmentsBetweenCalls(test_attachments.WithAttachments):
    def setUp(self):
        self.under_test = self.worker(self.app(test_attachments.APP + HEARTBEAT))

    def test_a_call_may_come_in_pieces(self):
        data = dict(name=b"data", data=b"abc")
        for _ in range(3):
            self.assertEqual(3, self.call("kinds", None, data).reply.value["all"]["data"][0])
        worker = self.under_test
        head = test_attachments.attach(worker._next + 1, **data)
        worker.send(head)  # the worker waits for the call that belongs to it
        self.assertEqual(3, self.call("kinds", None, dict(name=b"other", data=b"xyz")).reply.value["all"]["other"][0])

    def test_through_shared_memory(self):
        shared = self.slab(1)
        shared[:3] = b"abc"
        self.assertEqual("bytes", self.call("kinds", None, dict(name=b"data", slab=1, size=3)).reply.value["data"])


class Idle(unittest.TestCase):
    """A loop that has nothing to do costs nothing."""

    def test_a_loop_goes_on_only_if_it_has_something_to_do(self):
        import asyncio

        from keelback.coroutines import Runner
        from keelback.interrupts import Interrupts

        words = memoryview(bytearray(1024)).cast("Q")
        runner = Runner(words, Interrupts(words))
        self.assertFalse(runner.goes_on())

        async def ordinary():
            await asyncio.sleep(0)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.sleep(600), 0.001)
            await asyncio.wait_for(asyncio.sleep(0), 600)  # leaves a timer that is cancelled
            return [number async for number in numbers()]

        async def numbers():
            for number in range(3):
                yield number

        self.assertEqual([0, 1, 2], runner.run(0, ordinary()))
        self.assertFalse(runner.goes_on())

        async def leaves():
            asyncio.get_running_loop().call_later(600, print)

        runner.run(0, leaves())
        self.assertTrue(runner.goes_on())
        runner.loop.close()


if __name__ == "__main__":
    unittest.main()
