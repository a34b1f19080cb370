"""Whose a file is; and imports that never use old cached bytecode.

Python uses cached bytecode if the source still has the same size and time, in whole seconds. After
two edits within a second, or a deployment that gives all files one time, it runs old code. So the
sources of the application, and all others that are neither of the standard library nor installed, are
cached with a hash of the source (PEP 552), which every Python understands.
"""

import importlib.util
import marshal
import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import CodeType
from typing import Any, Optional

# The flags of bytecode with a hash that is checked, and no time.
_HEAD = importlib.util.MAGIC_NUMBER + b"\3\0\0\0"
_HASH_SIZE = 8
_INSTALLED = ("site-packages", "dist-packages")
OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = os.path.dirname(os.__file__) + os.sep


def watch() -> None:
    """From now on imports of the application use its current sources."""
    sys.path_hooks.insert(0, _finder)
    sys.path_importer_cache.clear()


def is_ours(path: str) -> bool:
    """True for a file or folder of this package, its shipped applications included."""
    return _as_folder(path).startswith(OURS)


def is_standard(path: str) -> bool:
    """True for a file or folder of the standard library."""
    return _as_folder(path).startswith(_LIBRARY) and not is_installed(path)


def is_users(path: str) -> bool:
    """True for a file or folder that is neither installed, nor the standard library's, nor ours."""
    return not (is_ours(path) or is_standard(path) or is_installed(path))


def is_installed(path: str) -> bool:
    """True for a file or folder of a package that an installer has put where it is."""
    return any(part in _INSTALLED for part in path.split(os.sep))


def _as_folder(path: str) -> str:
    return os.path.join(os.path.abspath(path), "")


class Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> Optional[CodeType]:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        head = _HEAD + importlib.util.source_hash(source)
        cache = self._cache_of(path)
        code = self._cached(cache, head, path)
        if code is None:
            code = self.source_to_code(source, path)
            if cache and not sys.dont_write_bytecode:
                self.set_data(cache, head + marshal.dumps(code))
        return code

    def _cache_of(self, path: str) -> str:
        try:
            return importlib.util.cache_from_source(path)
        except NotImplementedError:  # this Python keeps none
            return ""

    def _cached(self, cache: str, head: bytes, path: str) -> Optional[CodeType]:
        try:
            data = self.get_data(cache)
            code = marshal.loads(data[len(head) :]) if data.startswith(head) else None
        except (OSError, EOFError, ValueError, TypeError):
            return None
        # A tree that was moved: the places in tracebacks are the old ones.
        return code if isinstance(code, CodeType) and code.co_filename == path else None


def _finder(folder: str) -> Any:
    if not is_users(folder):
        raise ImportError("another finder's")
    return _make(folder)


_make = FileFinder.path_hook(
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (Loader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)
