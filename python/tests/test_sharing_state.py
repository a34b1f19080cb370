"""Streams, sessions, snapshots and attachments of shared calls."""

import struct
import unittest

from supervisor import CANCEL, STARTED, SupervisorTest, frame
from test_attachments import attach as attach_frame

from keelback import marks, wire

APP = """
    import asyncio, contextvars, threading, time, keelback

    spoken = contextvars.ContextVar("spoken", default="")
    ended = []

    @keelback.function(concurrency=64)
    async def task(value=None):
        return value

    @keelback.function(concurrency=64)
    async def items(n):
        for number in range(n):
            yield number

    @keelback.function(concurrency=64)
    def thread_items(n):
        yield from range(n)

    @keelback.function(concurrency=64)
    async def tidy_items():
        try:
            while True:
                yield 1
        finally:
            ended.append("tidied")

    @keelback.function(concurrency=64)
    def tidy_thread_items():
        try:
            while True:
                yield 1
        finally:
            ended.append("tidied")

    @keelback.function(concurrency=64)
    async def count(by=1):
        state = keelback.session().state
        await asyncio.sleep(0)
        state["n"] = state.get("n", 0) + by
        return [keelback.session().id, state["n"], spoken.get()]

    @keelback.function(concurrency=64)
    def count_in_thread(by=1):
        state = keelback.session().state
        state["n"] = state.get("n", 0) + by
        return [keelback.session().id, state["n"], spoken.get()]

    @keelback.function(concurrency=64)
    async def fails():
        keelback.session().state["n"] = 7
        raise ValueError("after a change")

    @keelback.function(concurrency=64)
    def ends():
        return list(ended)

    @keelback.function(concurrency=64)
    async def waits():
        await asyncio.sleep(60)
"""
SYNC_HOOKS = """
    @keelback.on_session_open
    def opens():
        keelback.session().state["n"] = 100
        spoken.set(threading.current_thread() is threading.main_thread())

    @keelback.on_session_end
    def closes(reason):
        ended.append([keelback.session().id, keelback.session().state["n"], reason])
"""
ASYNC_HOOKS = """
    @keelback.on_session_open
    async def opens():
        await asyncio.sleep(0.001)
        keelback.session().state["n"] = 100
        spoken.set(threading.current_thread() is threading.main_thread())

    @keelback.on_session_end
    async def closes(reason):
        await asyncio.sleep(0.001)
        ended.append([keelback.session().id, keelback.session().state["n"], reason])
"""
SYNC_SNAPSHOT = """
    @keelback.snapshot
    def saves(state):
        return b"%d of %s" % (state["n"], keelback.session().id.encode())

    @keelback.restore
    def restores(saved):
        spoken.set("restored")
        return {"n": int(saved.split()[0])}
"""
ASYNC_SNAPSHOT = """
    @keelback.snapshot
    async def saves(state):
        await asyncio.sleep(0.001)
        return b"%d of %s" % (state["n"], keelback.session().id.encode())

    @keelback.restore
    async def restores(saved):
        await asyncio.sleep(0.001)
        spoken.set("restored")
        return {"n": int(saved.split()[0])}
"""
ATTACHMENTS = """
    import keelback
    kept = []

    @keelback.function(concurrency=8)
    async def task(picture, note="") -> list:
        await keelback_sleep()
        return [len(picture), note, sorted(keelback.attachments())]

    @keelback.function(concurrency=8)
    def thread(picture):
        return [len(picture), sorted(keelback.attachments())]

    @keelback.function(concurrency=8, zero_copy=True)
    async def view(picture):
        return [type(picture).__name__, bytes(picture[:3]).decode()]

    @keelback.function(concurrency=8)
    async def makes(size):
        return {"a": keelback.Attachment(b"a" * size, "first"), "b": bytearray(b"b" * size)}

    @keelback.function(concurrency=8)
    def makes_in_thread(size):
        return keelback.Attachment(b"c" * size, "only")

    @keelback.function
    def alone(picture):
        return [len(picture), sorted(keelback.attachments())]

    def leaves():
        raise SystemExit("out of an annotation")

    @keelback.function(concurrency=8)
    def odd(picture: "leaves()"):
        pass

    async def keelback_sleep():
        import asyncio
        await asyncio.sleep(0.001)
"""
BOTH_KINDS = ("count", "count_in_thread")
S = {"session": "ann", "birth": 5, "epoch": 1}


