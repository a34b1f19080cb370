"""Files beside the application never replace modules of the standard library.

The runtime, and all that it needs, is imported before Python looks into the application's directory
(start.py). Modules that it needs later are imported from the standard library only.
"""

import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from threading import get_ident
from types import ModuleType
from typing import Any, Optional

_folders: list[str] = []  # of the standard library
_loaded: frozenset[str] = frozenset()  # by us, before the application


def remember(folders: list[str]) -> None:
    """After the runtime was imported from these folders, and before the application."""
    global _folders, _loaded
    _folders = folders
    _loaded = frozenset(name for name in sys.modules if is_module(name) or name == "keelback")


def is_module(name: str) -> bool:
    """True if the standard library has a module of this name."""
    names: Optional[frozenset[str]] = getattr(sys, "stdlib_module_names", None)  # since 3.10
    if names is not None:
        return name in names
    return name in sys.builtin_module_names or PathFinder.find_spec(name, _folders) is not None


def load(name: str) -> Any:
    """A module of the standard library, and what it imports, from there."""
    if name in sys.modules:
        return sys.modules[name]
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)


def hidden(folder: str) -> list[str]:
    """Files of the folder whose modules are loaded already: nobody can import these files."""
    return sorted(
        file
        for name in _loaded
        for file in (f"{name}.py", os.path.join(name, "__init__.py"))
        if os.path.isfile(os.path.join(folder, file))
    )


class _Finder:
    """Looks into the standard library first, for the thread that makes it."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def find_spec(
        self, name: str, path: Any = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if path is not None or get_ident() != self._thread:
            return None
        return PathFinder.find_spec(name, _folders, target)
