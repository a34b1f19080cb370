"""Batches: a function that takes several calls at once, each with an answer of its own."""

import os
import re
import struct
import unittest

from supervisor import CANCEL, ENDED, ROOT, STARTED, SupervisorTest, frame, python_with, wait_until

from keelback import functions, marks, wire

APP = """
    import datetime, os, subprocess, threading, time, typing, keelback

    seen = []

    @keelback.function(batch=8, batch_wait="4ms")
    def double(x: list[int], extra: list[int] = 0, *, name: "list[str]" = "nobody"):
        seen.append([x, extra, name])
        return [[a * 2 + b, n] for a, b, n in zip(x, extra, name)]

    @keelback.function
    def look():
        return seen

    @keelback.function(batch=8)
    def picky(x: list[str]):
        if "all" in x:
            raise RuntimeError("none of you")
        if "short" in x:
            return x[1:]
        if "text" in x:
            return "text"
        return [ValueError(each) if each == "bad" else object() if each == "object" else each for each in x]

    @keelback.function(batch=8)
    def naps(seconds: list[float]):
        try:
            time.sleep(max(seconds))
        finally:
            seen.append("woken")
        return seconds

    @keelback.function(batch=8)
    def asks(x: list[int]):
        try:
            keelback.session()
        except RuntimeError as error:
            why = str(error)
        try:
            keelback.attachments()
        except RuntimeError as error:
            attached = str(error)
        return [[keelback.deadline(), keelback.cancelled(), keelback.trace(), keelback.attempt(), why, attached]] * len(x)

    @keelback.function(batch=8)
    def until_cancelled(x: list[int]):
        seen.append("in")
        while not keelback.cancelled():
            time.sleep(0.001)
        keelback.check_cancelled()

    @keelback.function(batch=8)
    def retires(x: list[int]):
        keelback.retire("enough")
        return x

    @keelback.function(batch=8)
    def leaves_thread(x: list[int]):
        threading.Thread(target=time.sleep, args=(60,)).start()
        return x

    @keelback.function(batch=8)
    def sizes(data: list[bytes]):
        return [len(each) for each in data]

    @keelback.function(batch=8)
    def copies(data: list[bytes]):
        return data

    @keelback.function(batch=8)
    def days(day: list[datetime.date], n: "list[typing.Optional[int]]" = None) -> list[datetime.date]:
        seen.append([type(each).__name__ for each in day])
        return day

    @keelback.function(batch=8, validate=False)
    def as_they_come(day: list[datetime.date]) -> list[str]:
        return [type(each).__name__ for each in day]

    @keelback.function(idempotent=True)
    def plain(value):
        return value

    @keelback.function
    async def later(value):
        return value
"""


def attached(name, data, dtype=b"", shape=()):
    body = struct.pack("<IBBHQQHH", 0, len(dtype), len(shape), len(name), 0, len(data), 0, 0)
    return body + struct.pack(f"<{len(shape)}Q", *shape) + dtype + name + data


class Batch:
    """Sends a batch and reads its answers."""

    def __init__(self, worker, requests, before_send=lambda calls: None):
        packet, self.calls = b"", []
        for index, (function, arguments, options) in enumerate(requests):
            packet += worker.submission(function, arguments, row=index + 1, **options)
            self.calls.append(worker._next)
            worker.rows[worker._next] = index + 1
        before_send(self.calls)
        self.worker = worker
        self.id = self.calls[0]
        worker.send(frame(wire.BATCH, self.id, struct.pack("<I", len(self.calls))) + packet)

    def replies(self):
        return [self.worker.end_of(call) for call in self.calls]


def batch_of(worker, function, arguments, **options):
    return Batch(worker, [(function, each, {}) for each in arguments], **options)


