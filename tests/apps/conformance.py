"""The functions that every worker of the conformance suite has; keelback-fakeworker has them built in."""

import ctypes
import os
import time

import keelback

_HOLDER = ctypes.PyDLL(None)  # calls through PyDLL keep the GIL


@keelback.function(idempotent=True)
def echo(value):
    return value


@keelback.function
def counter():
    """Calls of this session so far, this one included."""
    state = keelback.session().state
    state["calls"] = state.get("calls", 0) + 1
    return state["calls"]


@keelback.function(idempotent=True)
def sleep(ms):
    """Can be interrupted."""
    time.sleep(ms / 1000)
    return ms


@keelback.function
def fail(message):
    raise ValueError(message)


@keelback.function
def crash(signal):
    os.kill(os.getpid(), signal)
    time.sleep(60)  # the signal may take a moment to be delivered


@keelback.function
def exit(code):
    os._exit(code)


@keelback.function
def hold(ms):
    """Keeps the GIL in a C call: nothing short of SIGKILL ends it early."""
    _HOLDER.usleep(ms * 1000)
    return ms


@keelback.function
def spin(ms):
    """A loop in pure Python: an interrupt ends it."""
    end = time.monotonic() + ms / 1000
    while time.monotonic() < end:
        pass
    return ms


@keelback.function
def items(n):
    for number in range(n):
        yield number


@keelback.function
def blob(bytes):
    return "x" * bytes


@keelback.function
def log(text, n):
    for _ in range(n):
        print(text)
    return n


@keelback.function(idempotent=True)
def pid():
    return os.getpid()


@keelback.function
def unserialisable():
    return object()
