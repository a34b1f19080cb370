"""May this process fork workers? Asked before every fork; a fork copies one thread, and shares every connection."""

import os
import socket
import sys
import threading
import time
from collections.abc import Collection
from typing import Any, NamedTuple, Optional

from keelback import origins
from keelback.origins import Recorder

_ENDING_S = 0.05  # a thread that was joined leaves /proc a little later
_NOTICE_FILES = 5


class Unsafe(NamedTuple):
    what: str  # "thread", "socket" or "cuda"
    module: str
    detail: str


class Checker:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # What was open before the application was imported is the supervisor's.
        self._given: set[int] = set(_descriptors())

    def own(self, fd: int) -> None:
        """A descriptor of the zygote itself."""
        self._given.add(fd)

    def disown(self, fds: list[int]) -> None:
        """They are about to be closed: their numbers may come again."""
        self._given.difference_update(fds)

    def unsafe(self) -> Optional[Unsafe]:
        """Why a fork would break something; None: it is safe now."""
        return self._threads() or self._open_descriptors() or _torch()

    def inherited(self) -> str:
        """What imports left open and workers will inherit, in words; "" for nothing."""
        files: list[str] = []
        others: list[str] = []
        for target in self._opened().values():
            if target.startswith("/") and not target.startswith("/memfd:"):
                files.append(target)
            else:
                others.append("memfd" if target.startswith("/memfd:") else target)
        if not files and not others:
            return ""
        parts = []
        if files:
            shown = ", ".join(sorted(files)[:_NOTICE_FILES])
            parts.append(f"{len(files)} files ({shown}{', …' if len(files) > _NOTICE_FILES else ''})")
        kinds = sorted({target.split(":[")[0] for target in others})
        parts += [f"{sum(target.startswith(kind) for target in others)} {kind}" for kind in kinds]
        return "open after the import, and inherited by the workers: " + "; ".join(parts)

    def _threads(self) -> Optional[Unsafe]:
        end = time.monotonic() + _ENDING_S
        while origins.thread_count() > 1:
            alive = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
            if alive:
                return self._python_thread(alive)
            if time.monotonic() >= end:
                return self._native_thread()
            time.sleep(0.001)
        return None

    def _python_thread(self, alive: list[threading.Thread]) -> Unsafe:
        thread = alive[0]
        origin = self._recorder.threads.get(thread)
        module = origin.module if origin is not None else getattr(getattr(thread, "_target", None), "__module__", "?")
        more = f" and {len(alive) - 1} more" if len(alive) > 1 else ""
        return Unsafe("thread", module, f"thread {thread.name!r}{more}, started by {origin or module}")

    def _native_thread(self) -> Unsafe:
        names = sorted({_comm(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()})
        origin = self._recorder.native
        detail = f"native threads ({', '.join(names[:8])})" + (f", started by {origin}" if origin is not None else "")
        return Unsafe("thread", origin.module if origin is not None else "?", detail)

    def _open_descriptors(self) -> Optional[Unsafe]:
        for fd, target in self._opened().items():
            if target.startswith("socket:"):
                origin = self._recorder.sockets.get(fd)
                module = origin.module if origin is not None else "?"
                detail = f"descriptor {fd}, {_describe_socket(fd)}, opened by {origin or 'native code'}"
                return Unsafe("socket", module, detail)
            if target.startswith("/dev/nvidia"):
                return Unsafe("cuda", "?", f"descriptor {fd} is {target}: the driver is in use")
        return None

    def _opened(self) -> dict[int, str]:
        return _descriptors(self._given)


def _descriptors(but: Collection[int] = ()) -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        if int(name) in but:
            continue
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the listing's own descriptor
            pass
    return found


def _torch() -> Optional[Unsafe]:
    # Never imported here: asking a library that the application did not load would load it.
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        initialized = cuda is not None and cuda.is_initialized()
    except Exception:
        return None
    return Unsafe("cuda", "torch", "torch.cuda is initialised: a forked process cannot use it") if initialized else None


def _comm(task: str) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm") as file:
            return file.read().strip()
    except OSError:
        return "ended"


def _describe_socket(fd: int) -> str:
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            family, kind = copy.family, copy.type
            names = []
            for ask in (copy.getsockname, copy.getpeername):
                try:
                    names.append(repr(ask()))
                except OSError:
                    names.append("-")
            return f"{getattr(family, 'name', family)} {getattr(kind, 'name', kind)} {names[0]} to {names[1]}"
    except OSError as error:
        return f"a socket ({error})"
