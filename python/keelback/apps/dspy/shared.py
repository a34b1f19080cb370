"""One JSON value that all workers of a pool share, workers that do not exist yet included.

It lives in a memfd: nothing on a disk, gone with the last process that holds it. The supervisor gives
the pool one, named by KEELBACK_SHARED_FD, which outlives zygotes and reaches workers started by exec;
without it the zygote makes its own before it forks, and the value is lost when that zygote is.

    offset 0              version: u64, native; 0 is "never written"; its bank is version % 2
    offset 64 and 32 KiB  the banks: version:u64 length:u32 crc32:u32 bytes

A writer holds a POSIX record lock, which the kernel takes from it when it dies, fills the bank that
is not current, and makes it current by storing the version: one aligned word. A writer killed half-way
has changed nothing that anybody reads; a reader that is overtaken sees a wrong version or checksum, and
looks again.
"""

import asyncio
import errno
import fcntl
import json
import mmap
import os
import stat
import struct
import time
import zlib

SIZE = 64 * 1024
_BANK = struct.Struct("=QII")
_BANK_AT = (64, SIZE // 2)
VALUE_MAX = SIZE // 2 - 64 - _BANK.size
_LOCK_WAIT_S = 2.0
_LOCK_AGAIN_S = 0.002
_READ_TRIES = 1000


class SharedError(RuntimeError):
    """The value could not be read or written; nothing changed."""


class SharedValue:
    """Make it before forking, use it after. One thread at a time per process: the lock is the process's."""

    def __init__(self):
        given = os.environ.get("KEELBACK_SHARED_FD")
        if given:
            self._fd = _checked(given)
        else:
            self._fd = os.memfd_create("keelback-shared", os.MFD_CLOEXEC)
            os.ftruncate(self._fd, SIZE)
        self._given, self._maker = bool(given), os.getpid()
        self._map = mmap.mmap(self._fd, SIZE)  # MAP_SHARED: forked workers see one memory
        self._words = memoryview(self._map).cast("Q")

    @property
    def reach(self):
        """Who sees a write: "pool" (all workers, always), "zygote" (all workers until that zygote is
        replaced) or "worker" (this one only: started by exec, without a memfd of the supervisor's)."""
        if self._given:
            return "pool"
        return "worker" if os.getpid() == self._maker else "zygote"

    @property
    def version(self):
        """Number of the newest value; 0: none. Costs a load, so ask before every use."""
        return self._words[0]

    def read(self):
        """(version, value); (0, None) if nothing was written yet. Raises SharedError."""
        for _ in range(_READ_TRIES):
            version = self.version
            if version == 0:
                return 0, None
            value = self._bank(version)
            if value is not None:
                return version, json.loads(value)
        raise SharedError("the shared configuration changed too often to be read, or is damaged")

    def write(self, value):
        """Makes `value` (JSON) current and returns its version. Waits at most 2 s for another writer.
        Raises SharedError, also when the value is longer than VALUE_MAX bytes."""
        data, until = _encoded(value), time.monotonic() + _LOCK_WAIT_S
        while not self._try_lock(until):
            time.sleep(_LOCK_AGAIN_S)
        return self._store(data)

    async def write_async(self, value):
        """The same, while the event loop goes on."""
        data, until = _encoded(value), time.monotonic() + _LOCK_WAIT_S
        while not self._try_lock(until):
            await asyncio.sleep(_LOCK_AGAIN_S)
        return self._store(data)  # without a break: the tasks of this loop would all be let in

    def _store(self, data):
        """Holds the lock; lets it go."""
        try:
            version = self.version + 1
            at = _BANK_AT[version % 2]
            self._map[at + _BANK.size : at + _BANK.size + len(data)] = data
            self._map[at : at + _BANK.size] = _BANK.pack(version, len(data), zlib.crc32(data))
            self._words[0] = version
            return version
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _bank(self, version):
        at = _BANK_AT[version % 2]
        written, length, crc = _BANK.unpack_from(self._map, at)
        if written != version or length > VALUE_MAX:
            return None
        data = self._map[at + _BANK.size : at + _BANK.size + length]
        return data if zlib.crc32(data) == crc else None

    def _try_lock(self, until):
        """False: another process has it. Raises SharedError after `until` (time.monotonic())."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise SharedError(f"cannot lock the shared configuration: {error}") from None
        if time.monotonic() >= until:
            raise SharedError("another worker holds the shared configuration (is it stopped?)")
        return False


def _encoded(value):
    """Raises SharedError."""
    data = json.dumps(value, separators=(",", ":")).encode()
    if len(data) > VALUE_MAX:
        raise SharedError(f"the configuration takes {len(data)} bytes; {VALUE_MAX} is the most")
    return data


def _checked(text):
    """The descriptor that KEELBACK_SHARED_FD names. A wrong one is the supervisor's error: say so."""
    try:
        fd = int(text)
        info = os.fstat(fd)
    except (ValueError, OSError) as error:
        raise SharedError(f"KEELBACK_SHARED_FD={text!r} names no open descriptor ({error})") from None
    if not stat.S_ISREG(info.st_mode) or info.st_size < SIZE:
        raise SharedError(f"KEELBACK_SHARED_FD={text!r} is not a memfd of {SIZE} bytes")
    return fd
