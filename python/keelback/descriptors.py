"""The descriptors that a process starts with. docs/protocol.md gives them their numbers."""

import os

DATA = 3  # a worker's, started by exec
ORDERS = 3  # the zygote's
CONTROL = 4
MARKS = 5
LIFELINE = 6
SHARED_VARIABLE = "KEELBACK_SHARED_FD"  # names a memfd that an application's workers may share


def claim(*fds: int) -> None:
    """Programs that user code starts do not inherit them."""
    shared = os.environ.get(SHARED_VARIABLE, "")
    for fd in (*fds, *([int(shared)] if shared.isdigit() else [])):
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            text = f"keelback: descriptor {fd} is not open; the supervisor starts this program, not people"
            raise SystemExit(text) from error


def count() -> int:
    """How many descriptors are open. One system call if the kernel counts them (Linux 6.2)."""
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))


def open_now() -> dict[int, os.stat_result]:
    """The open descriptors, each with what os.fstat() says of it."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.fstat(int(name))
        except OSError:  # the listing's own descriptor
            pass
    return found


def identity(status: os.stat_result) -> tuple[int, int, int]:
    """Which file it is: device, inode, and the device it stands for, if it is one."""
    return status.st_dev, status.st_ino, status.st_rdev
