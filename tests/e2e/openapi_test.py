"""No answer of the daemon contradicts its /openapi.json: random requests, made from the document by schemathesis."""
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, KeelbackTest, main  # noqa: E402

PYTHON = ROOT / ".venv-openapi" / "bin" / "python"

APP = """
import dataclasses, datetime, enum, uuid
from typing import Literal, Optional, TypedDict, Union
import keelback

class Size(enum.Enum):
    SMALL = "s"
    LARGE = 2

@dataclasses.dataclass
class Item:
    price: float
    size: Size = Size.SMALL
    parts: "list[Item]" = dataclasses.field(default_factory=list)

class Problem(TypedDict, total=False):
    id: int
    place: tuple[float, float]

@keelback.function(idempotent=True)
def add(a: int, b: int = 2) -> int:
    return a + b

@keelback.function
def greet(name: str, loud: bool = False, nick: Optional[str] = None) -> str:
    return (nick or name).upper() if loud else name

@keelback.function
def mean(values: list[float]) -> float:
    return sum(values) / len(values)

@keelback.function
def describe(value: dict, *others, **more) -> dict:
    return {**value, **more, "others": others}

@keelback.function
def untyped(x, y=None):
    return [x, y]

@keelback.function
def items(n: int):
    yield from range(min(max(n, 0), 10))

@keelback.function
def counter() -> int:
    state = keelback.session().state
    state["n"] = state.get("n", 0) + 1
    return state["n"]

@keelback.function
def sizes() -> dict:
    return {name: len(each) for name, each in keelback.attachments().items() if not isinstance(each, list)}

@keelback.function
def order(items: list[Item], size: Union[Size, int, None] = None, kind: Literal["a", 1] = "a", **more: Problem) -> Item:
    return Item(sum(each.price for each in items) % 1e9, parts=items[:1])

@keelback.function
def days(day: datetime.date, at: Optional[datetime.datetime] = None, by: dict[str, datetime.timedelta] = {}) -> list[datetime.date]:
    return [day]

@keelback.function
def named(*ids: uuid.UUID) -> dict[str, uuid.UUID]:
    return {str(each): each for each in ids}

@keelback.function
def problems(problem: Problem):
    yield problem

@keelback.function
def upload(image: bytes, scale: float = 1.0) -> float:
    return len(image) * scale

@keelback.function(concurrency=8)
async def together(x: float = 1.0) -> float:
    return x
"""
# An exception of a function is 500 by contract. Which headers go with which body the document cannot say.
LEFT_OUT = "not_a_server_error,positive_data_acceptance"


class Contract(KeelbackTest):
    def setUp(self):
        super().setUp()
        if not PYTHON.exists():
            self.skipTest("there is no .venv-openapi: scripts/venv openapi")
        self.daemon = self.serve(self.app(APP))

    def test_the_document_is_one(self):
        document = self.daemon.client().get("/openapi.json").json
        self.assertIn("/v1/call/add", document["paths"])
        self.assertLessEqual({"Item", "Size", "Problem", "Application.Problem"}, set(document["components"]["schemas"]))
        subprocess.run([PYTHON, "-c", "import json, sys, openapi_spec_validator as v; v.validate(json.load(sys.stdin))"],
                       input=json.dumps(document), text=True, check=True)

    def test_no_answer_contradicts_it(self):
        # Drain ends the daemon, a reload makes calls wait, and the stream of a provider has no end.
        run = subprocess.run([PYTHON.parent / "schemathesis", "run", f"http://{self.daemon.address}/openapi.json", "--exclude-checks", LEFT_OUT,
                              "--exclude-path", "/v1/drain", "--exclude-path", "/v1/reload", "--exclude-path", "/v1/providers",
                              "--phases", "examples,coverage,fuzzing",
                              "--max-examples", "50", "--generation-database", "none", "--no-color"],
                             env={**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(ROOT / "tests" / "support")},
                             cwd=self.tmp, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
        self.assertEqual(0, run.returncode, run.stdout[-20_000:])
        self.assertIn("Tested:", run.stdout)
        self.assertEqual(200, self.daemon.client().get("/readyz").status)


if __name__ == "__main__":
    main()
