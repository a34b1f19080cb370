"""Arguments by their annotations: what fits becomes a value of the type, and what does not is refused with its place."""
# ruff: noqa: C408, UP006, UP007, UP045

import collections
import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import pathlib
import sys
import typing
import unittest
import uuid
from typing import Any, Dict, FrozenSet, List, Literal, NamedTuple, Optional, Sequence, Set, Tuple, TypedDict, Union

import supervisor  # noqa: F401  (finds the package)

import keelback
from keelback.attachment import Attachment
from keelback.attachments import Carried
from keelback.encoding import encode
from keelback.functions import Function
from keelback.misfits import CheckFailed, Misfit
from keelback.schemas import Schemas

UTC = datetime.timezone.utc
EMPTY = inspect.Parameter.empty


class Colour(enum.Enum):
    RED = "red"
    TWO = 2
    HALF = 0.5
    YES = True


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Loose(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value):
        return cls.A if str(value).lower() == "a" else None


_STRICT = {"boundary": enum.STRICT} if hasattr(enum, "STRICT") else {}  # the default of some versions only


class Rights(enum.Flag, **_STRICT):
    READ = 1
    WRITE = 2


class Unwritten(enum.Enum):
    THING = object()


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Tree:
    name: str
    when: "Optional[datetime.date]" = None
    children: "list[Tree]" = dataclasses.field(default_factory=list)
    made: int = dataclasses.field(default=0, init=False)
    KIND: typing.ClassVar[str] = "tree"


@dataclasses.dataclass
class Even:
    n: int
    scale: dataclasses.InitVar[int] = 1

    def __post_init__(self, scale):
        self.n *= scale
        if self.n % 2:
            raise ValueError(f"{self.n} is odd")
        assert self.n < 100, "too much"
        if self.n == 42:
            raise KeyError("broken")


class Row(TypedDict):
    id: int
    at: datetime.datetime


class Wide(Row, total=False):
    note: "str | None"
    points: List[Point]


class Pair(NamedTuple):
    first: int
    second: "Optional[Point]" = None


T = typing.TypeVar("T")
Bound = typing.TypeVar("Bound", bound=int)
OneOf = typing.TypeVar("OneOf", int, str)
Id = typing.NewType("Id", int)
NOW = datetime.datetime(2026, 11, 30, 19, 30, 5, 250000, UTC)
SOME = uuid.UUID("12345678-1234-5678-1234-567812345678")


def function(annotation, default=EMPTY, **options):
    def f(x): ...

    if default is not EMPTY:
        f.__defaults__ = (default,)
    f.__annotations__["x"] = annotation
    return Function("f", f, **options)


def converted(annotation, value, **options):
    made = function(annotation, **options)
    args, kwargs = [], {"x": json.loads(json.dumps(value))}
    if made.bind(*args, **kwargs):
        args, kwargs = made.convert(args, kwargs)
    return kwargs["x"]