class Streams(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(APP))

    def test_a_slow_reader_delays_its_own_call_only(self):
        slow = [self.w.share("items", [100], stream=True), self.w.share("thread_items", [100], stream=True)]
        for call in slow:
            self.w.items_of(call, wire.CREDIT_AT_START)
        fast = [self.w.share(name, [10], stream=True) for name in ("items", "thread_items") for _ in range(5)]
        for call in fast:
            reply = self.w.end_of(call)
            self.assertEqual((wire.END, list(range(10))), (reply.kind, reply.items))
        self.assertEqual(1, self.w.end_of(self.w.share("task", [1])).value)
        self.assertTrue(self.w.quiet(0.02), "no item without credit")
        for call in slow:
            self.assertEqual(list(range(16)), self.w._items[call])
            self.w.credit(call, 4)
            self.assertEqual(list(range(20)), self.w.items_of(call, 20))
            self.w.credit(call, 1000)
            self.assertEqual(list(range(100)), self.w.end_of(call).items)

    def test_credit_that_comes_right_behind_its_call_counts(self):
        for name in ("items", "thread_items"):
            packet = self.w.submission(name, [100], stream=True, row=1)
            call = self.w._next
            self.w.rows[call] = 1
            self.w.send(packet + frame(wire.CREDIT, call, struct.pack("<I", 84)))
            self.assertEqual(list(range(100)), self.w.end_of(call).items)

    def test_a_list_for_a_caller_that_takes_no_stream(self):
        for name in ("items", "thread_items"):
            self.assertEqual(list(range(50)), self.w.end_of(self.w.share(name, [50])).value)

    def test_cancel_wakes_a_stream_that_waits_for_credit(self):
        for name in ("tidy_items", "tidy_thread_items"):
            call = self.w.share(name, stream=True)
            self.w.items_of(call, wire.CREDIT_AT_START)
            self.assertTrue(self.w.quiet(0.05), "it waits for credit")
            self.w.cancel(call)
            reply = self.w.end_of(call)
            self.assertEqual((wire.KIND_CANCELLED, 0, 16), (reply.error_kind, reply.flags, len(reply.items)))
        call = self.w.share("tidy_items", stream=True)  # the mark and a credit of 0, without the frame CANCEL
        self.w.items_of(call, wire.CREDIT_AT_START)
        self.w.words[marks.row_at(self.w.rows[call]) + CANCEL] = call
        self.w.credit(call, 0)
        self.assertEqual(wire.KIND_CANCELLED, self.w.end_of(call).error_kind)
        self.assertEqual(["tidied"] * 3, self.w.end_of(self.w.share("ends")).value)

    def test_credit_for_nobody_is_ignored(self):
        self.w.end_of(self.w.share("task"))
        self.w.credit(99, 5)
        self.assertEqual(1, self.w.end_of(self.w.share("task", [1])).value)


class Sessions(SupervisorTest):
    def end(self, id, birth, reason=1):
        self.w.send(frame(wire.SESSION_END, 0, struct.pack("<QB", birth, reason) + id.encode()))

    def test_hooks_and_states(self):
        for hooks in (SYNC_HOOKS, ASYNC_HOOKS):
            self.w = self.worker(self.app(APP + hooks))
            first = [self.w.share(name, session=f"{name} {n}", birth=n, epoch=1, opens=True) for n in range(10) for name in BOTH_KINDS]
            for call, (n, name) in zip(first, [(n, name) for n in range(10) for name in BOTH_KINDS]):
                on_main_thread = hooks == ASYNC_HOOKS or name == "count"
                self.assertEqual([f"{name} {n}", 101, on_main_thread], self.w.end_of(call).value, (name, hooks))
            self.assertEqual(["count 3", 105, ""], self.w.end_of(self.w.share("count", [4], session="count 3", birth=3, epoch=1)).value)
            busy = self.w.share("waits")
            self.w.wait_row(busy)
            self.end("count 3", 3)
            self.assertEqual([["count 3", 105, "ended"]], self.w.end_of(self.w.share("ends")).value)
            reply = self.w.end_of(self.w.share("count", session="count 3", birth=3, epoch=1))
            self.assertEqual("keelback.SessionNotHere", reply.error["type"])
            # One that is in the way of a new one is lost.
            for name in BOTH_KINDS:
                reply = self.w.end_of(self.w.share(name, session=f"{name} 4", birth=40, epoch=1, opens=True))
                self.assertEqual(101, reply.value[1])
            self.assertEqual([["count 4", 101, "lost"], ["count_in_thread 4", 101, "lost"]], self.w.end_of(self.w.share("ends")).value[1:])
            self.w.cancel(busy)
            self.w.end_of(busy)
            self.assertEqual("", self.w.log())

    def test_started_is_marked_before_the_open_hook(self):
        self.w = self.worker(self.app(APP + """
    @keelback.on_session_open
    async def opens():
        await asyncio.sleep(60)
"""))
        for name in BOTH_KINDS:
            call = self.w.share(name, opens=True, **S)
            self.w.wait_row(call, STARTED)
            self.w.cancel(call)
            if name == "count_in_thread":
                self.w.interrupt_shared(call)
            self.assertEqual(wire.KIND_CANCELLED, self.w.end_of(call).error_kind)

    def test_saved_answers(self):
        for hooks, kind in (("", 1), (SYNC_SNAPSHOT, 2), (ASYNC_SNAPSHOT, 2)):
            self.w = self.worker(self.app(APP + hooks))
            state = lambda n: b'{"n":%d}' % n if kind == 1 else b"%d of ann" % n  # noqa: E731
            for birth, name in enumerate(BOTH_KINDS, 1):
                at = {"session": "ann", "birth": birth, "epoch": 1}
                reply = self.w.end_of(self.w.share(name, opens=True, saves=True, **at))
                self.assertEqual((["ann", 1, ""], (kind, state(1))), (reply.value, reply.state))
                reply = self.w.end_of(self.w.share("fails", saves=True, **at))
                self.assertEqual(("ValueError", (kind, state(7))), (reply.error["type"], reply.state))
                call = self.w.share("waits", saves=True, **at)
                self.w.wait_row(call)
                self.w.cancel(call)
                reply = self.w.end_of(call)
                self.assertEqual((wire.KIND_CANCELLED, (kind, state(7))), (reply.error_kind, reply.state))
                self.assertIsNone(self.w.end_of(self.w.share("missing", saves=True, **at)).state)
                busy = self.w.share("waits")
                self.w.wait_row(busy)
                self.assertEqual((kind, state(7)), self.w.save("ann", birth, 1))
                self.w.cancel(busy)
                self.w.end_of(busy)

    def test_restored(self):
        for hooks, kind in (("", 1), (SYNC_SNAPSHOT, 2), (ASYNC_SNAPSHOT, 2)):
            for beside in (False, True):  # the first call of the worker, or read in the loop
                self.w = self.worker(self.app(APP + hooks))
                if beside:
                    self.w.end_of(self.w.share("task"))
                for birth, name in enumerate(BOTH_KINDS, 1):
                    saved = (kind, b'{"n":41}' if kind == 1 else b"41 of ann")
                    reply = self.w.end_of(self.w.share(name, session="ann", birth=birth, epoch=2, restore=saved))
                    self.assertEqual(["ann", 42, "restored" if hooks else ""], reply.value)

    def test_exclusive_calls_see_the_same_sessions(self):
        self.w = self.worker(self.app(APP))
        self.assertEqual(["ann", 1, ""], self.w.end_of(self.w.share("count", opens=True, **S)).value)
        self.assertEqual(["ann", 2, ""], self.w.call("count", **S).value)
        self.assertEqual(["ann", 3, ""], self.w.end_of(self.w.share("count_in_thread", **S)).value)
        self.assertEqual(0, self.w.shutdown())


