"""Attachments as application code meets them: arguments, results, arrays, views and their lifetime."""

import array
import mmap
import os
import struct
import unittest

import supervisor  # noqa: F401  (finds the package)
from supervisor import SupervisorTest, frame

import keelback
from keelback import wire

LARGE = 100_000
SLAB = 256 * 1024
NUMPY = supervisor.python_with("numpy")

APP = """
    import array, asyncio, ctypes, dataclasses, enum
    import keelback

    try:
        import numpy
    except ImportError:
        numpy = None
    kept = []

    @dataclasses.dataclass
    class Row:
        data: bytes
        number: int

        def __getattribute__(self, name):  # each look makes other bytes, which live as long as that look
            value = object.__getattribute__(self, name)
            return bytes(bytearray(value)) if name == "data" else value

    class Colour(enum.Enum):
        RED = "red"

    def changed(attachment, dtype):
        attachment.dtype = dtype
        return attachment

    class Sealed(bytes):
        pass

    @keelback.encoder(Sealed)
    def sealed(value):
        return "sealed"

    @keelback.function
    def kinds(data=None, grid=None, scale=1):
        return {"data": type(data).__name__, "grid": type(grid).__name__, "scale": scale,
                "all": {name: [len(each), each.dtype, list(each.shape)] for name, each in keelback.attachments().items()}}

    @keelback.function
    def total(grid):
        return [grid.format, list(grid.shape), sum(sum(row) for row in grid.tolist()), grid.readonly]

    @keelback.function
    def form(count: "int | None" = None, title="", image: keelback.Attachment = None, tags: list = (), note: str = ""):
        return {"count": count, "title": title, "image": image and [image.filename, image.content_type, bytes(image).decode()],
                "tags": tags, "note": note, "all": {name: type(each).__name__ for name, each in keelback.attachments().items()}}

    @keelback.function(zero_copy=True)
    def hold_all(data):
        kept.append(data)
        return [type(each).__name__ for each in data]

    @keelback.function
    def single(grid):
        return [grid.format, list(grid.shape), grid[()]]

    @keelback.function
    def positional(a, /, b):
        return [a, b.decode()]

    @keelback.function
    def answer(what):
        return {
            "bytes": lambda: b"abc",
            "nested": lambda: {"a": [1, b"x", bytearray(b"yz")], "b": "é"},
            "array": lambda: array.array("d", [1.5, 2.5]),
            "named": lambda: keelback.Attachment(b"abc", name="n", dtype="uint8", shape=(3,)),
            "twice": lambda: (lambda each: [each, each])(keelback.Attachment(b"abc", name="n")),
            "clash": lambda: [keelback.Attachment(b"a", name="n"), keelback.Attachment(b"b", name="n")],
            "many": lambda: [bytes([i]) for i in range(65)],
            "object": lambda: [b"x", {"deep": object()}],
            "strided": lambda: memoryview(bytearray(range(6)))[::2],
            "surrogate": lambda: [b"x", "\\ud800"],
            "nan": lambda: [b"x", float("nan")],
            "addresses": lambda: {"a": [(ctypes.py_object * 2)(1, 2)]},
            "misfit": lambda: keelback.Attachment(b"abc", dtype="float32", shape=(2,)),
            "late": lambda: changed(keelback.Attachment(b"abcd", name="n", dtype="float32"), dtype="object"),
            "hidden": lambda: [1, keelback.Attachment(memoryview(bytes(8)).cast("P"), dtype="int64")],
            "said": lambda: keelback.Attachment(b"png", content_type="image/png", filename="c\\udcffat é.png"),
            "mistyped": lambda: keelback.Attachment(b"png", content_type="png"),
            "long": lambda: keelback.Attachment(b"png", filename="f" * 1025),
            "rows": lambda: [Row(bytes([i]) * 1000, i) for i in range(50)],
            "keys": lambda: {Colour.RED: [b"x", {7: b"y", "é\\ud800": 1}]},
            "collide": lambda: [b"x", {7: 1, "7": 2}],
            "encoder": lambda: [Sealed(b"secret"), b"x"],
        }[what]()

    @keelback.function
    async def later():
        await asyncio.sleep(0)
        return {"later": b"abc", "got": [bytes(each).decode() for each in keelback.attachments().values()]}

    @keelback.function
    def stream():
        yield 1
        yield b"abc"

    @keelback.function(zero_copy=True)
    def look(data):
        return [type(data).__name__, data[0], data.nbytes]

    @keelback.function(zero_copy=True)
    def hold(data):
        kept.append(data)  # the view itself: it is released with the call

    @keelback.function
    def touch():
        try:
            return kept[0][0]
        except ValueError as error:
            return str(error)

    @keelback.function(zero_copy=True)
    def slice_of(data):
        kept.append(data[:4])

    @keelback.function(zero_copy=True)
    def fail(data):
        window = data[:4]
        raise ValueError("no luck")

    @keelback.function
    def drop():
        kept.clear()

    @keelback.function(zero_copy=True)
    def numpy_sum(grid):
        rows = numpy.asarray(grid)
        return [str(rows.dtype), list(rows.shape), float(rows.sum())]

    @keelback.function(zero_copy=True)
    def numpy_keep(grid):
        kept.append(numpy.asarray(grid))

    @keelback.function
    def numpy_seen():
        return float(kept[0].sum())

    @keelback.function
    def numpy_double(grid):
        return {"doubled": numpy.asarray(grid) * 2, "first": numpy.asarray(keelback.attachments()["grid"])[:1, ::2]}

    def layouts(dtype):
        numbers = numpy.arange(24).reshape(2, 3, 4)
        cube = numbers.astype(dtype) if numpy.dtype(dtype).kind not in "Mm" else numbers.astype("i8").astype(dtype)
        return {"plain": cube, "transposed": cube.transpose(2, 0, 1), "fortran": numpy.asfortranarray(cube), "reversed": cube[::-1, :, ::-1],
                "sliced": cube[:, ::2, 1:], "broadcast": numpy.broadcast_to(cube[0], (5, 3, 4)), "none": cube[:, :0], "0-d": cube[1, 2, 3, ...],
                "readonly": (lambda copy: (copy.setflags(write=False), copy)[1])(cube.copy())}

    @keelback.function
    def numpy_layouts(dtype):
        return [[name, list(array.shape), array.tobytes().hex(), array] for name, array in layouts(dtype).items()]

    @keelback.function
    def numpy_same(dtype, layout, grid):
        wanted, got = layouts(dtype)[layout], numpy.asarray(grid)
        return got.dtype == wanted.dtype and got.shape == wanted.shape and bool(((got == wanted) | (wanted != wanted)).all()) and got.flags.writeable

    @keelback.function(zero_copy=True)
    def numpy_look(grid):
        array = numpy.asarray(grid)
        return [keelback.Attachment(array).dtype, list(array.shape), array.flags.owndata]

    @keelback.function
    def numpy_wrong(what):
        return {"a": [{"object": lambda: numpy.array([1, "x"], dtype=object), "structured": lambda: numpy.zeros(2, [("a", "i4"), ("b", "f8")]),
                       "empty": lambda: numpy.zeros(0, object), "void": lambda: numpy.zeros(2, "V8"),
                       "masked": lambda: numpy.ma.array([1, 2], mask=[0, 1]),
                       "in attachment": lambda: keelback.Attachment(numpy.zeros(2, object), dtype="int64")}[what]()]}

    @keelback.function
    def numpy_scalar():
        return [{"n": numpy.int64(3), "at": numpy.datetime64("2026-01-02")}]
"""