class Types(unittest.TestCase):
    def fits(self, annotation, value, expected):
        got = converted(annotation, value)
        self.assertEqual((type(expected), expected), (type(got), got), (annotation, value))
        # In a list, in a dictionary, and nested in both.
        self.assertEqual([expected, expected], converted(List[annotation], [value, value]), annotation)
        self.assertEqual({"k": expected}, converted(Dict[str, annotation], {"k": value}), annotation)
        self.assertEqual({"k": [expected]}, converted(Dict[str, List[annotation]], {"k": [value]}), annotation)
        self.assertEqual((1, expected), converted(Tuple[int, annotation], [1, value]), annotation)
        holder = dataclasses.make_dataclass("Holder", [("inner", annotation), ("more", Optional[annotation], None)])
        self.assertEqual(holder(expected, expected), converted(holder, {"inner": value, "more": value}), annotation)
        self.assertEqual(expected, converted(Optional[annotation], value), annotation)

    def refused(self, annotation, value, *errors):
        """`errors` are pairs: where below the argument, and the type."""
        made = function(annotation)
        self.assertTrue(made.bind(value), (annotation, value))
        with self.assertRaises(Misfit, msg=(annotation, value)) as caught:
            made.convert([value], {})
        data = caught.exception.as_data()
        self.assertEqual([(["x", *loc], type) for loc, type in errors], [(each["loc"], each["type"]) for each in data], data)
        self.assertTrue(all(each["msg"] for each in data), data)
        self.assertTrue(str(caught.exception).startswith('argument "x": '), caught.exception)
        return [each["msg"] for each in data]

    def test_plain_types_are_taken_as_they_are_and_nothing_else_is(self):
        values = {int: 7, str: "7", bool: True, float: 7.5, list: [7], dict: {"a": 7}, type(None): None}
        names = {int: "int_type", str: "string_type", bool: "bool_type", float: "float_type", list: "list_type", dict: "dict_type",
                 type(None): "none_required"}
        for annotation in values:
            for kind, value in values.items():
                if kind is annotation:
                    self.fits(annotation, value, value)
                    self.assertFalse(function(annotation).bind(value), "nothing is to be done")
                elif (annotation, kind) != (float, int):
                    self.refused(annotation, value, ([], names[annotation]))
        self.fits(float, 7, 7.0)
        self.refused(int, 7.0, ([], "int_type"))
        self.refused(float, 10**400, ([], "finite_number"))
        self.assertIs(type(10**400), type(converted(int, 10**400)))
        self.fits("int", 7, 7)
        self.fits(Id, 7, 7)
        self.fits(typing.Annotated[int, "a note"], 7, 7)

    def test_no_annotation_and_any_are_not_checked(self):
        for annotation in (Any, object, T, Optional[Any], Union[int, Any], "Any", List, Dict):
            value = [1, "a"] if annotation is List else {"a": [None]}
            self.assertEqual(value, converted(annotation, value), annotation)
        self.assertEqual([1, {"a": None}], converted(List[Any], [1, {"a": None}]))

    def test_times_and_identifiers_come_as_text(self):
        self.fits(datetime.datetime, "2026-11-30T19:30:05.25Z", NOW)
        self.fits(datetime.datetime, "2026-11-30 20:30:05,250000+01:00", NOW)
        self.fits(datetime.datetime, "2026-11-30T19:30", datetime.datetime(2026, 11, 30, 19, 30))
        self.fits(datetime.datetime, "2026-11-30T19:30:05.123456789", datetime.datetime(2026, 11, 30, 19, 30, 5, 123456))
        self.fits(datetime.date, "2026-11-30", datetime.date(2026, 11, 30))
        self.fits(datetime.time, "19:30:05", datetime.time(19, 30, 5))
        self.fits(datetime.time, "19:30-0130", datetime.time(19, 30, tzinfo=datetime.timezone(-datetime.timedelta(minutes=90))))
        self.fits(datetime.timedelta, "P1DT2H0.5S", datetime.timedelta(days=1, hours=2, milliseconds=500))
        self.fits(datetime.timedelta, "-PT1M", -datetime.timedelta(minutes=1))
        self.fits(uuid.UUID, str(SOME), SOME)
        self.fits(decimal.Decimal, "1.10", decimal.Decimal("1.10"))
        self.fits(decimal.Decimal, 3, decimal.Decimal(3))
        self.fits(decimal.Decimal, 0.1, decimal.Decimal("0.1"))
        self.fits(pathlib.Path, "a/b", pathlib.Path("a/b"))
        self.fits(pathlib.PurePath, "a", pathlib.PurePath("a"))
        for annotation, word, texts in (
            (datetime.datetime, "datetime", ("2026-11-30", "2026-02-30T00:00", "now", "", "2026-11-30T24:00", "２026-11-30T19:30",
                                             "2026-11-30T19:30+01:99", "2026-11-30T19:30Z ", "2026-11-30T19:30+2500")),
            (datetime.date, "date", ("2026-11-31", "30.11.2026", "2026-11-30T00:00:00", "20261130")),
            (datetime.time, "time", ("25:00", "7", "19:30:60")), (datetime.timedelta, "time_delta", ("P", "PT", "1 day", "P1Y", "P1DT", "P9999999999D")),
            (uuid.UUID, "uuid", ("x", str(SOME)[:-1])), (decimal.Decimal, "decimal", ("NaN", "Infinity", "1_0", "", "0x1")),
        ):
            for text in texts:
                self.refused(annotation, text, ([], f"{word}_parsing"))
            for other in (None, True, [1], {}, *(() if word == "decimal" else (7, 7.5))):
                self.refused(annotation, other, ([], f"{word}_type"))
        self.refused(pathlib.Path, 7, ([], "path_type"))

    def test_what_results_write_arguments_read(self):
        for annotation, value in ((datetime.datetime, NOW), (datetime.date, NOW.date()), (datetime.time, NOW.timetz()), (uuid.UUID, SOME),
                                  (datetime.timedelta, datetime.timedelta(days=-1, microseconds=1)), (decimal.Decimal, decimal.Decimal("1E+3")),
                                  (pathlib.Path, pathlib.Path("a")), (Colour, Colour.HALF), (Level, Level.HIGH), (Set[int], {1, 2}), (Tuple[int, ...], (1, 2)),
                                  (Tree, Tree("a", NOW.date(), [Tree("b")])), (Dict[int, Point], {1: Point(2)}), (Pair, Pair(1, Point(2))),
                                  (Dict[uuid.UUID, Dict[Level, bool]], {SOME: {Level.LOW: True}}), (Row, {"id": 1, "at": NOW})):
            written = json.loads(encode(value))
            if annotation is Tree:
                for tree in (written, *written["children"]):
                    del tree["made"]  # __init__ does not take it
            self.assertEqual(value, converted(annotation, written), annotation)

    def test_choices(self):
        for member in Colour:
            self.fits(Colour, member.value, member)
        self.fits(Level, 2, Level.HIGH)
        self.fits(Loose, "A", Loose.A)
        self.fits(Rights, 3, Rights.READ | Rights.WRITE)
        for wrong in (1, "RED", [2], {}, 2.5, False):
            message, = self.refused(Colour, wrong, ([], "enum"))
        self.assertEqual("Input should be 'red', 2, 0.5 or True", message)
        self.refused(Loose, "b", ([], "enum"))
        self.refused(Level, True, ([], "enum"))
        for wrong in (4, "x", True):
            self.refused(Rights, wrong, ([], "enum"))
        for value in ("a", 1, None):
            self.fits(Literal["a", 1, None], value, value)
        self.fits(Literal[Level.LOW], 1, Level.LOW)
        for wrong in ("b", True, 1.0, 2, [1]):
            self.refused(Literal["a", 1, None], wrong, ([], "literal_error"))

    def test_containers(self):
        self.fits(List[int], [1, 2], [1, 2])
        for annotation in (List[float], Sequence[float], typing.Iterable[float], "list[float]"):
            self.assertEqual([1.0, 2.5], converted(annotation, [1, 2.5]))
        self.assertEqual({1, 2}, converted(Set[int], [1, 2, 1]))
        self.assertEqual(frozenset("a"), converted(FrozenSet[str], ["a"]))
        self.assertEqual({NOW.date()}, converted("set[datetime.date]", ["2026-11-30"]))
        self.assertEqual(collections.deque([1]), converted(typing.Deque[int], [1]))
        self.assertEqual((), converted("tuple[()]", []))
        self.assertEqual((1, "a"), converted("tuple", [1, "a"]))
        self.assertEqual((NOW.date(), NOW.date()), converted(Tuple[datetime.date, ...], ["2026-11-30"] * 2))
        self.assertEqual({1: [True]}, converted("dict[int, list[bool]]", {"1": [True]}))
        self.assertEqual({"a": 1.0}, converted(typing.Mapping[str, float], {"a": 1}))
        self.refused(List[int], {"a": 1}, ([], "list_type"))
        self.refused(List[int], [1, "2", 3, None], ([1], "int_type"), ([3], "int_type"))
        self.refused(Dict[str, List[int]], {"a": [1], "b": [2, "x"], "c": 3}, (["b", 1], "int_type"), (["c"], "list_type"))
        self.refused(Dict[int, str], {"x": "a"}, (["x", "[key]"], "key_parsing"))
        self.refused(Dict[int, str], {"1": "a", "01": "b"}, (["01", "[key]"], "key_twice"))
        self.refused(Dict[Level, str], {"3": "a"}, (["3", "[key]"], "enum"))
        self.refused(Dict[datetime.date, str], {"x": "a"}, (["x", "[key]"], "date_parsing"))
        self.refused(Set[list], [[1]], ([], "set_item_not_hashable"))
        self.refused(Set[int], "12", ([], "set_type"))
        self.refused(Tuple[int, str], [1], ([1], "missing"))
        self.refused(Tuple[int, str], [1, "a", 2], ([], "too_long"))
        self.refused(Tuple[int, str], ["a", 1], ([0], "int_type"), ([1], "string_type"))
        self.refused(Tuple[int, ...], [1, "a"], ([1], "int_type"))

    def test_of_a_union_the_first_member_that_fits(self):
        self.fits(Union[int, str], "a", "a")
        self.fits(Union[datetime.date, str], "2026-11-30", NOW.date())
        self.fits(Union[datetime.date, str], "a", "a")
        self.assertEqual("2026-11-30", converted("str | datetime.date", "2026-11-30"))
        for annotation in (Union[int, float], Union[float, int], "int | float"):
            self.fits(annotation, 1, 1)
            self.fits(annotation, 1.5, 1.5)
        self.fits(Union[Point, Tree], {"name": "a"}, Tree("a"))
        self.fits(Optional[Point], {"x": 1}, Point(1))
        self.assertIsNone(converted(Optional[Point], None))
        self.assertIsNone(converted("Point | None", None))
        self.refused(Optional[int], "1", ([], "int_type"))
        self.refused(Optional[Point], {"y": "1"}, (["y"], "float_type"), (["x"], "missing"))
        self.refused(Union[int, List[int]], "1", (["int"], "int_type"), ([str(List[int]).replace("typing.", "")], "list_type"))
        self.refused(OneOf, None, (["int"], "int_type"), (["str"], "string_type"))
        self.refused(Bound, "1", ([], "int_type"))

    def test_classes_with_fields(self):
        self.fits(Point, {"x": 1}, Point(1))
        self.fits(Tree, {"name": "a", "when": "2026-11-30", "children": [{"name": "b"}]}, Tree("a", NOW.date(), [Tree("b")]))
        self.fits(Row, {"id": 1, "at": "2026-11-30T19:30:05.25Z"}, {"id": 1, "at": NOW})
        self.fits(Wide, {"id": 1, "at": "2026-11-30T19:30:05.25Z", "points": [{"x": 1}], "note": None},
                  {"id": 1, "at": NOW, "points": [Point(1)], "note": None})
        self.fits(Pair, [1, {"x": 1}], Pair(1, Point(1)))
        self.fits(Pair, [1], Pair(1))
        self.fits(Even, {"n": 2, "scale": 3}, Even(6))
        self.refused(Point, [1], ([], "dataclass_type"))
        self.refused(Point, {"x": 1, "z": 2}, (["z"], "unexpected_keyword_argument"))
        self.refused(Tree, {"name": "a", "made": 1}, (["made"], "unexpected_keyword_argument"))
        self.refused(Tree, {"name": 1, "children": [{"name": "b"}, {"children": [{"name": None}]}]}, (["name"], "string_type"),
                     (["children", 1, "children", 0, "name"], "string_type"), (["children", 1, "name"], "missing"))
        self.refused(Row, {"id": "1", "more": 1}, (["id"], "int_type"), (["more"], "extra_forbidden"), (["at"], "missing"))
        self.refused(Wide, {}, (["id"], "missing"), (["at"], "missing"))
        self.refused(Pair, [], ([0], "missing"))

    def test_a_class_may_refuse_and_may_be_broken(self):
        self.assertEqual(["Value error, 3 is odd"], self.refused(Even, {"n": 3}, ([], "value_error")))
        self.assertEqual(["Assertion failed, too much"], self.refused(List[Even], [{"n": 200}], ([0], "assertion_error")))
        with self.assertRaises(CheckFailed) as caught:
            converted(Even, {"n": 42})
        self.assertIsInstance(caught.exception.__cause__, KeyError)

    def test_annotations_that_count_as_none_are_named(self):
        class Own: ...

        for annotation, words in (("Nowhere", "Nowhere (NameError"), (Own, "Own"), ("1 +", "SyntaxError"), (Unwritten, "Unwritten"), (7, "7"),
                                  (typing.Callable[[int], int], "Callable"), (List[Own], "Own"), (Dict[Own, int], "Own"), (Union[int, Own], "Own")):
            made = function(annotation)
            value = {List[Own]: [7], Dict[Own, int]: {"a": 7}}.get(annotation, "anything")
            self.assertEqual(value, converted(annotation, value), annotation)
            self.assertEqual(1, len(made.arguments.unusable), annotation)
            self.assertIn(words, made.arguments.unusable[0])
            self.assertTrue(made.arguments.unusable[0].startswith("x: "))
        self.refused(List[Own], 7, ([], "list_type"))
        part = dataclasses.make_dataclass("Part", [("a", "Nowhere"), ("b", int)])
        self.assertEqual(part(["as it is"], 1), converted(part, {"a": ["as it is"], "b": 1}))
        self.assertEqual(["x: Nowhere (NameError: name 'Nowhere' is not defined)"], function(part).arguments.unusable)

    @unittest.skipIf(sys.version_info < (3, 12), "the statement is younger")
    def test_type_aliases(self):
        scope = {}
        exec("type Whole = int\ntype Many[T] = list[T]\ntype Chain = dict[str, Chain] | None", scope)
        self.assertEqual(7, converted(scope["Whole"], 7))
        self.refused(scope["Whole"], "7", ([], "int_type"))
        self.refused(scope["Many"][int], [1, "2"], ([1], "int_type"))
        self.assertEqual(["x: Chain"], function(scope["Chain"]).arguments.unusable, "what it contains of itself")

    def test_many_errors_are_cut(self):
        made = function(List[int])
        with self.assertRaises(Misfit) as caught:
            made.convert([["x"] * 100_000], {})
        self.assertEqual(100, len(caught.exception.as_data()))
        self.assertIn("(and 99 more)", str(caught.exception))
        with self.assertRaises(Misfit) as caught:
            function(Dict[str, int]).convert([{"k" * 100_000: "x"}], {})
        self.assertLess(len(json.dumps(caught.exception.as_data())), 1000)


