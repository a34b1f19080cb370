"""What converters need of classes: their fields, and how instances are made."""

import sys
import typing
from typing import Any, Callable, NamedTuple, Optional

from keelback import annotations
from keelback.attachment import Attachment
from keelback.misfits import CheckFailed, Misfit, wrong

Compile = Callable[[Any, annotations.Names], Any]


class Parts(NamedTuple):
    """The fields of a class."""

    fields: dict[str, Any]  # the converter of each; None: everything fits
    required: tuple[str, ...]
    make: Callable[[dict[str, Any]], Any]
    closed: bool  # a result has no other fields


def dataclass_parts(cls: Any, compile: Compile) -> Parts:
    dataclasses = sys.modules["dataclasses"]
    known = annotations.fields_of(cls)
    fields, required, closed = {}, [], True
    for name, field in cls.__dataclass_fields__.items():
        kind = getattr(field._field_type, "name", "")
        if kind == "_FIELD_CLASSVAR":
            continue
        if not field.init:
            closed = False
            continue
        annotation, names = known.get(name, (field.type, {}))
        if kind == "_FIELD_INITVAR":
            closed = False
            annotation = annotations.resolved(annotation, names)
            annotation = getattr(annotation, "type", typing.Any)
        fields[name] = compile(annotation, names)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(name)
    return Parts(fields, tuple(required), lambda values: cls(**values), closed)


def typed_dict_parts(cls: Any, compile: Compile) -> Parts:
    known = annotations.fields_of(cls)
    names = getattr(sys.modules.get(cls.__module__), "__dict__", {})
    for base in getattr(cls, "__orig_bases__", ()):  # a TypedDict's own bases are not in its MRO
        if isinstance(base, type) and hasattr(base, "__total__"):
            known = {**annotations.fields_of(base), **known}
    every = {**{name: (each, names) for name, each in cls.__annotations__.items()}, **known}
    fields = {name: compile(_unwrapped(*each), each[1]) for name, each in every.items()}
    # With `from __future__ import annotations`, Python does not see Required and NotRequired.
    required = [name for name, each in every.items() if _is_required(cls, name, *each)]
    return Parts(fields, tuple(required), lambda values: values, True)


def _is_required(cls: Any, name: str, annotation: Any, names: annotations.Names) -> bool:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", str(annotation))
    if "NotRequired[" in text:
        return False
    return "Required[" in text or name in cls.__required_keys__


def _unwrapped(annotation: Any, names: annotations.Names) -> Any:
    """NotRequired[int] is int; typing_extensions' too."""
    try:
        found = annotations.resolved(annotation, names)
    except Exception:
        return annotation
    origin = typing.get_origin(found)
    if getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):
        return _unwrapped(typing.get_args(found)[0], names)
    return found


def built(make: Callable[[Any], Any], value: Any, refused: Optional[tuple[str, str]] = None) -> Any:
    """make(value), where code of the application may refuse. Raises Misfit, CheckFailed."""
    try:
        return make(value)
    except (Misfit, RecursionError, MemoryError):
        raise
    except ValueError as error:
        raise wrong(*(refused or ("value_error", f"Value error, {error}"))) from None
    except AssertionError as error:
        raise wrong("assertion_error", f"Assertion failed, {error}") from None
    except Exception as error:
        raise CheckFailed from error


# ---- what comes as an attachment

def not_json(value: Any) -> Any:
    raise wrong("attachment_type", "Input should be sent as an attachment")


def array_of(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Of ndarray[shape, dtype[scalar]]."""
    scalar = typing.get_args(args[1])[:1] if len(args) == 2 else ()
    wanted: Optional[type] = None
    if scalar and isinstance(scalar[0], type) and scalar[0] is not typing.Any:
        wanted = scalar[0]

    def check(value: Any) -> Any:
        numpy = sys.modules["numpy"]
        if not isinstance(value, (Attachment, memoryview, numpy.ndarray, bytes, bytearray)):
            raise wrong("array_type", "Input should be an array, sent as an attachment")
        array = numpy.asarray(value) if not isinstance(value, (bytes, bytearray)) else numpy.frombuffer(value, "u1")
        if wanted is not None and not issubclass(array.dtype.type, wanted):
            raise wrong("array_dtype", f"Input should be an array of {wanted.__name__}, not {array.dtype}")
        return array

    return check
