"""Arguments that are pydantic models and NumPy arrays. Runs in an interpreter that has the libraries, if this one has not."""
# ruff: noqa: C408, UP006, UP007, UP045

import dataclasses
import datetime
import decimal
import enum
import os
import subprocess
import unittest
import uuid
from typing import Annotated, Any, Dict, Generic, List, Literal, Optional, TypeVar, Union

import supervisor
from test_types import Fields, Types, converted, function, text

from keelback.functions import Function
from keelback.misfits import CheckFailed, Misfit
from keelback.schemas import Schemas

try:
    import pydantic
except ImportError:
    pydantic = None
try:
    import numpy
except ImportError:
    numpy = None

NOW = datetime.datetime(2026, 11, 30, 19, 30, tzinfo=datetime.timezone.utc)
SOME = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Elsewhere(unittest.TestCase):
    def test_an_interpreter_that_has_the_libraries_passes(self):
        for library, here in (("pydantic", pydantic), ("numpy", numpy)):
            python = None if here or "KEELBACK_ELSEWHERE" in os.environ else supervisor.python_with(library)
            if python is None:
                continue
            run = subprocess.run([python, "-m", "unittest", "-v", "test_types_libraries"], capture_output=True, text=True,
                                 env={**os.environ, "KEELBACK_ELSEWHERE": "1"}, cwd=supervisor.HERE)
            self.assertEqual(0, run.returncode, run.stderr)
            self.assertIn("test_", run.stderr)


