"""Suggestions for an application that is not at the place that was given."""

import os
import sys
from collections.abc import Iterator

_FOLDERS_MAX = 200  # that are looked into
_SHOWN = 3


def no_file(app: str) -> str:
    text = f"there is no file {app}"
    if not os.path.isabs(app):
        text += f" in {os.getcwd()}"
    found = [f"{app}.py"] if os.path.isfile(f"{app}.py") else list(_below(os.getcwd(), app))
    return f"{text}; perhaps it is {' or '.join(found[:_SHOWN])}" if found else text


def no_module(app: str, missing: str, folder: str) -> str:
    text = (
        f"there is no module {missing!r}; looked in {', '.join(path or '.' for path in sys.path)}"
    )
    names = app.split(".")
    places = [
        os.path.dirname(found)
        for name in (names[0], f"{names[0]}.py")
        for found in _below(folder, name)
    ]
    if not places:
        return text
    return (
        f"{text}. There is one in {places[0]}: start in that directory, or put it into PYTHONPATH"
    )


def of_package(path: str, error: ImportError) -> str:
    """For a file that imports as a module of its package does, although it was given as a file."""
    top, name = _as_module(path)
    relative = "attempted relative import" in str(error)
    missing = (error.name or "").partition(".")[0]
    is_package = os.path.isfile(os.path.join(os.path.dirname(path), "__init__.py"))
    own = is_package and missing == name.partition(".")[0]
    if not relative and not own:
        return ""
    return (
        f"{os.path.basename(path)} belongs to a package, so give the name of its module: "
        f"keelback serve {name}, started in {top} or with that directory in PYTHONPATH"
    )


def _as_module(path: str) -> tuple[str, str]:
    """The directory that the package lies in, and the module's name.

    Without any __init__.py the package is the file's folder.
    """
    folder, file = os.path.split(path)
    stem = os.path.splitext(file)[0]
    names = [] if stem == "__init__" else [stem]
    folder, name = os.path.split(folder)
    names.append(name)
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        if not name:
            break
        names.append(name)
    return folder, ".".join(reversed(names))


def _below(folder: str, name: str) -> Iterator[str]:
    """SUBFOLDER/name, where it exists."""
    try:
        with os.scandir(folder) as entries:
            folders = sorted(
                entry.name for entry, _ in zip(entries, range(_FOLDERS_MAX)) if entry.is_dir()
            )
    except OSError:
        return
    for below in folders:
        found = os.path.join(below, name)
        if not below.startswith(".") and os.path.exists(os.path.join(folder, found)):
            yield found
