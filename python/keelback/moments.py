"""Reads times, decimals and identifiers from text. What a function does not accept is a ValueError.

Each function reads the same on every version of Python. This module is imported when an application
has such types: not every worker pays for `datetime`.
"""

import re
import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Optional

from keelback.texts import FLOAT

_DATE = r"(\d{4})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?([Zz]|[+-]\d\d(?::?\d\d)?)?"
_DATE_ONLY = re.compile(_DATE, re.ASCII)
_TIME_ONLY = re.compile(_TIME, re.ASCII)
_DATETIME = re.compile(f"{_DATE}[Tt ]{_TIME}", re.ASCII)
_DURATION = re.compile(r"([+-]?)P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{1,9}))?S)?)?",
                       re.ASCII)



def decimal(text: str) -> Any:
    if not FLOAT.fullmatch(text):
        raise ValueError("it is no decimal number")
    module = sys.modules["decimal"]  # its type is in an annotation
    try:
        return module.Decimal(text)
    except module.InvalidOperation:
        raise ValueError("its exponent is too large") from None


def uuid(text: str) -> Any:
    return sys.modules["uuid"].UUID(text)


def day(text: str) -> date:
    """2026-11-30"""
    found = _matched(_DATE_ONLY, text, "a date is YYYY-MM-DD")
    return date(int(found[1]), int(found[2]), int(found[3]))


def clock(text: str) -> time:
    """19:30, 19:30:05.25, 19:30:05Z, 19:30:05+01:00"""
    found = _matched(_TIME_ONLY, text, "a time is HH:MM:SS")
    hour, minute, second, fraction, zone = found.groups()
    return time(int(hour), int(minute), int(second or 0), _micro(fraction), _zone(zone))


def moment(text: str) -> datetime:
    """A day and a time, with T or a space between them."""
    found = _matched(_DATETIME, text, "a datetime is YYYY-MM-DDTHH:MM:SS")
    year, month, of_month, hour, minute, second, fraction, zone = found.groups()
    return datetime(int(year), int(month), int(of_month), int(hour), int(minute), int(second or 0), _micro(fraction),
                    _zone(zone))


def duration(text: str) -> timedelta:
    """ISO 8601 without years and months: P1DT2H, -PT0.5S"""
    found = _DURATION.fullmatch(text)
    if not found or text.endswith(("P", "T")):
        raise ValueError("a duration is P1DT2H3M4.5S")
    sign, *parts, fraction = found.groups()
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in parts)
    try:
        value = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds,
                          microseconds=_micro(fraction))
    except OverflowError:
        raise ValueError("it is too long") from None
    return -value if sign == "-" else value


def _matched(pattern: "re.Pattern[str]", text: str, form: str) -> "re.Match[str]":
    found = pattern.fullmatch(text)
    if not found:
        raise ValueError(form)
    return found


def _micro(fraction: Optional[str]) -> int:
    return int(fraction[:6].ljust(6, "0")) if fraction else 0


def _zone(text: Optional[str]) -> Optional[tzinfo]:
    if not text:
        return None
    if text in "Zz":
        return timezone.utc
    digits = text[1:].replace(":", "")
    minutes = int(digits[2:] or 0)
    if minutes > 59:
        raise ValueError("a zone is Z or +HH:MM")
    offset = timedelta(hours=int(digits[:2]), minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)
