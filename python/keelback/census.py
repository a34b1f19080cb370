"""What an import has made of the kinds that need care at a fork: one look at all objects."""

import gc
import io
import sys
from typing import Any, Optional

_FILES = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)


class Census:
    """Requires that nothing was frozen yet: gc.freeze() hides objects."""

    def __init__(self) -> None:
        self.files: list[Any] = []  # Python's buffered file objects
        self.caches: list[Any] = []  # of diskcache: they close their connections and open new ones
        kinds: dict[type, list[Any]] = {**dict.fromkeys(_FILES, self.files)}
        disk_cache = getattr(sys.modules.get("diskcache.core"), "Cache", None)
        if isinstance(disk_cache, type):
            kinds[disk_cache] = self.caches
        place_of: dict[type, Optional[list[Any]]] = {}
        for thing in gc.get_objects():
            kind = type(thing)
            try:
                place = place_of[kind]
            except KeyError:
                place = place_of[kind] = next(
                    (kinds[base] for base in kind.__mro__ if base in kinds), None
                )
            if place is not None:
                place.append(thing)
