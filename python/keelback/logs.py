"""Standard output and error are the worker's log: whole lines, at once, and never an encoding error."""

import faulthandler
import sys
from typing import Any


def prepare() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")
    if not faulthandler.is_enabled():  # the stack of a segmentation fault belongs into the log as well
        faulthandler.enable(file=2)


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def flush_handlers() -> None:
    """Writes out the log records that handlers of `logging` keep, if the application uses it."""
    logging: Any = sys.modules.get("logging")
    for reference in list(getattr(logging, "_handlerList", ())):
        handler = reference()
        try:
            if handler is not None:
                handler.flush()
        except Exception:
            pass
