"""Files that imports have left open: which ones a forked worker can open again, and which forbid a fork.

After a fork all processes share the offset of an open file. A worker started by exec has its own. So
a forked worker opens each file again, through /proc/self/fd, under the number that the application
knows: Python's file objects and the pointers of a library stay valid. If a descriptor cannot be
opened again, or is more than a file and an offset, the application is unsafe to fork.
"""

import fcntl
import io
import os
import stat
from typing import Any, NamedTuple, Optional

from keelback import descriptors, standard

# Major and minor numbers: /dev/null, zero, full, random, urandom. They have no state of their own.
_PLAIN_DEVICES = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)}
_RANDOM_DEVICES = {(1, 8), (1, 9)}
# Flags of the first open that must not be repeated: the file is there, and the link to it is one.
_NOT_AGAIN = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOFOLLOW | os.O_TMPFILE | os.O_ASYNC
_SQLITE = b"SQLite format 3\0"
_SQLITE_BESIDE = ("-wal", "-shm", "-journal")


class Opening(NamedTuple):
    """One open descriptor."""

    number: int
    target: str  # what /proc/self/fd says
    status: os.stat_result
    flags: int
    locked: bool

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def appends(self) -> bool:
        return bool(self.flags & os.O_APPEND)

    @property
    def has_offset(self) -> bool:
        mode = self.status.st_mode
        return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and not self.flags & os.O_PATH

    def __str__(self) -> str:
        return f"descriptor {self.number}, {self.target}"


class Problem(NamedTuple):
    # "file", "lock", "database", "pipe", "socket", "device", "event", "memory", "cuda", "output"
    kind: str
    opening: Opening
    why: str


def read(number: int, status: os.stat_result) -> Optional[Opening]:
    """None: it is closed by now."""
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
        with open(f"/proc/self/fdinfo/{number}") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return Opening(number, target, status, flags, any(line.startswith("lock:") for line in lines))


def problem_of(opening: Opening) -> Optional[Problem]:
    """Why this descriptor, by itself, forbids a fork; None: a worker can open it anew."""
    mode, target = opening.status.st_mode, opening.target
    if opening.flags & os.O_PATH:
        return None
    found: tuple[str, str]
    if stat.S_ISSOCK(mode):
        found = "socket", "all workers would read from it"
    elif stat.S_ISFIFO(mode):
        found = "pipe", "all workers would read from it or write to it"
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        device = os.major(opening.status.st_rdev), os.minor(opening.status.st_rdev)
        if stat.S_ISCHR(mode) and device in _PLAIN_DEVICES:
            return None
        if target.startswith("/dev/nvidia"):
            found = "cuda", "the driver is in use"
        else:
            found = "device", "all workers would share it"
    elif target.startswith("/memfd:") or (target.startswith("/dev/shm/") and opening.writes):
        found = "memory", "all workers would share it"
    elif stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return _problem_of_file(opening)
    else:  # eventfd, timerfd, signalfd, inotify, epoll, io_uring, pidfd and what is yet to come
        found = "event", "all workers would wait for the same events"
    return Problem(found[0], opening, found[1])


def _problem_of_file(opening: Opening) -> Optional[Problem]:
    target = opening.target
    if _is_sqlite(opening):
        return Problem("database", opening, "an SQLite database must not be carried across a fork")
    if opening.locked:
        return Problem(
            "lock", opening, "this process has locked it, and a fork does not copy locks"
        )
    if opening.writes and not opening.appends:
        return Problem(
            "file", opening, "it is open for writing, and all workers would share its offset"
        )
    if opening.writes and target.endswith(" (deleted)"):
        return Problem(
            "file",
            opening,
            "it is open for writing, and no longer has a name: each import has its own",
        )
    if target.startswith(f"/proc/{os.getpid()}/"):
        return Problem("file", opening, "it describes this process, not the worker")
    return None


def _is_sqlite(opening: Opening) -> bool:
    if not stat.S_ISREG(opening.status.st_mode):
        return False
    try:  # through the descriptor: to open and close the file would drop locks of this process
        if os.pread(opening.number, len(_SQLITE), 0) == _SQLITE:
            return True
    except OSError:  # open for writing only
        pass
    path = opening.target
    return path.endswith(_SQLITE_BESIDE) or any(
        os.path.exists(path + end) for end in _SQLITE_BESIDE[:2]
    )


