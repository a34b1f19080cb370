"""The functions an application offers: the decorator, the table, and what is known of each."""

import inspect
import keyword
import re
from typing import Any, Callable, Optional, TypeVar, Union, overload

from keelback import fields
from keelback.arguments import Arguments
from keelback.schemas import Schemas

F = TypeVar("F", bound=Callable[..., Any])

NAME_MAX = 256  # bytes
DOC_MAX = 4096  # characters of a docstring that are announced
CONCURRENCY_MAX = 1024  # also of a batch
_LIST_OF = re.compile(r"(?:typing\.)?[lL]ist\[(.*)\]", re.DOTALL)
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
    """One function and what is known about it. If `bind(*args, **kwargs)` is true, the arguments are to be
    converted: `args, kwargs = convert(args, kwargs)` (arguments.py)."""

    __slots__ = ("name", "target", "bind", "convert", "arguments", "signature", "is_plain", "is_async", "is_stream",
                 "idempotent", "timeout", "max_workers", "concurrency", "batch", "batch_wait", "stacked", "zero_copy",
                 "interruptible", "attachable", "arrange", "keyword_only", "_plans")

    def __init__(self, name: str, target: Callable[..., Any], *, idempotent: bool = False,
                 timeout: Optional[float] = None, stream: Optional[bool] = None, max_workers: int = 0,
                 zero_copy: bool = False, interruptible: bool = False, concurrency: Optional[int] = None,
                 batch: Optional[int] = None, batch_wait: float = 0.0, stacked: bool = False,
                 validate: bool = True) -> None:
        self.name = name
        self.target = target
        self.idempotent = idempotent
        self.timeout = timeout
        self.max_workers = max_workers
        self.concurrency = concurrency  # None: not declared, so 1
        self.batch = batch  # calls that it takes at once; None: one by one
        self.batch_wait = batch_wait  # seconds
        self.stacked = stacked
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
        self.is_plain = not self.is_async and not self.is_stream and batch is None
        self.signature = _signature(target)
        self.arrange: Any = None  # of a batch function: a call's arguments, all of them, in their order
        self.keyword_only: tuple[str, ...] = ()  # parameters of a batch function
        if batch is not None:
            self._prepare_batch()
        self.arguments = Arguments(name, target, self.signature, validate=validate, stream=self.is_stream,
                                   batch=batch is not None)
        self.bind = self.arguments.bind
        self.convert = self.arguments.convert
        parameters = () if self.signature is None else self.signature.parameters.values()
        # Parameters that an attachment of their name may fill.
        self.attachable = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        self._plans: dict[str, fields.Plan] = {}

    def plan(self, name: str) -> fields.Plan:
        """How attachments become the argument of a parameter; found out when the first one comes."""
        plan = self._plans.get(name)
        if plan is None:
            assert self.signature is not None
            plan = self._plans[name] = fields.plan_of(self.target, self.signature.parameters[name],
                                                      self.arguments.converters.get(name), self.batch is not None)
        return plan

    def _prepare_batch(self) -> None:
        """Raises BadApplication for what cannot take batches."""
        why = ("is async" if self.is_async else "streams" if self.is_stream
               else "has a concurrency" if self.concurrency is not None
               else "has no signature that Python knows" if self.signature is None else "")
        if why:
            raise BadApplication(f"{self.name} {why}: a function that takes batches is a plain def with one result")
        assert self.signature is not None
        parameters = list(self.signature.parameters.values())
        if not parameters or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            raise BadApplication(f"{self.name} takes batches, so it has parameters with names, and no *args or **kwargs")
        self.keyword_only = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        self.arrange = _arranger(self.name, self.signature)
        import keelback.batches  # noqa: F401  # once, in the zygote

    def run_one(self, args: Any, kwargs: dict[str, Any]) -> Any:
        """Of a batch function: a batch of one."""
        from keelback import batches

        return batches.one(self, args, kwargs)

    @property
    def is_shared(self) -> bool:
        """Several calls of it run at once in one worker."""
        return (self.concurrency or 1) > 1

    def describe(self, found: Schemas) -> dict[str, Any]:
        """Its entry in HELLO. `found` gathers the types that its schemas refer to."""
        described: dict[str, Any] = {
            "name": self.name, "doc": (inspect.getdoc(self.target) or "")[:DOC_MAX], "idempotent": self.idempotent,
            "stream": self.is_stream, "async": self.is_async, "timeout": self.timeout,
            "max_workers": self.max_workers, "concurrency": self.concurrency or 1, "batch": self.batch or 0,
            "batch_wait": self.batch_wait, "interruptible": self.interruptible,
            "params": [] if self.signature is None
                      else [_parameter(p, self.batch is not None) for p in self.signature.parameters.values()],
        }
        for parameter in described["params"]:
            converter = self.arguments.converters.get(parameter["name"])
            if converter is not None:
                parameter["schema"] = converter.schema(found)
        if self.arguments.result is not None:
            described["result"] = found.of_result(self.arguments.result.schema)
        return described


_functions: dict[str, Function] = {}


