"""Calls out of Python: of other functions of the application, and of functions that the embedding program provides.

Such a call is nested: it belongs to the call that runs here, its parent (docs/protocol.md, Calls out of Python). Who
sends it and waits for its outcome depends on how the parent runs: inbox.py where it has its worker alone, and
shared_requests.py where it is one of several.
"""

import struct
import sys
from typing import Any, Callable, Optional, Union

from keelback import calls, encoding, functions, marks, wire
from keelback.attachments import is_attachment
from keelback.calls import Cancelled
from keelback.conversions import has_encoder

_NAME_MAX = 0xFFFF  # bytes
_TIMEOUT_MAX_NS = (1 << 63) - 1
_pack = wire.NESTED_HEADER.pack
_OUTCOME_SIZE = wire.HEADER_SIZE + wire.OUTCOME_BODY.size
_NUMBER_AT, _OK_AT = 16, 24
_number = wire.U64.unpack_from


class CallFailed(Exception):
    """A nested call did not end well. Its text has the outcome and why; `outcome` has all that is known of it."""

    def __init__(self, outcome: "dict[str, Any]") -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        text = str(self.outcome.get("outcome", "error"))
        reason, message = self.outcome.get("reason"), self.outcome.get("message")
        error = self.outcome.get("error")
        if not message and isinstance(error, dict):
            message = f"{error.get('type')}: {error.get('message')}"
        if reason:
            text += f" ({reason})"
        return f"{text}: {message}" if message else text


class HostGone(CallFailed):
    """Nobody provides the host function, or who did has gone before it answered."""


CallFailed.__module__ = HostGone.__module__ = "keelback"


def call(name: str, /, *args: Any, session: Optional[str] = None, timeout: Optional[float] = None,
         **kwargs: Any) -> Any:
    """Calls another function of the application and returns its result; of a stream, the list of its items.

    `session` is the session that it runs in. `timeout`: seconds that it may take, never more than the running call
    has left. Blocks the thread. Raises CallFailed for any outcome but ok, Cancelled where the running call should
    stop, TypeError for arguments that cannot be sent, and RuntimeError where no call runs and on an event loop's
    thread.
    """
    return _ask(wire.NESTED_FUNCTION, name, session, timeout, args, kwargs)


async def acall(name: str, /, *args: Any, session: Optional[str] = None, timeout: Optional[float] = None,
                **kwargs: Any) -> Any:
    """call() for coroutines. If the awaiting task is cancelled, so is the nested call."""
    return await _ask_async(wire.NESTED_FUNCTION, name, session, timeout, args, kwargs)


class Host:
    """The functions that the embedding program provides: `keelback.host.NAME(...)`. Blocks and raises as call() does;
    HostGone where nobody provides the function any more."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def ask(*args: Any, **kwargs: Any) -> Any:
            return _ask(wire.NESTED_HOST, name, None, None, args, kwargs)

        ask.__name__ = ask.__qualname__ = name
        self.__dict__[name] = ask  # the next time it is an attribute as others are
        return ask

    async def acall(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """The same for coroutines: `await keelback.host.acall("NAME", ...)`."""
        return await _ask_async(wire.NESTED_HOST, name, None, None, args, kwargs)

    def __repr__(self) -> str:
        return "keelback.host"


host = Host()


# Writes call and request into a frame that _request() has made.
stamp = struct.Struct("<QQ").pack_into
STAMP_AT = 8


def cancel(parent: int, number: int) -> bytes:
    """The frame that says that nobody waits any more."""
    return wire.frame(wire.NESTED_CANCEL, parent, wire.U64.pack(number))


def number_of(frame: bytes) -> int:
    """Which request an OUTCOME answers. Raises ProtocolError."""
    if len(frame) < _OUTCOME_SIZE:
        raise wire.ProtocolError(f"an OUTCOME of {len(frame)} bytes")
    number: int = _number(frame, _NUMBER_AT)[0]
    return number


def has_ended() -> RuntimeError:
    return RuntimeError("the call that this code belongs to has ended: Python can call out only while a call runs")


# ---- asking

def _ask(target: int, name: str, session: Optional[str], timeout: Optional[float], args: Any, kwargs: Any) -> Any:
    about = _parent()
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        instead = "keelback.acall()" if target == wire.NESTED_FUNCTION else f"keelback.host.acall({name!r})"
        raise RuntimeError(f"this would block the event loop that runs here: use await {instead}")
    frame = _request(target, name, session, timeout, args, kwargs)
    return _result(about, calls.here.requests_of(about).ask(about, frame))


async def _ask_async(target: int, name: str, session: Optional[str], timeout: Optional[float], args: Any,
                     kwargs: Any) -> Any:
    about = _parent()
    frame = _request(target, name, session, timeout, args, kwargs)
    return _result(about, await calls.here.requests_of(about).ask_async(about, frame))


def _parent() -> Any:
    """The running call. Raises RuntimeError if there is none, or no way out of here."""
    try:
        about = calls.own_call()
    except RuntimeError as error:
        raise RuntimeError(f"{error}; Python can call out only while a call runs") from None
    if calls.here.requests_of is None:
        raise RuntimeError("a process that a call has forked cannot call out: let the worker do it")
    if not about.id:
        raise RuntimeError("this hook is part of no call: Python can call out only while a call runs")
    return about


# ---- the request

def _request(target: int, name: Any, session: Any, timeout: Any, args: "tuple[Any, ...]",
             kwargs: "dict[str, Any]") -> bytearray:
    """The NESTED frame, but for its call and the request's number. Raises TypeError, ValueError."""
    text = _bytes(name, "the name of a function", "")
    if not text:
        raise ValueError("the name of a function is empty")
    key = b"" if session is None else _bytes(session, "session", " or None")
    payload = _payload(_arguments(target, name, args, kwargs) if kwargs else args)
    size = wire.NESTED_HEADER.size + len(text) + len(key) + len(payload)
    within = 0 if timeout is None else _nanoseconds(timeout)
    head = _pack(size, wire.NESTED, 0, 0, 0, 0, within, len(text), len(key), target, 0, 0)
    return bytearray(head + text + key + payload)


