"""Arguments by their annotations, from HTTP and the command to the function and back."""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, cli, main  # noqa: E402

APP = """
import dataclasses, datetime, decimal, enum, pathlib, typing, uuid
import keelback

class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"

@dataclasses.dataclass
class Item:
    price: float
    size: Size = Size.SMALL
    when: typing.Optional[datetime.datetime] = None
    parts: "list[Item]" = dataclasses.field(default_factory=list)

class Row(typing.TypedDict):
    id: uuid.UUID
    cost: decimal.Decimal

VALUES = {"datetime": datetime.datetime, "date": datetime.date, "time": datetime.time, "uuid": uuid.UUID, "decimal": decimal.Decimal,
          "path": pathlib.Path, "enum": Size, "item": Item, "row": Row, "set": typing.Set[int], "pair": typing.Tuple[int, str],
          "map": typing.Dict[int, Item], "union": typing.Union[int, str, None], "literal": typing.Literal["a", 1]}

def offer(kind, annotation):
    def same(value, nested=None):
        return [type(value).__name__, value, nested]
    same.__annotations__ = {"value": annotation, "nested": typing.Optional[typing.Dict[str, typing.List[annotation]]]}
    same.__qualname__ = "same_" + kind
    keelback.function(name="same_" + kind)(same)

for kind, annotation in VALUES.items():
    offer(kind, annotation)

ran = []

@keelback.function
def total(items: typing.List[Item], *more: int, currency: str = "EUR") -> Row:
    ran.append(1)
    return {"id": uuid.UUID(int=1), "cost": decimal.Decimal(sum(each.price for each in items) + sum(more))}

@keelback.function
def runs() -> int:
    return len(ran)

@keelback.function(concurrency=8)
async def together(item: Item) -> Item:
    return item

@keelback.function
def each(item: Item, n: int = 2) -> typing.Iterator[Item]:
    for _ in range(n):
        yield item

@keelback.function
def upload(image: bytes, taken: datetime.date, size: Size = Size.SMALL) -> list:
    return [len(image), taken, size]
"""
ITEM = {"price": 1.5, "size": "l", "when": "2026-11-30T19:30:05+00:00", "parts": [{"price": 2.0, "size": "s", "when": None, "parts": []}]}
ID = "12345678-1234-5678-1234-567812345678"
# Of each kind a value that comes back as it went, its Python type, and one that does not fit, with where below it and the error's type.
KINDS = {
    "datetime": ("2026-11-30T19:30:05+01:00", "datetime", "now", [], "datetime_parsing"),
    "date": ("2026-11-30", "date", "2026-11-31", [], "date_parsing"),
    "time": ("19:30:05", "time", 7, [], "time_type"),
    "uuid": (ID, "UUID", "x", [], "uuid_parsing"),
    "decimal": ("1.10", "Decimal", "much", [], "decimal_parsing"),
    "path": ("a/b", "PosixPath", 7, [], "path_type"),
    "enum": ("l", "Size", "m", [], "enum"),
    "item": (ITEM, "Item", {"price": 1, "parts": [{"price": "1"}]}, ["parts", 0, "price"], "float_type"),
    "row": ({"id": ID, "cost": "1.10"}, "dict", {"id": ID}, ["cost"], "missing"),
    "set": ([1, 2], "set", [1, "2"], [1], "int_type"),
    "pair": ([1, "a"], "tuple", [1, 2], [1], "string_type"),
    "map": ({"7": ITEM}, "dict", {"7": {"price": True}}, ["7", "price"], "float_type"),
    "union": ("a", "str", 1.5, ["int"], "int_type"),
    "literal": (1, "int", True, [], "literal_error"),
}


