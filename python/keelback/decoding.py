"""JSON of arguments, at the speed of the C scanner, and stricter than `json.loads`.

Refused, with the place: NaN and infinities (RFC 8259 has none), a number that a float cannot hold,
an integer of more digits than Python reads, and a key that an object has twice (`json.loads` would
keep the last value and drop the others without a word).

The C scanner tells NaN by itself. Hooks that look at each float and at the keys of each object
would cost up to as much again as the scanner, so most texts are read without them:

- A small text is read with the hook for floats.
- A large text of prose is read with both hooks, which are rarely called.
- In a large text of many numbers or many objects, what looks like a large exponent is sought in the
  text.
- Without the hook for objects, keys are counted: see `_has_each_key_once`.

Only a text that does not pass is read again, to say what is wrong and where.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Callable, Optional

from keelback.places import Path, place

_SPACE = " \t\n\r"
_SMALL = 256  # characters
_MANY_DIGITS = b"0" * 309  # a float of fewer digits and without an exponent is finite
_key_with_space = re.compile(r'"[ \t\n\r]+:').search


class ArgumentError(ValueError):
    """Arguments that are well-formed and still refused; the message names the place."""


class _Suspect(ValueError):
    """The text may have to be refused. It is read again to find out what is wrong, and where."""


def _suspect(_: object) -> Any:
    raise _Suspect


def _finite(text: str) -> float:
    value = float(text)
    if value - value:  # nan, which is true, for an infinity
        raise _Suspect
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Suspect
    return value


def _scanner(**hooks: Any) -> Callable[[str, int], tuple[Any, int]]:
    decoder: Any = json.JSONDecoder(parse_constant=_suspect, **hooks)
    return decoder.scan_once


_scan = _scanner(parse_float=_finite)
_scan_in_bulk = _scanner()
_scan_strictly = _scanner(parse_float=_finite, object_pairs_hook=_once)


def decode(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises ValueError (JSONDecodeError, UnicodeDecodeError, ArgumentError) or RecursionError.
    """
    text = data.decode()
    size = len(text)
    scan = _scan
    if size > _SMALL:
        if not _is_dense(data) or _may_overflow(data):
            return _carefully(text)
        scan = _scan_in_bulk
    try:
        value, end = scan(text, 0)
    except (StopIteration, ValueError):  # white space in front, or what is to be refused
        return _carefully(text)
    if end == size or not text[end:].strip(_SPACE):
        if type(value) is dict:
            keys = len(value)
            if (keys == 1 and "," not in text) or text.count(":") == keys:
                return value
        elif "{" not in text:
            return value
        if _has_each_key_once(text, value):
            return value
    return _carefully(text)


def _is_dense(data: bytes) -> bool:
    """Whether the JSON text seems to have many numbers or many objects: it is read in bulk then.
    A guess from a sample. Only the speed depends on it."""
    sample = data[:: len(data) // 128 + 1]
    digits = len(sample) - len(sample.translate(None, b"0123456789"))
    return 4 * digits > len(sample) or 8 * sample.count(b'"') > len(sample)


def _make_fold() -> bytes:
    table = bytearray(range(256))
    for digit in b"123456789":
        table[digit] = ord("0")
    table[ord("E")] = table[ord("+")] = ord("e")
    return bytes(table)


_FOLD = _make_fold()


def _may_overflow(data: bytes) -> bool:
    """False: no float in the JSON text is infinite."""
    folded = data.translate(_FOLD)
    return folded.rfind(b"e000") >= 0 or folded.rfind(_MANY_DIGITS) >= 0


def _has_each_key_once(text: str, value: Any) -> bool:
    """Whether no object of a JSON text has a key twice; False: perhaps one has.

    A key that came twice is in the value once, but the text has a ":" for each. Other ":" stand
    in strings; a quote in front of one has a backslash there, so the text '":' is nearly always
    the end of a key.
    """
    keys = 0
    todo = [value]
    for each in todo:  # which grows
        if type(each) is dict:
            keys += len(each)
            each = each.values()
        elif type(each) is not list:
            continue
        for inner in each:
            if type(inner) is dict or type(inner) is list:
                todo.append(inner)
    return keys == text.count(":") or (keys == text.count('":') and not _key_with_space(text))


# ---- what is wrong


def _carefully(text: str) -> Any:
    stripped = text.strip(_SPACE)
    try:
        value, end = _scan_strictly(stripped, 0)
        if end == len(stripped):
            return value
    except (StopIteration, ValueError):
        pass
    return _judged(text)


class _Wrong:
    """Marks in the value a part that is refused."""

    def __init__(self, why: str, inside: Any = None) -> None:
        self.why = why
        self.inside = inside


def _judged(text: str) -> Any:
    """Says what is wrong. Raises JSONDecodeError, ArgumentError."""
    value = json.loads(text, parse_constant=_judge_constant, parse_float=_judge_float,
                       parse_int=_judge_int, object_pairs_hook=_judge_pairs)
    for path, wrong in _wrongs(value):
        raise ArgumentError(f"{place(path, 'arguments')} {wrong.why}") from None
    return value


def _judge_constant(name: str) -> _Wrong:
    return _Wrong(f"is {name}, which JSON does not have")


def _judge_float(text: str) -> Any:
    value = float(text)
    if math.isfinite(value):
        return value
    return _Wrong(f"is {text[:40]}, which is beyond a 64-bit float")


def _judge_int(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return _Wrong(f"is an integer of {len(text.lstrip('-'))} digits, more than Python reads "
                      "(sys.set_int_max_str_digits)")


def _judge_pairs(pairs: list[tuple[str, Any]]) -> Any:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return _Wrong(f"has the key {json.dumps(key[:60])} twice", value)
        seen.add(key)
    raise AssertionError("a pair is lost, so a key is there twice")


def _wrongs(root: Any) -> Iterator[tuple[Path, _Wrong]]:
    todo: list[tuple[Any, Path]] = [(root, None)]
    while todo:
        value, path = todo.pop()
        inner: Optional[list[tuple[Any, Any]]] = None
        if type(value) is _Wrong:
            yield path, value
        elif type(value) is dict:
            inner = list(value.items())
        elif type(value) is list:
            inner = list(enumerate(value))
        todo.extend((each, (path, key)) for key, each in reversed(inner or ()))
