"""Who did it: remembers, while the zygote imports the application, which module started a thread or opened a socket.

Python threads and sockets are noted where they are made. Native threads are made out of sight, so their number is
sampled whenever a new module is about to be imported: what has grown since was done by the module that ran.
All of it is switched off in the forked workers.
"""

import os
import socket
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, Optional

_RECORDS_MAX = 1024
_TRANSPARENT = ("threading", "concurrent.futures", "multiprocessing", "asyncio", "socket", "importlib", "_thread",
                "http.client", "urllib", "ssl", "selectors")


class Origin:
    """Module, place and the modules whose import led there, innermost first."""

    __slots__ = ("module", "place", "importers")

    def __init__(self, frame: Optional[FrameType]) -> None:
        first = None
        importers: list[str] = []
        while frame is not None:
            name = frame.f_globals.get("__name__", "?")
            if not _is_transparent(name):
                if first is None:
                    first = (name, f"{frame.f_code.co_filename}:{frame.f_lineno}")
                if frame.f_code.co_name == "<module>" and name not in importers and name != first[0]:
                    importers.append(name)
            frame = frame.f_back
        self.module, self.place = first or ("?", "?")
        self.importers = importers

    def __str__(self) -> str:
        via = f", imported by {', '.join(self.importers[:6])}" if self.importers else ""
        return f"{self.module} ({self.place}){via}"


class Recorder:
    """Main thread: install() before the import, remove() in a forked worker. Threads that imports start may call in."""

    def __init__(self) -> None:
        self.active = False
        self.threads: dict[threading.Thread, Origin] = {}
        self.sockets: dict[int, Origin] = {}
        self.native: Optional[Origin] = None  # who ran when the number of threads first grew unexplained
        self._tasks = 1

    def install(self) -> None:
        self.active = True
        self._thread_start = threading.Thread.start
        self._socket_init = socket.socket.__init__
        recorder = self

        def start(thread: threading.Thread) -> None:
            if recorder.active and len(recorder.threads) < _RECORDS_MAX:
                recorder.threads[thread] = Origin(sys._getframe(1))
            recorder._thread_start(thread)

        def init(made: socket.socket, *args: Any, **kwargs: Any) -> None:
            recorder._socket_init(made, *args, **kwargs)
            if recorder.active and len(recorder.sockets) < _RECORDS_MAX:
                recorder.sockets[made.fileno()] = Origin(sys._getframe(1))

        self._patched_start, self._patched_init = start, init
        threading.Thread.start = start  # type: ignore[method-assign]
        socket.socket.__init__ = init  # type: ignore[method-assign]
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]

    def remove(self) -> None:
        self.active = False
        # Someone may have wrapped ours since; then it stays where it is and only passes on.
        if threading.Thread.start is self._patched_start:
            threading.Thread.start = self._thread_start  # type: ignore[method-assign]
        if socket.socket.__init__ is self._patched_init:
            socket.socket.__init__ = self._socket_init  # type: ignore[method-assign]
        if self in sys.meta_path:
            sys.meta_path.remove(self)  # type: ignore[arg-type]
        self.threads.clear()
        self.sockets.clear()

    def find_spec(self, name: str, path: Optional[Sequence[str]] = None, target: Any = None) -> None:
        """The import system asks every finder in turn; this one looks around and finds nothing."""
        if self.active:
            self.sample(name)

    def sample(self, about_to_import: str = "") -> None:
        tasks = thread_count()
        if tasks > self._tasks and self.native is None and tasks > len(threading.enumerate()):
            self.native = Origin(sys._getframe(2))
            if self._last and self._last != self.native.module:
                self.native.importers.insert(0, self.native.module)
                self.native.module, self.native.place = self._last, "a native thread, started by its import"
        self._tasks = tasks
        self._last = about_to_import

    _last = ""


def thread_count() -> int:
    # procfs counts a task directory's links: two, and one for each thread. One system call.
    return os.stat("/proc/self/task").st_nlink - 2


def _is_transparent(name: str) -> bool:
    return any(name == part or name.startswith(part + ".") for part in _TRANSPARENT) or name.startswith(
        "keelback.") and not name.startswith("keelback.apps")
