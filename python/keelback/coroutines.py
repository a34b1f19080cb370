"""The worker's asyncio loop: one for its whole life, made when the first coroutine needs it."""

import sys
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, Optional

from keelback import contexts, errors, marks, standard
from keelback.interrupts import Interrupts

_ENDING_S = 1.0  # how long tasks have to end with their worker
_SHOWN = 8


class Runner:
    """Runs coroutines to their end on the main thread; only cancel() is for another thread."""

    def __init__(self, words: "memoryview", interrupts: Interrupts) -> None:
        self._words = words
        self._interrupts = interrupts
        self._loop: Any = None
        self._running: Optional[tuple[int, Any]] = None
        self._cancel_sent = 0
        self._adopted: set[Any] = set()
        self._for_good: set[Any] = set()

    @property
    def loop(self) -> Any:
        if self._loop is None:
            asyncio = standard.load("asyncio")
            # In an empty context: a loop keeps the one that it is made in.
            self._loop = Context().run(asyncio.new_event_loop)
        return self._loop

    @property
    def made(self) -> Any:
        """The loop if there is one already, else None. Any thread."""
        return self._loop

    def run(self, call: int, coroutine: Coroutine[Any, Any, Any], adopts: bool = False) -> Any:
        """The coroutine's result. A call is cancelled once, even if several cancels come.

        `adopts`: context variables that the coroutine sets are set in the caller's context too.
        """
        loop = self.loop
        outcome: list[Any] = []  # the result, the error and the context at the end
        self._interrupts.asynchronous = True
        try:
            task = loop.create_task(into(outcome, coroutine))
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

    def adopt_tasks(self, for_good: bool = False) -> None:
        """Lets the tasks that exist now stay; no later call is blamed for them.

        `for_good`: they serve the worker as long as it lives.
        """
        self._adopted = set(self._all_tasks())
        if for_good:
            self._for_good = self._adopted

    def goes_on(self) -> bool:
        """True if the loop has something to do, or to wait for. Call it after tasks were adopted."""
        loop = self._loop
        if self._adopted:
            return True
        if loop is None or loop.is_closed():
            return False
        try:
            # A loop of asyncio has one descriptor of its own.
            if loop._ready or len(loop._selector.get_map()) > 1:
                return True
            return bool(loop._scheduled) and not all(timer.cancelled() for timer in loop._scheduled)
        except (AttributeError, TypeError):  # a loop that does not tell
            return True

    def run_until_readable(self, fd: int) -> None:
        loop = self._loop
        loop.add_reader(fd, loop.stop)
        try:
            while True:
                try:
                    loop.run_forever()
                    return
                except BaseException as error:  # a SystemExit of a task, for one
                    errors.log("a task that runs between calls failed", error)
        finally:
            loop.remove_reader(fd)

    def end(self) -> None:
        """Before the worker ends: cancels what is left, as asyncio.run() does, and gives it a moment.

        What calls have left is named: nobody does that work any more.
        """
        tasks = [task for task in self._all_tasks() if not task.done()]
        if not tasks:
            return
        lost = [repr(task.get_name()) for task in tasks if task not in self._for_good]
        if lost:
            more = ", …" if len(lost) > _SHOWN else ""
            shown = ", ".join(lost[:_SHOWN]) + more
            errors.log(f"tasks that calls left are cancelled with their worker: {shown}")
        for task in tasks:
            task.cancel()
        try:
            asyncio = sys.modules["asyncio"]
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=_ENDING_S))
        except BaseException as error:
            errors.log("a task failed while its worker ended", error)

    def tasks_left(self) -> list[Any]:
        """Tasks that were not adopted, after those that only have to end had their turn. Adopts them."""
        now = self._all_tasks()
        left = [task for task in now if task not in self._adopted]
        for _ in range(3):
            if not left:
                break
            try:
                self._loop.run_until_complete(_nothing())
            except BaseException as error:  # a SystemExit of such a task, for one
                errors.log("a task that a call left behind failed", error)
            now = self._all_tasks()
            left = [task for task in now if task not in self._adopted]
        self._adopted = set(now)
        return left

    def _cancel(self, call: int) -> None:
        running = self._running
        if running is not None and running[0] == call and self._cancel_sent != call:
            self._cancel_sent = call
            running[1].cancel()

    def _all_tasks(self) -> list[Any]:
        if self._loop is None:
            return []
        return list(sys.modules["asyncio"].all_tasks(self._loop))


async def into(outcome: list[Any], awaitable: Any) -> None:
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
