"""The end of a process. An exit function runs in the process that registered it, not in its forks.

The zygote runs the exit functions that imports have registered (for example, to remove a temporary
directory) after its last worker has ended. A worker runs the ones that were registered in the worker.
There is one exception: exit functions of the standard library that only tidy up what their own process
has made. They write out log records and let executors finish, so a worker runs them too, even if the
zygote has imported the module. A process that loses its supervisor ends at once and runs none.
"""

import atexit
import functools
import os
import sys
import threading
import weakref
from typing import Any, Callable

from keelback import calls, errors, logs, marks, native

# In the order in which Python's own imports register them; the last one runs first.
_OF_EACH_PROCESS = (("logging", "shutdown"), ("multiprocessing.util", "_exit_function"))
_EXECUTORS = "concurrent.futures"
_EXECUTORS_S = 1.0  # how long their unfinished work may take


def note_ends() -> None:
    """From now on a worker that ends itself says in its marks which thread does that, and with which signal. Before
    the application is imported."""
    os._exit = _noting(os._exit, lambda status: 0)  # type: ignore[assignment]
    os.kill = _noting(os.kill, lambda pid, signum: signum or None if pid == os.getpid() else None)


def _noting(end: Callable[..., Any], signal_of: Callable[..., Any]) -> Callable[..., Any]:
    """signal_of(*args): 0 for an exit; None: it does not end this process."""

    @functools.wraps(end)
    def noting(*args: Any, **kwargs: Any) -> Any:
        words = calls.here.words
        if isinstance(words, memoryview):  # else this is no worker, or a child that user code has forked
            try:
                signum = signal_of(*args, **kwargs)
                if signum is not None:
                    words[marks.ENDING_SIGNAL] = signum
                    words[marks.ENDING] = native.get_ident()
            except Exception:  # whatever is wrong with the arguments, the function itself says
                pass
        return end(*args, **kwargs)

    return noting


def forget_inherited() -> None:
    """In a forked worker, before any user code: what is registered now belongs to the zygote."""
    atexit._clear()
    finalize: Any = weakref.finalize
    for info in list(finalize._registry.values()):
        info.atexit = False
    finalize._registered_with_atexit = False  # so that the next one registers again
    for module, name in _OF_EACH_PROCESS:
        function = getattr(sys.modules.get(module), name, None)
        if function is not None:
            atexit.register(function)
    ends = _thread_ends()
    ends[:] = [
        end for end in ends if (getattr(end, "func", end).__module__ or "").startswith(_EXECUTORS)
    ]


def leave(status: int, run_exit_functions: bool) -> None:
    """Ends this process; never returns. Only threads of executors are waited for, for a second."""
    if run_exit_functions:
        _end_threads()
        try:
            atexit._run_exitfuncs()
        except BaseException as error:
            errors.log("an exit function failed", error)
    logs.flush()
    os._exit(status)


def _thread_ends() -> list[Any]:
    """What threading._register_atexit() was given: it runs before the functions of atexit."""
    return getattr(threading, "_threading_atexits", [])


def _end_threads() -> None:
    ends = _thread_ends()
    if not ends:
        return
    # Aside, because an executor's thread may never come back.
    waiting = threading.Thread(target=_run, args=(list(reversed(ends)),), daemon=True)
    waiting.start()
    waiting.join(_EXECUTORS_S)


def _run(ends: list[Any]) -> None:
    for end in ends:
        try:
            end()
        except BaseException as error:
            errors.log("an exit function failed", error)
