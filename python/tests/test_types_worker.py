"""Arguments by their annotations, as a worker takes them: alone, shared, streamed, in sessions, from attachments."""

import struct
import unittest

from supervisor import SupervisorTest, wire

APP = """
import dataclasses, datetime, typing
import keelback

ran = []

@dataclasses.dataclass
class Point:
    x: int
    at: typing.Optional[datetime.date] = None

    def __post_init__(self):
        if self.x == 13:
            raise KeyError("broken")

@keelback.function
def plain(n: int, day: datetime.date = None, *points: Point, **more: typing.List[int]):
    ran.append("plain")
    return [type(n).__name__, type(day).__name__, [type(each).__name__ for each in points], points, more]

@keelback.function(concurrency=8)
async def together(point: Point, k: float = 1.0):
    ran.append("together")
    return [type(point).__name__, type(k).__name__, keelback.has_session()]

@keelback.function(concurrency=8)
def threads(point: Point):
    return type(point).__name__

@keelback.function
async def alone(point: Point):
    return type(point).__name__

@keelback.function
def stream(point: Point, n: int = 2) -> typing.Iterator[Point]:
    ran.append("stream")
    for _ in range(n):
        yield point

@keelback.function
def remember(point: Point):
    points = keelback.session().state.setdefault("points", 0)
    keelback.session().state["points"] = points + point.x
    return points + point.x

@keelback.function(validate=False)
def unchecked(n: int, point: Point = None):
    return [n, point]

@keelback.function
def form(day: datetime.date, point: Point, n: int = 1):
    return [type(day).__name__, type(point).__name__, n]

@keelback.function
def unsure(x: "Nowhere", y: object = 1, z: "Missing.part" = 1):
    return [x, y, z]

@keelback.function
def what():
    return ran
"""


