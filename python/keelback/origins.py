"""Who did it: remembers, while the zygote imports the application, which module started a thread or opened a socket.

Python threads and sockets are noted where they are made. Native threads are made out of sight, so their number is
sampled before each module is looked for and after each was executed: what has grown in between was done by the
module that ran. All of it is switched off in the forked workers.
"""

import os
import socket
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from types import FrameType
from typing import Any, Optional

_RECORDS_MAX = 1024
_TRANSPARENT = ("threading", "concurrent.futures", "multiprocessing", "asyncio", "socket", "importlib", "_thread",
                "http.client", "urllib", "ssl", "selectors")


class Origin:
    """Module, place and the modules whose import led there, innermost first. `module`: known already, and where."""

    __slots__ = ("module", "place", "importers")

    def __init__(self, frame: Optional[FrameType], module: str = "", place: str = "") -> None:
        self.module, self.place = module, place
        self.importers: list[str] = []
        while frame is not None:
            name = frame.f_globals.get("__name__", "?")
            if not _is_transparent(name):
                if not self.module:
                    self.module, self.place = name, f"{frame.f_code.co_filename}:{frame.f_lineno}"
                if frame.f_code.co_name == "<module>" and name not in (self.module, *self.importers):
                    self.importers.append(name)
            frame = frame.f_back
        self.module = self.module or "?"

    def __str__(self) -> str:
        via = f", imported by {', '.join(self.importers[:6])}" if self.importers else ""
        return f"{self.module} ({self.place or '?'}){via}"


class Recorder:
    """Main thread: install() before the import, remove() in a forked worker. Threads that imports start may call in."""

    def __init__(self) -> None:
        self.active = False
        self.threads: dict[threading.Thread, Origin] = {}
        self.sockets: dict[int, Origin] = {}
        self.native: Optional[Origin] = None  # who ran when there was first a thread that Python did not start
        self._patches: list[tuple[Any, str, Any, Any]] = []  # owner, name, what was its own or None, ours

    def install(self) -> None:
        self.active = True
        self._patch(threading.Thread, "start", self._thread_start)
        self._patch(socket.socket, "__init__", self._socket_init)
        self._patch(SourceFileLoader, "exec_module", self._exec_module)
        self._patch(ExtensionFileLoader, "exec_module", self._exec_module)
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]

    def remove(self) -> None:
        self.active = False
        for owner, name, original, ours in self._patches:
            # Someone may have wrapped ours since; then it stays where it is and only passes on.
            if vars(owner).get(name) is ours:
                delattr(owner, name) if original is None else setattr(owner, name, original)
        if self in sys.meta_path:
            sys.meta_path.remove(self)  # type: ignore[arg-type]
        self.threads.clear()
        self.sockets.clear()

    def find_spec(self, name: str, path: Optional[Sequence[str]] = None, target: Any = None) -> None:
        """The import system asks every finder in turn; this one looks around and finds nothing."""
        if self.active:
            self._sample()

    def _patch(self, owner: Any, name: str, wrapper: Any) -> None:
        own, passes_to = vars(owner).get(name), getattr(owner, name)

        def ours(instance: Any, *args: Any, **kwargs: Any) -> Any:
            return wrapper(passes_to, instance, *args, **kwargs)

        setattr(owner, name, ours)
        self._patches.append((owner, name, own, ours))

    def _thread_start(self, start: Any, thread: threading.Thread) -> None:
        if self.active and len(self.threads) < _RECORDS_MAX:
            self.threads[thread] = Origin(sys._getframe(2))
        start(thread)

    def _socket_init(self, init: Any, made: socket.socket, *args: Any, **kwargs: Any) -> None:
        init(made, *args, **kwargs)
        if self.active and len(self.sockets) < _RECORDS_MAX:
            self.sockets[made.fileno()] = Origin(sys._getframe(2))

    def _exec_module(self, execute: Any, loader: Any, module: Any) -> None:
        execute(loader, module)
        if self.active:
            self._sample(module.__name__, getattr(module, "__file__", "") or "")

    def _sample(self, module: str = "", place: str = "") -> None:
        """Without a module, it is the one that is being executed."""
        if self.native is None and thread_count() > python_threads():
            self.native = Origin(sys._getframe(2), module, place)


def thread_count() -> int:
    # procfs counts a task directory's links: two, and one for each thread. One system call.
    return os.stat("/proc/self/task").st_nlink - 2


def python_threads() -> int:
    return len(threading._active) + len(threading._limbo)  # type: ignore[attr-defined]


def _is_transparent(name: str) -> bool:
    return any(name == part or name.startswith(part + ".") for part in _TRANSPARENT) or (
        name.startswith("keelback.") and not name.startswith("keelback.apps"))
