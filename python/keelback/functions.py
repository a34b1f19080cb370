"""The functions an application offers: the decorator, the table, and how arguments bind."""

import inspect
import keyword
from typing import Any, Callable, Optional, TypeVar, Union, overload

from keelback import fields

F = TypeVar("F", bound=Callable[..., Any])

NAME_MAX = 256  # bytes
DOC_MAX = 4096  # characters of a docstring that are announced
CONCURRENCY_MAX = 1024
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.VAR_POSITIONAL: "var_positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "var_keyword",
}


class BadApplication(Exception):
    """The application cannot be served as it is; the message says why."""


BadApplication.__module__ = "keelback"


class Function:
    """One function and what is known about it. `bind` has its signature and no body: calling it with the
    caller's arguments costs less than a signature object and raises Python's own TypeError."""

    __slots__ = ("name", "target", "bind", "signature", "is_plain", "is_async", "is_stream", "idempotent", "timeout",
                 "max_workers", "concurrency", "zero_copy", "interruptible", "attachable", "_plans")

    def __init__(self, name: str, target: Callable[..., Any], *, idempotent: bool = False,
                 timeout: Optional[float] = None, stream: Optional[bool] = None, max_workers: int = 0,
                 zero_copy: bool = False, interruptible: bool = False, concurrency: Optional[int] = None) -> None:
        self.name = name
        self.target = target
        self.idempotent = idempotent
        self.timeout = timeout
        self.max_workers = max_workers
        self.concurrency = concurrency  # None: not declared, so 1
        self.zero_copy = zero_copy
        self.interruptible = interruptible
        code = inspect.unwrap(target)
        call = type(target).__call__  # an instance may have an async __call__
        asynchronous = any(map(inspect.iscoroutinefunction, (target, code, call)))
        async_generator = any(map(inspect.isasyncgenfunction, (target, code, call)))
        generator = any(map(inspect.isgeneratorfunction, (target, code, call)))
        self.is_async = asynchronous or async_generator
        self.is_stream = (generator or async_generator) if stream is None else bool(stream)
        if stream is False and (generator or async_generator):
            raise BadApplication(f"{name} is a generator: it cannot be registered with stream=False")
        self.is_plain = not self.is_async and not self.is_stream
        self.signature = _signature(target)
        self.bind = _binder(name, self.signature)
        parameters = () if self.signature is None else self.signature.parameters.values()
        # Parameters that an attachment of their name may fill.
        self.attachable = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        self._plans: dict[str, fields.Plan] = {}

    def plan(self, name: str) -> fields.Plan:
        """How attachments become the argument of a parameter; found out when the first one comes."""
        plan = self._plans.get(name)
        if plan is None:
            assert self.signature is not None
            plan = self._plans[name] = fields.plan_of(self.target, self.signature.parameters[name])
        return plan

    @property
    def is_shared(self) -> bool:
        """Several calls of it run at once in one worker."""
        return (self.concurrency or 1) > 1

    def describe(self) -> dict[str, Any]:
        """Its entry in HELLO."""
        return {
            "name": self.name, "doc": (inspect.getdoc(self.target) or "")[:DOC_MAX], "idempotent": self.idempotent,
            "stream": self.is_stream, "async": self.is_async, "timeout": self.timeout,
            "max_workers": self.max_workers, "concurrency": self.concurrency or 1, "interruptible": self.interruptible,
            "params": [] if self.signature is None else [_parameter(p) for p in self.signature.parameters.values()],
        }


_functions: dict[str, Function] = {}


@overload
def function(target: F) -> F: ...
@overload
def function(*, idempotent: bool = ..., timeout: Optional[float] = ..., stream: Optional[bool] = ...,
             max_workers: int = ..., concurrency: Optional[int] = ..., zero_copy: bool = ...,
             interruptible: bool = ..., name: Optional[str] = ...) -> Callable[[F], F]: ...