def attach(call, name=b"", data=b"", dtype=b"", shape=(), slab=0, offset=0, size=None, filename=b"", content_type=b""):
    fixed = struct.pack("<IBBHQQHH", slab, len(dtype), len(shape), len(name), offset, len(data) if size is None else size,
                        len(filename), len(content_type))
    return frame(wire.ATTACH, call, fixed + struct.pack(f"<{len(shape)}Q", *shape) + dtype + name + filename + content_type + data)


class Answer:
    """What came before the last frame, by kind, and that frame's reply."""

    def __init__(self, worker, call):
        self.attached, self.kept, self.freed, self.wanted = [], [], [], []
        self.said = []  # file name and content type of each attachment
        while True:
            kind, flags, of, body = worker.receive()
            if kind == wire.ATTACHED:
                slab, dtype_len, dims, name_len, offset, size, filename_len, type_len = struct.unpack_from("<IBBHQQHH", body)
                at, texts = 28 + 8 * dims, []
                for length in (dtype_len, name_len, filename_len, type_len):
                    texts.append(body[at : at + length].decode(errors="surrogateescape"))
                    at += length
                self.attached.append((texts[1], texts[0], list(struct.unpack_from(f"<{dims}Q", body, 28)),
                                      body[at:] if not slab else (slab, offset, size)))
                self.said.append((texts[2], texts[3]))
            elif kind in (wire.SLAB_KEPT, wire.SLAB_FREED):
                (self.kept if kind == wire.SLAB_KEPT else self.freed).append(struct.unpack("<I", body)[0])
            elif kind == wire.SLAB_WANTED:
                self.wanted.append(struct.unpack("<Q", body)[0])
                worker.send(frame(wire.SLAB, 0, struct.pack("<BIQ", wire.SLAB_NONE, 0, 0)))
            else:
                assert of == call
                self.reply = supervisor.Reply(kind, body, flags, [])
                return


