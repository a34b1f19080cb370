"""Keeps this process's marks in order for a supervisor that asks the kernel for it: docs/protocol.md, Marks.

A processor may look at the cancel mark before others see the started mark that it wrote first. The
supervisor forbids that at the one moment when it matters, with membarrier(2), to all processes that have
registered. So a call costs nothing. No function of Python registers; without one a late call that has not
started is said to have no known effect.
"""

import os
from typing import Any, Optional

_NUMBERS = {"x86_64": 324, "aarch64": 283, "riscv64": 283}
_REGISTER_GLOBAL_EXPEDITED = 4


def _find() -> Optional[Any]:
    """The C library's syscall(). Not by the module ctypes, which maps memory that forks would share."""
    try:
        import _ctypes  # type: ignore[import-not-found]

        class Long(_ctypes._SimpleCData):  # type: ignore[misc]
            _type_ = "l"

        class Syscall(_ctypes.CFuncPtr):  # type: ignore[misc]
            _flags_ = _ctypes.FUNCFLAG_CDECL
            _restype_ = Long
            _argtypes_ = (Long, Long, Long)

        return Syscall(_ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall"))
    except Exception:  # Python may have been built without it
        return None


_syscall = _find()
_number = _NUMBERS.get(os.uname().machine)


def register() -> int:
    """1: this process is registered. Programs that it starts are not."""
    if _syscall is None or _number is None:
        return 0
    return int(_syscall(_number, _REGISTER_GLOBAL_EXPEDITED, 0) == 0)