class Attachments(SupervisorTest):
    def setUp(self):
        self.w = self.worker(self.app(ATTACHMENTS))

    def body(self, name, data):
        return attach_frame(0, name, data)[16:]

    def test_inline_in_both_directions(self):
        data = b"pix" * 50_000
        for beside in (False, True):
            call = self.w.share("task", {"note": "n"}, attach=[self.body(b"picture", data), self.body(b"more", b"1")])
            self.assertEqual([150_000, "n", ["more", "picture"]], self.w.end_of(call).value)
            call = self.w.share("thread", {}, attach=[self.body(b"picture", data)])
            self.assertEqual([150_000, ["picture"]], self.w.end_of(call).value)
            self.assertEqual(["memoryview", "pix"], self.w.end_of(self.w.share("view", {}, attach=[self.body(b"picture", data)])).value)
            reply = self.w.end_of(self.w.share("makes", [100_000]))
            self.assertEqual({"a": {"$attachment": "first"}, "b": {"$attachment": "1"}}, reply.value)
            self.assertEqual([(wire.ATTACHED, b"a" * 100_000), (wire.ATTACHED, b"b" * 100_000)], [(kind, body[-100_000:]) for kind, body in reply.beside])
            for _, body in reply.beside:
                self.assertEqual(0, struct.unpack_from("<I", body)[0], "no slab")
            reply = self.w.end_of(self.w.share("makes_in_thread", [200_000]))
            self.assertEqual(({"$attachment": "only"}, b"c" * 200_000), (reply.value, reply.beside[0][1][-200_000:]))

    def test_several_at_once_do_not_mix(self):
        sizes = range(1000, 1040)
        calls = [self.w.share(("task", "thread")[size % 2], {}, attach=[self.body(b"picture", b"x" * size)]) for size in sizes]
        self.assertEqual(list(sizes), [self.w.end_of(call).value[0] for call in calls])

    def test_an_exclusive_call_with_attachments_after_shared_ones(self):
        self.w.end_of(self.w.share("makes", [1]))
        call = self.w.submit("alone", {}, attach=[self.body(b"picture", b"12345")])
        self.assertEqual([5, ["picture"]], self.w.reply(call).value)
        call = self.w.share("thread", {}, attach=[self.body(b"picture", b"123")])
        self.assertEqual([3, ["picture"]], self.w.end_of(call).value)

    def test_wrong_ones(self):
        reply = self.w.end_of(self.w.share("thread", {"picture": 1}, attach=[self.body(b"picture", b"12345")]))
        self.assertEqual(wire.KIND_BAD_REQUEST, reply.error_kind)
        reply = self.w.end_of(self.w.share("odd", {}, attach=[self.body(b"picture", b"1")]))
        self.assertEqual(("SystemExit", wire.KIND_ERROR), (reply.error["type"], reply.error_kind), "the worker goes on")
        self.w.words[8] = 10  # attached_max
        self.assertIn("too large", self.w.end_of(self.w.share("makes", [100])).error["message"])


if __name__ == "__main__":
    unittest.main()
