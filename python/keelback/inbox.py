"""What comes for the call that has the worker alone, while its code runs: outcomes of its nested calls, and credit.

All of that comes on one socket, and several may wait for it: the main thread, other threads of user code, coroutines
of event loops. So one thread reads for all, the leader: the first that waits. When it has what it waits for, another
one follows. While no thread waits, the loops that have waiting coroutines watch the socket. A thread goes before a
loop, because what blocks a loop may be just that thread.

When the call is over, nobody else may read: the next frame is the main thread's (Inbox.end).
"""

import os
from typing import Any, Callable, Optional

from keelback import calls, marks, native, nested, wire
from keelback.channel import Channel, SupervisorGone
from keelback.interrupts import Interrupts
from keelback.waiters import LoopWaiter, ThreadWaiter

_CREDIT = 0  # in the place of a request's number: the call waits for credit


class Inbox:
    """Of a worker. Any thread of the running call, where nothing else is said.

    `main` is the main thread. `will_end` sees to it that end() is called after the call that runs. `main_loop` is the
    worker's loop, if there is one already.
    """

    def __init__(self, channel: Channel, words: "memoryview", interrupts: Interrupts, main: int,
                 will_end: Callable[[], None], main_loop: Callable[[], Any]) -> None:
        self._channel = channel
        self._words = words
        self._interrupts = interrupts
        self._will_end = will_end
        self._main_loop = main_loop
        self._main = main
        # Guarded by channel.sending: after the last frame of a call there is none of it.
        self._parent: Any = None  # the call that may call out
        self._over = 0  # the last call that may not any more
        self._waiting: dict[int, Any] = {}  # by request; whoever takes a waiter out settles it
        # Guarded by _lock, which is taken after channel.sending.
        self._lock = native.allocate_lock()
        self._leader: Optional[ThreadWaiter] = None
        self._left: Any = None  # a lock that the leader releases when it has left the socket
        self._loops: dict[Any, bool] = {}  # in which coroutines wait, and whether they watch the socket
        self._credit = 0
        self._credit_has_come = False  # or only a wake-up
        self._credit_of = 0
        self._failure: Optional[BaseException] = None  # why nothing comes any more
        self._look = native.poll()
        self._look.register(channel.fd, native.POLLIN)
        # What leaders wait with; there is one at a time. The main thread's call cannot end while it waits; another
        # thread is woken by the pipe.
        self._wait_on_main = native.poll()
        self._wait_on_main.register(channel.fd, native.POLLIN)
        self._wait_elsewhere: Any = None
        self._pipe = (-1, -1)

    # ---- nested calls

    def ask(self, about: Any, frame: bytearray) -> bytes:
        """Sends a request; returns its OUTCOME. Blocks; on the main thread it may raise the call's KeyboardInterrupt.
        Raises RuntimeError if the call ends."""
        main = native.get_ident() == self._main
        waiter = ThreadWaiter()
        if main:
            self._interrupts.mask()
        try:
            number = self._send(about, frame, waiter)
            try:
                self._wait(waiter, main)
            except BaseException:
                self._withdraw(about, number)
                raise
        finally:
            if main:
                self._interrupts.unmask()
        return waiter.value()

    async def ask_async(self, about: Any, frame: bytearray) -> bytes:
        """The same with the loop running. If the task is cancelled, so is the request."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        waiter = LoopWaiter(loop)
        number = self._undisturbed(self._send, about, frame, waiter)
        self._undisturbed(self._watch, loop)
        try:
            await waiter.future
        except BaseException:
            self._undisturbed(self._withdraw, about, number)
            raise
        return waiter.value()

    def _send(self, about: Any, frame: bytearray, waiter: Any) -> int:
        """Raises RuntimeError if the call is over, SupervisorGone."""
        with self._channel.sending:
            if self._parent is not about:
                self._begin(about)
            if self._failure is not None:
                raise self._failure
            number = self._channel.next_request()
            self._waiting[number] = waiter
            parent = about.id if about.marks_at == 0 else about.parent(self._words)
            nested.stamp(frame, nested.STAMP_AT, parent, number)
            self._channel.put(frame)
        return number

    def _begin(self, about: Any) -> None:
        # In this order: the main thread first notes that the call is over, and then looks whether it is to end us.
        self._will_end()
        if calls.here.call is not about or self._over == about.id:
            raise nested.has_ended()
        self._parent = about

    def _withdraw(self, about: Any, number: int) -> None:
        """Nobody waits for this outcome any more."""
        with self._channel.sending:
            with self._lock:
                waiter = self._waiting.pop(number, None)
                if self._leader is None:
                    self._find_leader()  # it may have been this one
            if waiter is not None and self._parent is about:
                try:
                    parent = about.id if about.marks_at == 0 else about.parent(self._words)
                    self._channel.put(nested.cancel(parent, number))
                except SupervisorGone:
                    pass  # who reads hears of it, too

    # ---- credit

    def wait_for_credit(self, call: int) -> int:
        """Main thread: the credit that has come for the items of the call that runs. Blocks until some comes; 0: it is
        to look at its cancel mark. May raise the call's KeyboardInterrupt."""
        waiter = ThreadWaiter()
        self._interrupts.mask()
        try:
            credit = self._await_credit(call, waiter)
            if credit is None:
                try:
                    self._wait(waiter, True)
                finally:
                    credit = self._credit_at_last(call)
        finally:
            self._interrupts.unmask()
        waiter.value()
        return credit

    async def wait_for_credit_async(self, call: int) -> int:
        """The same with the loop running."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        waiter = LoopWaiter(loop)
        credit = self._await_credit(call, waiter)
        if credit is None:
            self._watch(loop)
            try:
                await waiter.future
            finally:
                credit = self._credit_at_last(call)
        waiter.value()
        return credit

    def _await_credit(self, call: int, waiter: Any) -> Optional[int]:
        """What has come already; None: `waiter` waits from now on."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            pending = self._channel.pending
            if pending:  # behind the call, in its packet
                others = [frame for frame in pending if not self._take(frame)]
                pending.clear()
                pending.extend(others)
            if self._credit_of == call and self._credit_has_come:
                return self._take_credit(call)
            self._waiting[_CREDIT] = waiter
        return None

    def _credit_at_last(self, call: int) -> int:
        with self._lock:
            self._waiting.pop(_CREDIT, None)
            if self._leader is None:
                self._find_leader()
            return self._take_credit(call)

    def _take_credit(self, call: int) -> int:
        credit = self._credit if self._credit_of == call else 0
        self._credit, self._credit_has_come = 0, False
        return credit

    # ---- who reads

    def _wait(self, waiter: ThreadWaiter, main: bool) -> None:
        """Until the waiter is settled. Where `main`, interrupts are masked, and come while it waits."""
        while not waiter.done:
            with self._lock:
                if waiter.done:
                    return
                if self._failure is not None:
                    raise self._failure
                if self._leader is None:
                    if not main and self._wait_elsewhere is None:
                        self._prepare_elsewhere()
                    self._leader = waiter
                elif waiter.lock is None:
                    waiter.will_sleep()
            if self._leader is waiter:
                try:
                    self._lead(waiter, main)
                finally:
                    if self._leader is waiter:
                        with self._lock:
                            self._hand_over()
            elif main:
                self._disturbed(waiter.lock.acquire)
            else:
                waiter.lock.acquire()

    def _lead(self, waiter: ThreadWaiter, main: bool) -> None:
        """Reads for all, until `waiter` is settled or the call is over."""
        try:
            while not waiter.done:
                if main:
                    self._interrupts.unmask()
                    try:
                        self._wait_on_main.poll()  # an interrupt here loses nothing
                    finally:
                        self._interrupts.mask()
                elif any(fd == self._pipe[0] for fd, _ in self._wait_elsewhere.poll()):
                    return
                frames = self._receive()
                with self._lock:
                    self._sort(frames)
                    if waiter.done:
                        self._hand_over()
        except (SupervisorGone, wire.ProtocolError, OSError) as error:
            self._fail(error)

    def _prepare_elsewhere(self) -> None:
        """Under _lock."""
        self._pipe = os.pipe()
        self._wait_elsewhere = native.poll()
        self._wait_elsewhere.register(self._channel.fd, native.POLLIN)
        self._wait_elsewhere.register(self._pipe[0], native.POLLIN)

    def _hand_over(self) -> None:
        """The leader leaves the socket. Under _lock."""
        self._leader = None
        if self._left is not None:
            self._left.release()
            self._left = None
        if self._waiting:
            self._find_leader()

    def _find_leader(self) -> None:
        """Wakes a thread that waits, or else the loops. Under _lock."""
        for waiter in list(self._waiting.values()):  # others begin to wait meanwhile
            if waiter.lock is not None:
                waiter.wake()
                return
        for loop, watches in list(self._loops.items()):
            if not watches:
                try:
                    loop.call_soon_threadsafe(self._watch_again, loop)
                except RuntimeError:  # it is closed
                    del self._loops[loop]

    def _watch(self, loop: Any) -> None:
        """On the loop's thread: it has a coroutine that waits."""
        with self._lock:
            if not self._loops.get(loop):
                self._loops[loop] = self._leader is None
                if self._loops[loop]:
                    loop.add_reader(self._channel.fd, self._on_readable, loop)

    def _watch_again(self, loop: Any) -> None:
        if loop in self._loops:
            self._undisturbed(self._watch, loop)

    def _on_readable(self, loop: Any) -> None:
        """On the loop's thread."""
        self._undisturbed(self._read_on_loop, loop)

    def _read_on_loop(self, loop: Any) -> None:
        try:
            with self._lock:
                if self._leader is not None or loop not in self._loops:
                    loop.remove_reader(self._channel.fd)
                    if loop in self._loops:
                        self._loops[loop] = False
                elif self._look.poll(0):  # no other loop was faster
                    self._sort(self._receive())
        except (SupervisorGone, wire.ProtocolError, OSError) as error:
            loop.remove_reader(self._channel.fd)
            self._fail(error)

    def _receive(self) -> list[bytes]:
        packet = self._channel.read()
        if len(packet) >= wire.HEADER_SIZE and wire.HEADER.unpack_from(packet)[0] == len(packet):
            return [packet]
        return self._channel.frames(packet)

    def _disturbed(self, wait: Callable[[], Any]) -> Any:
        self._interrupts.unmask()
        try:
            return wait()
        finally:
            self._interrupts.mask()

    def _undisturbed(self, work: Callable[..., Any], *args: Any) -> Any:
        if native.get_ident() != self._main:
            return work(*args)
        self._interrupts.mask()
        try:
            return work(*args)
        finally:
            self._interrupts.unmask()

    # ---- what comes. Under _lock

    def _sort(self, frames: list[bytes]) -> None:
        """Frames that are for nobody here wait until the call is over."""
        for frame in frames:
            if not self._take(frame):
                self._channel.pending.append(frame)
                if len(self._channel.pending) > wire.PENDING_MAX:
                    raise wire.ProtocolError(f"more than {wire.PENDING_MAX} frames behind a call")

    def _take(self, frame: bytes) -> bool:
        kind = frame[4]
        if kind == wire.OUTCOME:
            waiter = self._waiting.pop(nested.number_of(frame), None)
            if waiter is not None:
                waiter.settle(frame)
            return True
        if kind != wire.CREDIT:
            return False
        call = wire.HEADER.unpack_from(frame)[4]
        if call == self._words[marks.STARTED] and len(frame) == wire.HEADER_SIZE + wire.U32.size:
            if self._credit_of != call:
                self._credit_of, self._credit = call, 0
            self._credit += wire.U32.unpack_from(frame, wire.HEADER_SIZE)[0]
            self._credit_has_come = True
            waiter = self._waiting.pop(_CREDIT, None)
            if waiter is not None:
                waiter.settle(frame)
        return True

    def _settle_all(self, failure: BaseException) -> None:
        while self._waiting:
            self._waiting.popitem()[1].settle(b"", failure)

    def _fail(self, failure: BaseException) -> None:
        with self._lock:
            self._failure = failure
            self._settle_all(failure)

    # ---- the end of a call

    def end(self) -> None:
        """Main thread: the code of the call is over. What it has left neither reads nor sends when this returns. Raises
        what has ended the socket."""
        self._undisturbed(self._end)
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        left: Any = None
        with self._channel.sending:
            self._parent = None
            self._over = self._words[marks.STARTED]
            with self._lock:
                self._settle_all(nested.has_ended())
                loops, self._loops = self._loops, {}
                if self._leader is not None:
                    self._left = left = native.allocate_lock()
                    left.acquire()
                    native.write(self._pipe[1], b"\0")
        if left is not None:
            left.acquire()
            native.read(self._pipe[0], 1)
        loop = self._main_loop()
        if loop in loops:  # another one stops watching when it sees the next frame
            try:
                loop.remove_reader(self._channel.fd)
            except RuntimeError:  # it is closed
                pass

