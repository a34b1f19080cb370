"""Finds threads and tasks that a call leaves behind. They would do old work during the next call.

A call that ended by itself may leave daemon threads (services: telemetry, progress bars) and pool threads that
wait for work; they are adopted. It may not leave other threads or asyncio tasks. After a call that was told to
stop, no new thread or task of any kind may run. If something is left behind, the reply is UNCLEAN, once: if the
supervisor keeps the worker all the same, the next call is not blamed for it.
"""

import queue
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Any, Optional

from keelback import native

_SETTLE_S = 0.02  # a pool thread that has delivered its result is on its way back to the queue
_WAIT, _GET = threading.Condition.wait.__code__, queue.Queue.get.__code__


class Leftovers:
    """Main thread only. `threads` is compared with `active` after each call: that is all it costs."""

    def __init__(self) -> None:
        self.active = threading._active  # type: ignore[attr-defined]  # the dict itself: never rebound
        self.threads = dict(self.active)
        self._busy = {thread for thread in self.threads.values() if not _is_idle(thread)}

    def adopt(self) -> None:
        """Lets the threads that exist now stay: shared calls have run, and nobody knows whose they are."""
        self.threads = dict(self.active)
        frames = sys._current_frames() if native.has_gil() else {}
        self._busy = {thread for thread in self.threads.values() if not _is_idle(thread, frames)}

    def will_look(self) -> None:
        """Any thread of a call: there is something to be done after this call, so the two differ then."""
        self.threads = {**self.threads, 0: threading.main_thread()}

    def after_call(self, stopped: bool, runner: Any) -> list[str]:
        """Names what the call left behind; adopts what may stay. `stopped`: it was cancelled or interrupted."""
        known = set(self.threads.values())
        suspects = [thread for thread in list(self.active.values()) if thread not in known
                    and (stopped or not thread.daemon)]
        if stopped:
            suspects += [thread for thread in known if thread not in self._busy]
        left = [f"thread {thread.name!r}" for thread in _still_busy(suspects)]
        left += [f"task {task.get_name()!r}" for task in runner.tasks_left()]
        self.threads = dict(self.active)
        return left


def _still_busy(suspects: list[threading.Thread]) -> list[threading.Thread]:
    me = threading.current_thread()
    busy = [thread for thread in suspects if thread is not me]
    end = time.monotonic() + _SETTLE_S
    while True:
        busy = [thread for thread in busy if thread.is_alive() and not _is_idle(thread)]
        if not busy or time.monotonic() >= end:
            return busy
        time.sleep(0.0005)  # not the native one: a green thread, too, is to have its turn


def _is_idle(thread: threading.Thread, frames: Optional[dict[int, FrameType]] = None) -> bool:
    """True for a pool's thread that waits in its queue. SimpleQueue.get is C, so the frame is its caller's."""
    if not native.has_gil():
        return _waits_in_executor(thread)
    frame = (sys._current_frames() if frames is None else frames).get(thread.ident or 0)
    if frame is None:
        return False
    executor = sys.modules.get("concurrent.futures.thread")
    if frame.f_code is getattr(getattr(executor, "_worker", None), "__code__", None):
        waiting = getattr(executor, "_threads_queues", {}).get(thread)
        return frame.f_locals.get("work_item") is None and (waiting is None or waiting.qsize() == 0)
    caller = frame.f_back
    return frame.f_code is _WAIT and caller is not None and caller.f_code is _GET


def _waits_in_executor(thread: threading.Thread) -> bool:
    """The same without the GIL, where no other thread's frame may be looked at: it may end meanwhile. True if all
    threads of the thread's executor wait; other pools are not known."""
    arguments = getattr(thread, "_args", None) or ()
    executor: Any = arguments[0]() if arguments and isinstance(arguments[0], weakref.ref) else None
    waiting = getattr(getattr(executor, "_idle_semaphore", None), "_value", -1)
    return bool(waiting >= 0 and waiting >= len(executor._threads))