class Typed(KeelbackTest):
    def setUp(self):
        super().setUp()
        self.daemon = self.serve(self.app(APP))
        self.call = self.daemon.client().call

    def refused(self, reply, *errors):
        self.assertEqual((422, "bad_request", "none", 422), (reply.status, reply.outcome, reply.json["effect"], reply.json["status"]), reply)
        self.assertEqual(list(errors), [(error["loc"], error["type"]) for error in reply.json["errors"]], reply)
        self.assertTrue(all(error["msg"] for error in reply.json["errors"]))
        self.assertEqual("keelback.ValidationError", reply.json["python"]["type"])

    def test_every_type_goes_in_and_comes_back(self):
        for kind, (value, name, misfit, loc, error) in KINDS.items():
            with self.subTest(kind):
                self.assertEqual([name, value, None], self.call(f"same_{kind}", [value]).json)
                self.assertEqual([name, value, {"k": [value, value]}], self.call(f"same_{kind}", {"value": value, "nested": {"k": [value, value]}}).json)
                reply = self.call(f"same_{kind}", [misfit])
                self.assertEqual((["value", *loc], error), (reply.json["errors"][0]["loc"], reply.json["errors"][0]["type"]), reply)
                self.assertEqual((422, "none"), (reply.status, reply.json["effect"]))
                reply = self.call(f"same_{kind}", {"value": value, "nested": {"k": [value, misfit]}})
                self.assertEqual(["nested", "k", 1, *loc], reply.json["errors"][0]["loc"], reply)

    def test_what_does_not_fit_is_422_with_its_place(self):
        self.refused(self.call("total", {"items": [{"price": 1}, {"price": "1", "sice": "l"}, 7], "currency": None}),
                     (["items", 1, "price"], "float_type"), (["items", 1, "sice"], "unexpected_keyword_argument"),
                     (["items", 2], "dataclass_type"), (["currency"], "string_type"))
        self.refused(self.call("total", [[], 1, "2"]), (["more", 1], "int_type"))
        self.refused(self.call("together", [{}]), (["item", "price"], "missing"))
        self.refused(self.call("each", [ITEM, "2"], Accept="text/event-stream"), (["n"], "int_type"))
        for arguments in ({}, {"items": [], "much": 1}, {"items": [], "more": [1]}):
            reply = self.call("total", arguments)
            self.assertEqual((400, "bad_request", "none"), (reply.status, reply.outcome, reply.json["effect"]), reply)
            self.assertNotIn("errors", reply.json)
        self.assertEqual(0, self.call("runs").json)
        self.assertEqual({"id": "00000000-0000-0000-0000-000000000001", "cost": "4"}, self.call("total", [[{"price": 1}], 1, 2]).json)
        self.assertEqual(1, self.call("runs").json)
        self.assertEqual(ITEM, self.call("together", [ITEM]).json)
        self.assertEqual([ITEM, ITEM], self.call("each", [ITEM]).json)

    def test_forms_are_converted(self):
        def form(*parts):
            lines = []
            for name, data in parts:
                lines += ["--x", f'Content-Disposition: form-data; name="{name}"' + ('; filename="a.png"' if name == "image" else ""), "", data]
            return self.daemon.client().request("POST", "/v1/call/upload", body="\r\n".join([*lines, "--x--", ""]).encode(),
                                                headers={"Content-Type": "multipart/form-data; boundary=x", "Keelback-Attachment": "form"})

        self.assertEqual([3, "2026-11-30", "l"], form(("image", "png"), ("taken", "2026-11-30"), ("size", "l")).json)
        self.refused(form(("image", "png"), ("taken", "today")), (["taken"], "date_parsing"))
        self.refused(form(("image", "png"), ("taken", "2026-11-30"), ("size", "m")), (["size"], "enum"))
        self.refused(self.call("upload", {"image": "png", "taken": "2026-11-30"}), (["image"], "attachment_type"))

    def test_the_command_shows_the_places(self):
        done = cli("call", "total", '[[{"price": 1}, {"price": "1"}], "x"]', "--url", self.daemon.address)
        self.assertEqual(1, done.returncode, done)
        self.assertIn("bad_request, effect none", done.stderr)
        self.assertIn("  items[1].price: Input should be a valid number\n  more[0]: Input should be a valid integer\n", done.stderr)

    def test_schemas_are_served(self):
        client = self.daemon.client()
        listed = client.get("/v1/functions").json
        total = next(each for each in listed["functions"] if each["name"] == "total")
        self.assertEqual([{"type": "array", "items": {"$ref": "#/$defs/Item"}}, {"type": "integer"}, {"type": "string"}],
                         [each["schema"] for each in total["params"]])
        self.assertEqual({"$ref": "#/$defs/Row"}, total["result"])
        self.assertEqual({"Item", "Row", "Size"}, set(listed["$defs"]))
        document = client.get("/openapi.json").json
        operation = document["paths"]["/v1/call/total"]["post"]
        by_name, by_position = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        self.assertEqual({"type": "array", "items": {"$ref": "#/components/schemas/Item"}}, by_name["properties"]["items"])
        self.assertEqual({"type": "integer"}, by_position["items"])
        self.assertEqual({"$ref": "#/components/schemas/Row"}, operation["responses"]["200"]["content"]["application/json"]["schema"])
        item = document["components"]["schemas"]["Item"]
        self.assertEqual("#/components/schemas/Item", item["properties"]["parts"]["items"]["$ref"])
        self.assertEqual(["s", "l"], document["components"]["schemas"]["Size"]["enum"])


class LongHello(KeelbackTest):
    def test_an_application_may_have_a_long_description(self):
        source = ("import dataclasses, keelback\n"
                  "def offer(n):\n"
                  "    made = dataclasses.make_dataclass(f'Type{n}', [(f'a_field_with_a_long_name_{i}', int, 0) for i in range(40)])\n"
                  "    def f(x): return n\n"
                  "    f.__annotations__['x'] = made\n    f.__qualname__ = f'f{n}'\n    f.__doc__ = 'é' * 1000\n    keelback.function(name=f'f{n}')(f)\n"
                  "for n in range(200): offer(n)\n")
        for mode in ("force", "off"):
            daemon = self.serve(self.app(source), settings={"workers.zygote": mode})
            listed = daemon.client().get("/v1/functions")
            self.assertEqual((200, 200), (len(listed.json["functions"]), len(listed.json["$defs"])), mode)
            self.assertGreater(len(listed.body), 400_000)
            self.assertEqual(["é" * 1000] * 200, [each["doc"] for each in listed.json["functions"]])
            self.assertEqual(199, daemon.client().call("f199", [{}]).json)
            self.assertEqual(200, sum(path.startswith("/v1/call/f") for path in daemon.client().get("/openapi.json").json["paths"]))
            daemon.stop()


if __name__ == "__main__":
    main()