def _bytes(text: Any, what: str, more: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str{more}, not {text!r}")
    data = text.encode()
    if len(data) > _NAME_MAX:
        raise ValueError(f"{what} has {len(data)} bytes; {_NAME_MAX} is the most")
    return data


def _nanoseconds(timeout: Any) -> int:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise ValueError(f"timeout is a positive number of seconds, not {timeout!r}")
    return max(1, min(int(timeout * 1e9), _TIMEOUT_MAX_NS))


def _arguments(target: int, name: str, args: "tuple[Any, ...]",
               kwargs: "dict[str, Any]") -> "Union[tuple[Any, ...], dict[str, Any]]":
    """The frame has an array or an object: of both, the function's signature makes one object. Raises TypeError."""
    if not args or not kwargs:
        return kwargs or args
    function = functions.table().get(name) if target == wire.NESTED_FUNCTION else None
    parameters = [] if function is None or function.signature is None else list(function.signature.parameters.values())
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL)]
    if positional or len(args) > len(names):
        raise TypeError(f"{name} can be called by position or by keyword here, not by both")
    given = dict(zip(names, args))
    twice = [each for each in given if each in kwargs]
    if twice:
        raise TypeError(f"{name} got multiple values for argument {twice[0]!r}")
    return {**given, **kwargs}


def _payload(arguments: Any) -> bytes:
    """Raises TypeError for what JSON cannot carry, ValueError for too much."""
    try:
        payload = encoding.encode_row(arguments) if type(arguments) is tuple else encoding.encode(arguments)
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(encoding.explain(arguments, error, _why_not, "arguments")) from None
    most = calls.here.words[marks.RESULT_MAX] or marks.RESULT_MAX_DEFAULT
    if len(payload) > most:
        raise ValueError(f"the arguments are too large: {len(payload)} bytes; calls.payload_max is {most}")
    return payload


def _why_not(value: Any) -> Optional[str]:
    if has_encoder(value) or not is_attachment(value):
        return None
    return "is bytes, an array or an attachment: nested calls carry no attachments"


# ---- the outcome

def _result(about: Any, frame: bytes) -> Any:
    """Raises CallFailed, Cancelled."""
    value = encoding.decode(frame[_OUTCOME_SIZE:])
    if frame[_OK_AT]:
        return value
    raise _failure(about, value if isinstance(value, dict) else {"outcome": "error", "message": str(value)})


def _failure(about: Any, outcome: "dict[str, Any]") -> Exception:
    how = outcome.get("outcome")
    if how == "host_gone":
        return HostGone(outcome)
    if how in ("cancelled", "timeout") and calls.is_told(about):
        return Cancelled("the call was cancelled")
    return CallFailed(outcome)
