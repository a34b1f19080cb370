"""The thread that answers while user code runs: pings, and cancels and interrupts of calls.

It cannot answer while a C call holds the GIL, and that is what a missing answer tells the supervisor.
"""

import functools
import signal
from typing import Callable

from keelback import native, wire
from keelback.marks import Marks

_SYNCHRONOUS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


def start(fd: int, marks: Marks, on_cancel: Callable[[int], None], on_interrupt: Callable[[int], None],
          on_loop: Callable[[Callable[[], bool]], bool]) -> None:
    """Starts the thread. All are called on it: `on_cancel(call)`, `on_interrupt(call)`, and `on_loop(answer)`, which
    has the event loop call `answer()`; False if no loop could be late. Not a threading.Thread: user code does
    not see it."""
    native.start_new_thread(_serve, (fd, marks, on_cancel, on_interrupt, on_loop))


def _serve(fd: int, marks: Marks, on_cancel: Callable[[int], None], on_interrupt: Callable[[int], None],
           on_loop: Callable[[Callable[[], bool]], bool]) -> None:
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
            length, kind, flags, _, call = wire.HEADER.unpack_from(data)
            if not wire.HEADER_SIZE <= length <= wire.PACKET_MAX:
                return
            if len(data) < length:
                break
            body, data = data[wire.HEADER_SIZE : length], data[length:]
            if kind == wire.PING and len(body) == wire.PING_BODY.size:
                (token,) = wire.PING_BODY.unpack(body)
                flags &= wire.LOOP
                answer = functools.partial(_pong, fd, marks, call, token, flags)
                if (not flags or not on_loop(answer)) and not answer():
                    return
            elif kind == wire.CANCEL:
                on_cancel(call)
            elif kind == wire.INTERRUPT:
                on_interrupt(call)


def _pong(fd: int, marks: Marks, call: int, token: int, flags: int) -> bool:
    """False when the supervisor is gone."""
    try:
        native.write(fd, wire.frame(wire.PONG, call, wire.PONG_BODY.pack(token, marks.running()), flags))
    except OSError:
        return False
    return True
