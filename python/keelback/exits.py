"""The end of a process: exit functions run where they were registered, and never in a fork's copy of them.

What imports registered in the zygote (a temporary directory's removal, for one) is the zygote's to do; a worker does
what was registered in the worker. A process that loses its supervisor ends at once, without any of it.
"""

import atexit
import os
import weakref

from keelback import errors, logs


def forget_inherited() -> None:
    """In a forked worker: the exit functions and finalizers that exist now belong to the zygote."""
    atexit._clear()
    finalize = weakref.finalize
    for info in list(finalize._registry.values()):  # type: ignore[attr-defined]
        info.atexit = False
    finalize._registered_with_atexit = False  # type: ignore[attr-defined]  # so that the next one registers again


def leave(status: int, run_exit_functions: bool) -> None:
    """Ends this process; never returns. Threads are not waited for."""
    if run_exit_functions:
        try:
            atexit._run_exitfuncs()
        except BaseException as error:
            errors.log("an exit function failed", error)
    logs.flush()
    os._exit(status)
