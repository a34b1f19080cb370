"""Types that pydantic knows how to check. pydantic is never imported for it: an application that has such types has."""

import json
import sys
from typing import Any

from keelback import schemas
from keelback.misfits import CheckFailed, Fault, Misfit


def knows(cls: Any) -> bool:
    """Whether the class is one of pydantic's, or says to pydantic what it is."""
    return "pydantic" in sys.modules and isinstance(cls, type) and any(
        hasattr(cls, name) for name in ("__get_pydantic_core_schema__", "__pydantic_core_schema__"))


def constrains(annotated: Any) -> bool:
    """Whether an Annotated says something that pydantic checks: Annotated[int, Field(gt=0)]."""
    return "pydantic" in sys.modules and any(
        type(each).__module__.partition(".")[0] in ("pydantic", "annotated_types")
        or hasattr(each, "__get_pydantic_core_schema__") for each in annotated.__metadata__)


class Model:
    """A converter's functions for one annotation. Making it raises what pydantic raises."""

    def __init__(self, annotation: Any) -> None:
        pydantic = sys.modules["pydantic"]
        self._class = annotation
        # A model has its own rules. Plain types that only have constraints are checked as strictly as others.
        try:
            self._adapter = pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(strict=True))
        except pydantic.PydanticUserError:
            self._adapter = pydantic.TypeAdapter(annotation)
        self._error = pydantic.ValidationError
        self._schemas: dict[str, Any] = {}
        self.structured = self._is_structured()

    def _is_structured(self) -> bool:
        schema = self._schema("validation")
        return "$ref" in schema or "anyOf" in schema or "oneOf" in schema or schema.get("type") in ("object", "array")

    def convert(self, value: Any) -> Any:
        """Raises Misfit, CheckFailed."""
        return self._checked(lambda: self._adapter.validate_json(json.dumps(value)))

    def from_text(self, text: str) -> Any:
        return self._checked(lambda: self._adapter.validate_strings(text))

    def _checked(self, check: Any) -> Any:
        try:
            return check()
        except self._error as error:
            # URLs, inputs and contexts may be large, or objects that JSON does not have.
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise Misfit([Fault(each["loc"], each["msg"], each["type"]) for each in found]) from None
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            raise CheckFailed from error

    def schema(self, found: schemas.Schemas) -> dict[str, Any]:
        schema = self._schema("serialization" if found.of_results else "validation")
        if schema.get("type") == "object" and isinstance(self._class, type):  # a model that does not contain itself
            name = schemas.safe(self._class.__name__)
            theirs = {**schema.get("$defs", {}), name: {key: schema[key] for key in schema if key != "$defs"}}
            schema = {"$ref": f"#/$defs/{name}", "$defs": theirs}
        return found.adopt(schema)

    def _schema(self, mode: str) -> dict[str, Any]:
        if mode not in self._schemas:
            try:
                self._schemas[mode] = self._adapter.json_schema(mode=mode, ref_template="#/$defs/{model}")
            except Exception:  # a type whose JSON pydantic cannot describe
                self._schemas[mode] = {}
        return self._schemas[mode]


