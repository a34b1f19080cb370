"""The worker's asyncio loop: one for its whole life, made when the first coroutine needs it."""

import sys
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, Optional

from keelback import contexts, errors, marks, standard
from keelback.interrupts import Interrupts


class Runner:
    """Runs coroutines to their end on the main thread; only cancel() is for another thread."""

    def __init__(self, words: "memoryview", interrupts: Interrupts) -> None:
        self._words = words
        self._interrupts = interrupts
        self._loop: Any = None
        self._running: Optional[tuple[int, Any]] = None
        self._cancel_sent = 0
        self._adopted: set[Any] = set()

    @property
    def loop(self) -> Any:
        if self._loop is None:
            asyncio = standard.load("asyncio")
            # In an empty context: a loop keeps the one that it is made in.
            self._loop = Context().run(asyncio.new_event_loop)
        return self._loop

    def run(self, call: int, coroutine: Coroutine[Any, Any, Any], adopts: bool = False) -> Any:
        """The coroutine's result. A cancelled call is cancelled once, however often it is told.

        `adopts`: context variables that the coroutine sets are set in the caller's context too.
        """
        loop = self.loop
        outcome: list[Any] = []  # the result, the error and the context at the end
        self._interrupts.asynchronous = True
        try:
            task = loop.create_task(_into(outcome, coroutine))
            self._running = (call, task)
            if call and self._words[marks.CANCEL] == call:  # told before there was a task to tell
                self._cancel(call)
            loop.run_until_complete(task)
            if outcome[1] is not None:
                raise outcome[1]
            if adopts:
                contexts.adopt(outcome[2])
            return outcome[0]
        finally:
            self._running = None
            outcome.clear()  # a traceback holds this frame; what the call used is to be freed at its end
            self._interrupts.asynchronous = False
            if hasattr(coroutine, "close"):
                coroutine.close()  # it may have been cancelled before its first step

    def cancel(self, call: int) -> None:
        """Any thread: cancels the call's task if it runs."""
        running = self._running
        if running is not None and running[0] == call:
            self._loop.call_soon_threadsafe(self._cancel, call)

    def adopt_tasks(self) -> None:
        """The tasks that exist now may stay, and no later call is blamed for them."""
        self._adopted = set(self._all_tasks())

    def tasks_left(self) -> list[Any]:
        """Tasks that are there and were not adopted, after those that only have to end had their turn."""
        left = self._new_tasks()
        for _ in range(3):
            if not left:
                break
            try:
                self._loop.run_until_complete(_nothing())
            except BaseException as error:  # a SystemExit of such a task, for one
                errors.log("a task that a call left behind failed", error)
            left = self._new_tasks()
        return left

    def _cancel(self, call: int) -> None:
        running = self._running
        if running is not None and running[0] == call and self._cancel_sent != call:
            self._cancel_sent = call
            running[1].cancel()

    def _new_tasks(self) -> list[Any]:
        return [task for task in self._all_tasks() if task not in self._adopted]

    def _all_tasks(self) -> list[Any]:
        if self._loop is None:
            return []
        return list(sys.modules["asyncio"].all_tasks(self._loop))


async def _into(outcome: list[Any], awaitable: Any) -> None:
    """A failed task is held by its own exception, some asyncios hold the last task, and SystemExit ends the loop."""
    try:
        outcome += (await awaitable, None, copy_context())
    except BaseException as error:
        outcome += (None, error, None)


async def _nothing() -> None:
    pass


def is_cancelled_error(error: BaseException) -> bool:
    module = sys.modules.get("asyncio")
    return module is not None and isinstance(error, module.CancelledError)
