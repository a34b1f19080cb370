"""Hooks: functions of the application that run at certain moments, and the decorators that collect them.

A hook may be an async function. Hooks of one kind run in the order in which they were registered.
"""

import inspect
from typing import Any, Callable, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_hooks: dict[str, list[Callable[..., Any]]] = {
    "setup": [], "worker_setup": [], "session_open": [], "session_end": [], "snapshot": [], "restore": [],
    "health": [],
}


def _register(kind: str, hook: F) -> F:
    if not callable(hook):
        raise TypeError(f"@keelback.{kind} decorates a function, not {hook!r}; it takes no arguments")
    _hooks[kind].append(hook)
    return hook


def _register_only(kind: str, hook: F) -> F:
    if _hooks[kind]:
        raise ValueError(f"@keelback.{kind} is there already: {_hooks[kind][0].__qualname__}")
    return _register(kind, hook)


def _takes(hook: Callable[..., Any], count: int) -> bool:
    """True if the hook can be called with so many positions."""
    try:
        inspect.signature(hook).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def setup(hook: F) -> F:
    """Runs once after the import, in the zygote where there is one: the expensive part that workers share.

    It must leave no thread and no connection behind: a fork would break both. Open those in `worker_setup`.
    """
    return _register("setup", hook)


def worker_setup(hook: F) -> F:
    """Runs in each worker before its first call: connections, threads, background tasks.

    Context variables that it sets have that value at the start of every call.
    """
    return _register("worker_setup", hook)


def on_session_open(hook: F) -> F:
    """Runs, without arguments, before the first call of a session here; `session()` is the new session.

    Part of that call: what it raises is that call's error, and the session's next call opens it again.
    """
    return _register("session_open", hook)


def on_session_end(hook: F) -> F:
    """Runs when a session's state is about to be dropped, with the reason: expired, ended, lost,
    drained or moved; a hook without parameters is not told. `session()` is the session. What it raises is logged.
    """
    if _takes(hook, 1):
        return _register("session_end", hook)
    _register("session_end", lambda reason: hook())
    return hook


def snapshot(hook: F) -> F:
    """Turns a session's state into what can be kept: called with it between calls, returns JSON or
    bytes. JSON must not change it: lists and not tuples, strings as keys, no subclasses. Without
    `restore` it is to be a dict.

    `session()` is the session. A session whose snapshot raises goes on, and is lost with its worker.
    """
    return _register_only("snapshot", hook)


def restore(hook: F) -> F:
    """Makes a session's state from what `snapshot` returned: called with it, returns the state's dict.

    Runs in place of `on_session_open`, as part of the first call at the session's new home: what it raises is that
    call's error, and the session's next call restores it again.
    """
    return _register_only("restore", hook)


def health(hook: F) -> F:
    """Tells whether this worker is well: called without arguments every `workers.health_every` between
    calls, and after a call whose function raised, at most once a second.

    If it raises, returns False, or takes longer than `workers.health_timeout`, the worker takes no
    more calls, and a new one is started. The new one takes over if its own health functions pass;
    if not, the old one serves on and the pool is not ready.
    """
    if not _takes(hook, 0):
        raise TypeError(f"@keelback.health decorates a function without arguments, not {hook!r}")
    return _register("health", hook)


def of(kind: str) -> list[Callable[..., Any]]:
    return _hooks[kind]
