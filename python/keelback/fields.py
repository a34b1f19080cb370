"""How the attachments of a parameter's name become its argument.

Without annotation a form's field is text, a file bytes and an array a memoryview or its Attachment;
several of one name are a list. A plain annotation converts: int, float, bool, str, bytes,
keelback.Attachment, Optional and Union of them, and list of them. Every other annotation counts as
none. What does not convert is refused: nothing is guessed.
"""

import collections.abc
import functools
import inspect
import math
import re
import types
import typing
from typing import Any, Callable, NamedTuple, Optional, Union

from keelback.attachment import Attachment
from keelback.decoding import ArgumentError

_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
# What forms and command lines write.
_TRUTH = {**dict.fromkeys(("true", "1", "on", "yes", "t", "y"), True),
          **dict.fromkeys(("false", "0", "off", "no", "f", "n"), False)}


class Plan(NamedTuple):
    """What an annotation asks for."""

    kinds: tuple[type, ...] = ()  # tried in this order; none: as without annotation
    is_optional: bool = False
    is_list: bool = False


PLAIN = Plan()


def argument(name: str, plan: Plan, attachments: list[Attachment], keeps_views: bool) -> Any:
    """The argument of the parameter `name`. `keeps_views`: bytes are not copied.

    Raises ArgumentError.
    """
    if plan.is_list and attachments[0].dtype:
        plan = PLAIN  # an array is its own list
    if not plan.is_list:
        if len(attachments) == 1:
            return _one(name, plan, attachments[0], keeps_views)
        if plan.kinds and not plan.is_list:
            raise ArgumentError(f'argument "{name}": it is there {len(attachments)} times, and the '
                                "parameter takes one")
    return [_one(name, plan, each, keeps_views) for each in attachments]


def _one(name: str, plan: Plan, attachment: Attachment, keeps_views: bool) -> Any:
    wrong: Optional[ValueError] = None
    kinds: tuple[Optional[type], ...] = plan.kinds or (None,)
    takes_empty = str in kinds or any(kind in kinds for kind in _BYTES)
    if plan.is_optional and attachment.is_text and not len(attachment) and not takes_empty:
        return None  # an input that nobody has filled in
    for kind in kinds:
        try:
            return _converted(kind, attachment, keeps_views)
        except ValueError as error:
            wrong = wrong or error
    raise ArgumentError(f'argument "{name}": {wrong}')


def _converted(kind: Optional[type], attachment: Attachment, keeps_views: bool) -> Any:
    """Raises ValueError."""
    if kind is None:
        return attachment.argument()
    if kind is Attachment:
        return attachment
    if kind is memoryview and not attachment.is_text:
        return attachment.argument()
    if kind in _BYTES:
        if keeps_views and not attachment.dtype:
            return attachment.data
        return kind(bytes(attachment))  # type: ignore[call-arg]
    if attachment.dtype:
        raise ValueError(f"it is an array and no {kind.__name__}")
    if kind is str:
        return attachment.text()
    if not attachment.is_text:
        raise ValueError(f"it is a file and no {kind.__name__}")
    text = attachment.text()
    try:
        return _FROM_TEXT[kind](text.strip(" \t\r\n"))
    except ValueError as error:
        why = str(error) if str(error).startswith("it ") else f"{text!r:.60} is no {kind.__name__}"
        raise ValueError(why) from None


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"it has {len(text)} digits, more than Python reads") from None


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it is {text:.40}, which is beyond a 64-bit float")
    return value


def _bool(text: str) -> bool:
    value = _TRUTH.get(text.lower())
    if value is None:
        raise ValueError
    return value


_FROM_TEXT: dict[type, Callable[[str], Any]] = {int: _int, float: _float, bool: _bool}
_BYTES = (bytes, bytearray, memoryview)
# A text is tried last: every field is one.
_ORDER = {Attachment: 0, bool: 1, int: 1, float: 2, str: 3, **dict.fromkeys(_BYTES, 4)}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


# ---- annotations


def plan_of(target: Callable[..., Any], parameter: inspect.Parameter) -> Plan:
    """What the parameter's annotation asks for. Never raises."""
    try:
        return _plan(parameter.annotation, _names(target))
    except Exception:  # an annotation may be anything
        return PLAIN


def element_plan_of(target: Callable[..., Any], parameter: inspect.Parameter) -> Plan:
    """The same of a parameter that is a list with one element for each call: what the annotation asks of an element."""
    try:
        names = _names(target)
        members = _members(parameter.annotation, names)
        if len(members) == 1 and typing.get_origin(members[0]) in _LISTS:
            return _plan(typing.get_args(members[0])[0], names)
        return _plan(parameter.annotation, names)
    except Exception:
        return PLAIN


def _names(target: Any) -> dict[str, Any]:
    """Where the annotations of a function are looked up."""
    target = inspect.unwrap(target)
    while isinstance(target, functools.partial):
        target = inspect.unwrap(target.func)
    if not hasattr(target, "__globals__") and not hasattr(target, "__func__"):
        target = type(target).__call__
    target = getattr(target, "__func__", target)
    return getattr(inspect.unwrap(target), "__globals__", {})


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """The annotation, if it is a text: `from __future__ import annotations`."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    try:
        return _resolved(eval(annotation, dict(names)), names)
    except TypeError:
        if "|" not in annotation or "[" in annotation:
            raise
        # "int | None" before Python 3.10
        return Union[tuple(_resolved(part.strip(), names) for part in annotation.split("|"))]


def _plan(annotation: Any, names: dict[str, Any]) -> Plan:
    members = _members(annotation, names)
    inner = [each for each in members if each is not type(None)]
    is_optional = len(inner) < len(members)
    if len(inner) == 1 and (inner[0] in _LISTS or typing.get_origin(inner[0]) in _LISTS):
        of = [each for each in typing.get_args(inner[0]) if not isinstance(each, typing.TypeVar)]
        return Plan(_plan(of[0], names).kinds if of else (), is_optional, is_list=True)
    if not inner or not all(isinstance(each, type) and each in _ORDER for each in inner):
        return PLAIN
    return Plan(tuple(sorted(inner, key=lambda each: _ORDER[each])), is_optional)


def _members(annotation: Any, names: dict[str, Any]) -> list[Any]:
    """Of a union its members, of anything else itself."""
    annotation = _resolved(annotation, names)
    if hasattr(annotation, "__metadata__"):  # Annotated[int, …]
        return _members(typing.get_args(annotation)[0], names)
    if hasattr(annotation, "__supertype__"):  # NewType("Id", int)
        return _members(annotation.__supertype__, names)
    union = getattr(types, "UnionType", Union)  # int | None, from Python 3.10 on
    if typing.get_origin(annotation) in (Union, union):
        parts = typing.get_args(annotation)
        return [each for part in parts for each in _members(part, names)]
    return [annotation]
