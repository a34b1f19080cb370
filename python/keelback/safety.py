"""Decides whether this process may fork workers: once after the import, and before every fork.

A fork copies one thread and all memory, and shares everything else. Each worker opens again what
imports have left open, where that is possible (openings.py). Anything else is a reason to start
workers by exec: then each worker imports the application and shares nothing.
"""

import os
import re
import signal
import socket
import stat
import sys
import threading
import time
import weakref
from collections.abc import Collection
from typing import Any, NamedTuple, Optional

from keelback import descriptors, native, openings, origins
from keelback.census import Census
from keelback.openings import Anew, Opening, Problem
from keelback.origins import Origin, Recorder

_ENDING_S = 0.05  # a thread that was joined leaves /proc a little later
_SHOWN = 3
_POOLS_MEMORY = "/memfd:keelback-shared"  # workers share it in both modes (docs/protocol.md)
_SHARED_BY = re.compile(r"^multiprocessing\.|^mmap$")


class Unsafe(NamedTuple):
    what: str  # "thread", "child", "timer", or a Problem's kind
    module: str
    detail: str


class Checker:
    """`app` is to blame for what nobody was seen to make."""

    def __init__(self, recorder: Recorder, app: str) -> None:
        self._recorder = recorder
        self._app = app
        # What was open before the application was imported is the supervisor's.
        self._given = {
            number: descriptors.identity(status)
            for number, status in descriptors.open_now().items()
        }
        # Device and inode of the memory that the supervisor gives to all workers of a pool.
        self._pools = {
            (status.st_dev, status.st_ino)
            for number, status in descriptors.open_now().items()
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:")
        }
        self._mapped = set(_shared_mappings())
        self._open = -1  # how many descriptors there were at the last look
        self._found: list[Unsafe] = []
        self._files: list[Any] = []  # weak references to the application's file objects
        self.anew = Anew()

    # ---- once

    def look(self, census: Census) -> None:
        """After the import, before the first fork."""
        for cache in census.caches:
            _close(cache)
        self._files = [weakref.ref(file) for file in census.files]
        if origins.thread_count() == 1:
            self._look((), ())

    def _look(self, ours: Collection[int], workers: Collection[int]) -> None:
        """Requires that no other thread runs."""
        self._open = descriptors.count() - len(ours)
        opened, logs, problems = self._opened(ours)
        for opening in opened:
            problem = openings.problem_of(opening)
            if problem is not None:
                problems.append(problem)
        problems += openings.that_share(opened)
        self._found = [self._blame(problem) for problem in problems]
        self._found += self._children(workers)
        self._found += (
            self._memory({problem.opening.target for problem in problems}) + self._timers()
        )
        if self._found:
            return
        self.anew.plan(opened, logs)
        files = [file for file in (reference() for reference in self._files) if file is not None]
        problems = openings.flush(files, opened) + self.anew.refused()
        self._found = [self._blame(problem) for problem in problems]

    def _opened(self, ours: Collection[int]) -> tuple[list[Opening], list[Opening], list[Problem]]:
        """What the application opened, its copies of the standard output, what it did to ours."""
        opened, logs, problems = [], [], []
        now = descriptors.open_now()
        output = self._given.get(1)
        for number, status in now.items():
            identity = descriptors.identity(status)
            if number in ours or self._given.get(number) == identity:
                continue
            opening = openings.read(number, status)
            if opening is None or self._is_pools(opening.target, status.st_dev, status.st_ino):
                continue
            if number in (1, 2):
                problems.append(
                    Problem("output", opening, "workers write to a log of their own there")
                )
            elif stat.S_ISFIFO(status.st_mode) and identity == output:
                logs.append(opening)
            else:
                opened.append(opening)
        return opened, logs, problems

    def _is_pools(self, name: str, device: int, inode: int) -> bool:
        """Memory that the pool's workers share in both modes."""
        return name.startswith(_POOLS_MEMORY) or (device, inode) in self._pools

    # ---- before every fork

    def unsafe(self, ours: Collection[int] = (), workers: Collection[int] = ()) -> list[Unsafe]:
        """Why a fork would break something; nothing: it is safe now.

        `ours`: descriptors that will be closed again. `workers`: children that are no obstacle.
        """
        threads = self._threads()
        if threads is None and descriptors.count() - len(ours) != self._open:
            self._look(ours, workers)
        return [reason for reason in (threads, *self._found, _torch()) if reason is not None]

    # ---- the reasons

    def _blame(self, problem: Problem) -> Unsafe:
        opening = problem.opening
        module, by = self._maker(self._recorder.opened(opening.number, opening.status))
        what = _describe_socket(opening.number) if problem.kind == "socket" else opening.target
        detail = f"descriptor {opening.number}, {what}, opened by {by}: {problem.why}"
        return Unsafe(problem.kind, module, detail)

    def _maker(self, origin: Optional[Origin]) -> tuple[str, str]:
        """The module to name, and the same with its place; without an origin the application."""
        return (
            (origin.module, str(origin))
            if origin is not None and origin.module
            else (self._app, self._app)
        )

    def _threads(self) -> Optional[Unsafe]:
        end = time.monotonic() + _ENDING_S
        while origins.thread_count() > 1:
            alive = [
                thread for thread in threading.enumerate() if thread is not threading.main_thread()
            ]
            if alive:
                return self._python_thread(alive)
            if time.monotonic() >= end:
                return self._native_thread()
            native.sleep(0.001)
        return None

    def _python_thread(self, alive: list[threading.Thread]) -> Unsafe:
        thread = alive[0]
        module, by = self._maker(self._recorder.threads.get(thread))
        more = f" and {len(alive) - 1} more" if len(alive) > 1 else ""
        return Unsafe("thread", module, f"thread {thread.name!r}{more}, started by {by}")

    def _native_thread(self) -> Unsafe:
        names = sorted(
            {_comm(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()}
        )
        module, by = self._maker(self._recorder.native)
        return Unsafe("thread", module, f"native threads ({', '.join(names[:8])}), started by {by}")

    def _children(self, workers: Collection[int]) -> list[Unsafe]:
        _forget_ended_children()
        if not origins.has_children():
            return []
        pids = [pid for pid in origins.children() if pid not in workers]
        if not pids and workers:
            return []
        pid = pids[0] if pids else 0
        module, by = self._maker(self._recorder.children.get(pid))
        name = f"process {pid} ({_comm(str(pid))})" if pid else "a process"
        more = f" and {len(pids) - 1} more" if len(pids) > 1 else ""
        return [
            Unsafe("child", module, f"{name}{more}, started by {by}: no worker could wait for it")
        ]

    def _memory(self, told: Collection[str]) -> list[Unsafe]:
        """Without the files that a descriptor has `told` of."""
        found = []
        for mapping in _shared_mappings():
            if mapping in self._mapped or mapping.name in told:
                continue
            if self._is_pools(mapping.name, mapping.device, mapping.inode):
                continue
            holder = origins.module_with(_is_shared_memory)
            module = holder.rsplit(".", 1)[0] if holder else self._app
            what = f"{mapping.size} bytes of {mapping.name or 'memory'}"
            detail = f"{what}, mapped by {holder or module}: all workers would share it"
            found.append(Unsafe("memory", module, detail))
        return found

    def _timers(self) -> list[Unsafe]:
        clocks = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
        if any(signal.getitimer(clock)[0] > 0 for clock in clocks) or _kernel_timers():
            return [
                Unsafe(
                    "timer",
                    self._app,
                    f"a timer that {self._app} has set: a fork does not copy timers",
                )
            ]
        return []


def price() -> int:
    """Bytes of memory that a worker has for itself if it imports the application itself."""
    with open("/proc/self/status") as file:
        return next((int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:")), 0)


def in_words(reasons: list[Unsafe]) -> str:
    """One detail of each kind and module, the first few of these."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for reason in reasons:
        kinds.setdefault((reason.what, reason.module), []).append(reason.detail)
    shown = [
        details[0] + (f" (and {len(details) - 1} more)" if len(details) > 1 else "")
        for details in kinds.values()
    ]
    return "; ".join(shown[:_SHOWN]) + (
        f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    )


def _close(cache: Any) -> None:
    """diskcache opens its database again at the next use. A connection must not cross a fork."""
    try:
        cache.close()
    except Exception:
        pass  # then the connection is found, and is a reason


def _kernel_timers() -> str:
    """Those of timer_create(2)."""
    try:
        with open("/proc/self/timers") as file:
            return file.read()
    except OSError:
        return ""


def _forget_ended_children() -> None:
    """Programs that have ended, and that nobody waits for any more."""
    clean_up = getattr(sys.modules.get("subprocess"), "_cleanup", None)
    if clean_up is not None:
        clean_up()


class _Mapping(NamedTuple):
    span: str  # the addresses
    name: str
    device: int
    inode: int

    @property
    def size(self) -> int:
        start, end = (int(part, 16) for part in self.span.split("-"))
        return end - start


def _shared_mappings() -> list[_Mapping]:
    """The mappings that a fork shares, but two imports do not."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            span, access, _, device, inode, *rest = line.split(None, 5)
            if access[3] != "s":
                continue
            name = rest[0].rstrip("\n") if rest else ""
            if access[1] != "-" or not _is_read_only_file(span, name):
                major, minor = (int(part, 16) for part in device.split(":"))
                found.append(_Mapping(span, name, os.makedev(major, minor), int(inode)))
    return found


def _is_read_only_file(span: str, path: str) -> bool:
    """A file that was opened for reading: its pages are the same in every process that maps it.

    The C library maps such files at any time.
    """
    if not path.startswith("/") or path.startswith(
        ("/memfd:", "/dev/", "/SYSV", "/anon_hugepage", "/[")
    ):
        return False
    # The kernel names the ranges without leading zeros there. The link is writable if the file is.
    link = "-".join(f"{int(part, 16):x}" for part in span.split("-"))
    try:
        return not os.lstat(f"/proc/self/map_files/{link}").st_mode & stat.S_IWUSR
    except OSError:
        return True


def _is_shared_memory(value: Any) -> bool:
    return bool(_SHARED_BY.search(type(value).__module__ or "")) or type(value).__name__ == "memmap"


def _torch() -> Optional[Unsafe]:
    # Never imported here: asking a library that the application did not load would load it.
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        initialized = cuda is not None and cuda.is_initialized()
    except Exception:
        return None
    return (
        Unsafe("cuda", "torch", "torch.cuda is initialised: a forked process cannot use it")
        if initialized
        else None
    )


def _comm(task: str) -> str:
    for place in (f"/proc/self/task/{task}/comm", f"/proc/{task}/comm"):
        try:
            with open(place) as file:
                return file.read().strip()
        except OSError:
            pass
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
            types = f"{getattr(family, 'name', family)} {getattr(kind, 'name', kind)}"
            return f"{types} {names[0]} to {names[1]}"
    except OSError as error:
        return f"a socket ({error})"