class Batches(SupervisorTest):
    def test_each_call_has_its_own_answer(self):
        for worker in self.both(self.app(APP)):
            batch = batch_of(worker, "double", [[1], {"x": 2, "name": "Ann"}, [3, 4]])
            self.assertEqual([reply.value for reply in batch.replies()], [[2, "nobody"], [4, "Ann"], [10, "nobody"]])
            self.assertEqual(worker.call("look").value, [[[1, 2, 3], [0, 0, 4], ["nobody", "Ann", "nobody"]]])
            for row, call in enumerate(batch.calls, 1):
                at = marks.row_at(row)
                self.assertEqual([worker.words[at + STARTED], worker.words[at + ENDED]], [call, call])
            self.assertEqual(worker.call("plain", [5]).value, 5)

    def test_hello_says_what_a_call_gives(self):
        worker = self.worker(self.app(APP))
        [double] = [each for each in worker.hello["functions"] if each["name"] == "double"]
        self.assertEqual((double["batch"], double["batch_wait"], double["concurrency"]), (8, 0.004, 1))
        self.assertEqual([each["type"] for each in double["params"]], ["int", "int", "str"])
        self.assertEqual([each["required"] for each in double["params"]], [True, False, False])

    def test_arguments_that_do_not_fit_are_refused_alone(self):
        worker = self.worker(self.app(APP))
        requests = [("double", [1], {}), ("double", {"y": 1}, {}), ("double", None, {"payload": b"["}), ("double", [2], {})]
        replies = Batch(worker, requests).replies()
        self.assertEqual([reply.value for reply in replies], [[2, "nobody"], None, None, [4, "nobody"]])
        self.assertEqual([reply.error_kind for reply in replies], [None, wire.KIND_BAD_REQUEST, wire.KIND_BAD_REQUEST, None])
        [reply] = Batch(worker, [("double", [], {})]).replies()
        self.assertEqual(reply.error_kind, wire.KIND_BAD_REQUEST)
        replies = batch_of(worker, "nosuch", [[1], [2]]).replies()
        self.assertEqual([reply.error_kind for reply in replies], [wire.KIND_UNKNOWN_FUNCTION] * 2)

    def test_each_call_is_held_to_what_one_gives(self):
        worker = self.worker(self.app(APP))
        requests = [["2026-11-30"], ["today"], ["2026-12-01", 7], ["2026-12-01", "7"], [["2026-11-30"]]]
        replies = batch_of(worker, "days", requests).replies()
        self.assertEqual([reply.value for reply in replies], ["2026-11-30", None, "2026-12-01", None, None])
        errors = [[(each["loc"], each["type"]) for each in reply.error["errors"]] for reply in replies if reply.error]
        self.assertEqual(errors, [[(["day"], "date_parsing")], [(["n"], "int_type")], [(["day"], "date_type")]])
        self.assertEqual(worker.call("look").value, [["date", "date"]], "the others ran together")
        [days] = [each for each in worker.hello["functions"] if each["name"] == "days"]
        self.assertEqual({"type": "string", "format": "date"}, days["params"][0]["schema"])
        self.assertEqual({"type": "string", "format": "date"}, days["result"])

    def test_without_validation_an_element_is_what_json_has(self):
        worker = self.worker(self.app(APP))
        replies = batch_of(worker, "as_they_come", [["today"], [7]]).replies()
        self.assertEqual([reply.value for reply in replies], ["str", "int"])
        [shown] = [each for each in worker.hello["functions"] if each["name"] == "as_they_come"]
        self.assertNotIn("schema", shown["params"][0])
        self.assertNotIn("result", shown)

    def test_an_error_is_that_of_its_call_alone(self):
        worker = self.worker(self.app(APP))
        replies = batch_of(worker, "picky", [["a"], ["bad"], ["object"], ["b"]]).replies()
        self.assertEqual([replies[0].value, replies[3].value], ["a", "b"])
        self.assertEqual(replies[1].error["type"], "ValueError")
        self.assertEqual(replies[2].error["type"], "keelback.ResultError")

    def test_what_the_function_raises_or_returns_wrongly_is_an_error_for_all(self):
        worker = self.worker(self.app(APP))
        for word, type, part in (("all", "RuntimeError", "none of you"), ("short", "TypeError", "a batch of 2 calls and returned 1 results"),
                                 ("text", "TypeError", "not str")):
            for reply in batch_of(worker, "picky", [[word], ["a"]]).replies():
                self.assertEqual((reply.error_kind, reply.error["type"]), (wire.KIND_ERROR, type))
                self.assertIn(part, reply.error["message"])

    def test_a_call_that_is_cancelled_before_the_start_is_left_out(self):
        worker = self.worker(self.app(APP))

        def cancel_second(calls):
            worker.words[marks.row_at(2) + CANCEL] = calls[1]

        batch = batch_of(worker, "double", [[1], [2], [3]], before_send=cancel_second)
        replies = batch.replies()
        self.assertEqual([reply.value for reply in replies], [[2, "nobody"], None, [6, "nobody"]])
        self.assertEqual(replies[1].error_kind, wire.KIND_CANCELLED)
        self.assertNotEqual(worker.words[marks.row_at(2) + STARTED], batch.calls[1])
        self.assertEqual(worker.call("look").value[-1][0], [1, 3])

    def test_a_batch_is_cancelled_when_all_of_its_calls_are(self):
        worker = self.worker(self.app(APP))
        batch = batch_of(worker, "until_cancelled", [[1], [2]])
        wait_until(lambda: worker.words[STARTED] == batch.id, "the batch runs")
        worker.cancel(batch.calls[0])
        self.assertTrue(worker.quiet(0.05))
        worker.cancel(batch.calls[1])
        self.assertEqual([reply.error_kind for reply in batch.replies()], [wire.KIND_CANCELLED] * 2)

    def test_an_interrupt_ends_the_batch(self):
        worker = self.worker(self.app(APP))
        batch = batch_of(worker, "naps", [[60], [60], [60]])
        wait_until(lambda: worker.words[STARTED] == batch.id, "the batch runs")
        self.assertEqual(worker.ping(9), batch.id)
        worker.interrupt(batch.id)
        replies = batch.replies()
        self.assertEqual([reply.error_kind for reply in replies], [wire.KIND_CANCELLED] * 3)
        self.assertEqual([reply.interrupted for reply in replies], [False, False, True], "the last answer says it")
        self.assertEqual(worker.call("look").value, ["woken"])

    def test_what_user_code_asks(self):
        worker = self.worker(self.app(APP))
        far = 10**18
        requests = [("asks", [1], {"deadline": far, "trace": b"t1"}), ("asks", [2], {"deadline": 2 * far, "attempt": 3})]
        deadline, cancelled, trace, attempt, session, attachments = Batch(worker, requests).replies()[0].value
        self.assertGreater(deadline, 1.5 * far / 1e9, "the last deadline")
        self.assertEqual((cancelled, trace, attempt), (False, "t1", 3))
        self.assertIn("no session", session)
        self.assertIn("arguments of its function", attachments)

    def test_the_last_answer_speaks_for_the_worker(self):
        worker = self.worker(self.app(APP))
        self.assertEqual([reply.unclean for reply in batch_of(worker, "leaves_thread", [[1], [2]]).replies()], [False, True])
        batch = batch_of(worker, "retires", [[1], [2]])
        frames = [worker.receive() for _ in range(3)]
        self.assertEqual([kind for kind, _, _, _ in frames], [wire.RESULT, wire.RETIRE, wire.RESULT])
        self.assertEqual(frames[1][3], b"enough")
        self.assertEqual(frames[2][2], batch.calls[1])

    def test_attachments(self):
        worker = self.worker(self.app(APP))
        large = bytes(range(256)) * 1024
        requests = [("sizes", None, {"attach": [attached(b"data", b"abc")]}), ("sizes", None, {"attach": [attached(b"data", large)]})]
        self.assertEqual([reply.value for reply in Batch(worker, requests).replies()], [3, len(large)])
        replies = Batch(worker, [(name.replace("sizes", "copies"), *rest) for name, *rest in requests]).replies()
        self.assertEqual([reply.value for reply in replies], [{"$attachment": "0"}] * 2)
        for reply, data in zip(replies, (b"abc", large)):
            [(kind, body)] = reply.beside
            self.assertEqual(kind, wire.ATTACHED)
            self.assertTrue(body.endswith(data))

    def test_code_of_another_age(self):
        """The supervisor and the worker may differ while an application is reloaded."""
        worker = self.worker(self.app(APP))
        for function in ("plain", "later"):
            self.assertEqual([reply.value for reply in batch_of(worker, function, [[1], [2]]).replies()], [1, 2])
        self.assertEqual(worker.call("double", [4]).value, [8, "nobody"])
        reply = worker.call("picky", ["bad"])
        self.assertEqual((reply.error_kind, reply.error["type"]), (wire.KIND_ERROR, "ValueError"))
        self.assertEqual(worker.end_of(worker.share("double", [4])).value, [8, "nobody"])

    def test_what_is_no_batch_ends_the_worker(self):
        for broken in (frame(wire.BATCH, 1, struct.pack("<I", 0)), frame(wire.BATCH, 1, struct.pack("<I", 1025)),
                       frame(wire.BATCH, 1, b"\1"), frame(wire.BATCH, 1, struct.pack("<I", 1)) + frame(wire.SHUTDOWN)):
            worker = self.exec_worker(self.app(APP)).wait_ready()
            worker.send(broken)
            self.assertEqual(worker.wait(), 1)


