"""A session's state, written down so that another worker can make it again.

Without hooks the state is JSON. `@keelback.snapshot` may return JSON or bytes, `@keelback.restore`
gets what it returned. A state that JSON would change, in value or type, is refused. The caller hears
of a session that was lost; nobody would notice one that came back with other values. No pickle: a
store of snapshots must not be a way to run code.
"""

import marshal
from typing import Any, Callable, Optional

from keelback import hooks
from keelback.encoding import decode, encode, explain, place, type_name
from keelback.sessions import Session

NONE = 0  # what is in the snapshot's place is a text: why there is none
JSON = 1
BYTES = 2

# The version of marshal that writes each object in full: later ones write the second of two equal
# objects as a reference if it is the same object, so equal values would have different bytes.
_MARSHAL_VERSION = 2
_REMEDY = "; @keelback.snapshot can write it down another way"
_NODES_MAX = 1_000_000  # compared while looking for what would come back changed

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


async def take_async(session: Session, ask: Ask, most: int) -> tuple[int, bytes]:
    """The same, where `ask` is to be awaited."""
    if session.given is None and session.opened and _only("snapshot") is not None:
        try:
            value = await ask(_only("snapshot"), session.state)
        except BaseException as error:
            return NONE, f"{type_name(error)}: {error}".encode(errors="replace")
        return take(session, lambda hook, state: value, most)
    return take(session, ask, most)  # which asks for nothing


def _written(state: Any, ask: Ask) -> tuple[int, bytes]:
    hook = _only("snapshot")
    name, value = ("state", state) if hook is None else ("snapshot", ask(hook, state))
    if isinstance(value, (bytes, bytearray, memoryview)):
        kind, data, back = BYTES, bytes(value), bytes(value)
        if back != value:
            raise SnapshotError(f"{name} is a {type_name(value)} that is no sequence of bytes")
    else:
        kind = JSON
        try:
            data = encode(value)
        except Exception as error:
            raise SnapshotError(explain(value, error, name=name)) from None
        back = decode(data)
        if not _same(value, back):
            raise SnapshotError(_change(value, back, name))
    if type(back) is not dict and _only("restore") is None:
        needs = "without @keelback.restore it is to be a dict"
        raise SnapshotError(f"{name} is of type {type_name(value)}; {needs}")
    return kind, data


def _same(value: Any, back: Any) -> bool:
    """True if they are equal, types included: marshal writes built-in types and no subclass."""
    try:
        return marshal.dumps(value, _MARSHAL_VERSION) == marshal.dumps(back, _MARSHAL_VERSION)
    except ValueError:  # a subclass, or nested too deeply
        return False


def _change(value: Any, back: Any, name: str) -> str:
    """What would come back changed: the first place of it in `value`, and how."""
    todo: list[tuple[Any, Any, Any]] = [(value, back, None)]
    for _ in range(_NODES_MAX):
        if not todo:
            break
        one, other, path = todo.pop()
        here = place(path, name)
        if type(one) is not type(other):
            types = f"of type {type_name(one)} and would come back as {type_name(other)}"
            return f"{here} is {types}{_REMEDY}"
        if type(one) is dict:
            for key in one:
                if type(key) is not str:
                    what = f"the key {key!r:.60} of type {type_name(key)}; JSON's keys are strings"
                    return f"{here} has {what}{_REMEDY}"
                if key not in other:
                    return f"{here} has the key {key!r:.60}, which JSON would change{_REMEDY}"
            todo.extend((one[key], other[key], (path, key)) for key in reversed(one))
        elif type(one) is list:
            pairs = list(zip(one, other))
            todo.extend((*pairs[i], (path, i)) for i in reversed(range(len(pairs))))
        elif not _same(one, other):
            return f"{here} is {one!r:.60} and would come back as {other!r:.60}{_REMEDY}"
    return f"the {name} is too deep or too large to see that JSON does not change it{_REMEDY}"


def restore(session: Session, ask: Ask) -> None:
    """Makes the state from what the session was given. Raises what the hook raises, and SnapshotError."""
    given = session.given
    assert given is not None
    kind, data = given
    hook = _only("restore")
    value: Any = decode(data) if kind == JSON else data
    if hook is not None:
        value = ask(hook, value)
    _restored(session, value)


async def restore_async(session: Session, ask: Ask) -> None:
    """The same, where `ask` is to be awaited."""
    hook = _only("restore")
    if hook is None:
        restore(session, ask)
        return
    assert session.given is not None
    kind, data = session.given
    _restored(session, await ask(hook, decode(data) if kind == JSON else data))


def _restored(session: Session, value: Any) -> None:
    if not isinstance(value, dict):
        what = "@keelback.restore returned" if _only("restore") is not None else "without @keelback.restore the snapshot is"
        raise SnapshotError(f"{what} {type_name(value)}; a session's state is a dict")
    session.state = value
    session.given = None


def _only(kind: str) -> Optional[Callable[..., Any]]:
    found = hooks.of(kind)
    return found[0] if found else None
