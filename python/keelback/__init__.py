"""Keelback's Python side: mark functions, and Keelback's pool runs them in pre-warmed workers.

    import keelback

    @keelback.function
    def greet(name: str) -> str:
        return f"Hello, {name}!"

Serve it with `keelback serve hello.py`. Importing this package starts nothing: an application is an
ordinary module that can be imported and tested without a pool.
"""

from keelback.attachments import Attachment  # the module first: calls has a function of its name
from keelback.calls import Cancelled, Interrupted, attachments, attempt, cancelled, check_cancelled, deadline, has_session, retire, session, trace
from keelback.conversions import encoder
from keelback.encoding import ResultError
from keelback.environment import device
from keelback.functions import BadApplication, function
from keelback.hooks import health, on_session_end, on_session_open, restore, setup, snapshot, worker_setup
from keelback.nested import CallFailed, HostGone, acall, call, host
from keelback.sessions import Session

__all__ = [
    "Attachment", "BadApplication", "CallFailed", "Cancelled", "HostGone", "Interrupted", "ResultError", "Session", "acall", "attachments", "attempt",
    "call", "cancelled", "check_cancelled", "deadline", "device", "encoder", "function", "has_session", "health", "host", "on_session_end",
    "on_session_open", "restore", "retire", "session", "setup", "snapshot", "trace", "worker_setup",
]
