"""Functions of the operating system as they were before the application was imported.

gevent, eventlet and their like replace functions of the standard library: what waits then switches
to other green threads of the same thread. The runtime has a thread of its own that must run while
user code does, so what starts that thread, and what the runtime waits with, are these.
"""

from _signal import SIG_DFL, signal  # type: ignore[import-not-found]
from _thread import allocate_lock, get_ident, start_new_thread
from os import fork, read, waitpid, write
from select import POLLIN, poll
from signal import pthread_sigmask
from time import sleep

__all__ = [
    "POLLIN", "SIG_DFL", "allocate_lock", "fork", "get_ident", "poll", "pthread_sigmask", "read", "signal", "sleep",
    "start_new_thread", "waitpid", "write",
]
