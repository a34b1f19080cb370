"""Looks at all objects once, for those that an import has made and that need care at a fork."""

import gc
import io
import random
import sys
from typing import Any, Optional

_FILES = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)


class Census:
    """Requires that nothing was frozen yet: gc.freeze() hides objects."""

    def __init__(self) -> None:
        self.files: list[Any] = []  # Python's buffered file objects
        self.generators: list[Any] = []  # of random numbers, the modules' own ones excepted
        self.caches: list[Any] = []  # of diskcache: they close their connections and open new ones
        kinds: dict[type, list[Any]] = {
            **dict.fromkeys(_FILES, self.files),
            **dict.fromkeys(_generators(), self.generators),
        }
        disk_cache = getattr(sys.modules.get("diskcache.core"), "Cache", None)
        if isinstance(disk_cache, type):
            kinds[disk_cache] = self.caches
        kinds[random.SystemRandom] = []  # has no state
        modules_own = _modules_own()
        place_of: dict[type, Optional[list[Any]]] = {}
        for thing in gc.get_objects():
            kind = type(thing)
            try:
                place = place_of[kind]
            except KeyError:
                place = place_of[kind] = next(
                    (kinds[base] for base in kind.__mro__ if base in kinds), None
                )
            if place is not None and id(thing) not in modules_own:
                place.append(thing)


def _generators() -> list[type]:
    found: list[Any] = [random.Random]
    numpy = sys.modules.get("numpy.random")
    for name in ("Generator", "RandomState"):
        found.append(getattr(numpy, name, None))
    return [kind for kind in found if isinstance(kind, type)]


def _modules_own() -> set[int]:
    """The generators of `random` and `numpy.random` themselves, and one that notices a fork by itself."""
    tempfile: Any = sys.modules.get("tempfile")
    names = getattr(tempfile, "_name_sequence", None)
    own = [
        getattr(random, "_inst", None),
        getattr(names, "_rng", None),
        getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None),
    ]
    return {id(thing) for thing in own if thing is not None}
