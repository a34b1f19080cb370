"""The thread that answers while user code runs: pings, and cancels for async functions.

It cannot answer while a C call holds the GIL, and that is what a missing answer tells the supervisor.
"""

import signal
from typing import Callable

from keelback import native, wire
from keelback.marks import Marks

_SYNCHRONOUS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


def start(fd: int, marks: Marks, on_cancel: Callable[[int], None]) -> None:
    """Starts the thread. `on_cancel(call)` is called on it. Not a threading.Thread: user code does not see it."""
    native.start_new_thread(_serve, (fd, marks, on_cancel))


def _serve(fd: int, marks: Marks, on_cancel: Callable[[int], None]) -> None:
    # Signals are the main thread's: only there do they end a system call that user code waits in.
    native.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals().difference(_SYNCHRONOUS))
    data = b""
    while True:
        try:
            packet = native.read(fd, wire.PACKET_MAX)
        except OSError:
            return
        if not packet:
            return  # the supervisor is gone; the data socket and the lifeline say so too
        data += packet
        while len(data) >= wire.HEADER_SIZE:
            length, kind, _, _, call = wire.HEADER.unpack_from(data)
            if not wire.HEADER_SIZE <= length <= wire.PACKET_MAX:
                return
            if len(data) < length:
                break
            body, data = data[wire.HEADER_SIZE : length], data[length:]
            if kind == wire.PING and len(body) == wire.PING_BODY.size:
                (token,) = wire.PING_BODY.unpack(body)
                try:
                    answer = wire.PONG_BODY.pack(token, marks.running())
                    native.write(fd, wire.frame(wire.PONG, call, answer))
                except OSError:
                    return
            elif kind == wire.CANCEL:
                on_cancel(call)