class WithAttachments(SupervisorTest):
    def setUp(self):
        self.under_test = self.worker(self.app(APP))

    def call(self, function, arguments=None, *attachments):
        """`attachments`: keyword dictionaries for attach()."""
        worker = self.under_test
        call = worker._next + 1
        head = b"".join(attach(call, **each) for each in attachments)
        worker._next = call
        payload = b"" if arguments is None else supervisor.json.dumps(arguments).encode()
        name = function.encode()
        fixed = struct.pack("<qQIIHHHH", 0, 0, 0, 1, len(name), 0, 0, 4 if attachments else 0)
        worker.send(head + frame(wire.CALL, call, fixed + name + payload))
        return Answer(worker, call)

    def slab(self, id, size=SLAB):
        """Hands a slab over; its mapping."""
        fd = os.memfd_create("keelback-slab", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        shared = mmap.mmap(fd, size)
        self.addCleanup(shared.close)
        self.under_test.send(frame(wire.SLAB, 0, struct.pack("<BIQ", wire.SLAB_COMING, id, size)))
        here = frame(wire.SLAB, 0, struct.pack("<BIQ", wire.SLAB_HERE, id, size))
        supervisor.socket.send_fds(self.under_test.data, [here], [fd])
        os.close(fd)
        return shared


class Attachments(WithAttachments):
    # ---- arguments

    def test_an_attachment_of_a_parameters_name_is_its_argument(self):
        grid = dict(name=b"grid", data=struct.pack("6f", *range(6)), dtype=b"float32", shape=(2, 3))
        answer = self.call("kinds", {"scale": 2}, dict(name=b"data", data=b"abc"), grid, dict(name=b"other", data=b"x"))
        self.assertEqual({"data": "bytes", "grid": "memoryview", "scale": 2,
                          "all": {"data": [3, "", []], "grid": [24, "float32", [2, 3]], "other": [1, "", []]}},
                         answer.reply.value)
        self.assertEqual(["f", [2, 3], 15.0, False], self.call("total", None, grid).reply.value)

    def test_an_argument_that_comes_twice_is_a_bad_request_that_names_it(self):
        for arguments in ({"data": "text"}, {"data": None}, ["text"]):
            twice = self.call("kinds", arguments, dict(name=b"data", data=b"abc")).reply
            self.assertEqual(wire.KIND_BAD_REQUEST, twice.error_kind, "neither is dropped without a word")
            self.assertIn("'data'", twice.error["message"])
        self.assertEqual(["x", "b"], self.call("positional", ["x"], dict(name=b"b", data=b"b")).reply.value)

    def test_no_memory_for_the_arguments_is_an_error_and_not_the_callers(self):
        import resource

        shared = self.slab(1, 256 << 20)
        shared[0] = 1
        with open(f"/proc/{self.under_test.pid}/status") as status:
            used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
        before = resource.prlimit(self.under_test.pid, resource.RLIMIT_DATA)
        resource.prlimit(self.under_test.pid, resource.RLIMIT_DATA, (used + (64 << 20), before[1]))
        large = dict(name=b"data", slab=1, size=256 << 20)
        reply = self.call("kinds", None, large).reply
        self.assertEqual((wire.KIND_ERROR, "MemoryError"), (reply.error_kind, reply.error["type"]))
        self.assertIn("arguments", reply.error["message"])
        self.assertEqual("bytes", self.call("kinds", None, dict(name=b"data", data=b"abc")).reply.value["data"], "it goes on")
        resource.prlimit(self.under_test.pid, resource.RLIMIT_DATA, before)
        self.assertEqual("bytes", self.call("kinds", None, large).reply.value["data"])

    def test_an_array_that_does_not_fit_its_shape_is_a_bad_request(self):
        for wrong in (dict(shape=(2, 2), dtype=b"float32"), dict(shape=(), dtype=b"float64"), dict(shape=(7,), dtype=b"int32")):
            reply = self.call("total", None, dict(name=b"grid", data=b"x" * 20, **wrong)).reply
            self.assertEqual(wire.KIND_BAD_REQUEST, reply.error_kind, reply)
            self.assertIn('"grid" of 20 bytes is no', reply.error["message"])
        self.assertEqual(3, self.call("kinds", None, dict(name=b"data", data=b"abc")).reply.value["all"]["data"][0])

    def test_a_dtype_that_arrays_do_not_have_is_a_bad_request_that_names_it(self):
        for dtype in (b"float99", b"object", b"|O", b"V8", b"[('a','<i4')]", b"S", b"\xff"):
            for name in (b"grid", b"other"):  # an argument, and one that nobody looks at
                reply = self.call("kinds", None, dict(name=name, data=b"x" * 8, dtype=dtype, shape=(1,))).reply
                self.assertEqual(wire.KIND_BAD_REQUEST, reply.error_kind, reply)
                known = dtype.decode(errors="replace")
                self.assertIn(f'attachment "{name.decode()}" has the dtype "{known}", which attachments do not carry',
                              reply.error["message"])
        reply = self.call("kinds", None, dict(name=b"grid", data=b"x" * 8, shape=(8,))).reply
        self.assertIn('"grid" has a shape and no dtype', reply.error["message"])
        self.assertEqual(3, self.call("kinds", None, dict(name=b"data", data=b"abc")).reply.value["all"]["data"][0])

    def test_an_array_that_no_memoryview_has_comes_as_its_attachment(self):
        for dtype, shape, size in ((b"complex64", (2,), 16), (b"float16", (2, 2), 8), (b">f4", (4,), 16), (b"<M8[ns]", (2,), 16),
                                   (b"|S5", (2,), 10), (b"<U3", (1,), 12), (b"float32", (0, 3), 0)):
            reply = self.call("kinds", None, dict(name=b"grid", data=b"x" * size, dtype=dtype, shape=shape)).reply
            self.assertEqual(("Attachment", [size, dtype.decode(), list(shape)]),
                             (reply.value["grid"], reply.value["all"]["grid"]))
        one = self.call("single", None, dict(name=b"grid", data=struct.pack("d", 7.5), dtype=b"<f8", shape=())).reply
        self.assertEqual(["d", [], 7.5], one.value)

    def test_a_forms_fields_are_converted_and_files_say_what_they_are(self):
        text = lambda name, data: dict(name=name, data=data, content_type=b"text/plain")
        image = dict(name=b"image", data=b"png", filename=b"c\xffat.png", content_type=b"image/png")
        answer = self.call("form", {"note": "json"}, text(b"count", b"3"), text(b"title", "é".encode()), image,
                           text(b"tags", b"a"), text(b"tags", b"b"), dict(name=b"odd", data=b"x", content_type=b"no type"))
        self.assertEqual({"count": 3, "title": "é", "image": ["c\udcffat.png", "image/png", "png"], "tags": ["a", "b"], "note": "json",
                          "all": {"count": "Attachment", "title": "Attachment", "image": "Attachment", "tags": "list", "odd": "Attachment"}},
                         answer.reply.value, answer.reply)
        for wrong, words in ((text(b"count", b"three"), "'three' is no int"), (dict(name=b"count", data=b"3"), "it is a file and no int"),
                             (text(b"title", b"\xff"), "not utf-8")):
            reply = self.call("form", None, wrong).reply
            annotated = wrong["name"] == b"count"
            kind = "keelback.ValidationError" if annotated else "ValueError"
            self.assertEqual((wire.KIND_BAD_REQUEST, kind), (reply.error_kind, reply.error["type"]))
            self.assertEqual([["count"]] if annotated else [], [each["loc"] for each in reply.error.get("errors", ())])
            self.assertIn(f'argument "{wrong["name"].decode()}": ', reply.error["message"])
            self.assertIn(words, reply.error["message"])
        twice = self.call("form", None, text(b"count", b"1"), text(b"count", b"2")).reply
        self.assertIn("it is there 2 times", twice.error["message"])

    def test_several_views_of_one_name_end_with_their_call(self):
        self.slab(1)
        self.slab(2)
        two = [dict(name=b"data", slab=id, size=LARGE) for id in (1, 2)]
        self.assertEqual(["memoryview", "memoryview"], self.call("hold_all", None, *two).reply.value)
        self.assertEqual([], self.call("kinds", None, dict(name=b"other", data=b"x")).kept, "both slabs are free")

    def test_outside_of_a_call_there_are_none(self):
        with self.assertRaises(RuntimeError):
            keelback.attachments()

    # ---- results

    def test_buffers_in_a_result_become_attachments(self):
        answer = self.call("answer", ["bytes"])
        self.assertEqual({"$attachment": "0"}, answer.reply.value)
        self.assertEqual([("0", "", [], b"abc")], answer.attached)
        answer = self.call("answer", ["nested"])
        self.assertEqual({"a": [1, {"$attachment": "0"}, {"$attachment": "1"}], "b": "é"}, answer.reply.value)
        self.assertEqual([b"x", b"yz"], [each[3] for each in answer.attached])
        answer = self.call("answer", ["array"])
        self.assertEqual([("0", "float64", [2], struct.pack("2d", 1.5, 2.5))], answer.attached)
        answer = self.call("answer", ["named"])
        self.assertEqual([("n", "uint8", [3], b"abc")], answer.attached)
        answer = self.call("answer", ["twice"])
        self.assertEqual(([{"$attachment": "n"}] * 2, 1), (answer.reply.value, len(answer.attached)))
        self.assertEqual(b"\0\2\4", self.call("answer", ["strided"]).attached[0][3])
        answer = self.call("answer", ["surrogate"])
        self.assertEqual(([{"$attachment": "0"}, "\ud800"], 1), (answer.reply.value, len(answer.attached)))
        self.assertEqual([], self.call("kinds").attached, "nothing of it is left")

    def test_bytes_in_what_stands_for_a_value_become_attachments_and_each_its_own(self):
        answer = self.call("answer", ["rows"])
        self.assertEqual([{"data": {"$attachment": str(i)}, "number": i} for i in range(50)], answer.reply.value)
        self.assertEqual([bytes([i]) * 1000 for i in range(50)], [each[3] for each in answer.attached])
        answer = self.call("answer", ["keys"])
        self.assertEqual({"red": [{"$attachment": "0"}, {"7": {"$attachment": "1"}, "é\ud800": 1}]}, answer.reply.value)
        self.assertEqual([b"x", b"y"], [each[3] for each in answer.attached], "and none twice")
        answer = self.call("answer", ["encoder"])
        self.assertEqual((["sealed", {"$attachment": "0"}], 1), (answer.reply.value, len(answer.attached)))

    def test_an_async_function_may_answer_with_them_too(self):
        answer = self.call("later", None, dict(name=b"a", data=b"in"))
        self.assertEqual({"later": {"$attachment": "0"}, "got": ["in"]}, answer.reply.value, answer.reply)
        self.assertEqual([b"abc"], [each[3] for each in answer.attached])

    def test_what_cannot_be_sent_is_an_error_that_says_why_and_sends_nothing(self):
        for what, part in (("clash", "two attachments of the result are called 'n'"), ("many", "at most 64"),
                           ("object", "result[1]['deep'] is of type object"), ("nan", "result[1] is nan"),
                           ("addresses", "result['a'][0] is a buffer of format '<O', which attachments do not carry"),
                           ("misfit", 'attachment "0" of 3 bytes is no float32 array of shape [2]'),
                           ("late", 'attachment "n" has the dtype "object", which attachments do not carry'),
                           ("collide", "result[1] has the keys 7 and '7', which are one key")):
            answer = self.call("answer", [what])
            self.assertEqual("keelback.ResultError", answer.reply.error["type"])
            self.assertIn(part, answer.reply.error["message"])
            self.assertEqual([], answer.attached)

    def test_an_attachment_of_a_result_says_what_it_is(self):
        answer = self.call("answer", ["said"])
        self.assertEqual({"$attachment": "0"}, answer.reply.value)
        self.assertEqual([("c\udcffat é.png", "image/png")], answer.said)
        self.assertIn("'png' is no content type", self.call("answer", ["mistyped"]).reply.error["message"])
        self.assertIn("a file name has at most 1024 bytes", self.call("answer", ["long"]).reply.error["message"])

    def test_bytes_of_addresses_are_no_array_under_another_name(self):
        answer = self.call("answer", ["hidden"])
        self.assertIn("buffer of format 'P', which attachments do not carry", answer.reply.error["message"])
        self.assertEqual([], answer.attached)

    def test_the_items_of_a_stream_carry_none(self):
        reply = self.call("stream").reply
        self.assertEqual("keelback.ResultError", reply.error["type"])
        self.assertIn("base64", reply.error["message"])

    # ---- views

    def test_a_view_ends_with_its_call(self):
        shared = self.slab(1)
        shared[:LARGE] = b"\x05" * LARGE
        large = dict(name=b"data", slab=1, size=LARGE)
        self.assertEqual(["memoryview", 5, LARGE], self.call("look", None, large).reply.value)
        answer = self.call("hold", None, large)
        self.assertEqual([], answer.kept, "it was released: the slab is free")
        self.assertIn("released", self.call("touch").reply.value)

    def test_a_slice_keeps_its_slab_until_it_goes(self):
        shared = self.slab(1)
        shared[:4] = b"\x07" * 4
        large = dict(name=b"data", slab=1, size=LARGE)
        self.assertEqual([1], self.call("slice_of", None, large).kept)
        self.assertEqual(7, self.call("touch").reply.value)
        self.slab(2)
        self.assertEqual([], self.call("look", None, dict(name=b"data", slab=2, size=LARGE)).freed)
        self.call("drop")
        self.assertEqual([1], self.call("look", None, dict(name=b"data", slab=2, size=LARGE)).freed)

    def test_a_function_that_raises_keeps_nothing(self):
        self.slab(1)
        for _ in range(3):
            answer = self.call("fail", None, dict(name=b"data", slab=1, size=LARGE))
            self.assertEqual("ValueError", answer.reply.error["type"])
            self.assertEqual([], answer.kept, "its frames are gone before anybody looks")

    def test_without_zero_copy_nothing_is_kept(self):
        self.slab(1)
        for _ in range(3):
            self.assertEqual([], self.call("kinds", None, dict(name=b"data", slab=1, size=LARGE)).kept)

    def test_a_slab_costs_one_descriptor_and_a_dropped_one_none(self):
        self.call("kinds")  # what a worker still opens and closes behind READY is over
        before = len(self.under_test.descriptors())
        self.slab(1)
        large = dict(name=b"data", slab=1, size=LARGE)
        for _ in range(5):
            self.call("look", None, large)
        self.assertLessEqual(len(self.under_test.descriptors()), before + 1)
        self.under_test.send(frame(wire.SLAB, 0, struct.pack("<BIQ", wire.SLAB_GONE, 1, 0)))
        self.call("kinds")
        self.assertEqual(before, len(self.under_test.descriptors()))

    def test_a_default_timeout_of_user_code_is_not_ours(self):
        self.under_test = self.worker(self.app("""
            import socket, keelback
            socket.setdefaulttimeout(5)

            @keelback.function
            def size(data):
                return len(data)

            @keelback.function(concurrency=8)
            async def shared(data):
                return len(data)
        """))
        for id in (1, 2):
            self.slab(id)
            self.assertEqual(70_000, self.call("size", None, dict(name=b"data", slab=id, size=70_000)).reply.value)
            w = self.under_test
            self.assertTrue(w.quiet(0.1), "it waits for its next call: " + w.log())
            self.assertEqual(3, w.end_of(w.share("shared", {}, attach=[attach(0, b"data", b"123")[16:]])).value)

    def test_nonsense_about_slabs_ends_the_worker(self):
        self.under_test.send(attach(1, name=b"data", slab=9, size=LARGE))
        self.assertIsNone(self.under_test.receive())
        self.under_test.wait_log("slab 9, which is not here")


@unittest.skipUnless(NUMPY, "no interpreter with NumPy")
class NumPy(WithAttachments):
    """The same slabs, looked at through arrays."""

    @classmethod
    def setUpClass(cls):
        cls.use_python(NUMPY)

    def setUp(self):
        # As workers.blas_threads sets it. With threads of its own NumPy could not be forked.
        zygote = self.zygote(self.app(APP), environment={"OPENBLAS_NUM_THREADS": "1"})
        zygote.expect("ready")
        self.under_test = zygote.fork().wait_ready()

    GRID = dict(name=b"grid", dtype=b"float32", shape=(LARGE // 8, 2), slab=1, size=LARGE)

    def fill(self, shared):
        shared[:LARGE] = array.array("f", [0.5] * (LARGE // 4)).tobytes()

    def test_an_array_stands_on_the_slab(self):
        self.fill(self.slab(1))
        answer = self.call("numpy_sum", None, self.GRID)
        self.assertEqual(["float32", [LARGE // 8, 2], LARGE / 8], answer.reply.value)
        self.assertEqual([], answer.kept)

    def test_an_array_that_is_kept_keeps_its_bytes(self):
        shared = self.slab(1)
        self.fill(shared)
        self.assertEqual([1], self.call("numpy_keep", None, self.GRID).kept)
        self.assertEqual(LARGE / 8, self.call("numpy_seen").reply.value)

    def test_arrays_come_back_with_type_and_shape(self):
        grid = dict(name=b"grid", dtype=b"int16", shape=(2, 3), data=struct.pack("6h", *range(6)))
        answer = self.call("numpy_double", None, grid)
        self.assertEqual([("0", "int16", [2, 3], struct.pack("6h", *range(0, 12, 2))),
                          ("1", "int16", [1, 2], struct.pack("2h", 0, 2))], answer.attached)

    def test_every_dtype_and_layout_goes_both_ways(self):
        for dtype in ("bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 float128 complex64 complex128 "
                      "complex256 >i2 >u4 >i8 >f2 >f4 >f8 >c16 <M8[ns] <M8[D] >M8[25s] <m8[ms] >m8[us] |S5 <U3 >U2").split():
            answer = self.call("numpy_layouts", [dtype])
            self.assertEqual(wire.RESULT, answer.reply.kind, answer.reply.error)
            layouts = answer.reply.value
            self.assertEqual(len(answer.attached), len(layouts))
            for (name, sent, shape, data), (layout, wanted, digest, _) in zip(answer.attached, layouts):
                self.assertEqual((dtype, wanted, digest), (sent, shape, data.hex()), layout)
                back = self.call("numpy_same", [dtype, layout], dict(name=b"grid", data=data, dtype=sent.encode(), shape=shape))
                self.assertEqual(True, back.reply.value, (dtype, layout, back.reply.error))

    def test_what_is_no_array_to_others_is_an_error_that_names_it(self):
        for what, words in (("object", "dtype object"), ("structured", "dtype [('a', '<i4')"), ("empty", "dtype object"),
                            ("void", "dtype |V8"), ("masked", "masked array"), ("in attachment", "dtype object")):
            answer = self.call("numpy_wrong", [what])
            self.assertEqual("TypeError" if what == "in attachment" else "keelback.ResultError", answer.reply.error["type"])
            self.assertIn(words, answer.reply.error["message"])
            if what != "in attachment":
                self.assertTrue(answer.reply.error["message"].startswith("result['a'][0] is a"), answer.reply)
            self.assertEqual([], answer.attached)

    def test_an_array_of_every_kind_stands_on_the_slab(self):
        shared = self.slab(1)
        self.fill(shared)
        for dtype, size in ((b">f4", 4), (b"<M8[ns]", 8), (b"complex64", 8), (b"float16", 2)):
            grid = dict(name=b"grid", dtype=dtype, shape=(LARGE // size,), slab=1, size=LARGE // size * size)
            self.assertEqual([[dtype.decode(), [LARGE // size], False]], [self.call("numpy_look", None, grid).reply.value])
            self.assertEqual([1], self.call("numpy_keep", None, grid).kept)
            self.call("drop")
            self.call("kinds", None, dict(name=b"other", data=b"x"))
            shared = self.slab(1)

    def test_a_scalar_is_a_number_and_no_buffer(self):
        answer = self.call("numpy_scalar")
        self.assertEqual(([{"n": 3, "at": "2026-01-02"}], []), (answer.reply.value, answer.attached))


class Plain(unittest.TestCase):
    """Without any worker."""

    def test_an_attachment_says_what_its_buffer_says(self):
        self.assertEqual(("", ()), self.described(b"abc"))
        self.assertEqual(("", ()), self.described(memoryview(b"abc")))
        self.assertEqual(("float64", (2,)), self.described(array.array("d", [1, 2])))
        self.assertEqual(("uint8", (2,)), self.described(array.array("B", [1, 2])))
        self.assertEqual(("int32", (2, 2)), self.described(memoryview(bytes(16)).cast("i", (2, 2))))
        self.assertEqual(("float32", (3,)), self.described(bytes(12), dtype="float32", shape=(3,)))

    def test_an_attachment_refuses_what_it_cannot_be(self):
        for dtype in ("float99", "object", "V4", "S"):
            with self.assertRaisesRegex(ValueError, f'the dtype "{dtype}", which attachments do not carry'):
                keelback.Attachment(bytes(8), dtype=dtype)
        with self.assertRaisesRegex(ValueError, "needs a dtype"):
            keelback.Attachment(bytes(8), shape=(8,))
        with self.assertRaisesRegex(TypeError, "buffer of format 'P', which attachments do not carry"):
            keelback.Attachment(memoryview(bytes(8)).cast("P"))

    def described(self, data, **given):
        attachment = keelback.Attachment(data, **given)
        return attachment.dtype, attachment.shape

    def test_its_view_has_type_and_shape(self):
        attachment = keelback.Attachment(struct.pack("4h", 1, 2, 3, 4), "a", "int16", (2, 2))
        self.assertEqual([[1, 2], [3, 4]], attachment.view().tolist())
        self.assertEqual((8, b"\1\0\2\0\3\0\4\0"), (len(attachment), bytes(attachment)))
        self.assertEqual({"version": 3, "shape": (2, 2), "typestr": "<i2"},
                         {key: value for key, value in attachment.__array_interface__.items() if key != "data"})
        self.assertEqual([], keelback.Attachment(b"", "a", "int16", (0,)).view().tolist())
        self.assertEqual(7, keelback.Attachment(b"\7\0", "a", "<i2", ()).view()[()])
        self.assertEqual(("int16", (2,)), self.described(bytes(4), dtype="<i2"))
        self.assertEqual((">i2", (2, 1)), self.described(memoryview(bytes(4)).cast("h", (2, 1)), dtype=">i2"))
        with self.assertRaisesRegex(ValueError, '"a" of 3 bytes is no int16 array'):
            keelback.Attachment(b"abc", "a", "int16", (2,)).view()


if __name__ == "__main__":
    unittest.main()