def odd_names(_absent: int, __type: str = "a", int: float = 1.0, type: Optional[bool] = None, _int: str = ""): ...


class Functions(unittest.TestCase):
    def test_each_kind_of_parameter_is_converted(self):
        def f(a: float, /, b: datetime.date, *rest: datetime.date, c: Optional[Point] = None, d: int = 1, **more: Level): ...

        made = Function("f", f)
        self.assertIs(True, made.bind(1.0, "2026-11-30"))
        args, kwargs = made.convert([1, "2026-11-30", "2026-11-29"], {"c": {"x": 1}, "other": 2, "a": 1})
        self.assertEqual([1.0, NOW.date(), datetime.date(2026, 11, 29)], args)
        self.assertEqual({"c": Point(1), "other": Level.HIGH, "a": Level.LOW}, kwargs)
        with self.assertRaises(Misfit) as caught:
            made.convert(["1", "x", "2026-11-30", 7], {"c": {}, "d": "2", "other": 3})
        self.assertEqual([["a"], ["b"], ["rest", 1], ["c", "x"], ["d"], ["other"]], [each["loc"] for each in caught.exception.as_data()])
        with self.assertRaisesRegex(TypeError, r"f\(\) missing 1 required positional argument: 'b'"):
            made.bind(1)

    def test_defaults_are_not_checked_and_none_says_that_null_fits(self):
        def f(a: int = "odd", b: int = None, c: List[int] = ()): ...

        made = Function("f", f)
        self.assertFalse(made.bind())
        self.assertFalse(made.bind(1, None))
        self.assertTrue(made.bind(c=[1]))
        self.assertEqual(([1, None, [1]], {}), made.convert([1, None, [1]], {}))
        with self.assertRaises(Misfit):
            made.convert([None], {})

    def test_functions_without_annotations_have_nothing_to_do(self):
        def plain(a, b=1, *c, d, **e): ...
        def result(a) -> int: ...

        for each in (Function("plain", plain), Function("result", result)):
            self.assertEqual({}, each.arguments.converters)
        self.assertIsNone(Function("plain", plain).bind(1, 2, 3, d=4, f=5))
        self.assertEqual("plain", Function("plain", plain).bind.__name__)

    def test_parameters_may_have_any_name(self):
        made = Function("f", odd_names)
        self.assertFalse(made.bind(1, "b", 2.0, True, "c"))
        for wrong in ({"_absent": "1"}, {"_absent": 1, "__type": 2}, {"_absent": 1, "int": "x"}, {"_absent": 1, "type": 0},
                      {"_absent": 1, "_int": 3}):
            self.assertTrue(made.bind(**wrong), wrong)

    def test_validate_turns_it_off(self):
        self.assertEqual("x", converted(int, "x", validate=False))
        self.assertEqual({}, function(Point, validate=False).arguments.converters)
        with self.assertRaises(TypeError):
            keelback.function(validate=1)(lambda x: x)