if pydantic:
    class Kind(enum.Enum):
        A = "a"

    @dataclasses.dataclass
    class Spot:
        x: int

    class Item(pydantic.BaseModel):
        price: float
        tags: List[str] = []

    class Every(pydantic.BaseModel):
        at: datetime.datetime
        day: datetime.date
        clock: datetime.time
        id: uuid.UUID
        cost: decimal.Decimal
        kind: Kind
        spot: Spot
        items: Dict[str, Item] = {}
        parent: "Optional[Every]" = None
        choice: Literal["a", "b"] = "a"

    class Strict(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True, extra="forbid")
        n: int
        at: Optional[datetime.datetime] = None

    class Cat(pydantic.BaseModel):
        kind: Literal["cat"]
        lives: int = 9

    class Dog(pydantic.BaseModel):
        kind: Literal["dog"]

    class Judging(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def judge(cls, n):
            if n == 13:
                raise KeyError("broken")
            if n > 100:
                raise ValueError("too much")
            return n

    Thing = TypeVar("Thing")

    class Page(pydantic.BaseModel, Generic[Thing]):
        things: List[Thing]

    @dataclasses.dataclass
    class Holder:
        item: Item
        items: List[Item] = dataclasses.field(default_factory=list)

    @pydantic.dataclasses.dataclass
    class Checked:
        n: int = pydantic.Field(gt=0)

EVERY = {"at": "2026-11-30T19:30:00Z", "day": "2026-11-30", "clock": "19:30", "id": str(SOME), "cost": "1.10", "kind": "a", "spot": {"x": 1}}


@unittest.skipUnless(pydantic, "no pydantic here")
class Models(Types):
    """All that is true without pydantic, too; and models."""

    def test_models_with_every_type_in_them(self):
        self.fits(Item, {"price": 1}, Item(price=1))
        every = Every(at=NOW, day=NOW.date(), clock=datetime.time(19, 30), id=SOME, cost="1.10", kind=Kind.A, spot=Spot(1))
        self.fits(Every, EVERY, every)
        self.fits(Every, {**EVERY, "items": {"a": {"price": 2.5}}, "parent": EVERY}, every.model_copy(update={"items": {"a": Item(price=2.5)}, "parent": every}))
        self.fits(Holder, {"item": {"price": 1}, "items": [{"price": 2, "tags": ["a"]}]}, Holder(Item(price=1), [Item(price=2, tags=["a"])]))
        self.fits(Page[Item], {"things": [{"price": 1}]}, Page[Item](things=[Item(price=1)]))
        self.fits(Checked, {"n": 1}, Checked(1))
        self.fits(Optional[Item], {"price": 1}, Item(price=1))
        self.fits(Union[Strict, Item], {"price": 1}, Item(price=1))
        self.fits(pydantic.AnyUrl, "http://a.example/", pydantic.AnyUrl("http://a.example/"))

    def test_a_model_has_its_own_rules(self):
        self.fits(Item, {"price": "1.5", "more": 1}, Item(price=1.5))
        self.fits(Strict, {"n": 1, "at": "2026-11-30T19:30:00Z"}, Strict(n=1, at=NOW))
        self.refused(Strict, {"n": "1"}, (["n"], "int_type"))
        self.refused(Strict, {"n": 1, "more": 1}, (["more"], "extra_forbidden"))
        self.assertEqual(["Value error, too much"], self.refused(Judging, {"n": 101}, (["n"], "value_error")))
        with self.assertRaises(CheckFailed) as caught:
            converted(Judging, {"n": 13})
        self.assertIsInstance(caught.exception.__cause__, KeyError)

    def test_misfits_have_their_place(self):
        self.refused(Item, {"tags": ["a", 1]}, (["price"], "missing"), (["tags", 1], "string_type"))
        self.refused(Item, 7, ([], "model_type"))
        self.refused(List[Item], [{"price": 1}, {"price": "x"}, 3], ([1, "price"], "float_parsing"), ([2], "model_type"))
        self.refused(Holder, {"item": {}, "items": [{"price": []}]}, (["item", "price"], "missing"), (["items", 0, "price"], "float_type"))
        self.refused(Every, {**EVERY, "day": "x", "parent": {**EVERY, "spot": {"x": "y"}}}, (["day"], "date_from_datetime_parsing"),
                     (["parent", "spot", "x"], "int_parsing"))
        self.refused(Dict[str, Item], {"k": {}}, (["k", "price"], "missing"))

    def test_constraints_are_checked_and_plain_types_stay_strict(self):
        small = Annotated[int, pydantic.Field(gt=0, lt=10)]
        self.fits(small, 5, 5)
        self.refused(small, 10, ([], "less_than"))
        self.refused(small, "5", ([], "int_type"))
        self.refused(List[small], [1, 0], ([1], "greater_than"))
        self.refused(Checked, {"n": 0}, (["n"], "greater_than"))
        pet = Annotated[Union[Cat, Dog], pydantic.Field(discriminator="kind")]
        self.fits(pet, {"kind": "cat"}, Cat(kind="cat"))
        self.refused(pet, {"kind": "cow"}, ([], "union_tag_invalid"))

    def test_lone_surrogates_are_refused_and_not_a_failure(self):
        self.refused(Item, {"price": 1, "tags": ["\ud800"]}, ([], "json_invalid"))

    def test_schemas_are_pydantics_with_their_types_among_ours(self):
        def f(a: Item, b: Holder, c: Page[Item]) -> Item: ...

        found = Schemas()
        described = Function("f", f).describe(found)
        self.assertEqual(["#/$defs/Item", "#/$defs/Holder", "#/$defs/Page_Item_"], [each["schema"]["$ref"] for each in described["params"]])
        self.assertEqual(["price"], found.definitions["Item"]["required"])
        self.assertEqual({"$ref": "#/$defs/Item"}, found.definitions["Holder"]["properties"]["item"])
        self.assertEqual({"$ref": "#/$defs/Item"}, described["result"], "written as it is read")
        self.assertEqual({"Item", "Holder", "Page_Item_"}, set(found.definitions))

    def test_results_that_differ_from_arguments_have_a_schema_of_their_own(self):
        def f(a: Every) -> Every: ...

        found = Schemas()
        described = Function("f", f).describe(found)
        argument, result = described["params"][0]["schema"]["$ref"], described["result"]["$ref"]
        self.assertEqual(("#/$defs/Every", "#/$defs/Every_2"), (argument, result))
        cost = found.definitions["Every_2"]["properties"]["cost"]
        self.assertEqual("string", cost["type"], "Decimals are written as text")
        again = Function("g", f).describe(found)
        self.assertEqual(described["params"], again["params"])
        self.assertEqual(described["result"], again["result"])

    def test_models_come_in_forms_as_json(self):
        fields = Fields()
        self.assertEqual(Item(price=2), fields.filled(Item, text('{"price": 2}')))
        self.assertEqual(5, fields.filled(Annotated[int, pydantic.Field(gt=0)], text("5")))
        with self.assertRaises(Misfit) as caught:
            fields.filled(Item, text('{"price": "x"}'))
        self.assertEqual(["x", "price"], caught.exception.as_data()[0]["loc"])


@unittest.skipUnless(numpy, "no NumPy here")
class Arrays(unittest.TestCase):
    def array(self, array):
        return dict(data=bytes(array.tobytes()), dtype=array.dtype.name, shape=array.shape, content_type="", filename="")

    def test_arrays_come_as_attachments_and_are_arrays(self):
        import numpy.typing as npt

        fields = Fields()
        grid = numpy.arange(6, dtype="float32").reshape(2, 3)
        for annotation in (numpy.ndarray, "numpy.ndarray", Optional[numpy.ndarray], npt.NDArray[numpy.float32], npt.NDArray[Any], npt.NDArray[numpy.floating]):
            annotation = numpy.ndarray if annotation == "numpy.ndarray" else annotation
            got = fields.filled(annotation, self.array(grid))
            self.assertIs(numpy.ndarray, type(got), annotation)
            numpy.testing.assert_array_equal(grid, got)
        got[0, 0] = 7
        half = numpy.arange(2, dtype="float16")
        numpy.testing.assert_array_equal(half, fields.filled(numpy.ndarray, self.array(half)))
        both = fields.filled(List[numpy.ndarray], self.array(grid), self.array(half))
        self.assertEqual([(2, 3), (2,)], [each.shape for each in both])
        file = dict(data=b"\1\2", content_type="application/octet-stream", filename="a.bin")
        numpy.testing.assert_array_equal([1, 2], fields.filled(numpy.ndarray, file))

    def test_what_is_no_such_array_is_refused(self):
        import numpy.typing as npt

        for value in ([1, 2], "a", None, 7):
            with self.assertRaises(Misfit) as caught:
                converted(numpy.ndarray, value)
            self.assertEqual("array_type", caught.exception.as_data()[0]["type"])
        with self.assertRaises(Misfit) as caught:
            Fields().filled(npt.NDArray[numpy.float32], self.array(numpy.arange(3)))
        error, = caught.exception.as_data()
        self.assertEqual((["x"], "array_dtype", "Input should be an array of float32, not int64"), (error["loc"], error["type"], error["msg"]))
        with self.assertRaises(Misfit):
            Fields().filled(numpy.ndarray, text("words"))
        self.assertIsNone(converted(Optional[numpy.ndarray], None))
        schema = function(numpy.ndarray).arguments.converters["x"].schema(Schemas())
        self.assertEqual({"type": "string", "format": "binary"}, schema)


del Types  # its own tests run in test_types


if __name__ == "__main__":
    unittest.main()