def that_share(openings: list[Opening]) -> list[Problem]:
    """Descriptors whose offset is that of another one: what one reads is missing to the other."""
    found = []
    by_file: dict[Any, list[Opening]] = {}
    for opening in openings:
        if opening.has_offset:
            by_file.setdefault(descriptors.identity(opening.status), []).append(opening)
    for same_file in by_file.values():
        for at, second in enumerate(same_file):
            first = next(
                (other for other in same_file[:at] if _are_one(other.number, second.number)), None
            )
            if first is not None:
                found.append(
                    Problem("file", second, f"it shares its offset with descriptor {first.number}")
                )
    return found


def _are_one(first: int, second: int) -> bool:
    """True if both numbers stand for one open file: a flag that is set for one is set for the other.

    kcmp(2) would say so too, but containers often forbid it. No other thread may run.
    """
    flags = fcntl.fcntl(first, fcntl.F_GETFL)
    before = fcntl.fcntl(second, fcntl.F_GETFL)
    fcntl.fcntl(first, fcntl.F_SETFL, flags ^ os.O_NONBLOCK)
    try:
        return fcntl.fcntl(second, fcntl.F_GETFL) != before
    finally:
        fcntl.fcntl(first, fcntl.F_SETFL, flags)


class Anew:
    """What each forked worker opens anew. Planned once in the zygote, done in every child."""

    def __init__(self) -> None:
        self.files: list[Opening] = []
        self._plan: list[tuple[int, str, int, bool, bool]] = []
        self._logs: list[tuple[int, bool]] = []

    def plan(self, files: list[Opening], logs: list[Opening]) -> None:
        """Requires that they have no problem. `logs` are copies of the standard output."""
        # What O_PATH has opened may be shared: it has no offset and no state.
        files = [file for file in files if not file.flags & os.O_PATH]
        self.files = files
        self._plan = [
            (
                file.number,
                f"/proc/self/fd/{file.number}",
                file.flags & ~_NOT_AGAIN | os.O_CLOEXEC,
                file.has_offset,
                os.get_inheritable(file.number),
            )
            for file in files
        ]
        self._logs = [(log.number, os.get_inheritable(log.number)) for log in logs]

    def refused(self) -> list[Problem]:
        """Tries it. Requires that no file is locked: to close a file drops this process's locks on it."""
        found = []
        for opening, (_, link, flags, _, _) in zip(self.files, self._plan):
            try:
                os.close(os.open(link, flags))
            except OSError as error:
                found.append(
                    Problem("file", opening, f"it cannot be opened again: {error.strerror}")
                )
        return found

    def open_all(self, log: int) -> None:
        """In the child, before any user code. Raises OSError: then no user code may run at all."""
        for number, inheritable in self._logs:
            os.dup2(log, number, inheritable)
        for number, link, flags, has_offset, inheritable in self._plan:
            own = os.open(link, flags)
            if has_offset:
                at = os.lseek(number, 0, os.SEEK_CUR)
                if at:
                    os.lseek(own, at, os.SEEK_SET)
            os.dup2(own, number, inheritable)
            os.close(own)


def flush(file_objects: list[Any], openings: list[Opening]) -> list[Problem]:
    """Writes out what waits in buffers, so that no worker inherits and writes it a second time."""
    found = []
    by_number = {opening.number: opening for opening in openings}
    owned = set()
    for file in file_objects:
        try:
            number = file.fileno()
        except (OSError, ValueError):  # closed, or no file
            continue
        owned.add(number)
        opening = by_number.get(number)
        if opening is None:
            continue
        try:
            if opening.writes:
                file.flush()
            elif _is_random_device(opening) and isinstance(file, io.BufferedReader):
                file.read(len(file.peek()))  # what was read ahead would be the same in all workers
        except (OSError, ValueError) as error:
            found.append(Problem("file", opening, f"its buffer cannot be written: {error}"))
    if any(opening.appends and opening.number not in owned for opening in openings):
        _flush_libc()
    return found


def _flush_libc() -> None:
    """A C library may have opened the file."""
    try:
        standard.load("ctypes").CDLL(None).fflush(None)
    except (ImportError, OSError, AttributeError):
        pass


def _is_random_device(opening: Opening) -> bool:
    device = os.major(opening.status.st_rdev), os.minor(opening.status.st_rdev)
    return stat.S_ISCHR(opening.status.st_mode) and device in _RANDOM_DEVICES
