"""A session's state, written down so that another worker can make it again.

Without hooks the state is JSON, and one that would come back as something else (a tuple, a key that is no
string) is refused: a session without a snapshot is lost loudly, one that came back changed would be wrong
silently. `@keelback.snapshot` may return JSON or bytes, `@keelback.restore` gets what it returned. No pickle:
a store of snapshots must not be a way to run code.
"""

from typing import Any, Callable, Optional

from keelback import hooks
from keelback.encoding import decode, encode, explain, type_name
from keelback.sessions import Session

NONE = 0  # what is in the snapshot's place is a text: why there is none
JSON = 1
BYTES = 2

# What a hook answers, awaited if need be; the worker's.
Ask = Callable[..., Any]


class SnapshotError(Exception):
    """A session's state cannot be saved, or a snapshot is nothing to make a state from."""


SnapshotError.__module__ = "keelback"


def take(session: Session, ask: Ask, most: int) -> tuple[int, bytes]:
    """The format and the bytes, at most `most` of them; NONE and the reason if there are none. Never raises."""
    if session.given is not None:  # it is not restored yet: what it was given is its state
        return session.given
    if not session.opened:
        return NONE, b"the session did not open"
    try:
        kind, data = _written(session.state, ask)
    except SnapshotError as error:
        return NONE, str(error).encode(errors="replace")
    except BaseException as error:
        return NONE, f"{type_name(error)}: {error}".encode(errors="replace")
    if len(data) > most:
        return NONE, f"it has {len(data)} bytes; sessions.snapshot_max is {most}".encode()
    return kind, data


def _written(state: Any, ask: Ask) -> tuple[int, bytes]:
    hook = _only("snapshot")
    value = state if hook is None else ask(hook, state)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return BYTES, bytes(value)
    try:
        data = encode(value)
    except Exception as error:
        raise SnapshotError(explain(value, error).replace("result", "state", 1)) from None
    if hook is None and decode(data) != value:
        raise SnapshotError("JSON would change it: tuples, keys that are not strings; @keelback.snapshot can write it down")
    return JSON, data


def restore(session: Session, ask: Ask) -> None:
    """Makes the state from what the session was given. Raises what the hook raises, and SnapshotError."""
    given = session.given
    assert given is not None
    kind, data = given
    hook = _only("restore")
    value: Any = decode(data) if kind == JSON else data
    if hook is not None:
        value = ask(hook, value)
    if not isinstance(value, dict):
        what = "@keelback.restore returned" if hook is not None else "without @keelback.restore the snapshot is"
        raise SnapshotError(f"{what} {type_name(value)}; a session's state is a dict")
    session.state = value
    session.given = None


def _only(kind: str) -> Optional[Callable[..., Any]]:
    found = hooks.of(kind)
    return found[0] if found else None
