"""What user code may ask about its own call.

The call is known in its context (so an asyncio task knows its own call). A worker that runs one call at a
time knows it in every thread that the call started, too.
"""

import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Optional

from keelback import marks
from keelback.sessions import Session


class Cancelled(Exception):
    """Raised by check_cancelled(): the caller has gone, or its deadline is over."""


Cancelled.__module__ = "keelback"  # where callers find it, and how errors name it


class Interrupted(BaseException):
    """Raised in a thread that runs one of several calls of its worker, when that call must stop now. Like
    KeyboardInterrupt, it may come at any line; let it pass."""


Interrupted.__module__ = "keelback"


class Call(NamedTuple):
    """A call that has its worker alone."""

    id: int
    deadline: int  # CLOCK_MONOTONIC in ns; 0: none
    session: Optional[Session]
    attempt: int
    trace: bytes
    marks_at = 0  # no field: where the call's words begin (marks.py)


# The hot path sets it without resetting: the next call overwrites, and between calls no user code runs.
# A Call, or a SharedCall or BatchCall, which have the same attributes and more.
current: "ContextVar[Any]" = ContextVar("keelback_call", default=None)


class _Here:
    """This process as a worker; outside of one, there are no marks and no call."""

    words: Sequence[int] = (0,) * 8
    call: Any = None
    attached: Any = None  # what the call carries; None: nothing
    retire: Any = None  # tells the supervisor why this worker is given up
    requests_of: Any = None  # what sends the nested calls of a call; None: this process cannot call out
    shared = False  # the worker runs several calls at once: `call` says nothing about a thread


here = _Here()


def own_call() -> Any:
    """The call that this thread or task belongs to. Raises RuntimeError if there is none."""
    call = current.get()
    if call is None and threading.current_thread() is not threading.main_thread():
        if here.shared:
            raise RuntimeError("this thread does not know its call, because its worker runs several at once: give "
                               "it the call's context, contextvars.copy_context() (docs/concurrency.md)")
        call = here.call
    if call is None:
        raise RuntimeError("no call of a Keelback function is running here")
    return call


def session() -> Session:
    """The call's session. Raises RuntimeError outside of a call, and in a call without a session."""
    found = own_call().session
    if found is None:
        raise RuntimeError("this call has no session; the caller gives one (HTTP: the header Keelback-Session)")
    return found


def has_session() -> bool:
    """True in a call that belongs to a session."""
    return own_call().session is not None


def deadline() -> Optional[float]:
    """Seconds until the call's deadline, negative when it is over; None if there is none."""
    at = own_call().deadline
    return (at - time.monotonic_ns()) / 1e9 if at else None


def cancelled() -> bool:
    """True when this call should stop: its caller has gone or its deadline is over. Very cheap; any thread."""
    return is_told(own_call())


def is_told(call: Any) -> bool:
    """Whether a call should stop."""
    if call.marks_at < 0:  # a batch: when all of its calls should stop
        return bool(call.is_cancelled(here.words))
    return here.words[call.marks_at + marks.CANCEL] == call.id


def check_cancelled() -> None:
    """Raises Cancelled when this call should stop."""
    if cancelled():
        raise Cancelled("the call was cancelled")


def attachments(zero_copy: bool = False) -> "dict[str, Any]":
    """What the call carries beside its arguments: keelback.Attachment by name, in the caller's order, or a list of
    them where several have one name. Their data are copies; with `zero_copy` views of shared memory, which end with
    the call."""
    call = own_call()
    if call.marks_at:
        attached = call.attached
    else:
        attached = here.attached if here.call is call else None  # a stray task does not see a later call's
    return {} if attached is None else attached.all(zero_copy)


def retire(reason: str) -> None:
    """Gives this worker up: it ends this call and takes no other, and a new worker replaces it. Its sessions move
    where they can be saved. `reason` is in the log, in `keelback workers`, and in `GET /v1/workers`. Any thread of
    the call. Raises RuntimeError outside of a call."""
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"keelback.retire(reason) says in words why, not {reason!r}")
    call = own_call()
    if call.marks_at:
        call.retiring = reason
    elif here.retire is not None:
        here.retire(call.id, reason)


def attempt() -> int:
    """1, or more when the supervisor retries an idempotent call."""
    return own_call().attempt


def trace() -> str:
    """The caller's trace context (W3C traceparent), or an empty string."""
    return own_call().trace.decode(errors="replace")
