"""Functions of the operating system as they were before the application was imported.

gevent, eventlet and their like replace functions of the standard library: what waits then switches
to other green threads of the same thread. The runtime has a thread of its own that must run while
user code does, so what starts that thread, and what the runtime waits with, are these.
"""

import sys
from _signal import SIG_DFL, signal  # type: ignore[import-not-found]
from _thread import allocate_lock, get_ident, start_new_thread
from os import fork, read, waitpid, write
from select import POLLIN, poll
from signal import pthread_sigmask
from time import sleep
from typing import Callable

# False only in a build without the GIL, while no module has turned it on (gil.py).
has_gil: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)

__all__ = [
    "POLLIN", "SIG_DFL", "allocate_lock", "fork", "get_ident", "has_gil", "poll", "pthread_sigmask", "read", "signal", "sleep",
    "start_new_thread", "waitpid", "write",
]
