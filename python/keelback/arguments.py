"""How the arguments of one function bind to its parameters, and become what their annotations say.

`bind` is a function with the parameters of the application's function and almost no body. Calling it
raises Python's own TypeError, and says whether `convert` has something to do: for a function without
annotations never, for plain types only if a value is not of its type. So the former pay nothing, and
the latter a comparison for each argument.
"""

import contextlib
import inspect
import keyword
import typing
from collections import abc
from typing import Any, Callable, Optional

from keelback import annotations
from keelback.misfits import Gathered, Misfit

_ABSENT = object()  # the default of a parameter that has one


class Filled:
    """An argument that was made of an attachment, as its annotation says."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Arguments:
    """What is known of the annotations of one function."""

    def __init__(self, name: str, target: Any, signature: Optional[inspect.Signature], *,
                 validate: bool, stream: bool, batch: bool = False) -> None:
        self._parameters = [] if signature is None else list(signature.parameters.values())
        self.converters: dict[str, Any] = {}  # by parameter
        self.result: Any = None  # the converter of the result: it has the schema
        self.unusable: list[str] = []  # annotations that count as none
        if signature is not None and validate:
            self._compile(target, signature, stream, batch)
        self._names = [each.name for each in self._parameters
                       if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        self._keywords = {each.name: self.converters.get(each.name) for each in self._parameters
                          if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        of_kind = {each.kind: each.name for each in self._parameters}
        self._rest = of_kind.get(inspect.Parameter.VAR_POSITIONAL, "")
        self._more = self.converters.get(of_kind.get(inspect.Parameter.VAR_KEYWORD, ""))
        self.bind = _binder(name, signature, self.converters)

    def _compile(self, target: Any, signature: inspect.Signature, stream: bool, batch: bool) -> None:
        empty = inspect.Parameter.empty
        annotated = [each for each in self._parameters if each.annotation is not empty]
        if not annotated and signature.return_annotation is empty:
            return
        from keelback import converters  # other applications do not pay for it
        from keelback.compiling import Compiler

        names = annotations.names_of(target)
        for parameter in annotated:
            compiler = Compiler()
            annotation = parameter.annotation
            if batch:  # it says what the function gets, and a call gives one of that
                with contextlib.suppress(Exception):  # compile() names what cannot be resolved
                    annotation = annotations.element_of(annotation, names)
            made = compiler.compile(annotation, names)
            self.unusable += [f"{parameter.name}: {each}" for each in compiler.unusable]
            if made is not None:
                # "x: int = None" says that None is one of its values, too.
                self.converters[parameter.name] = converters.or_null(made) if parameter.default is None else made
        if signature.return_annotation is not empty:
            returned = signature.return_annotation
            with contextlib.suppress(Exception):
                returned = (_item(returned, names) if stream
                            else annotations.element_of(returned, names) if batch else returned)
            self.result = Compiler().compile(returned, names)

    def convert(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Arguments that `bind` has taken, as the annotations say. Raises Misfit, CheckFailed."""
        gathered = Gathered()
        names, converters = self._names, self.converters
        if args:
            args = list(args)
            for index, value in enumerate(args):
                name, *inside = (names[index],) if index < len(names) else (self._rest, index - len(names))
                converter = converters.get(name)
                if converter is not None and type(value) not in converter.plain:
                    try:
                        args[index] = converter.convert(value)
                    except Misfit as misfit:
                        gathered.add(misfit, name, *inside)
        for name, value in kwargs.items():
            converter = self._keywords.get(name, self._more)
            if type(value) is Filled:
                kwargs[name] = value.value
            elif converter is not None and type(value) not in converter.plain:
                try:
                    kwargs[name] = converter.convert(value)
                except Misfit as misfit:
                    gathered.add(misfit, name)
        gathered.check()
        return args, kwargs


def _item(annotation: Any, names: annotations.Names) -> Any:
    """What a function streams."""
    try:
        found = annotations.resolved(annotation, names)
    except (Exception, SystemExit):
        return Any
    args = typing.get_args(found)
    return args[0] if args and typing.get_origin(found) in _STREAMS else Any


_STREAMS = (abc.Iterator, abc.Iterable, abc.Generator, abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator)


def _binder(name: str, signature: Optional[inspect.Signature], converters: dict[str, Any]) -> Callable[..., Any]:
    """A function with the same parameters, which returns whether the arguments must be converted."""
    if signature is None:
        return lambda *args, **kwargs: None
    parameters = list(signature.parameters.values())
    if any(keyword.iskeyword(each.name) for each in parameters):
        return lambda *args, **kwargs: bool(signature.bind(*args, **kwargs) and converters)
    own = "_"  # begins our names, and no parameter's
    while any(each.name.startswith(own) for each in parameters):
        own += "_"
    scope: dict[str, Any] = {f"{own}absent": _ABSENT, f"{own}type": type}
    parts: list[str] = []
    fits: list[str] = []  # what is true of arguments that are taken as they are
    marked = False  # the bare '*' stands in front of the first keyword-only parameter
    for index, parameter in enumerate(parameters):
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            parts.append("*")
            marked = True
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        star = "**" if parameter.kind is parameter.VAR_KEYWORD else star
        marked = marked or parameter.kind is parameter.VAR_POSITIONAL
        optional = not star and parameter.default is not parameter.empty
        parts.append(star + parameter.name + (f"={own}absent" if optional else ""))
        if parameter.name in converters:
            cases = [f"not {parameter.name}"] if star else [f"{parameter.name} is {own}absent"] if optional else []
            if not star:
                cases += _cases(parameter.name, converters[parameter.name].plain, own, scope)
            fits.append(f"({' or '.join(cases) or False})")
        following = parameters[index + 1].kind if index + 1 < len(parameters) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and following is not parameter.POSITIONAL_ONLY:
            parts.append("/")
    shown = name if name.isidentifier() and not keyword.iskeyword(name) else "function"  # named in the messages
    body = f"return not ({' and '.join(fits)})" if fits else "pass"
    exec(f"def {shown}({', '.join(parts)}): {body}", scope)  # Python itself has checked the parameters' names
    return scope[shown]


def _cases(name: str, plain: frozenset[type], own: str, scope: dict[str, Any]) -> list[str]:
    """Expressions, of which one is true if the value is exactly of such a type."""
    cases = []
    for kind in sorted(plain, key=lambda each: (each is type(None), each.__name__)):
        if kind is type(None):
            cases.append(f"{name} is None")
        else:
            scope[own + kind.__name__] = kind
            cases.append(f"{own}type({name}) is {own}{kind.__name__}")
    return cases