def text(value, content_type="text/plain"):
    return dict(data=value.encode(), content_type=content_type, filename="")


class Fields(unittest.TestCase):
    """A form's field is converted as its annotation says."""

    def filled(self, annotation, *fields):
        made = function(annotation)
        carried = Carried()
        for each in fields:
            carried.add("x", each.get("dtype", ""), each.get("shape", ()), each["content_type"], each["filename"], each["data"], 0, len(each["data"]))
        kwargs = {}
        carried.fill(made, kwargs)
        args, kwargs = made.convert([], kwargs) if made.bind(**kwargs) else ([], kwargs)
        return kwargs["x"]

    def test_fields_are_what_their_annotations_say(self):
        for annotation, value, expected in (
            (datetime.date, "2026-11-30", NOW.date()), (Optional[datetime.date], "", None), (uuid.UUID, f" {SOME}\n", SOME), (Level, "2", Level.HIGH),
            (Literal["a", 1], "1", 1), (decimal.Decimal, "1.5", decimal.Decimal("1.5")), (pathlib.Path, "a", pathlib.Path("a")), (int, "7", 7),
            (Point, '{"x": 1}', Point(1)), (Dict[str, int], '{"a": 1}', {"a": 1}), (dict, '{"a": 1}', {"a": 1}), (Colour, "red", Colour.RED),
            (Union[datetime.date, str], "2026-11-30", NOW.date()), (Union[Point, str], "plain", "plain"), (bool, "on", True),
        ):
            got = self.filled(annotation, text(value))
            self.assertEqual((type(expected), expected), (type(got), got), annotation)
        self.assertEqual([NOW.date()] * 2, self.filled(List[datetime.date], text("2026-11-30"), text("2026-11-30")))
        self.assertEqual({1, 2}, self.filled(Set[int], text("1"), text("2")))
        self.assertEqual((Level.LOW,), self.filled(Tuple[Level, ...], text("1")))
        self.assertEqual([Point(1), Point(2)], self.filled(List[Point], text('{"x":1}'), text('{"x":2}')))
        file = dict(data=b'{"x": 3}', content_type="application/json", filename="point.json")
        self.assertEqual(Point(3), self.filled(Point, file))

    def test_fields_that_do_not_fit_have_their_place(self):
        for annotation, fields, loc, kind in (
            (int, [text("x")], ["x"], "int_parsing"), (datetime.date, [text("x")], ["x"], "date_parsing"), (Level, [text("9")], ["x"], "enum"),
            (List[int], [text("1"), text("x")], ["x", 1], "int_parsing"), (Point, [text("{")], ["x"], "json_invalid"),
            (Point, [text('{"x": "1"}')], ["x", "x"], "int_type"), (List[Point], [text('{"x": 1}'), text("{}")], ["x", 1, "x"], "missing"),
            (int, [text("1"), text("2")], ["x"], "too_many"), (datetime.date, [dict(data=b"png", content_type="image/png", filename="a")], ["x"], "date_type"),
        ):
            with self.assertRaises(Misfit, msg=annotation) as caught:
                self.filled(annotation, *fields)
            error, = caught.exception.as_data()
            self.assertEqual((loc, kind), (error["loc"], error["type"]), error)

    def test_bytes_come_as_attachments_only(self):
        file = dict(data=b"png", content_type="image/png", filename="a")
        for annotation in (bytes, Attachment, Optional[bytes]):
            self.assertEqual(b"png", bytes(self.filled(annotation, file)))
            with self.assertRaises(Misfit) as caught:
                converted(annotation, "png")
            self.assertEqual("attachment_type", caught.exception.as_data()[0]["type"])