class TypesInWorkers(SupervisorTest):
    def setUp(self):
        super().setUp()
        self.w = self.exec_worker(self.app(APP)).wait_ready()

    def refused(self, reply, *errors):
        self.assertEqual((wire.KIND_BAD_REQUEST, "keelback.ValidationError"), (reply.error_kind, reply.error["type"]), reply)
        self.assertEqual(list(errors), [(each["loc"], each["type"]) for each in reply.error["errors"]])
        self.assertEqual("", reply.error["traceback"])

    def test_arguments_are_of_their_types(self):
        reply = self.w.call("plain", [1, "2026-11-30", {"x": 1}, {"x": 2, "at": "2026-11-30"}])
        self.assertEqual(["int", "date", ["Point", "Point"], [{"x": 1, "at": None}, {"x": 2, "at": "2026-11-30"}], {}], reply.value, reply)
        self.assertEqual(["int", "NoneType", [], [], {"a": [1]}], self.w.call("plain", {"n": 1, "a": [1]}).value)
        self.assertEqual("Point", self.w.call("alone", {"point": {"x": 1}}).value)

    def test_what_does_not_fit_is_refused_and_nothing_runs(self):
        started = self.w.words[0]
        self.refused(self.w.call("plain", ["1"]), (["n"], "int_type"))
        self.refused(self.w.call("plain", {"n": True, "day": "x", "a": [1, "2"], "b": 3}),
                     (["n"], "int_type"), (["day"], "date_parsing"), (["a", 1], "int_type"), (["b"], "list_type"))
        self.refused(self.w.call("plain", [1, None, {"x": 1}, {"x": "2", "z": 1}]),
                     (["points", 1, "x"], "int_type"), (["points", 1, "z"], "unexpected_keyword_argument"))
        self.assertEqual(started, self.w.words[0], "no started mark was written")
        self.assertEqual([], self.w.call("what").value)

    def test_what_does_not_bind_is_another_error(self):
        for arguments in ([], {"n": 1, "day": None, "points": 1}, {"x": 1}):
            reply = self.w.call("plain", arguments)
            self.assertEqual(wire.KIND_BAD_REQUEST, reply.error_kind)
            self.assertEqual(arguments == {"n": 1, "day": None, "points": 1}, reply.error["type"] == "keelback.ValidationError", reply)
        reply = self.w.call("alone", ["1", "2"])
        self.assertEqual("TypeError", reply.error["type"], "it is looked whether they bind before what they are")
        self.assertNotIn("errors", reply.error)

    def test_a_type_that_fails_is_an_error_and_nothing_runs(self):
        started = self.w.words[0]
        reply = self.w.call("alone", [{"x": 13}])
        self.assertEqual((wire.KIND_ERROR, "KeyError"), (reply.error_kind, reply.error["type"]))
        self.assertIn("__post_init__", reply.error["traceback"])
        self.assertEqual(started, self.w.words[0])

    def test_shared_calls(self):
        calls = self.w.share_all([("together", [{"x": 1}]), ("together", [{"x": "1"}, 2]), ("threads", [{"x": 1}]), ("threads", [7]),
                                  ("together", {"point": {"x": 1}, "k": 2}), ("together", [{"x": 13}])])
        replies = [self.w.end_of(call) for call in calls]
        self.assertEqual(["Point", "float", False], replies[0].value)
        self.refused(replies[1], (["point", "x"], "int_type"))
        self.assertEqual("Point", replies[2].value)
        self.refused(replies[3], (["point"], "dataclass_type"))
        self.assertEqual(["Point", "float", False], replies[4].value)
        self.assertEqual((wire.KIND_ERROR, "KeyError"), (replies[5].error_kind, replies[5].error["type"]))

    def test_streams(self):
        self.assertEqual([{"x": 1, "at": None}] * 2, self.w.call("stream", [{"x": 1}]).value)
        self.assertEqual([{"x": 1, "at": None}] * 2, self.w.call("stream", [{"x": 1}], stream=True).items)
        reply = self.w.call("stream", [{"x": 1}, "2"], stream=True)
        self.assertEqual([], reply.items)
        self.refused(reply, (["n"], "int_type"))

    def test_sessions_are_what_they_were(self):
        self.assertEqual(1, self.w.call("remember", [{"x": 1}], session="a", birth=1, epoch=1, opens=True, saves=True).value)
        reply = self.w.call("remember", [{"x": "1"}], session="a", birth=1, epoch=1, saves=True)
        self.refused(reply, (["point", "x"], "int_type"))
        self.assertIsNone(reply.state, "nothing ran, so nothing is saved")
        self.assertEqual(3, self.w.call("remember", [{"x": 2}], session="a", birth=1, epoch=1).value)

    def test_unchecked_functions_get_what_json_has(self):
        self.assertEqual(["1", {"x": "y"}], self.w.call("unchecked", ["1", {"x": "y"}]).value)

    def attached(self, name, data, content_type=b"text/plain", filename=b""):
        return struct.pack("<IBBHQQHH", 0, 0, 0, len(name), 0, len(data), len(filename), len(content_type)) + name + filename + content_type + data

    def test_forms(self):
        point = self.attached(b"point", b'{"x": 1}')
        reply = self.w.call("form", {"n": 2}, attach=[self.attached(b"day", b"2026-11-30"), point])
        self.assertEqual(["date", "Point", 2], reply.value, reply)
        reply = self.w.call("form", {"n": "2"}, attach=[self.attached(b"day", b"2026-11-30"), point])
        self.refused(reply, (["n"], "int_type"))
        reply = self.w.call("form", None, attach=[self.attached(b"day", b"today"), point])
        self.refused(reply, (["day"], "date_parsing"))
        reply = self.w.call("form", None, attach=[self.attached(b"day", b"2026-11-30"), self.attached(b"point", b'{"x": "1"}')])
        self.refused(reply, (["point", "x"], "int_type"))

    def test_annotations_that_count_as_none_are_in_the_log(self):
        self.assertEqual([[1], "a", {}], self.w.call("unsure", [[1], "a", {}]).value)
        self.assertIn("annotations that count as none", self.w.log())
        self.assertIn("unsure(x: Nowhere", self.w.log())
        self.assertIn("unsure(z: Missing.part", self.w.log())
        self.assertNotIn("unsure(y", self.w.log())

    def test_hello_has_the_schemas(self):
        plain = self.w.hello["functions"][0]
        self.assertEqual([{"type": "integer"}, {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, {"$ref": "#/$defs/Point"},
                          {"type": "array", "items": {"type": "integer"}}], [each["schema"] for each in plain["params"]])
        self.assertEqual(["Point"], list(self.w.hello["$defs"]))
        stream = next(each for each in self.w.hello["functions"] if each["name"] == "stream")
        self.assertEqual({"$ref": "#/$defs/Point"}, stream["result"])
        unchecked = next(each for each in self.w.hello["functions"] if each["name"] == "unchecked")
        self.assertTrue(all("schema" not in each for each in unchecked["params"]))

    def test_forked_workers_convert_too(self):
        zygote = self.zygote(self.app(APP))
        self.assertIn("Point", zygote.expect("ready")["hello"]["$defs"])
        worker = zygote.fork().wait_ready()
        self.assertEqual("Point", worker.call("alone", [{"x": 1}]).value)
        self.refused(worker.call("alone", [{"x": None}]), (["point", "x"], "int_type"))

    def test_types_of_other_modules_are_not_imported_for_it(self):
        app = self.app("import sys, keelback\n@keelback.function\ndef f(x: int, *y: str, **z: 'list[float]') -> dict:\n"
                       "    return sorted({'pydantic', 'decimal', 'numpy', 'dataclasses'} & set(sys.modules) - start)\nstart = set(sys.modules)\n")
        self.assertEqual([], self.exec_worker(app).wait_ready().call("f", [1]).value)


if __name__ == "__main__":
    unittest.main()
