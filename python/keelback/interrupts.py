"""Signals in a worker. SIGINT stops a sync function's user code and nothing else; SIGTERM is the supervisor's to obey.

Handlers, not SIG_IGN: an ignored signal would stay ignored in every program that user code starts.
"""

import signal
from types import FrameType
from typing import Optional

from keelback import marks


class Interrupts:
    """SIGINT raises KeyboardInterrupt in the main thread while `interrupt == started != ended`, at most once a call."""

    __slots__ = ("_words", "_raised", "asynchronous", "_masked", "_deferred")

    def __init__(self, words: "memoryview") -> None:
        self._words = words
        self._raised = 0
        self.asynchronous = False  # an async function runs: it is cancelled, not interrupted
        self._masked = False
        self._deferred = False

    def install(self) -> None:
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, nothing)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def raised_for(self, call: int) -> bool:
        """The KeyboardInterrupt that ended this call was ours."""
        return self._raised == call

    # Between these an interrupt waits: half a frame must not be left on the socket, nor a frame be lost.
    def mask(self) -> None:
        self._masked = True

    def unmask(self) -> None:
        self._masked = False
        if self._deferred:
            self._deferred = False
            self._raise_if_meant()

    def _on_interrupt(self, signum: int, frame: Optional[FrameType]) -> None:
        if self._masked:
            self._deferred = True
        else:
            self._raise_if_meant()

    def _raise_if_meant(self) -> None:
        words = self._words
        call = words[marks.INTERRUPT]
        if call == words[marks.STARTED] != words[marks.ENDED] and call != self._raised and not self.asynchronous:
            self._raised = call
            raise KeyboardInterrupt


def nothing(signum: int, frame: Optional[FrameType]) -> None:
    """The handler of a signal that does not concern us."""


def ignore_in_zygote() -> None:
    signal.signal(signal.SIGINT, nothing)
    signal.signal(signal.SIGTERM, nothing)
    # A zombie must stand until the supervisor has read its status.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def defaults() -> None:
    """In a child that user code forked: as in any Python program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
