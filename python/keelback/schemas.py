"""JSON Schema of types, in which named types are `$defs`."""

import json
import re
from typing import Any, Callable

Schema = dict[str, Any]


class Schemas:
    """Gathers the definitions of an application. `of_results`: how results are written, not arguments read."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self.of_results = False
        self._names: dict[Any, str] = {}

    def of_result(self, make: "Make") -> Schema:
        self.of_results = True
        try:
            return make(self)
        finally:
            self.of_results = False

    def named(self, cls: Any, make: Callable[[], Schema]) -> Schema:
        """A reference to the definition of a class, which is made if it is new."""
        name = self._names.get(cls)
        if name is None:
            name = self._names[cls] = self._free(cls.__name__)
            self.definitions[name] = {}  # it may contain itself
            self.definitions[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def adopt(self, schema: Schema) -> Schema:
        """A schema that brings `$defs` of its own. A definition that is here already is shared, if all that it
        refers to is the same, too."""
        theirs = schema.get("$defs", {})
        names: dict[str, str] = {}
        for name in theirs:
            whole = json.dumps([(each, theirs[each]) for each in sorted(_reached(theirs, name))], sort_keys=True)
            if (name, whole) not in self._names:
                self._names[name, whole] = self._free(name)
                self.definitions[self._names[name, whole]] = {}
            names[f"#/$defs/{name}"] = "#/$defs/" + self._names[name, whole]
        for name, each in theirs.items():
            self.definitions[names[f"#/$defs/{name}"].rpartition("/")[2]] = _renamed(each, names)
        return _renamed({key: value for key, value in schema.items() if key != "$defs"}, names)

    def _free(self, name: str) -> str:
        name = base = safe(name)
        number = 2
        while name in self.definitions:
            name, number = f"{base}_{number}", number + 1
        return name


Make = Callable[[Schemas], Schema]


def attachment(found: Schemas) -> Schema:
    """What does not stand in the JSON itself."""
    if not found.of_results:
        return {"type": "string", "format": "binary"}
    return {"type": "object", "properties": {"$attachment": {"type": "string"}}, "required": ["$attachment"]}


def safe(name: str) -> str:
    """A name that OpenAPI takes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _reached(definitions: dict[str, Schema], name: str) -> set[str]:
    found, todo = set(), [name]
    while todo:
        each = todo.pop()
        if each not in found and each in definitions:
            found.add(each)
            todo += re.findall(r'"#/\$defs/([^"]*)"', json.dumps(definitions[each]))
    return found


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value