def function(target: Optional[F] = None, *, idempotent: bool = False, timeout: Optional[float] = None,
             stream: Optional[bool] = None, max_workers: int = 0, concurrency: Optional[int] = None,
             zero_copy: bool = False, interruptible: bool = False,
             name: Optional[str] = None) -> Union[F, Callable[[F], F]]:
    """Offers a function to callers, under its own name or `name`. The function itself is returned unchanged.

    idempotent     running it twice is as good as once, so a broken attempt may be retried
    timeout        seconds that it may run; without it `calls.deadline` holds
    stream         the function answers with items; generators do anyway
    max_workers    at most so many workers run it at once; 0: no limit
    concurrency    one worker runs so many calls of it at once: an async function's as tasks of its
                   loop, another's in threads; without it, and with 1, a call has its worker alone
    zero_copy      its attachments are views of shared memory that end with the call, not copies
    interruptible  it leaves everything whole when KeyboardInterrupt is raised at any line of it or
                   of what it calls, so its worker may be kept after it was interrupted
    """

    def register(wanted: F) -> F:
        add(Function(_name_of(wanted, name), wanted, idempotent=_boolean("idempotent", idempotent),
                     timeout=_seconds(timeout), stream=stream, max_workers=_count(max_workers),
                     concurrency=_concurrency(concurrency),
                     zero_copy=_boolean("zero_copy", zero_copy),
                     interruptible=_boolean("interruptible", interruptible)))
        return wanted

    return register if target is None else register(target)


def add(new: Function) -> None:
    """Raises BadApplication if another function has the name."""
    old = _functions.get(new.name)
    if old is not None and _origin(old.target) != _origin(new.target):
        raise BadApplication(f"two functions are called {new.name!r}: {_origin(old.target)} and {_origin(new.target)}")
    _functions[new.name] = new


def table() -> dict[str, Function]:
    return _functions


def expose(module: Any, names: list[str]) -> None:
    """Offers functions of a module that knows nothing of Keelback. Raises BadApplication."""
    for name in names:
        value = module
        for part in name.split("."):
            value = getattr(value, part, None)
        if value is None:
            raise BadApplication(f"--expose {name}: {module.__name__} has no such function")
        if not callable(value):
            raise BadApplication(f"--expose {name}: it is a {type(value).__name__}, not a function")
        if name not in _functions:
            add(Function(_checked_name(name), value))


def _origin(target: Any) -> str:
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', type(target).__qualname__)}"


def _name_of(target: Any, name: Optional[str]) -> str:
    if not callable(target):
        raise TypeError(f"@keelback.function decorates a function, not {target!r}; its options are keywords")
    return _checked_name(getattr(target, "__name__", None) if name is None else name)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name or len(name.encode()) > NAME_MAX or not name.isprintable() or "/" in name:
        raise BadApplication(f"{name!r} cannot name a function: printable text of at most {NAME_MAX} bytes without '/'")
    return name


def _boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"@keelback.function({key}=...) is True or False, not {value!r}")
    return value


def _seconds(value: Any) -> Optional[float]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"@keelback.function(timeout=...) is a positive number of seconds, not {value!r}")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"@keelback.function(max_workers=...) is a number of workers, 0 for no limit, not {value!r}")
    return value


def _concurrency(value: Any) -> Optional[int]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= CONCURRENCY_MAX:
        raise ValueError(
            f"@keelback.function(concurrency=...) is a number of calls from 1 to {CONCURRENCY_MAX}, not {value!r}")
    return value


def _signature(target: Callable[..., Any]) -> Optional[inspect.Signature]:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):  # some functions written in C have none
        return None


def _binder(name: str, signature: Optional[inspect.Signature]) -> Callable[..., Any]:
    """A function with the same parameters that does nothing."""
    if signature is None:
        return lambda *args, **kwargs: None
    parts: list[str] = []
    marked = False  # the bare '*' stands in front of the first keyword-only parameter
    parameters = list(signature.parameters.values())
    for index, parameter in enumerate(parameters):
        if keyword.iskeyword(parameter.name):
            return signature.bind
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            parts.append("*")
            marked = True
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        star = "**" if parameter.kind is parameter.VAR_KEYWORD else star
        marked = marked or parameter.kind is parameter.VAR_POSITIONAL
        parts.append(star + parameter.name + ("" if star or parameter.default is parameter.empty else "=None"))
        following = parameters[index + 1].kind if index + 1 < len(parameters) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and following is not parameter.POSITIONAL_ONLY:
            parts.append("/")
    scope: dict[str, Any] = {}
    shown = name if name.isidentifier() and not keyword.iskeyword(name) else "function"  # named in the messages
    exec(f"def {shown}({', '.join(parts)}): pass", scope)  # Python itself has checked the parameters' names
    return scope[shown]


def _parameter(parameter: inspect.Parameter) -> dict[str, Any]:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        text = None
    else:
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return {"name": parameter.name, "kind": _KINDS[parameter.kind],
            "required": parameter.default is parameter.empty and not variadic, "type": text}
