"""Exceptions as data: {type, message, traceback}, with the frames of this package left out."""

import errno
import json
import os
import sys
import traceback
from typing import Any, Optional

from keelback import sources

TEXT_MAX = 32 * 1024  # characters of a message or a traceback; the middle of a longer one is cut
_CHAIN_MAX = 8  # exceptions that led to one another
_APPS = os.path.join(sources.OURS, "apps") + os.sep


def is_ours(filename: str) -> bool:
    """True for the code of this package, its shipped applications excepted."""
    return filename.startswith(("<frozen importlib", "<frozen runpy")) or (
        filename.startswith(sources.OURS) and not filename.startswith(_APPS))


def describe(error: BaseException) -> dict[str, str]:
    return {"type": type_of(error), "message": cut(message_of(error)), "traceback": cut(traceback_of(error))}


def describe_start(error: BaseException) -> dict[str, str]:
    """Of a start that failed. Its message, which is all that a line of a log has, names the place."""
    described = describe(error)
    message, place = described["message"], place_of(error)
    if isinstance(error, SyntaxError) and error.msg:
        message = error.msg  # without the name of the file, which the place has
    if place:
        message += f", at {place}"
    if _is_port_taken(error):
        message += (
            ". Each worker imports the application, and only one process can have a port: open it in "
            "@keelback.worker_setup under a number of the worker's own "
            '(int(os.environ["KEELBACK_WORKER"].partition(".")[0])), or in a program of its own '
            "(docs/start-modes.md)")
    return {**described, "message": cut(message)}


def place_of(error: BaseException) -> str:
    """FILE:LINE of the application's code that led to the error, or else of an installed module's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    own = installed = ""
    at = error.__traceback__
    while at is not None:
        file = at.tb_frame.f_code.co_filename
        if not file.startswith("<") and not is_ours(file):
            place = f"{file}:{at.tb_lineno}"
            own = place if sources.is_users(file) else own
            installed = place if sources.is_installed(file) else installed
        at = at.tb_next
    return own or installed


def _is_port_taken(error: Optional[BaseException]) -> bool:
    for _ in range(_CHAIN_MAX):
        if error is None or (isinstance(error, OSError) and error.errno == errno.EADDRINUSE):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def type_of(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"


def message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # an exception's own __str__ may do anything
        return f"<str() of it raised {type(broken).__name__}>"


def traceback_of(error: BaseException) -> str:
    try:
        report = traceback.TracebackException(type(error), error, error.__traceback__)
        _trim(report, set())
        return "".join(report.format())
    except BaseException as broken:
        return f"{type_of(error)}: {message_of(error)}\n<the traceback could not be written: {type(broken).__name__}>\n"


def _trim(report: Any, done: set[int]) -> None:
    while report is not None and id(report) not in done:
        done.add(id(report))
        kept = [entry for entry in report.stack if not is_ours(entry.filename)]
        report.stack[:] = kept
        for inner in getattr(report, "exceptions", None) or ():
            _trim(inner, done)
        if report.__cause__ is not None:
            _trim(report.__cause__, done)
        report = report.__context__


def cut(text: str, most: int = TEXT_MAX) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def as_json(error: dict[str, Any]) -> bytes:
    """Readable by any JSON parser: a lone surrogate, which strict ones refuse, is written out as its escape."""
    return json.dumps(_without_surrogates(error)).encode()


def _without_surrogates(text: Any) -> Any:
    """Of a text, or of all texts in lists and objects."""
    if isinstance(text, dict):
        return {key: _without_surrogates(each) for key, each in text.items()}
    if isinstance(text, list):
        return list(map(_without_surrogates, text))
    if not isinstance(text, str):
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()


def log(what: str, error: Optional[BaseException] = None) -> None:
    """A line (and a traceback) in the worker's log. Never raises: the log is no reason to fail."""
    try:
        text = f"keelback: {what}\n" + (cut(traceback_of(error)) if error is not None else "")
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        pass
