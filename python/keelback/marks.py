"""The worker's shared memory: which call's user code runs, what should stop, how the loop turns, and stacks.

Aligned 64-bit words, mapped by the supervisor too; see docs/protocol.md, Marks. They stay true when the
worker dies between two instructions, which no message could.
"""

import faulthandler
import mmap
import os

from keelback import native

STARTED = 0
ENDED = 1
CANCEL = 2
INTERRUPT = 3
RESULT_MAX = 4
SNAPSHOT_MAX = 5
DISPATCHED = 6
ATTACHED_MAX = 8
ORDERED = 9
TURN = 10
LOOP_THREAD = 11
ENDING = 12
ENDING_SIGNAL = 13
# The row of a shared call has words of its own, from row_at(row) on: STARTED, ENDED, CANCEL, and THREAD.
THREAD = 3
ROWS_MAX = 1024
DUMPED = 4608  # the first bytes of the dump: 0 while there is none

SIZE = 192 * 1024
ROWS_AT = 4096
# A dump may be longer than its room, and must not reach the rows. What it may reach is the stack.
DUMP_AT = 36864
_ROW_WORDS = 4
DUMP_SIGNAL = 63
STACK_SIGNAL = 62
RESULT_MAX_DEFAULT = 16 * 1024 * 1024
SNAPSHOT_MAX_DEFAULT = 1024 * 1024
ATTACHED_MAX_DEFAULT = 64 * 1024 * 1024


class Marks:
    """Any thread may read. STARTED and ENDED of page 0 are written by the main thread only, those of a
    row by the thread that runs its call."""

    def __init__(self, fd: int) -> None:
        """Maps the memfd `fd` and takes the descriptor over."""
        # faulthandler writes at the current offset. Where dumps go, this process says: a description of its own has
        # an offset of its own. Where a stack goes, the supervisor says, whose description the given one is, too.
        self._dump_fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self._stack_fd = fd
        self._map = mmap.mmap(fd, SIZE)
        self.words = memoryview(self._map).cast("Q")

    def inode(self) -> int:
        """Names the memfd in /proc/PID/maps of whoever maps it."""
        return os.fstat(self._dump_fd).st_ino

    def register_dump(self) -> None:
        """From now on signal 63 writes all Python threads' stacks into the dump area, also while the GIL is held.
        Without the GIL only that of the thread which gets the signal, the main one: others' would change meanwhile.
        Signal 62 writes the stack of the thread that it comes to, and looks at no other thread.
        """
        os.lseek(self._dump_fd, DUMP_AT, os.SEEK_SET)
        faulthandler.register(DUMP_SIGNAL, file=self._dump_fd, all_threads=native.has_gil(), chain=False)
        faulthandler.register(STACK_SIGNAL, file=self._stack_fd, all_threads=False, chain=False)

    def rewind_dump(self) -> None:
        """Empties the dump area, so that the next dump stands alone."""
        end = os.lseek(self._dump_fd, 0, os.SEEK_CUR)
        os.lseek(self._dump_fd, DUMP_AT, os.SEEK_SET)
        self._map[DUMP_AT:end] = bytes(end - DUMP_AT)

    def running(self) -> int:
        """The call that has the worker alone and whose user code runs now; 0: none."""
        started = self.words[STARTED]
        return 0 if started == self.words[ENDED] else started

    def result_max(self) -> int:
        """Bytes that a result or an item may have; live."""
        return self.words[RESULT_MAX] or RESULT_MAX_DEFAULT

    def snapshot_max(self) -> int:
        """Bytes that a session's snapshot may have; live."""
        return self.words[SNAPSHOT_MAX] or SNAPSHOT_MAX_DEFAULT


def row_at(row: int) -> int:
    """Where the words of a row begin; rows count from 1."""
    return ROWS_AT // 8 + _ROW_WORDS * (row - 1)