@unittest.skipUnless(python_with("numpy"), "NumPy is not installed")
class Stacked(SupervisorTest):
    @classmethod
    def setUpClass(cls):
        cls.use_python(python_with("numpy"))

    def test_arrays_of_one_shape_come_and_go_as_one(self):
        worker = self.worker(self.app("""
            import numpy as np, keelback

            @keelback.function(batch=8, stacked=True)
            def scale(x, factor: list[float] = 2.0):
                assert x.flags.c_contiguous and x.shape[1:] == (2, 3) and isinstance(factor, list), (x.shape, factor)
                return x * np.asarray(factor, x.dtype)[:, None, None]

            @keelback.function(batch=8)
            def shapes(x: list):
                return [[type(each).__name__, len(x)] for each in x]
        """))
        array = struct.pack("<6f", *range(6))
        requests = [("scale", None, {"attach": [attached(b"x", array, b"float32", (2, 3))]}) for _ in range(3)]
        for reply in Batch(worker, requests).replies():
            self.assertEqual(reply.value, {"$attachment": "0"}, reply)
            [(_, body)] = reply.beside
            self.assertTrue(body.endswith(struct.pack("<6f", *range(0, 12, 2))))
        requests = [("shapes", None, options) for _, _, options in requests]
        self.assertEqual([reply.value[1] for reply in Batch(worker, requests).replies()], [3] * 3)


