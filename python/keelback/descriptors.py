"""The descriptors that a process is born with; their numbers are the protocol's (docs/protocol.md)."""

import os

DATA = 3  # a worker's, started by exec
ORDERS = 3  # the zygote's
CONTROL = 4
MARKS = 5
LIFELINE = 6
SHARED_VARIABLE = "KEELBACK_SHARED_FD"  # names a memfd that an application's workers may share


def claim(*fds: int) -> None:
    """No program that user code starts inherits them."""
    shared = os.environ.get(SHARED_VARIABLE, "")
    for fd in (*fds, *([int(shared)] if shared.isdigit() else [])):
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            text = f"keelback: descriptor {fd} is not open; the supervisor starts this program, not people"
            raise SystemExit(text) from error
