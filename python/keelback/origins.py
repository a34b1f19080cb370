"""Who did it: remembers, while the zygote imports, which module made what a fork would share.

Python threads and sockets are noted where they are made. The rest is made out of sight: native
threads, files, child processes. They are counted before each module is looked for and after each was
executed: what has appeared in between was made by the module that ran. All of it is switched off when
the import is over.
"""

import functools
import os
import socket
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from types import FrameType
from typing import Any, Callable, Optional

from keelback import descriptors

_RECORDS_MAX = 1024
_TRANSPARENT = ("__main__", "threading", "concurrent.futures", "multiprocessing", "asyncio", "socket",
                "importlib", "_thread", "http.client", "urllib", "ssl", "selectors", "tempfile",
                "subprocess", "logging", "functools")


class Origin:
    """Module, place and the modules whose import led there, innermost first.

    No module: only the standard library is to be seen. `module`: known already, and where.
    """

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

    def __str__(self) -> str:
        place = f" ({self.place})" if self.place else ""
        via = f", imported by {', '.join(self.importers[:6])}" if self.importers else ""
        return f"{self.module}{place}{via}"


class Recorder:
    """Main thread: install() before the import, remove() after it. Other threads may call in."""

    def __init__(self) -> None:
        self.active = False
        self.threads: dict[threading.Thread, Origin] = {}
        self.native: Optional[Origin] = None  # who ran when there was first a thread that Python did not start
        self.children: dict[int, Origin] = {}
        self.temporary: list[tuple[str, Origin]] = []  # files and directories that `tempfile` made
        self._sockets: dict[int, tuple[Any, Origin]] = {}  # with their identities
        # Likewise; None: it is the supervisor's.
        self._descriptors: dict[int, tuple[Any, Optional[Origin]]] = {}
        self._open = 0  # how many there were when they were last looked at
        self._awaited: dict[str, Callable[[Any], None]] = {}
        # Owner, name, what was its own or None, ours. Owner None: a function of a module.
        self._patches: list[tuple[Any, str, Any, Any]] = []

    def install(self) -> None:
        self._note_descriptors(lambda: None)
        self.active = True
        self.patch(threading.Thread, "start", self._thread_start)
        self.patch(socket.socket, "__init__", self._socket_init)
        self.patch(SourceFileLoader, "exec_module", self._exec_module)
        self.patch(ExtensionFileLoader, "exec_module", self._exec_module)
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]
        self.after("tempfile", self._watch_tempfile)

    def remove(self) -> None:
        self.active = False
        for owner, name, original, ours in self._patches:
            # Someone may have wrapped ours since; then it stays where it is and only passes on.
            if owner is None:
                for module in list(sys.modules.values()):
                    if names_in(module).get(name) is ours:
                        setattr(module, name, original)
            elif vars(owner).get(name) is ours:
                delattr(owner, name) if original is None else setattr(owner, name, original)
        self._patches.clear()
        self._awaited.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)  # type: ignore[arg-type]
        self.threads = {thread: by for thread, by in self.threads.items() if thread.is_alive()}

    def after(self, module: str, act: Callable[[Any], None]) -> None:
        """Calls `act` with the module once it was executed, before whoever imports it uses it."""
        if module in sys.modules:
            act(sys.modules[module])
        else:
            self._awaited[module] = act

    def patch(self, owner: Any, name: str, wrapper: Any) -> None:
        """Puts `wrapper` around a method of a class."""
        own, passes_to = vars(owner).get(name), getattr(owner, name)

        def ours(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
            return wrapper(passes_to, instance, *args, **kwargs)

        setattr(owner, name, ours)
        self._patches.append((owner, name, own, ours))

    def patch_function(self, module: Any, name: str, wrapper: Any) -> None:
        """Puts `wrapper` around a function of a module, if it has it."""
        function = getattr(module, name, None)
        if function is None:
            return

        @functools.wraps(function)
        def ours(*args: Any, **kwargs: Any) -> Any:
            return wrapper(function, *args, **kwargs)

        setattr(module, name, ours)
        self._patches.append((None, name, function, ours))

    def find_spec(self, name: str, path: Optional[Sequence[str]] = None, target: Any = None) -> None:
        """The import system asks every finder in turn; this one looks around and finds nothing."""
        if self.active:
            self._sample()

    def sample(self, module: str, place: str = "") -> None:
        """What has appeared since the last look was made by `module`."""
        self._sample(module, place)

    def opened(self, number: int, status: os.stat_result) -> Optional[Origin]:
        """Who opened this descriptor."""
        for records in (self._sockets, self._descriptors):
            found = records.get(number)  # type: ignore[attr-defined]
            if found is not None and found[0] == descriptors.identity(status):
                return found[1]
        return None

    def _thread_start(self, start: Any, thread: threading.Thread) -> None:
        if self.active and len(self.threads) < _RECORDS_MAX:
            self.threads[thread] = Origin(sys._getframe(2))
        start(thread)

    def _socket_init(self, init: Any, made: socket.socket, /, *args: Any, **kwargs: Any) -> None:
        init(made, *args, **kwargs)
        if self.active and len(self._sockets) < _RECORDS_MAX:
            identity = descriptors.identity(os.fstat(made.fileno()))
            self._sockets[made.fileno()] = identity, Origin(sys._getframe(2))

    def _watch_tempfile(self, module: Any) -> None:
        self.patch_function(module, "mkdtemp", self._made_temporary)
        self.patch_function(module, "mkstemp", self._made_temporary)

    def _made_temporary(self, make: Any, /, *args: Any, **kwargs: Any) -> Any:
        answer = make(*args, **kwargs)
        path = answer[1] if isinstance(answer, tuple) else answer
        if self.active and isinstance(path, str) and len(self.temporary) < _RECORDS_MAX:
            self.temporary.append((path, Origin(sys._getframe(2))))
        return answer

    def _exec_module(self, execute: Any, loader: Any, module: Any) -> None:
        execute(loader, module)
        if self.active:
            act = self._awaited.pop(module.__name__, None)
            if act is not None:
                act(module)
            self._sample(module.__name__, getattr(module, "__file__", "") or "")

    def _sample(self, module: str = "", place: str = "") -> None:
        """Without a module, it is the one that is being executed."""
        frame = sys._getframe(2)
        if self.native is None and thread_count() > python_threads():
            self.native = Origin(frame, module, place)
        if descriptors.count() != self._open:
            self._note_descriptors(lambda: Origin(frame, module, place))
        if has_children():
            for pid in children():
                if pid not in self.children and len(self.children) < _RECORDS_MAX:
                    self.children[pid] = Origin(frame, module, place)

    def _note_descriptors(self, origin: Callable[[], Optional[Origin]]) -> None:
        self._open = descriptors.count()
        before, self._descriptors = self._descriptors, {}
        maker: Any = None
        for number, status in descriptors.open_now().items():
            known = before.get(number)
            if known is None or known[0] != descriptors.identity(status):
                maker = maker or origin()
                known = descriptors.identity(status), maker
            self._descriptors[number] = known


def names_in(module: Any) -> dict[str, Any]:
    """A module's globals. Does not execute a module that waits for its first use."""
    try:
        found = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def module_with(is_meant: Callable[[Any], bool]) -> str:
    """"module.NAME" of the first module's global that is meant, "" without one."""
    for module_name, module in list(sys.modules.items()):
        if not _is_transparent(module_name):
            for name, value in list(names_in(module).items()):
                if is_meant(value):
                    return f"{module_name}.{name}"
    return ""


def thread_count() -> int:
    # procfs counts a task directory's links: two, and one for each thread. One system call.
    return os.stat("/proc/self/task").st_nlink - 2


def python_threads() -> int:
    return len(threading._active) + len(threading._limbo)  # type: ignore[attr-defined]


def children() -> list[int]:
    """Pids of this process's children, dead ones included, if the kernel lists them."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                found += map(int, file.read().split())
        except OSError:
            pass
    return found


def has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _is_transparent(name: str) -> bool:
    return any(name == part or name.startswith(part + ".") for part in _TRANSPARENT) or (
        name.startswith("keelback.")
        and not name.startswith(("keelback.apps", "keelback.application")))
