"""Makes arguments of JSON values, as annotations say: one converter for each type, made when the application is loaded.

Plain types (int, str, bool, float, list, dict) are taken as they are or refused. Types that JSON does
not have come in the form in which results have them: a datetime as text, a set as an array, a
dataclass as an object. pydantic checks its own types, by their own rules.

A converter's `convert` takes what `json` has read and raises Misfit. What it returns may be the
value itself.
"""

import enum
import sys
from collections import abc, deque
from collections.abc import Iterable
from typing import Any, Callable, Optional

from keelback import classes, schemas, texts
from keelback.misfits import Gathered, Misfit, listed, wrong

Convert = Callable[[Any], Any]
_NONE = type(None)


class Converter:
    """What is known of one type."""

    __slots__ = ("convert", "from_text", "plain", "schema", "structured", "items", "make")

    def __init__(self, convert: Convert, schema: schemas.Make, *, plain: Iterable[type] = (),
                 from_text: Optional[Callable[[str], Any]] = None, structured: bool = False,
                 items: "Optional[Converter]" = None, make: Optional[Callable[[Any], Any]] = None) -> None:
        self.convert = convert
        self.schema = schema
        self.plain = frozenset(plain)  # a value of exactly such a type is taken as it is
        self.from_text = from_text  # of a form's field, of a key; raises ValueError, Misfit
        self.structured = structured  # a form's field has its JSON
        # Of an array of one type: its items', and what makes the value of a list of them.
        self.items = items
        self.make = make


class Unusable(Exception):
    """An annotation that no value can be converted to: it counts as none."""


# ---- plain types

def _plain(expected: type, type_name: str, what: str, schema: dict[str, Any],
           from_text: Optional[Callable[[str], Any]] = None, structured: bool = False) -> Converter:
    def convert(value: Any) -> Any:
        if type(value) is expected:
            return value
        raise wrong(type_name, f"Input should be {what}")

    return Converter(convert, lambda _: dict(schema), plain=(expected,), from_text=from_text, structured=structured)


def _to_float(value: Any) -> Any:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise wrong("float_type", "Input should be a valid number")
    try:
        return float(value)
    except OverflowError:
        raise wrong("finite_number", "Input should be a finite number") from None


def _no_text(text: str) -> None:
    if text:
        raise ValueError("it is not empty")


STR = _plain(str, "string_type", "a valid string", {"type": "string"}, str)
FLOAT = Converter(_to_float, lambda _: {"type": "number"}, plain=(float,), from_text=texts.number)
_LIST = _plain(list, "list_type", "a valid list", {"type": "array"}, structured=True)
DICT = _plain(dict, "dict_type", "a valid dictionary", {"type": "object"}, structured=True)
PLAIN: dict[Any, Converter] = {
    str: STR, float: FLOAT, list: _LIST, dict: DICT,
    int: _plain(int, "int_type", "a valid integer", {"type": "integer"}, texts.integer),
    bool: _plain(bool, "bool_type", "a valid boolean", {"type": "boolean"}, texts.truth),
    _NONE: _plain(_NONE, "none_required", "null", {"type": "null"}, _no_text),
}
_LIST_ITSELF = ("list", None)
ARRAYS: dict[Any, tuple[str, Any]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection), _LIST_ITSELF),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), ("set", set)), frozenset: ("frozenset", frozenset),
    deque: ("deque", deque),
}
OBJECTS = (dict, abc.Mapping, abc.MutableMapping)


# ---- containers

def array(inner: Optional[Converter], name: str, make: Optional[Callable[[Any], Any]]) -> Converter:
    if inner is None and make is None:
        return _LIST
    plain = inner.plain if inner is not None else frozenset()

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise wrong(f"{name}_type", f"Input should be a valid {name}")
        if inner is not None and not plain.issuperset(map(type, value)):
            value = _each(inner.convert, value)
        return value if make is None else _built(make, value)

    def schema(found: schemas.Schemas) -> dict[str, Any]:
        return {"type": "array", **({} if inner is None else {"items": inner.schema(found)})}

    return Converter(convert, schema, structured=True, items=inner, make=make)


def _each(convert: Convert, value: list[Any]) -> list[Any]:
    result = []
    gathered = Gathered()
    for index, each in enumerate(value):
        try:
            result.append(convert(each))
        except Misfit as misfit:
            gathered.add(misfit, index)
    gathered.check()
    return result


def _built(make: Callable[[Any], Any], value: list[Any]) -> Any:
    try:
        return make(value)
    except TypeError as error:  # set[list[int]]
        raise wrong("set_item_not_hashable", f"Set items should be hashable ({error})") from None


