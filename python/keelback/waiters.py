"""Who waits for a frame that another thread reads: a thread, or a coroutine of an event loop."""

from typing import Any, Optional

from keelback import native


class Waiter:
    """What it waits for, once that is settled."""

    __slots__ = ("frame", "failure")
    frame: bytes
    failure: Optional[BaseException]

    def value(self) -> bytes:
        """The frame. Raises why none has come."""
        if self.failure is not None:
            raise self.failure
        return self.frame


class ThreadWaiter(Waiter):
    """A waiting thread. Without a lock it reads for itself."""

    __slots__ = ("done", "lock")

    def __init__(self, sleeps: bool = False) -> None:
        self.frame = b""
        self.failure = None
        self.done = False
        self.lock: Any = None  # acquired by the thread to wait; released to wake it
        if sleeps:
            self.will_sleep()

    def will_sleep(self) -> None:
        self.lock = native.allocate_lock()
        self.lock.acquire()

    def settle(self, frame: bytes, failure: Optional[BaseException] = None) -> None:
        """Any thread: there is nothing more to wait for."""
        self.frame, self.failure = frame, failure
        self.done = True
        self.wake()

    def wake(self) -> None:
        """Any thread: it looks again what it waits for."""
        if self.lock is not None:
            try:
                self.lock.release()
            except RuntimeError:  # it is awake, and looks before it sleeps again
                pass


class LoopWaiter(Waiter):
    """A coroutine that waits for `future`. To be made on its loop's thread."""

    __slots__ = ("future", "_loop", "_thread")
    lock = None  # it never reads for others

    def __init__(self, loop: Any) -> None:
        self.frame = b""
        self.failure = None
        self.future = loop.create_future()
        self._loop = loop
        self._thread = native.get_ident()

    def settle(self, frame: bytes, failure: Optional[BaseException] = None) -> None:
        self.frame, self.failure = frame, failure
        self.wake()

    def wake(self) -> None:
        try:
            if native.get_ident() == self._thread:
                self._resolve()
            else:
                self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # the loop is closed
            pass

    def _resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
