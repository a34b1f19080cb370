"""State that belongs to a session: each session counts for itself, on the worker that it stays on."""

import keelback


@keelback.function
def count() -> int:
    """1 at a session's first call, then 2, 3, …"""
    state = keelback.session().state
    state["count"] = state.get("count", 0) + 1
    return state["count"]


@keelback.function(idempotent=True)
def peek() -> int:
    """How far the session has counted."""
    return keelback.session().state.get("count", 0)


@keelback.function(idempotent=True)
def hello() -> str:
    """Needs no session."""
    return "hello"
