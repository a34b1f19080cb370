"""The frames that end a call."""

from typing import Any, Optional

from keelback import errors, wire
from keelback.encoding import ArgumentError
from keelback.misfits import CheckFailed, Misfit


def finished(call: int, result: Optional[bytes], flags: int) -> bytes:
    """RESULT; END where there is no result, because all of it was sent as items."""
    if result is None:
        return wire.frame(wire.END, call, b"", flags)
    return wire.frame(wire.RESULT, call, result, flags)


def failed(call: int, kind: int, error: BaseException, flags: int = 0) -> bytes:
    return _error(call, kind, errors.describe(error), flags)


def _error(call: int, kind: int, described: "dict[str, Any]", flags: int = 0) -> bytes:
    return wire.frame(wire.ERROR, call, bytes((kind,)) + errors.as_json(described), flags)


def bad_request(call: int, error: Exception) -> bytes:
    """Arguments that cannot be read, do not bind, or do not fit."""
    if isinstance(error, CheckFailed):  # nobody can say whether they fit
        return failed(call, wire.KIND_ERROR, error.__cause__ or error)
    if isinstance(error, Misfit):
        described = {**errors.describe(error), "traceback": "", "errors": error.as_data()}
        return _error(call, wire.KIND_BAD_REQUEST, described)
    if isinstance(error, UnicodeDecodeError):
        error = ValueError(f"the arguments are not UTF-8: {error}")
    elif isinstance(error, ArgumentError):
        error = ValueError(str(error))
    elif isinstance(error, ValueError):
        error = ValueError(f"the arguments are not JSON: {error}")
    elif isinstance(error, RecursionError):
        error = ValueError("the arguments are nested too deeply")
    return failed(call, wire.KIND_BAD_REQUEST, error)


def saved(answer: bytes, format: int, state: bytes) -> bytes:
    """The answer as SAVED, with the state of its call's session."""
    _, kind, flags, _, call = wire.HEADER.unpack_from(answer)
    head = wire.SAVED_BODY.pack(kind, format, 0, len(state))
    return wire.frame(wire.SAVED, call, b"".join((head, state, answer[wire.HEADER_SIZE :])), flags)


def retire(call: int, reason: str) -> bytes:
    return wire.frame(wire.RETIRE, call, reason.encode(errors="replace")[:wire.REASON_MAX])
