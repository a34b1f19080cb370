"""The threads of shared calls: reused, and interrupted so that an interrupt reaches its own call only.

CPython raises an exception in another thread some time later, at one of its next instructions. By then that
thread may be at something else. So each call has a window. Whoever takes its token decides: the call's
thread, and from then on nobody raises; or the interrupting thread, and then the call's thread waits until the
exception is set, and clears what has not come, before it goes on.
"""

import threading
from _queue import SimpleQueue  # type: ignore[import-not-found]
from collections import deque
from typing import Any, Callable, Optional

from keelback import errors, native, standard
from keelback.calls import Interrupted

_WAIT_S = 0.0002

_set: Any = None  # PyThreadState_SetAsyncExc(thread, exception)
_clear: Any = None  # the same with NULL


class Window:
    """While it is open, `Interrupted` may be raised in the thread that has opened it; once in its life."""

    __slots__ = ("_token", "_thread", "_opened", "_armed", "wanted", "taken")

    def __init__(self) -> None:
        self._token: list[None] = []
        self._thread = 0
        self._opened = False
        self._armed = False
        self.wanted = False  # interrupt() was called
        self.taken = False  # the exception was raised, or may have been

    def is_open_here(self) -> bool:
        """Whether this is the call's thread, and the window is open."""
        return self._opened and self._thread == native.get_ident()

    def open(self) -> None:
        """On the call's thread. Raises Interrupted if it was wanted while the window was closed."""
        if self.taken:
            return
        self._thread = native.get_ident()
        self._opened = True
        self._token.append(None)
        if self.wanted and self._take():
            self._opened = False
            self.raise_now()

    def close(self) -> None:
        """On the call's thread. After it nothing is raised. If it raises Interrupted itself, call it again."""
        if not self._opened:
            return
        if not self._take():
            self.taken = True
            while not self._armed:
                native.sleep(_WAIT_S)
            if _clear is not None:
                _clear(self._thread, None)
        self._opened = False

    def raise_now(self) -> None:
        """On the call's thread, while the window is closed."""
        self.taken = True
        raise Interrupted("the call was interrupted")

    def interrupt(self) -> None:
        """On any other thread."""
        can = _can_raise()
        self.wanted = True
        if can and self._take():
            try:
                _set(self._thread, Interrupted)
            finally:
                self._armed = True

    def _take(self) -> bool:
        try:
            self._token.pop()
            return True
        except IndexError:
            return False


def _can_raise() -> bool:
    global _set, _clear
    if _set is None:
        try:
            ctypes = standard.load("ctypes")
            where = ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
            _clear = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(where)
            _set = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(where)
        except (ImportError, AttributeError) as error:
            errors.log("a thread cannot be interrupted: this Python has no ctypes", error)
    return _set is not None


class Threads:
    """Runs calls in daemon threads: an idle one, or a new one. A thread whose call was interrupted ends."""

    def __init__(self, run: Callable[[Any], None]) -> None:
        self._run = run
        self._idle: "deque[SimpleQueue[Any]]" = deque()
        self._made = 0

    def give(self, call: Any) -> None:
        """Raises RuntimeError where there can be no more threads. Main thread only."""
        try:
            self._idle.pop().put(call)
        except IndexError:
            self._made += 1
            threading.Thread(target=self._serve, args=([call],), name=f"keelback-call-{self._made}", daemon=True).start()

    def _serve(self, first: list[Any]) -> None:
        calls: "SimpleQueue[Any]" = SimpleQueue()
        call: Optional[Any] = first.pop()
        while True:
            self._run(call)
            if call.window.taken:
                return
            call = None  # what it used is freed now, and not with the next call
            self._idle.append(calls)
            call = calls.get()
