"""What annotations name. A text is looked up where its function or its class was written."""

import functools
import inspect
import sys
import types
import typing
from collections import abc
from typing import Any, Union

_LISTS = (list, abc.Sequence, abc.Iterable, abc.Collection)
_UNION = getattr(types, "UnionType", Union)  # int | None, from Python 3.10 on
Names = dict[str, Any]


def names_of(target: Any) -> Names:
    """Where the annotations of a function are looked up."""
    target = inspect.unwrap(target)
    while isinstance(target, functools.partial):
        target = inspect.unwrap(target.func)
    if not hasattr(target, "__globals__") and not hasattr(target, "__func__"):
        target = type(target).__call__
    target = getattr(target, "__func__", target)
    return getattr(inspect.unwrap(target), "__globals__", {})


def fields_of(cls: type) -> dict[str, tuple[Any, Names]]:
    """The annotations of a class and its bases by name, each with where it is looked up."""
    found: dict[str, tuple[Any, Names]] = {}
    for base in reversed(cls.__mro__):
        if base is object or not _annotations(base):
            continue
        module = sys.modules.get(base.__module__)
        names = {**getattr(module, "__dict__", {}), base.__name__: base}
        found.update((name, (each, names)) for name, each in _annotations(base).items())
    return found


def _annotations(cls: type) -> dict[str, Any]:
    if hasattr(inspect, "get_annotations"):
        return inspect.get_annotations(cls)
    return cls.__dict__.get("__annotations__", {})


def resolved(annotation: Any, names: Names) -> Any:
    """The annotation, if it is a text: `from __future__ import annotations`. Raises what the text raises."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    try:
        return resolved(eval(annotation, dict(names)), names)
    except TypeError:
        if "|" not in annotation or "[" in annotation:
            raise
        # "int | None" before Python 3.10
        return Union[tuple(resolved(part.strip(), names) for part in annotation.split("|"))]


def element_of(annotation: Any, names: Names) -> Any:
    """What one call gives for a parameter that is a list with an element for each call: of list[T] it is T, else
    anything. Raises what a text raises."""
    found = members(annotation, names)
    args = typing.get_args(found[0])
    is_list = len(found) == 1 and len(args) == 1 and typing.get_origin(found[0]) in _LISTS
    return args[0] if is_list else Any


def is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, _UNION)


def members(annotation: Any, names: Names) -> list[Any]:
    """Of a union its members, of anything else itself."""
    annotation = resolved(annotation, names)
    if hasattr(annotation, "__metadata__"):  # Annotated[int, …]
        return members(typing.get_args(annotation)[0], names)
    if hasattr(annotation, "__supertype__"):  # NewType("Id", int)
        return members(annotation.__supertype__, names)
    if is_union(annotation):
        return [each for part in typing.get_args(annotation) for each in members(part, names)]
    return [annotation]
