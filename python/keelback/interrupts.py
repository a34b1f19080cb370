"""Signals in a worker. SIGINT stops the user code of a sync function and nothing else. SIGTERM is ignored: only
the supervisor obeys it.

Handlers, not SIG_IGN: an ignored signal would stay ignored in every program that user code starts.
"""

import signal
from types import FrameType
from typing import Any, Optional

from keelback import marks, native


class Interrupts:
    """SIGINT raises KeyboardInterrupt in the main thread while `interrupt == started != ended`, at most once a call."""

    __slots__ = ("_words", "raised", "asynchronous", "_masked", "_deferred")

    def __init__(self, words: "memoryview") -> None:
        self._words = words
        self.raised = 0  # the last call in whose user code KeyboardInterrupt was raised for us
        self.asynchronous = False  # an async function runs: it is cancelled, not interrupted
        self._masked = False
        self._deferred = False

    def install(self) -> None:
        # What the module signal wraps around these (enumerations) costs a fresh fork .1 ms: it copies each page it touches.
        native.signal(signal.SIGINT, self._on_interrupt)
        native.signal(signal.SIGTERM, nothing)
        native.signal(signal.SIGCHLD, native.SIG_DFL)
        native.pthread_sigmask(signal.SIG_SETMASK, ())

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
        runs = call == words[marks.STARTED] != words[marks.ENDED]
        if runs and call != self.raised and not self.asynchronous:
            self.raised = call
            raise KeyboardInterrupt


def nothing(signum: int, frame: Optional[FrameType]) -> None:
    """The handler of a signal that does not concern us."""


def ignore_in_zygote() -> None:
    native.signal(signal.SIGINT, nothing)
    native.signal(signal.SIGTERM, nothing)
    # A zombie must stand until the supervisor has read its status.
    native.signal(signal.SIGCHLD, native.SIG_DFL)


class ForksOfUserCode:
    """A child that user code forks gets the signals of any Python program, also one that comes during the fork.

    Each thread's fork goes before(), then in_parent() in the parent and in_child() in the child.
    """

    _OURS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._masks: dict[int, Any] = {}

    def before(self) -> None:
        self._masks[native.get_ident()] = native.pthread_sigmask(signal.SIG_BLOCK, self._OURS)

    def in_parent(self) -> None:
        native.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(native.get_ident(), ()))

    def in_child(self) -> None:
        native.signal(signal.SIGINT, signal.default_int_handler)
        native.signal(signal.SIGTERM, native.SIG_DFL)
        self.in_parent()
