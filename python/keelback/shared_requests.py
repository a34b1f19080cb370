"""Nested calls of shared calls: the worker's loop reads their outcomes, for its tasks and for threads (sharing.py)."""

from typing import Any, Callable, Union

from keelback import native, nested, wire
from keelback.channel import Channel, SupervisorGone
from keelback.waiters import LoopWaiter, ThreadWaiter


class SharedRequests:
    """Those of a worker. Any thread, where nothing else is said.

    `running` has the shared calls that run. `send_soon` sends a frame with the others of this turn of the loop.
    """

    def __init__(self, channel: Channel, running: "dict[int, Any]", send_soon: Callable[[Any], None]) -> None:
        self._channel = channel
        self._running = running
        self._send_soon = send_soon
        self._main = native.get_ident()
        # Written under channel.sending, but that whoever takes a waiter out settles it.
        self._waiting: dict[int, Any] = {}  # by request
        self._of: dict[int, set[int]] = {}  # the requests of each call

    def ask(self, call: Any, frame: bytearray) -> bytes:
        """Sends a request; returns its OUTCOME. Blocks a thread that is not the loop's. Raises Interrupted, RuntimeError
        if the call ends, SupervisorGone."""
        window = call.window
        if window is None or not window.is_open_here():
            return self._ask(call, frame, None)
        window.close()  # half a frame must not be left on the socket, nor an outcome be lost
        try:
            return self._ask(call, frame, window)
        finally:
            window.open()

    def _ask(self, call: Any, frame: bytearray, window: Any) -> bytes:
        waiter = ThreadWaiter(sleeps=True)
        number = self._send(call, frame, waiter)
        while not waiter.done:
            if window is not None and window.wanted:
                self._withdraw(call, number)
                window.raise_now()
            waiter.lock.acquire()
        return waiter.value()

    async def ask_async(self, call: Any, frame: bytearray) -> bytes:
        """The same for a coroutine. If its task is cancelled, so is the request."""
        from asyncio import get_running_loop

        waiter = LoopWaiter(get_running_loop())
        number = self._send(call, frame, waiter)
        try:
            await waiter.future
        except BaseException:
            self._withdraw(call, number)
            raise
        return waiter.value()

    def _send(self, call: Any, frame: bytearray, waiter: Any) -> int:
        """Raises RuntimeError if the call is over, SupervisorGone."""
        with self._channel.sending:
            if not self._goes_on(call):
                raise nested.has_ended()
            number = self._channel.next_request()
            self._waiting[number] = waiter
            self._of.setdefault(call.id, set()).add(number)
            nested.stamp(frame, nested.STAMP_AT, call.id, number)
            self._put(call, frame)
        return number

    def _withdraw(self, call: Any, number: int) -> None:
        """Nobody waits for this outcome any more."""
        with self._channel.sending:
            if self._waiting.pop(number, None) is None:
                return
            self._of.get(call.id, set()).discard(number)
            if self._goes_on(call):
                try:
                    self._put(call, nested.cancel(call.id, number))
                except SupervisorGone:
                    pass  # the main thread hears of it, too

    def _goes_on(self, call: Any) -> bool:
        return call.id in self._running and not call.over

    def _put(self, call: Any, frame: Union[bytes, bytearray]) -> None:
        # The last frame of a task goes the same way. That of a thread does not wait for the loop.
        if call.window is None and native.get_ident() == self._main:
            self._send_soon(frame)
        else:
            self._channel.put(frame)

    def take(self, frame: bytes) -> None:
        """OUTCOME has come. Main thread. Raises ProtocolError."""
        number = nested.number_of(frame)
        waiter = self._waiting.pop(number, None)
        if waiter is not None:
            self._of.get(wire.HEADER.unpack_from(frame)[4], set()).discard(number)
            waiter.settle(frame)

    def wake(self, call: Any) -> None:
        """The threads of the call look whether they are interrupted."""
        for number in list(self._of.get(call.id, ())):
            waiter = self._waiting.get(number)
            if waiter is not None and waiter.lock is not None:
                waiter.wake()

    def end(self, call: Any) -> None:
        """The call is not among the running ones any more, and its last frame is not sent yet."""
        if call.id not in self._of and not self._channel.sending.locked():
            return  # nobody is about to send
        with self._channel.sending:
            numbers = self._of.pop(call.id, ())
        for number in list(numbers):
            waiter = self._waiting.pop(number, None)
            if waiter is not None:
                waiter.settle(b"", nested.has_ended())