class Page(SupervisorTest):
    """docs/batches.md does what it says."""

    def test_the_first_example(self):
        with open(os.path.join(ROOT, "docs", "batches.md")) as page:
            classify, _ = re.findall(r"```python\n(.*?)```", page.read(), re.DOTALL)
        worker = self.worker(self.app(classify))
        replies = batch_of(worker, "classify", [{"text": "a short text"}, ["two words"]]).replies()
        self.assertEqual([reply.value for reply in replies], [{"words": 3}, {"words": 2}])


class Declarations(unittest.TestCase):
    def test_what_cannot_take_batches_is_refused(self):
        async def coroutine(x):
            pass

        def generator(x):
            yield

        for target, options, part in ((coroutine, {}, "is async"), (generator, {}, "streams"), (lambda x: x, {"concurrency": 1}, "concurrency"),
                                      (lambda x: x, {"stream": True}, "streams"), (lambda *x: x, {}, "no \\*args"), (lambda: 0, {}, "has parameters")):
            with self.assertRaisesRegex(functions.BadApplication, part):
                functions.function(batch=2, name="refused", **options)(target)
        for options in ({"batch": 1}, {"batch": 1025}, {"batch": True}, {"batch": 2, "batch_wait": "4"}, {"batch": 2, "batch_wait": -1},
                        {"batch_wait": "4ms"}, {"stacked": True}):
            with self.assertRaises(ValueError):
                functions.function(name="refused", **options)(lambda x: x)

    def test_times(self):
        for text, seconds in (("4ms", 0.004), ("1.5s", 1.5), ("250us", 0.00025), ("2m", 120.0), (0.25, 0.25)):
            self.assertAlmostEqual(functions.Function("f", lambda x: x, **functions._batch(2, text, False)).batch_wait, seconds)


if __name__ == "__main__":
    unittest.main()