@overload
def function(target: F) -> F: ...
@overload
def function(*, idempotent: bool = ..., timeout: Optional[float] = ..., stream: Optional[bool] = ...,
             max_workers: int = ..., concurrency: Optional[int] = ..., batch: Optional[int] = ...,
             batch_wait: Union[str, float] = ..., stacked: bool = ..., zero_copy: bool = ...,
             interruptible: bool = ..., validate: bool = ..., name: Optional[str] = ...) -> Callable[[F], F]: ...


def function(target: Optional[F] = None, *, idempotent: bool = False, timeout: Optional[float] = None,
             stream: Optional[bool] = None, max_workers: int = 0, concurrency: Optional[int] = None,
             batch: Optional[int] = None, batch_wait: Union[str, float] = 0, stacked: bool = False,
             zero_copy: bool = False, interruptible: bool = False, validate: bool = True,
             name: Optional[str] = None) -> Union[F, Callable[[F], F]]:
    """Offers a function to callers, under its own name or `name`. The function itself is returned unchanged.

    idempotent     running it twice is as good as once, so a broken attempt may be retried
    timeout        seconds that it may run; without it `calls.deadline` holds
    stream         the function answers with items; generators do anyway
    max_workers    at most so many workers run it at once; 0: no limit
    concurrency    one worker runs so many calls of it at once: an async function's as tasks of its
                   loop, another's in threads; without it, and with 1, a call has its worker alone
    batch          it takes up to so many calls at once: each parameter is a list with what the calls
                   give for it, and the result is a list with one result for each call; an element
                   that is an exception object is the error of that call alone
    batch_wait     how long the first call of a batch may wait for others: "4ms", or seconds
    stacked        arrays of one shape and type come as one array, the batch is its first extent, and
                   the result may be such an array
    zero_copy      its attachments are views of shared memory that end with the call, not copies
    interruptible  it leaves everything whole when KeyboardInterrupt is raised at any line of it or
                   of what it calls, so its worker may be kept after it was interrupted
    validate       arguments are checked against the annotations and made what these say; without it they
                   come as JSON has them
    """

    def register(wanted: F) -> F:
        add(Function(_name_of(wanted, name), wanted, idempotent=_boolean("idempotent", idempotent),
                     timeout=_seconds(timeout), stream=stream, max_workers=_count(max_workers),
                     concurrency=_concurrency(concurrency), **_batch(batch, batch_wait, stacked),
                     zero_copy=_boolean("zero_copy", zero_copy),
                     interruptible=_boolean("interruptible", interruptible),
                     validate=_boolean("validate", validate)))
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


def _batch(batch: Any, wait: Any, stacked: Any) -> dict[str, Any]:
    stacked = _boolean("stacked", stacked)
    if batch is None:
        if wait != 0 or stacked:
            raise ValueError("@keelback.function(batch_wait=..., stacked=...) mean nothing without batch")
        return {}
    if isinstance(batch, bool) or not isinstance(batch, int) or not 2 <= batch <= CONCURRENCY_MAX:
        raise ValueError(
            f"@keelback.function(batch=...) is a number of calls from 2 to {CONCURRENCY_MAX}, not {batch!r}")
    return {"batch": batch, "batch_wait": _duration(wait), "stacked": stacked}


def _duration(value: Any) -> float:
    """Seconds."""
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m)", value)
        if found:
            return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[found[2]]
    elif not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value < float("inf"):
        return float(value)
    raise ValueError(f'@keelback.function(batch_wait=...) is a time like "4ms", or a number of seconds, not {value!r}')


def _signature(target: Callable[..., Any]) -> Optional[inspect.Signature]:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):  # some functions written in C have none
        return None


def _arranger(name: str, signature: inspect.Signature) -> Callable[..., tuple[Any, ...]]:
    """A function with the same parameters and defaults that returns its arguments in the signature's order."""
    parameters = signature.parameters
    if any(map(keyword.iskeyword, parameters)):
        def arrange(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return tuple(bound.arguments.values())
        return arrange
    scope: dict[str, Any] = {}
    parts: list[str] = []
    for index, parameter in enumerate(parameters.values()):
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        text = parameter.name
        if parameter.default is not parameter.empty:
            scope[f"_default{index}"] = parameter.default
            text += f"=_default{index}"
        parts.append(text)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            following = list(parameters.values())[index + 1 : index + 2]
            if not following or following[0].kind is not parameter.POSITIONAL_ONLY:
                parts.append("/")
    exec(f"def arrange({', '.join(parts)}): return ({''.join(f'{each}, ' for each in parameters)})", scope)
    arranger: Callable[..., tuple[Any, ...]] = scope["arrange"]
    return arranger


def _parameter(parameter: inspect.Parameter, batch: bool) -> dict[str, Any]:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        text = None
    else:
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        each = _LIST_OF.fullmatch(text) if batch else None
        text = each[1] if each else text  # a call gives one
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return {"name": parameter.name, "kind": _KINDS[parameter.kind],
            "required": parameter.default is parameter.empty and not variadic, "type": text}
