"""How messages name a place in a value, result['rows'][3], and a type."""

from typing import Any, Optional

Path = Optional[tuple[Any, Any]]  # (path of the container, key); None: the value itself

_PARTS_MAX = 12


def place(path: Path, name: str) -> str:
    """The path in the value that is called `name`. One that is very deep loses its middle."""
    parts: list[str] = []
    while path is not None:
        path, key = path
        parts.append(f"[{key!r:.60}]")
    parts.reverse()
    if len(parts) > _PARTS_MAX:
        half = _PARTS_MAX // 2
        parts[half:-half] = ["…"]
    return name + "".join(parts)


def type_name(value: object) -> str:
    cls = type(value)
    is_builtin = cls.__module__ == "builtins"
    return cls.__qualname__ if is_builtin else f"{cls.__module__}.{cls.__qualname__}"