def fixed_tuple(parts: list[Optional[Converter]], least: int, make: Callable[[list[Any]], Any]) -> Converter:
    most = len(parts)

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise wrong("tuple_type", "Input should be a valid tuple")
        if len(value) > most:
            raise wrong("too_long", f"Tuple should have at most {most} items after validation, not {len(value)}")
        gathered = Gathered()
        result = []
        for index, part in enumerate(parts):
            if index >= len(value):
                if index < least:
                    gathered.add(wrong("missing", "Field required", index))
                continue
            try:
                result.append(value[index] if part is None else part.convert(value[index]))
            except Misfit as misfit:
                gathered.add(misfit, index)
        gathered.check()
        return classes.built(make, result)

    def schema(found: schemas.Schemas) -> dict[str, Any]:
        items = [{} if part is None else part.schema(found) for part in parts]
        return {"type": "array", "minItems": least, "maxItems": most, **({"prefixItems": items} if items else {})}

    return Converter(convert, schema, structured=True)


def mapping(key: Optional[Converter], inner: Optional[Converter]) -> Converter:
    from_key = None if key is None or key is STR else key.from_text
    plain = inner.plain if inner is not None else frozenset()

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise wrong("dict_type", "Input should be a valid dictionary")
        if from_key is None and (inner is None or plain.issuperset(map(type, value.values()))):
            return value
        result: dict[Any, Any] = {}
        gathered = Gathered()
        for name, each in value.items():
            try:
                read = name if from_key is None else key_of(name)
                if read in result:
                    raise wrong("key_twice", "Another key stands for the same", "[key]")
                result[read] = each if inner is None else inner.convert(each)
            except Misfit as misfit:
                gathered.add(misfit, name)
        gathered.check()
        return result

    def key_of(name: str) -> Any:
        assert from_key is not None
        try:
            return from_key(name)
        except Misfit as misfit:
            gathered = Gathered()
            gathered.add(misfit, "[key]")
            raise Misfit(gathered.faults) from None
        except ValueError as error:
            raise wrong("key_parsing", f"Input should be a valid key, {error}", "[key]") from None

    def schema(found: schemas.Schemas) -> dict[str, Any]:
        return {"type": "object", **({} if inner is None else {"additionalProperties": inner.schema(found)})}

    return Converter(convert, schema, structured=True)


def first_of(parts: list[tuple[str, Converter]]) -> Converter:
    """The first member that a value fits."""
    real = [converter for _, converter in parts if converter is not PLAIN[_NONE]]
    plain: set[type] = {_NONE} if len(real) < len(parts) else set()
    for converter in real:
        if not converter.plain:
            break  # it may make something else of a plain value, before a later member gets it
        plain |= converter.plain
    named = [each for each in parts if each[1] in real]

    def convert(value: Any) -> Any:
        if type(value) in plain:
            return value
        if len(real) == 1:
            return real[0].convert(value)
        gathered = Gathered()
        for name, each in named:
            try:
                return each.convert(value)
            except Misfit as misfit:
                gathered.add(misfit, name)
        raise Misfit(gathered.faults)

    def from_text(text: str) -> Any:
        refused: Optional[ValueError] = None
        for read in reads:
            try:
                return read(text)
            except ValueError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def schema(found: schemas.Schemas) -> dict[str, Any]:
        return {"anyOf": [each.schema(found) for _, each in parts]}

    # Text is tried last: every key and every field is one.
    reads = [each.from_text for each in sorted(real, key=lambda each: each is STR) if each.from_text is not None]
    one = real[0] if len(real) == 1 else None
    return Converter(convert, schema, plain=plain, from_text=from_text if reads else None,
                     structured=any(each.structured for each in real),
                     items=one.items if one else None, make=one.make if one else None)


def or_null(converter: Converter) -> Converter:
    return converter if _NONE in converter.plain else first_of([("", converter), ("", PLAIN[_NONE])])


# ---- choices

def enumeration(cls: Any) -> Converter:
    if issubclass(cls, enum.Flag):
        def convert(value: Any) -> Any:
            if type(value) is int:
                try:
                    return cls(value)
                except ValueError:
                    pass
            raise wrong("enum", f"Input should be a combination of {listed(repr(each.value) for each in cls)}")

        def named(found: schemas.Schemas) -> dict[str, Any]:
            return found.named(cls, lambda: {"type": "integer", "title": cls.__name__})

        return Converter(convert, named, from_text=lambda text: convert(texts.integer(text)))
    own: Any = enum.Enum._missing_
    missing = cls if cls._missing_.__func__ is not own.__func__ else None
    made = choice(tuple(cls), "enum", missing)
    values = made.schema
    made.schema = lambda found: found.named(cls, lambda: {**values(found), "title": cls.__name__})
    return made


