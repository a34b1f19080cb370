"""Reads numbers and truth values from text, as fields of forms and keys of objects have them.

What a function does not accept is a ValueError; nothing is guessed.
"""

import math
import re

_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
# What forms and command lines write.
_TRUTH = {**dict.fromkeys(("true", "1", "on", "yes", "t", "y"), True),
          **dict.fromkeys(("false", "0", "off", "no", "f", "n"), False)}


def integer(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError(f"{text!r:.60} is no int")
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"it has {len(text)} digits, more than Python reads") from None


def number(text: str) -> float:
    if not FLOAT.fullmatch(text):
        raise ValueError(f"{text!r:.60} is no float")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it is {text:.40}, which is beyond a 64-bit float")
    return value


def truth(text: str) -> bool:
    value = _TRUTH.get(text.lower())
    if value is None:
        raise ValueError(f"{text!r:.60} is no bool")
    return value
