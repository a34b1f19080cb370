"""Functions that answer with items: generators and other iterators, asynchronous ones too.

The supervisor gives credit for items, and an item is sent when there is credit for it. Without credit one item
waits, and the generator is asked for no more. A caller that does not take a stream gets a list of the items.
"""

from _queue import SimpleQueue
from collections.abc import Iterator
from typing import Any, Callable, Optional

from keelback import errors, marks, wire
from keelback.calls import Cancelled
from keelback.channel import Channel
from keelback.encoding import ResultError, encode_within, too_large
from keelback.interrupts import Interrupts


class ItemSink:
    """Sends items as they come, within the credit. Main thread only. `inbox` gives what waits for credit (inbox.py)."""

    def __init__(self, call: int, channel: Channel, words: "memoryview", interrupts: Interrupts,
                 result_max: Callable[[], int], inbox: Callable[[], Any]) -> None:
        self._call = call
        self._channel = channel
        self._words = words
        self._interrupts = interrupts
        self._result_max = result_max
        self._credit = wire.CREDIT_AT_START
        self._inbox = inbox

    def put(self, item: Any) -> None:
        """Blocks without credit. Raises Cancelled, ResultError; may raise the call's KeyboardInterrupt."""
        frame = self._frame(item)
        while not self._has_credit():
            self._credit += self._inbox().wait_for_credit(self._call)
        self._send(frame)

    async def put_async(self, item: Any, loop: Any) -> None:
        """The same with the loop running while it waits."""
        frame = self._frame(item)
        while not self._has_credit():
            self._credit += await self._inbox().wait_for_credit_async(self._call)
        self._send(frame)

    def result(self) -> Optional[bytes]:
        return None  # everything was sent

    def _frame(self, item: Any) -> bytes:
        return wire.frame(wire.ITEM, self._call, encode_within(item, self._result_max()))

    def _has_credit(self) -> bool:
        if self._words[marks.CANCEL] == self._call:
            raise Cancelled("the call was cancelled")
        return self._credit > 0

    def _send(self, frame: bytes) -> None:
        self._credit -= 1
        self._interrupts.mask()
        try:
            self._channel.send(frame)
        finally:
            self._interrupts.unmask()


class SharedSink:
    """What both kinds of sinks of shared calls have: items cost credit, which give() brings."""

    def __init__(self, call: Any, words: "memoryview", send: Callable[[bytes], None],
                 result_max: Callable[[], int]) -> None:
        self._call = call
        self._words = words
        self._send = send
        self._result_max = result_max
        self._credit = wire.CREDIT_AT_START

    def result(self) -> Optional[bytes]:
        return None  # everything was sent

    def _item(self, item: Any) -> bytes:
        """Its frame. Raises ResultError."""
        return wire.frame(wire.ITEM, self._call.id, encode_within(item, self._result_max()))

    def _has_credit(self) -> bool:
        """Raises Cancelled."""
        if self._words[self._call.marks_at + marks.CANCEL] == self._call.id:
            raise Cancelled("the call was cancelled")
        return self._credit > 0


class TaskSink(SharedSink):
    """Of a shared call that is a task. On the loop's thread only."""

    _waits: Any = None

    async def put_async(self, item: Any, loop: Any) -> None:
        """Waits without credit. Raises Cancelled, ResultError."""
        frame = self._item(item)
        while not self._has_credit():
            self._waits = loop.create_future()
            await self._waits
        self._credit -= 1
        self._send(frame)

    def give(self, credit: int) -> None:
        """CREDIT has come; 0 only wakes."""
        self._credit += credit
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)


class ThreadSink(SharedSink):
    """Of a shared call that has a thread: put() is called there, give() in any."""

    def __init__(self, call: Any, words: "memoryview", send: Callable[[bytes], None],
                 result_max: Callable[[], int]) -> None:
        super().__init__(call, words, send, result_max)
        self._given: "SimpleQueue[int]" = SimpleQueue()

    def put(self, item: Any) -> None:
        """Blocks without credit. Raises Cancelled, Interrupted, ResultError."""
        frame = self._item(item)
        window = self._call.window
        window.close()  # half a frame must not be left on the socket, nor credit be lost
        while not self._has_credit():
            self._credit += self._given.get()
        self._credit -= 1
        self._send(frame)
        window.open()

    def give(self, credit: int) -> None:
        self._given.put(credit)

    def _has_credit(self) -> bool:
        window = self._call.window
        if window.wanted:
            window.raise_now()
        return super()._has_credit()


class ListSink:
    """Gathers items into one result, no larger than a result may be."""

    def __init__(self, call: int, words: "memoryview", result_max: Callable[[], int], marks_at: int = 0) -> None:
        self._call = call
        self._words = words
        self._cancel = marks_at + marks.CANCEL
        self._result_max = result_max
        self._items: list[bytes] = []
        self._size = 2  # the brackets

    def put(self, item: Any) -> None:
        if self._words[self._cancel] == self._call:
            raise Cancelled("the call was cancelled")
        most = self._result_max()
        self._items.append(encode_within(item, most))
        self._size += len(self._items[-1]) + (len(self._items) > 1)
        if self._size > most:
            raise ResultError(too_large(self._size, most))

    async def put_async(self, item: Any, loop: Any) -> None:
        self.put(item)

    def result(self) -> Optional[bytes]:
        return b"[" + b",".join(self._items) + b"]"


def pump(answer: Any, sink: Any) -> None:
    """Puts everything that `answer` yields into the sink; closes it when that fails."""
    iterator: Iterator[Any] = iter(answer)
    try:
        for item in iterator:
            sink.put(item)
    except BaseException:
        close = getattr(iterator, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                errors.log("a generator failed while it was being closed", error)
        raise


async def pump_async(answer: Any, sink: Any, loop: Any) -> None:
    """The same for an async generator, or for a coroutine that answers with an iterator of either kind."""
    if not hasattr(answer, "__aiter__"):
        answer = await answer
    if not hasattr(answer, "__aiter__"):
        for item in answer:
            await sink.put_async(item, loop)
        return
    iterator = answer.__aiter__()
    try:
        async for item in iterator:
            await sink.put_async(item, loop)
    except BaseException:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            try:
                await close()
            except Exception as error:
                errors.log("an async generator failed while it was being closed", error)
        raise
