"""Values that do not fit their types: what is wrong, and where.

The words and the types of an error are pydantic's, which FastAPI's users know.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Union

from keelback.decoding import ArgumentError
from keelback.errors import cut
from keelback.places import place

ERRORS_MAX = 100  # of one call; what is wrong beyond them is not looked for
KEY_MAX = 256  # characters of a key in `loc`
MSG_MAX = 1000  # characters

Key = Union[str, int]


class Fault(NamedTuple):
    """One thing that is wrong."""

    loc: tuple[Key, ...]  # from the argument's name inwards
    msg: str
    type: str


class Misfit(ArgumentError):
    """A value that does not fit its type. In a converter, `loc` begins at the converter's own value."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        loc, msg, _ = self.faults[0]
        path: Any = None
        for key in loc[1:]:
            path = (path, key)
        where = f"at {place(path, '')}: " if path else ""
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        return f'argument "{loc[0] if loc else ""}": {where}{msg}{more}'

    def inside(self, *place: Key) -> "Misfit":
        """The same, seen from outside."""
        return Misfit([Fault((*place, *loc), msg, type) for loc, msg, type in self.faults])

    def as_data(self) -> list[dict[str, Any]]:
        """As `errors` of the answer has it."""
        return [{"loc": [key[:KEY_MAX] if isinstance(key, str) else key for key in each.loc],
                 "msg": cut(each.msg, MSG_MAX), "type": each.type} for each in self.faults]


def wrong(type: str, msg: str, *loc: Key) -> Misfit:
    return Misfit([Fault(loc, msg, type)])


Misfit.__qualname__, Misfit.__module__ = "ValidationError", "keelback"  # how callers know it


class Gathered:
    """The faults of a value's parts, while all parts are looked at."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def add(self, misfit: Misfit, *place: Key) -> None:
        """Of the part at `place`. Raises Misfit if there are enough."""
        self.faults += misfit.inside(*place).faults
        if len(self.faults) >= ERRORS_MAX:
            raise Misfit(self.faults[:ERRORS_MAX])

    def check(self) -> None:
        """Raises Misfit."""
        if self.faults:
            raise Misfit(self.faults)


class CheckFailed(Exception):
    """The code of a type (a validator, a __post_init__) has failed otherwise than by refusing; its cause says how."""


def listed(names: Iterable[str]) -> str:
    """'a', 'b' or 'c'"""
    each = list(names)
    return " or ".join([", ".join(each[:-1]), each[-1]]) if len(each) > 1 else "".join(each)
