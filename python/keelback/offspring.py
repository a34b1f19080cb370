"""Ends the processes that a stopped call has started.

Linux knows when a process began, in ticks of 10 ms. A call may share its first tick with the call
before it. So Python's own functions that start a process also note their call. This note decides. For
processes that other code has started, such as os.system, the ticks decide.

Nothing is reaped here: user code may wait for its children, dead or alive.
"""

import _posixsubprocess  # type: ignore[import-not-found]
import contextlib
import functools
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Optional

from keelback import calls, native

_NOTED_MAX = 256  # starts that are remembered: only those of the last ticks can matter
_TIME_MAX_S = 0.25  # for finding them and for their deaths
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_SECOND_NS = 1_000_000_000

_RLIMIT_RTTIME = getattr(resource, "RLIMIT_RTTIME", 15)
_NO_KIN = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

_noted: "dict[int, int]" = {}  # pid: the call that started it; 0: none


def note_starts() -> None:
    """From now on processes are noted as they are started. Before the application is imported."""
    fork_exec = _posixsubprocess.fork_exec
    _posixsubprocess.fork_exec = _noting(fork_exec)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp"):
        setattr(os, name, _noting(getattr(os, name)))
    subprocess = sys.modules.get("subprocess")
    if getattr(subprocess, "_fork_exec", None) is fork_exec:  # since 3.11; it was imported before
        subprocess._fork_exec = _posixsubprocess.fork_exec  # type: ignore[union-attr]


def take_kin(kin: int) -> None:
    """Marks this process and all that will be below it, whatever they become: a limit of the kernel
    that nothing uses holds the number, and every fork and exec hands it on. The guard knows by it
    what a dead worker has left. 0: none.
    """
    if kin:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(_RLIMIT_RTTIME, (kin, kin))


def forget_starts() -> None:
    """In a new process: what its parent has started is not its own."""
    _noted.clear()


def _noting(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def noting(*args: Any, **kwargs: Any) -> Any:
        answer = start(*args, **kwargs)
        pid = answer[0] if isinstance(answer, tuple) else answer
        if pid:  # 0: the child
            call = calls.here.call if calls.here.call is not None else calls.current.get()
            _noted.pop(pid, None)  # an older process of this number is gone
            _noted[pid] = 0 if call is None else call.id
            if len(_noted) > _NOTED_MAX:
                for oldest in list(_noted)[:-_NOTED_MAX]:  # a list: other threads note theirs meanwhile
                    _noted.pop(oldest, None)
        return answer

    return noting


class _Process(NamedTuple):
    pid: int
    name: str
    state: str
    parent: int
    group: int
    began: int  # ticks since boot


class Offspring:
    """What calls of this worker have started. Main thread only.

    `zygote`: the pid of the zygote that forked this worker; 0: the guard executed it.
    """

    def __init__(self, worker: str, marks_inode: int, zygote: int) -> None:
        self._zygote = zygote
        self._entry = f"KEELBACK_WORKER={worker}".encode()
        self._mapped = f" {marks_inode} ".encode()

    @staticmethod
    def has_noted(call: int) -> bool:
        return call in list(_noted.values())

    def end(self, call: int, dispatched: int) -> list[str]:
        """Kills what has been started since the call was dispatched, whole subtrees; names it.

        `dispatched`: CLOCK_MONOTONIC in ns; 0: unknown, and only what was noted counts.
        """
        since = _tick_of(dispatched) if dispatched else sys.maxsize
        over = time.monotonic() + _TIME_MAX_S
        stopped: dict[int, _Process] = {}
        while time.monotonic() < over:
            found = [each for each in self._started(call, since) if each.pid not in stopped]
            if not found:
                break
            for process in found:  # stopped first: one that forks on could outrun the search
                _send(process, signal.SIGSTOP)
                stopped[process.pid] = process
        for process in stopped.values():
            _send(process, signal.SIGKILL)
        while time.monotonic() < over and any(map(_is_alive, stopped.values())):
            native.sleep(0.0005)
        return [f"{process.name} ({process.pid})" for process in stopped.values()]

    def _started(self, call: int, since: int) -> Iterator[_Process]:
        """The living processes that the call has started, and all that are below them."""
        me = os.getpid()
        todo = [(child, since) for child in _children(me)]
        while todo:
            pid, at_least = todo.pop()
            process = _read(pid)
            if process is None or process.state in "ZX":
                continue
            by = _noted.get(pid)
            is_new = by == call if by is not None else process.began >= at_least
            if is_new:
                yield process
                yield from _below(pid)
            else:  # an older process: what it starts in the call's first tick may be older too
                todo += [(child, since + 1) for child in _children(pid)]
        yield from self._orphans(me, since)

    def _orphans(self, me: int, since: int) -> Iterator[_Process]:
        """Those whose parents have ended. They are the guard's children now."""
        guard = os.getppid()
        if guard == self._zygote:
            zygote = _read(guard)
            guard = zygote.parent if zygote is not None else 0
        group = os.getpgrp()
        for pid in _children(guard):
            process = _read(pid) if pid not in (me, self._zygote) else None
            if process is None or process.state in "ZX" or process.began < since:
                continue
            if process.group == group or self._is_ours(pid):
                yield process
                yield from _below(pid)

    def _is_ours(self, pid: int) -> bool:
        """True for all that is below this process, however it was started."""
        try:
            limit = resource.prlimit(pid, _RLIMIT_RTTIME)
            if limit != _NO_KIN and limit == resource.getrlimit(_RLIMIT_RTTIME):
                return True
        except OSError:
            return False  # gone
        if self._entry in _bytes(f"/proc/{pid}/environ").split(b"\0"):
            return True
        return any(self._mapped in line for line in _bytes(f"/proc/{pid}/maps").splitlines()
                   if b"/memfd:" in line)


def _below(pid: int) -> Iterator[_Process]:
    todo = _children(pid)
    while todo:
        process = _read(todo.pop())
        if process is not None and process.state not in "ZX":
            yield process
            todo += _children(process.pid)


def _tick_of(monotonic_ns: int) -> int:
    # Read in this order the difference is never too large, and the largest is the nearest.
    ahead = max(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns() for _ in range(3))
    return (monotonic_ns + ahead) * _TICKS_A_SECOND // _SECOND_NS


def _send(process: _Process, number: int) -> None:
    now = _read(process.pid)
    if now is not None and now.began == process.began:
        with contextlib.suppress(OSError):
            os.kill(process.pid, number)


def _is_alive(process: _Process) -> bool:
    now = _read(process.pid)
    return now is not None and now.began == process.began and now.state not in "ZX"


def _read(pid: int) -> Optional[_Process]:
    before, _, after = _bytes(f"/proc/{pid}/stat").rpartition(b")")
    fields = after.split()
    if len(fields) < 20:
        return None
    name = before.partition(b"(")[2].decode(errors="replace")
    return _Process(pid, name, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[19]))


def _children(pid: int) -> list[int]:
    if not os.path.exists(f"/proc/self/task/{threading.get_native_id()}/children"):
        everybody = map(_read, map(int, filter(str.isdigit, _names("/proc"))))
        return [each.pid for each in everybody if each is not None and each.parent == pid]
    found: list[int] = []
    for thread in _names(f"/proc/{pid}/task"):
        found += map(int, _bytes(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _bytes(path: str) -> bytes:
    """What the file holds; nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
