"""JSON in and out, at the speed of its C core.

`json.loads` and `json.dumps` spend two thirds of a small call on Python code around a C scanner and
a C encoder. Both are made once, here and in `decoding`, and called directly; whatever is unusual
goes through slower functions. The meaning is the standard library's, with these choices made: UTF-8
text, compact separators, NaN and infinities refused (RFC 8259 has none, and a C++ or JavaScript
caller could not read them), no object with the same key twice, conversions for everyday types.
"""

import json
import json.encoder
import math
import re
import sys
from _thread import get_ident
from collections.abc import Iterable
from typing import Any, Callable, Optional, Union

from keelback import dtypes
from keelback.conversions import ConversionFailed, NoConversion, converted
from keelback.decoding import ArgumentError, decode
from keelback.places import Path, place, type_name

__all__ = ["ArgumentError", "ResultError", "decode", "encode", "encode_with", "encode_within",
           "encode_row", "explain", "place", "too_large", "type_name"]

_NODES_MAX = 1_000_000  # visited while looking for what is wrong with a result
_DEPTH_MAX = 10_000  # more than the encoder goes into, on any Python

_quote = json.encoder.encode_basestring
# The encoder's guard against cycles, empty between calls; for one thread. Others have one each time.
_seen: dict = {}
_thread = get_ident()


class ResultError(Exception):
    """What a function answered cannot be sent."""


ResultError.__module__ = "keelback"


class _KeysCollide(ValueError):
    """Two keys of a dict would be one key in JSON."""


def _stand_in(value: object) -> Any:
    """The C encoder's question for a value that it cannot write.

    Raises NoConversion, ConversionFailed.
    """
    return _with_text_keys(converted(value))


def _make_encoder(guard: Optional[dict]) -> Callable[[Any, int], Iterable[str]]:
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the C accelerator
        plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"),
                                 default=_stand_in)
        return lambda value, _: plain.encode(value)
    return make(guard, _stand_in, _quote, None, ":", ",", False, False, False)


_encode = _make_encoder(_seen)
# For a small dict without a container in it: there is no cycle to guard against, which pays for the
# look at the keys.
_encode_flat = _make_encoder(None)
_FLAT = frozenset((str, int, float, bool, type(None)))


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8.

    Raises TypeError, ValueError, ConversionFailed or RecursionError; explain() says what is wrong.
    """
    kind = type(value)
    if kind is str:
        text = _quote(value)
    else:
        if kind is dict and len(value) < 5:
            for key, inner in value.items():
                if type(key) is not str or type(inner) not in _FLAT:
                    return _encode_deep(value)
        elif kind not in _FLAT:
            return _encode_deep(value)
        text = "".join(_encode_flat(value, 0))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _escaped(text)


def encode_row(values: tuple[Any, ...]) -> bytes:
    """encode() of a few values, which mostly are no containers."""
    for value in values:
        if type(value) not in _FLAT:
            return _encode_deep(values)
    text = "".join(_encode_flat(values, 0))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _escaped(text)


def _encode_deep(value: Any) -> bytes:
    # A conversion may wait. Two threads with one guard would take what both write for a cycle.
    ours = get_ident() == _thread
    try:
        text = "".join((_encode if ours else _make_encoder({}))(value, 0))
    except BaseException as error:
        if ours:
            _seen.clear()
        if not _is_about_keys(error):
            raise
        return encode(_with_text_keys(value))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = _escaped(text)
    if "{" in text and _may_have_odd_keys(text, data):
        _check_keys(value)
    return data


def _escaped(text: str) -> bytes:
    """A JSON text with lone surrogates: the error handler writes each as JSON's escape for it."""
    return text.encode("utf-8", "backslashreplace")


def encode_with(value: Any, begin: Callable[[], Callable[[Any], Any]]) -> bytes:
    """encode(value), where a function says what stands for what JSON cannot write. `begin` makes
    it, and again if all starts anew."""
    stand_in = begin()
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"),
                               default=lambda each: _with_text_keys(stand_in(each)))
    try:
        text = encoder.encode(value)
    except TypeError as error:
        if not _is_about_keys(error):
            raise
        return encode_with(_with_text_keys(value), begin)
    data = _escaped(text)
    if _may_have_odd_keys(text, data):
        _check_keys(value)
    return data


# ---- keys

_FOLD = bytes.maketrans(b"{-123456789", b",0000000000")
_odd_key = re.compile(r'[{,]"(?:-?[0-9][^"]*|true|false|null)":').search


def _may_have_odd_keys(text: str, data: bytes) -> bool:
    """False: every key in the JSON text was a string, because none is the text of a number, a
    truth value or null."""
    may_be = (data.translate(_FOLD).rfind(b',"0') >= 0
              or '"true":' in text or '"false":' in text or '"null":' in text)
    return may_be and _odd_key(text) is not None


def _check_keys(value: Any) -> None:
    """Raises _KeysCollide if two keys of a dict are one key in JSON: 1 and "1". Looks at what JSON
    has; what stands for another value went through _with_text_keys()."""
    todo = [value] if isinstance(value, (dict, list, tuple)) else []
    for each in todo:  # which grows
        if isinstance(each, dict):
            kinds = {issubclass(kind, str) for kind in set(map(type, each))}
            if len(kinds) == 2 and len({_key_text(key) for key in each}) != len(each):
                raise _KeysCollide
            each = each.values()
        for inner in each:
            if isinstance(inner, (dict, list, tuple)):
                todo.append(inner)