class Described(unittest.TestCase):
    def schema(self, annotation):
        found = Schemas()
        schema = function(annotation).arguments.converters["x"].schema(found)
        return schema, found.definitions

    def test_the_schema_of_each_type(self):
        for annotation, schema in (
            (int, {"type": "integer"}), (str, {"type": "string"}), (bool, {"type": "boolean"}), (float, {"type": "number"}), (list, {"type": "array"}),
            (dict, {"type": "object"}), (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}), (List[int], {"type": "array", "items": {"type": "integer"}}),
            (Set[str], {"type": "array", "items": {"type": "string"}}), (Dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
            (Tuple[int, str], {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "integer"}, {"type": "string"}]}),
            (datetime.datetime, {"type": "string", "format": "date-time"}), (datetime.date, {"type": "string", "format": "date"}),
            (datetime.time, {"type": "string", "format": "time"}), (uuid.UUID, {"type": "string", "format": "uuid"}), (Literal["a", 1], {"enum": ["a", 1]}),
            (pathlib.Path, {"type": "string", "format": "path"}), (bytes, {"type": "string", "format": "binary"}),
        ):
            self.assertEqual((schema, {}), self.schema(annotation), annotation)
        self.assertEqual(({"$ref": "#/$defs/Level"}, {"Level": {"enum": [1, 2], "title": "Level"}}), self.schema(Level))

    def test_named_types_are_definitions_and_may_contain_themselves(self):
        schema, definitions = self.schema(List[Tree])
        self.assertEqual({"type": "array", "items": {"$ref": "#/$defs/Tree"}}, schema)
        self.assertEqual(["Tree"], list(definitions))
        tree = definitions["Tree"]
        self.assertEqual(["name"], tree["required"])
        self.assertEqual({"type": "array", "items": {"$ref": "#/$defs/Tree"}}, tree["properties"]["children"])
        self.assertNotIn("additionalProperties", tree, "a result has `made`, too")
        self.assertIs(False, self.schema(Point)[1]["Point"]["additionalProperties"])

    def test_two_classes_of_one_name_are_two_definitions(self):
        other = dataclasses.make_dataclass("Point", [("z", int)])
        found = Schemas()
        schemas = [function(each).arguments.converters["x"].schema(found) for each in (Point, other, Point)]
        self.assertEqual(["#/$defs/Point", "#/$defs/Point_2", "#/$defs/Point"], [each["$ref"] for each in schemas])

    def test_results_and_items_of_streams_are_described(self):
        def plain() -> Point: ...
        def stream() -> typing.Iterator[int]:
            yield 1
        async def items() -> "typing.AsyncIterator[Level]":
            yield Level.LOW
        def silent(): ...
        def data() -> bytes: ...

        found = Schemas()
        results = [Function(each.__name__, each).describe(found).get("result") for each in (plain, stream, items, silent, data)]
        attachment = {"type": "object", "properties": {"$attachment": {"type": "string"}}, "required": ["$attachment"]}
        self.assertEqual([{"$ref": "#/$defs/Point"}, {"type": "integer"}, {"$ref": "#/$defs/Level"}, None, attachment], results)
        self.assertEqual({"Point", "Level"}, set(found.definitions))


if __name__ == "__main__":
    unittest.main()
