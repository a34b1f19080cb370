"""JSON in and out, at the speed of its C core.

`json.loads` and `json.dumps` spend two thirds of a small call on Python code around a C scanner and a C
encoder. Both are made once, here and in `decoding`, and called directly; whatever is unusual goes through the standard
functions, so the meaning is theirs, with three choices made: UTF-8 text, compact separators, and NaN
and infinities refused in results (RFC 8259 has none, and a C++ or JavaScript caller could not read them).
"""

import json
import json.encoder
import math
from collections.abc import Iterable
from typing import Any, Callable, Optional

from keelback.decoding import ArgumentError, decode
from keelback.places import Path, place, type_name

__all__ = ["ArgumentError", "ResultError", "decode", "encode", "encode_with", "encode_within", "explain", "place",
           "too_large", "type_name"]

_NODES_MAX = 1_000_000  # visited while looking for what is wrong with a result

_quote = json.encoder.encode_basestring
_seen: dict = {}  # the encoder's guard against cycles; empty between calls


class ResultError(Exception):
    """What a function answered cannot be sent."""


ResultError.__module__ = "keelback"


def _refuse(value: object) -> Any:
    raise TypeError(f"{type_name(value)} is not JSON")


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the C accelerator
        plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse)
        return lambda value, _: plain.encode(value)
    return make(_seen, _refuse, _quote, None, ":", ",", False, False, False)


_encode = _make_encoder()
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_refuse).encode


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8. Raises TypeError, ValueError or RecursionError; explain() says what is wrong."""
    if type(value) is str:
        text = _quote(value)
    else:
        try:
            text = "".join(_encode(value, 0))
        except BaseException:
            _seen.clear()
            raise
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate: as an escape it survives
        return _encode_ascii(value).encode()


def encode_with(value: Any, default: Callable[[Any], Any]) -> bytes:
    """encode(value), where `default` says what stands for what JSON cannot write. Called twice for some values."""
    for ascii in (False, True):
        text = json.JSONEncoder(ensure_ascii=ascii, allow_nan=False, separators=(",", ":"), default=default).encode(value)
        try:
            return text.encode()
        except UnicodeEncodeError:  # a lone surrogate: as an escape it survives
            continue
    raise AssertionError("ASCII is UTF-8")


def encode_within(value: Any, most: int) -> bytes:
    """encode(value), at most `most` bytes of it. Raises ResultError, which names the type and the path."""
    try:
        data = encode(value)
    except Exception as error:
        raise ResultError(explain(value, error)) from None
    if len(data) > most:
        raise ResultError(too_large(len(data), most))
    return data


def too_large(size: int, most: int) -> str:
    return f"the result is too large: {size} bytes; calls.payload_max is {most}"


def explain(value: Any, error: BaseException, passes: Optional[Callable[[Any], bool]] = None) -> str:
    """Why encode(value) failed: the first part that JSON cannot carry, with its path; parts that `passes` accepts are
    carried otherwise. Never raises."""
    try:
        found = _find(value, passes)
    except Exception:  # the value's own methods may do anything
        found = None
    if found is None and isinstance(error, RecursionError):
        found = "the result is nested too deeply for JSON"
    return found or f"the result cannot be written as JSON: {type_name(error)}: {error}"


def _find(root: Any, passes: Optional[Callable[[Any], bool]]) -> Optional[str]:
    # Depth first. A container stays in `inside` until everything in it was seen, so that a cycle is told
    # from a value used twice; a path is a chain (path of the container, key).
    inside: set[int] = set()
    todo: list[tuple[Any, Path, bool]] = [(root, None, False)]
    for _ in range(_NODES_MAX):
        if not todo:
            return None
        value, path, leaving = todo.pop()
        if leaving:
            inside.discard(id(value))
            continue
        wrong = _wrong(value, id(value) in inside)
        if wrong and not (passes and passes(value)):
            return f"{place(path, 'result')} {wrong}"
        if isinstance(value, (dict, list, tuple)):
            items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
            inside.add(id(value))
            todo.append((value, path, True))
            todo.extend((inner, (path, key), False) for key, inner in reversed(items))
    return None


def _wrong(value: Any, is_inside_itself: bool) -> Optional[str]:
    if is_inside_itself:
        return "contains itself (circular reference)"
    if isinstance(value, dict):
        return _wrong_key(value)
    if isinstance(value, (list, tuple)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value!r}, which JSON cannot write"
    if value is None or isinstance(value, (str, int)):
        return None
    hint = ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        hint = "; decode it or send base64 text, or return it from a function that does not stream"
    elif hasattr(value, "__next__") or hasattr(value, "__anext__"):
        hint = "; a function that answers with an iterator needs @keelback.function(stream=True)"
    elif hasattr(value, "__await__"):
        hint = "; only an async function's answer is awaited"
    return f"is of type {type_name(value)}, which JSON cannot write{hint}"


def _wrong_key(value: dict[Any, Any]) -> Optional[str]:
    for key in value:
        if key is not None and not isinstance(key, (str, int, float)):
            return f"has a key of type {type_name(key)}; JSON's keys are strings"
        if isinstance(key, float) and not math.isfinite(key):
            return f"has the key {key!r}, which JSON cannot write"
    return None

