"""The thread that answers while user code runs: pings, and cancels and interrupts of calls.

It cannot answer while a C call holds the GIL, and that is what a missing answer tells the supervisor.
"""

import functools
import signal
from typing import Callable, NamedTuple

from keelback import native, wire
from keelback.marks import Marks

_SYNCHRONOUS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


class Handlers(NamedTuple):
    """All are called on the thread."""

    on_cancel: Callable[[int], None]
    on_interrupt: Callable[[int], None]
    on_loop: Callable[[Callable[[], bool]], bool]  # has the event loop call its argument; False: no loop could be late
    whose_turn: Callable[[], int]  # the shared call whose code the event loop runs; 0: none known


def start(fd: int, marks: Marks, handlers: Handlers) -> None:
    """Starts the thread. Not a threading.Thread: user code does not see it."""
    native.start_new_thread(_serve, (fd, marks, handlers))


def _serve(fd: int, marks: Marks, handlers: Handlers) -> None:
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
                of_loop = flags & wire.LOOP
                running = handlers.whose_turn if flags & wire.WHO else marks.running
                answer = functools.partial(_pong, fd, running, call, token, of_loop)
                if (not of_loop or not handlers.on_loop(answer)) and not answer():
                    return
            elif kind == wire.CANCEL:
                handlers.on_cancel(call)
            elif kind == wire.INTERRUPT:
                handlers.on_interrupt(call)


def _pong(fd: int, running: Callable[[], int], call: int, token: int, flags: int) -> bool:
    """False when the supervisor is gone."""
    try:
        native.write(fd, wire.frame(wire.PONG, call, wire.PONG_BODY.pack(token, running()), flags))
    except OSError:
        return False
    return True
