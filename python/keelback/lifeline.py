"""The pipe that ties a process to its supervisor: when the last write end closes, the kernel kills.

A descriptor's owner and signal belong to its open file description, so each process opens descriptions of
its own. No thread watches: SIGKILL comes from the kernel, also while a C call holds the GIL.
"""

import fcntl
import os
import signal

from keelback import native


def lead_group() -> None:
    """Makes this process the leader of its own process group, if it is not."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def arm(fd: int) -> list[int]:
    """Ties this process and its group to the pipe; ends the process if the supervisor is gone already.

    Returns the descriptors to keep open.
    """
    armed = []
    for owner in (os.getpid(), -os.getpgrp()):
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(own, fcntl.F_SETOWN, owner)
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        armed.append(own)
    try:
        if native.read(armed[0], 1) == b"":
            os._exit(1)  # it closed before we listened
    except BlockingIOError:
        pass
    return armed
