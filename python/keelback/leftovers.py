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
from types import FrameType
from typing import Any, Optional

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
        frames = sys._current_frames()
        self._busy = {thread for thread in self.threads.values() if not _is_idle(thread, frames)}

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
    frame = (sys._current_frames() if frames is None else frames).get(thread.ident or 0)
    if frame is None:
        return False
    executor = sys.modules.get("concurrent.futures.thread")
    if frame.f_code is getattr(getattr(executor, "_worker", None), "__code__", None):
        waiting = getattr(executor, "_threads_queues", {}).get(thread)
        return frame.f_locals.get("work_item") is None and (waiting is None or waiting.qsize() == 0)
    caller = frame.f_back
    return frame.f_code is _WAIT and caller is not None and caller.f_code is _GET
