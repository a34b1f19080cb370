"""How the attachments of a parameter's name become its argument.

Without annotation a form's field is text, a file bytes and an array a memoryview or its Attachment;
several of one name are a list. A plain annotation converts: int, float, bool, str, bytes,
keelback.Attachment, Optional and Union of them, and list of them. Others convert a field's text (its
JSON, for types that JSON has as objects and arrays) and an array as they convert JSON
(converters.py). What does not convert is refused: nothing is guessed.
"""

import collections.abc
import inspect
import typing
from typing import Any, Callable, NamedTuple, Optional

from keelback import annotations, texts
from keelback.attachment import Attachment
from keelback.decoding import ArgumentError, decode
from keelback.misfits import Misfit, wrong


class Plan(NamedTuple):
    """What an annotation asks for."""

    kinds: tuple[type, ...] = ()  # tried in this order; none: as without annotation
    is_optional: bool = False
    is_list: bool = False
    converter: Any = None  # of other types; of their items, if is_list
    make: Optional[Callable[[Any], Any]] = None  # what else than a list the value is: a set


PLAIN = Plan()


def argument(name: str, plan: Plan, attachments: list[Attachment], keeps_views: bool) -> Any:
    """The argument of the parameter `name`. `keeps_views`: bytes are not copied.

    Raises Misfit, and ArgumentError for a text without annotation that is none.
    """
    if plan.is_list and plan.converter is None and attachments[0].dtype:
        plan = PLAIN  # an array is its own list
    typed = plan.kinds or plan.converter is not None
    if not plan.is_list and len(attachments) > 1 and typed:
        raise wrong("too_many", f"it is there {len(attachments)} times, and the parameter takes one", name)
    many = plan.is_list or len(attachments) > 1
    values = []
    for index, each in enumerate(attachments):
        try:
            values.append(_one(plan, each, keeps_views))
        except Misfit as misfit:
            raise misfit.inside(name, *((index,) if many else ())) from None
        except ValueError as error:
            if not typed:
                raise ArgumentError(f'argument "{name}": {error}') from None
            place = (name, index) if many else (name,)
            raise wrong(f"{_word(plan)}_parsing", str(error), *place) from None
    if not many:
        return values[0]
    if plan.make is None:
        return values
    try:
        return plan.make(values)
    except TypeError as error:  # items that a set cannot hold
        raise wrong("set_item_not_hashable", str(error), name) from None


def _word(plan: Plan) -> str:
    if not plan.kinds:
        return "text"
    return "string" if plan.kinds[0] is str else plan.kinds[0].__name__.lower()


def _one(plan: Plan, attachment: Attachment, keeps_views: bool) -> Any:
    """Raises ValueError, Misfit."""
    refusal: Optional[ValueError] = None
    kinds: tuple[Optional[type], ...] = plan.kinds or (None,)
    takes_empty = str in kinds or any(kind in kinds for kind in _BYTES)
    if plan.is_optional and attachment.is_text and not len(attachment) and not takes_empty:
        return None  # an input that nobody has filled in
    if plan.converter is not None:
        return _by_converter(plan.converter, attachment)
    for kind in kinds:
        try:
            return _converted(kind, attachment, keeps_views)
        except ValueError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _by_converter(converter: Any, attachment: Attachment) -> Any:
    """Raises ValueError, Misfit, CheckFailed."""
    is_json = attachment.content_type.partition(";")[0].strip().lower() == "application/json"
    if not attachment.is_text and not (is_json and converter.structured and not attachment.dtype):
        return converter.convert(attachment.argument())
    text = attachment.text()
    if converter.structured:
        try:
            return converter.convert(decode(text.encode()))
        except Misfit:
            if converter.from_text is None:
                raise
        except ValueError as error:
            if converter.from_text is None:
                raise wrong("json_invalid", f"Invalid JSON: {error}") from None
    if converter.from_text is None:
        return converter.convert(text)
    return converter.from_text(text.strip(_SPACE))


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
    return _FROM_TEXT[kind](text.strip(_SPACE))


_FROM_TEXT: dict[type, Callable[[str], Any]] = {int: texts.integer, float: texts.number, bool: texts.truth}
_SPACE = " \t\r\n"
_BYTES = (bytes, bytearray, memoryview)
# A text is tried last: every field is one.
_ORDER: dict[Any, int] = {Attachment: 0, bool: 1, int: 1, float: 2, str: 3, **dict.fromkeys(_BYTES, 4)}
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


# ---- annotations


def plan_of(target: Callable[..., Any], parameter: inspect.Parameter, converter: Any = None,
            batch: bool = False) -> Plan:
    """What the parameter's annotation asks for; `converter` is its converter, if there is one. With `batch` the
    parameter is a list with an element for each call: what it asks of an element. Never raises."""
    try:
        annotation, names = parameter.annotation, annotations.names_of(target)
        element = annotations.element_of(annotation, names) if batch else Any
        plan = _plan(annotation if element is Any else element, names)
    except Exception:  # an annotation may be anything
        plan = PLAIN
    if plan.kinds or converter is None:
        return plan
    is_optional = type(None) in converter.plain
    if converter.items is not None:
        return Plan((), is_optional, is_list=True, converter=converter.items, make=converter.make)
    return plan if plan.is_list else Plan((), is_optional, converter=converter)


def _plan(annotation: Any, names: dict[str, Any]) -> Plan:
    members = annotations.members(annotation, names)
    inner = [each for each in members if each is not type(None)]
    is_optional = len(inner) < len(members)
    if len(inner) == 1 and (inner[0] in _LISTS or typing.get_origin(inner[0]) in _LISTS):
        of = [each for each in typing.get_args(inner[0]) if not isinstance(each, typing.TypeVar)]
        return Plan(_plan(of[0], names).kinds if of else (), is_optional, is_list=True)
    if not inner or not all(isinstance(each, type) and each in _ORDER for each in inner):
        return PLAIN
    return Plan(tuple(sorted(inner, key=lambda each: _ORDER[each])), is_optional)
