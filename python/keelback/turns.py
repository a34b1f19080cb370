"""What the marks say of the event loop while shared calls run: since when its turn lasts, and whose code it runs.

The supervisor reads these words whenever it likes: while a call keeps the loop from turning, while it holds the GIL,
and after it has crashed the process (docs/protocol.md, Marks). They cost no system call.
"""

import sys
import types
from collections.abc import Coroutine, Generator
from time import monotonic_ns
from typing import Any, Optional

from keelback import calls, marks, native

_TURN, _THREAD = marks.TURN, marks.THREAD


class Turns:
    """Of a worker's loop. Main thread, where nothing else is said."""

    def __init__(self, words: "memoryview", loop: Any) -> None:
        self._words = words
        self.thread = native.get_ident()
        # A loop of asyncio waits in its selector. Of another one (uvloop) only the steps of calls can be seen.
        self._selector: Any = getattr(loop, "_selector", None)
        self._watched = False
        words[marks.LOOP_THREAD] = self.thread

    def watch(self) -> None:
        """From now on TURN says when the present turn began, or that the loop waits."""
        if self._watched or self._selector is None:
            return
        self._watched = True
        words, wait = self._words, self._selector.select

        def select(timeout: Optional[float] = None) -> Any:
            words[_TURN] = 0
            ready = wait(timeout)
            words[_TURN] = monotonic_ns()
            return ready

        self._selector.select = select

    def ignore(self) -> None:
        """No shared call runs any more. Exclusive calls, which have the same loop, pay for nothing of this."""
        if self._watched:
            self._watched = False
            del self._selector.select  # its class has its own
        self._words[_TURN] = 0

    @types.coroutine
    def steps(self, call: Any, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The coroutine's result. While one of its steps runs, the row of its call names the loop's thread."""
        words, at, thread = self._words, call.marks_at + _THREAD, self.thread
        steps: Any = coroutine if self._selector is not None else _StepsAsTurns(words, coroutine)
        send = steps.send
        given: Any = None
        error: Optional[BaseException] = None
        try:
            while True:
                words[at] = thread
                awaited = send(given) if error is None else steps.throw(error)
                words[at] = 0
                error = None  # it is not kept while the coroutine waits
                try:
                    given = yield awaited
                except BaseException as thrown:
                    # It is thrown into the coroutine above, where it must not seem to be handled already, or to come
                    # from here.
                    trace = thrown.__traceback__
                    error = thrown.with_traceback(trace.tb_next if trace is not None else None)
                    trace = None
        except StopIteration as end:
            return end.value
        finally:
            words[at] = 0
            error = None  # its traceback holds this frame

    def call(self) -> int:
        """Whose code the loop's thread runs now, a task or a callback that the call has made included, also after its
        end; 0: nobody's, or it cannot be seen. Any other thread."""
        if not native.has_gil():  # its frame may end while it is looked at
            return 0
        run = sys.modules["asyncio"].events.Handle._run.__code__
        frame = sys._current_frames().get(self.thread)
        while frame is not None and frame.f_code is not run:
            frame = frame.f_back
        if frame is None:
            return 0
        context = getattr(frame.f_locals.get("self"), "_context", None)
        call = context.get(calls.current) if context is not None else None
        return call.id if call is not None and call.marks_at else 0


class _StepsAsTurns:
    """The steps of a coroutine on a loop that does not say when it turns: each counts as a turn."""

    __slots__ = ("_words", "_coroutine")

    def __init__(self, words: "memoryview", coroutine: Coroutine[Any, Any, Any]) -> None:
        self._words = words
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        return self._step(self._coroutine.send, value)

    def throw(self, error: BaseException) -> Any:
        return self._step(self._coroutine.throw, error)

    def _step(self, step: Any, value: Any) -> Any:
        self._words[_TURN] = monotonic_ns()
        try:
            return step(value)
        finally:
            self._words[_TURN] = 0