_SCALARS: tuple[Any, ...] = (bool, str, int, float, _NONE)  # in this order: True is an int


def choice(choices: tuple[Any, ...], type_name: str, missing: Optional[Convert] = None) -> Converter:
    """One of some values; a member of an enumeration has its value's JSON. `missing` is asked for others."""
    by_value: dict[Any, Any] = {}
    by_text: dict[str, Any] = {}
    values = []
    for member in choices:
        value = member.value if isinstance(member, enum.Enum) else member
        kind = next((each for each in _SCALARS if isinstance(value, each)), None)
        if kind is None:
            continue  # JSON has no such value
        if kind is not _NONE:
            value = str.__str__(value) if kind is str else kind(value)  # it may be of a subclass
        values.append(value)
        by_value.setdefault((kind, value), member)
        by_text.setdefault(value if kind is str else "null" if value is None else str(value).lower(), member)
    if not by_value:
        raise Unusable
    expected = f"Input should be {listed(map(repr, values))}"

    def convert(value: Any) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            found = by_value.get((kind, value), by_value)
            if found is by_value and kind is int:
                found = by_value.get((float, value), by_value)
            if found is not by_value:
                return found
            if missing is not None:
                return classes.built(missing, value, refused=(type_name, expected))
        raise wrong(type_name, expected)

    def from_text(text: str) -> Any:
        found = by_text.get(text, by_text)
        return convert(text) if found is by_text else found

    return Converter(convert, lambda _: {"enum": values}, from_text=from_text)


# ---- types of the standard library

def _from_form(type_name: str, what: str, read: Callable[[str], Any], schema: dict[str, Any],
               others: Optional[Callable[[Any], Any]] = None) -> Converter:
    """A type that JSON has as text; `others` makes it of a number."""

    def convert(value: Any) -> Any:
        if type(value) is not str:
            if others is not None and type(value) in (int, float):
                return others(value)
            raise wrong(f"{type_name}_type", f"Input should be {what}")
        return from_text(value)

    def from_text(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise wrong(f"{type_name}_parsing", f"Input should be {what}, {error}") from None

    return Converter(convert, lambda _: dict(schema), from_text=from_text)


# Name of the type: pydantic's word for it, what it should be, how moments.py reads it, format.
BY_NAME = {
    "datetime.datetime": ("datetime", "a valid datetime", "moment", "date-time"),
    "datetime.date": ("date", "a valid date", "day", "date"),
    "datetime.time": ("time", "a valid time", "clock", "time"),
    "datetime.timedelta": ("time_delta", "a valid timedelta", "duration", "duration"),
    "uuid.UUID": ("uuid", "a valid UUID", "uuid", "uuid"),
    "decimal.Decimal": ("decimal", "a valid decimal", "decimal", ""),
}
PATHS = ("pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath", "pathlib.PurePosixPath")
_DECIMAL_SCHEMA = {"anyOf": [{"type": "number"},
                             {"type": "string", "pattern": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"}]}


def standard(full: str, cls: type) -> Converter:
    if full in PATHS:
        return _from_form("path", "a valid path", cls, {"type": "string", "format": "path"})
    from keelback import moments  # only a worker that has such types pays for its imports

    word, what, reader, format = BY_NAME[full]
    if getattr(sys.modules.get(cls.__module__), cls.__name__, None) is not cls:
        raise Unusable  # another one of that name
    if word == "decimal":
        return _from_form(word, what, moments.decimal, _DECIMAL_SCHEMA, lambda value: moments.decimal(repr(value)))
    return _from_form(word, what, getattr(moments, reader), {"type": "string", "format": format})


def attachment(check: Convert) -> Converter:
    """A type that comes as an attachment only."""
    return Converter(check, schemas.attachment)


# ---- classes with fields

def record(cls: Any, parts: "classes.Parts", type_name: str, expected: str, extra: tuple[str, str]) -> Converter:
    fields, required = parts.fields, parts.required

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise wrong(type_name, expected)
        gathered = Gathered()
        result = {}
        for name, each in value.items():
            try:
                if name not in fields:
                    raise wrong(*extra)
                inner = fields[name]
                result[name] = each if inner is None else inner.convert(each)
            except Misfit as misfit:
                gathered.add(misfit, name)
        for name in required:
            if name not in value:
                gathered.add(wrong("missing", "Field required", name))
        gathered.check()
        return classes.built(parts.make, result)

    def made(found: schemas.Schemas) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object", "title": cls.__name__,
            "properties": {name: {} if each is None else each.schema(found) for name, each in fields.items()}}
        if required:
            schema["required"] = list(required)
        if parts.closed:
            schema["additionalProperties"] = False
        return schema

    return Converter(convert, lambda found: found.named(cls, lambda: made(found)), structured=True)