def _is_about_keys(error: BaseException) -> bool:
    return type(error) is TypeError and str(error).startswith("keys must be")


def _key_text(key: Any) -> str:
    """What stands for a key of a dict. Raises NoConversion, ConversionFailed, ValueError."""
    if isinstance(key, str):
        return key
    if key is None or key is True or key is False:
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int):
        _check_digits(key)
        return int.__repr__(key)
    if isinstance(key, float):
        if not math.isfinite(key):
            raise ValueError(f"{key!r}, which JSON cannot write")
        return float.__repr__(key)
    form = converted(key)
    if form is None or isinstance(form, (str, int, float)):
        return _key_text(form)
    raise NoConversion("which is no key in JSON")


def _check_digits(value: int) -> None:
    """Raises ValueError if Python does not write such an integer."""
    try:
        int.__repr__(value)
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise ValueError(f"an integer of more than {most} digits, which Python does not write "
                         "(sys.set_int_max_str_digits)") from None


def _with_text_keys(value: Any) -> Any:
    """The same with a string for each key. Raises _KeysCollide and what _key_text() raises."""
    if isinstance(value, dict):
        result: dict[str, Any] = {}
        for key, inner in value.items():
            text = _key_text(key)
            if text in result:
                raise _KeysCollide
            result[text] = _with_text_keys(inner)
        return result
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(inner) for inner in value]
    return value


# ---- limits and reasons


def encode_within(value: Any, most: int) -> bytes:
    """encode(value), at most `most` bytes of it. Raises ResultError, which names type and path."""
    try:
        data = encode(value)
    except Exception as error:
        raise ResultError(explain(value, error)) from None
    if len(data) > most:
        raise ResultError(too_large(len(data), most))
    return data


def too_large(size: int, most: int) -> str:
    return f"the result is too large: {size} bytes; calls.payload_max is {most}"


# Says of a value that JSON cannot write: True, it is carried otherwise; a text, what is wrong with
# it; None, neither.
Carried = Callable[[Any], Union[bool, str, None]]


def explain(value: Any, error: BaseException, carried: Optional[Carried] = None,
            name: str = "result") -> str:
    """Why encode(value) failed: the first part that JSON cannot carry, with its path in `name`.

    Never raises.
    """
    try:
        found = _find(value, carried, name)
    except Exception:  # the value's own methods may do anything
        found = None
    if found is None and isinstance(error, RecursionError):
        found = f"the {name} is nested too deeply for JSON"
    return found or f"the {name} cannot be written as JSON: {type_name(error)}: {error}"


def _find(root: Any, carried: Optional[Carried], name: str) -> Optional[str]:
    # Depth first. A value stays in `inside` until everything in it was seen, so that a cycle is
    # told from a value used twice.
    inside: set[int] = set()
    todo: list[tuple[Any, Path, bool]] = [(root, None, False)]
    for _ in range(_NODES_MAX):
        if not todo or len(inside) > _DEPTH_MAX:
            return None
        value, path, leaving = todo.pop()
        if leaving:
            inside.discard(id(value))
            continue
        if id(value) in inside:
            return f"{place(path, name)} contains itself (circular reference)"
        try:
            parts = _parts(value, carried)
        except _Fault as fault:
            return f"{place(path, name)} {fault}"
        if parts is not None:
            inside.add(id(value))
            todo.append((value, path, True))
            todo.extend((inner, path if key is _SAME_PLACE else (path, key), False)
                        for key, inner in reversed(parts))
    return None


class _Fault(Exception):
    """What is wrong with a value, as the end of a sentence."""


_SAME_PLACE = object()  # in the place of a key


def _parts(value: Any, carried: Optional[Carried]) -> Optional[list[tuple[Any, Any]]]:
    """What else is to be looked at, by key; None: nothing. Raises _Fault."""
    if isinstance(value, dict):
        _look_at_keys(value)
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Fault(f"is {value!r}, which JSON cannot write")
        return None
    if isinstance(value, int):
        try:
            _check_digits(value)
        except ValueError as error:
            raise _Fault(f"is {error}") from None
        return None
    if value is None or isinstance(value, str):
        return None
    verdict = carried(value) if carried else None
    if isinstance(verdict, str):
        raise _Fault(verdict)
    if verdict:
        return None
    try:
        return [(_SAME_PLACE, converted(value))]
    except (NoConversion, ConversionFailed) as error:
        raise _Fault(f"is of type {type_name(value)}, {error}{_hint(value)}") from None


def _hint(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "; decode it or send base64 text, or return it from a function that does not stream"
    if dtypes.is_buffer(value):
        return "; tolist() makes JSON of an array; a function that does not stream may return it"
    if hasattr(value, "__next__") or hasattr(value, "__anext__"):
        return "; a function that answers with an iterator needs @keelback.function(stream=True)"
    if hasattr(value, "__await__"):
        return "; only an async function's answer is awaited"
    return ""


def _look_at_keys(value: dict[Any, Any]) -> None:
    """Raises _Fault."""
    texts: dict[str, Any] = {}
    for key in value:
        try:
            text = _key_text(key)
        except (NoConversion, ConversionFailed):
            raise _Fault(f"has a key of type {type_name(key)}; JSON's keys are strings") from None
        except ValueError as error:
            raise _Fault(f"has a key that is {error}") from None
        other = texts.setdefault(text, key)
        if other is not key:
            raise _Fault(f"has the keys {other!r:.60} and {key!r:.60}, which are one key in JSON")
