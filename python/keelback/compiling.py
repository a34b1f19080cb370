"""Reads annotations: which converter an argument needs."""

import enum
import typing
from typing import Any, Optional

from keelback import annotations, classes, converters, models
from keelback.annotations import Names
from keelback.converters import Converter, Unusable

_NONE = type(None)
_WRAPPERS = tuple(getattr(typing, name) for name in ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")
                  if hasattr(typing, name))


class Compiler:
    """Makes converters. `unusable` gathers the annotations that count as none."""

    def __init__(self) -> None:
        self.unusable: list[str] = []
        self._classes: dict[Any, Converter] = {}
        self._aliases: list[Any] = []  # that are being read

    def compile(self, annotation: Any, names: Names) -> Optional[Converter]:
        """None: everything fits. Never raises."""
        try:
            return self._compile(annotations.resolved(annotation, names), names)
        except (Exception, SystemExit) as error:  # an annotation may be anything
            text = annotation if isinstance(annotation, str) else _shown(annotation)
            if not isinstance(error, Unusable):
                text += f" ({type(error).__name__}: {error})"
            self.unusable.append(text[:200])
            return None

    def _compile(self, annotation: Any, names: Names) -> Optional[Converter]:
        if annotation is Any or annotation is object:
            return None
        if annotation is None:
            annotation = _NONE
        if hasattr(annotation, "__metadata__"):  # Annotated
            if models.constrains(annotation):
                return self._model(annotation)
            return self._compile(annotations.resolved(typing.get_args(annotation)[0], names), names)
        if hasattr(annotation, "__supertype__"):  # NewType
            return self._compile(annotations.resolved(annotation.__supertype__, names), names)
        if isinstance(annotation, typing.TypeVar):
            return self._variable(annotation, names)
        if type(annotation).__name__ == "TypeAliasType":  # type X = …
            if annotation in self._aliases:
                raise Unusable  # it contains itself
            self._aliases.append(annotation)
            try:
                return self._compile(annotations.resolved(annotation.__value__, names), names)
            finally:
                self._aliases.pop()
        if annotations.is_union(annotation):
            return self._first_of([annotations.resolved(each, names) for each in typing.get_args(annotation)], names)
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if type(origin).__name__ == "TypeAliasType":  # type X[T] = …; X[int]
            value = annotations.resolved(origin.__value__, names)
            return self._compile(value[args] if getattr(value, "__parameters__", ()) else value, names)
        if origin is typing.Literal:
            return converters.choice(args, "literal_error")
        if origin in _WRAPPERS:  # Required, Final, …
            return self._compile(annotations.resolved(args[0], names), names)
        if isinstance(origin, type) and models.knows(origin):
            return self._model(annotation)
        args = tuple(each for each in args if not isinstance(each, typing.TypeVar))  # typing.List alone, before 3.9
        return self._of_class(origin or annotation, args, names)

    def _variable(self, variable: Any, names: Names) -> Optional[Converter]:
        if variable.__constraints__:
            return self._first_of([annotations.resolved(each, names) for each in variable.__constraints__], names)
        bound = variable.__bound__
        return None if bound is None else self._compile(annotations.resolved(bound, names), names)

    def _of_class(self, cls: Any, args: tuple[Any, ...], names: Names) -> Optional[Converter]:
        plain = converters.PLAIN.get(cls)
        if plain is not None and not args:
            return plain
        if cls in converters.ARRAYS:
            return self._array(converters.ARRAYS[cls], args, names)
        if cls in converters.OBJECTS:
            return self._mapping(args, names)
        if cls is tuple:
            return self._tuple(args, names)
        if not isinstance(cls, type):
            raise Unusable
        full = f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"
        if full in converters.BY_NAME or full in converters.PATHS:
            return converters.standard(full, cls)
        if full == "numpy.ndarray":
            return converters.attachment(classes.array_of(args))
        if full in ("builtins.bytes", "builtins.bytearray", "builtins.memoryview", "keelback.Attachment"):
            return converters.attachment(classes.not_json)
        if cls not in self._classes:
            if models.knows(cls):
                self._classes[cls] = self._model(cls)
            elif issubclass(cls, enum.Enum):
                self._classes[cls] = converters.enumeration(cls)
            else:
                self._with_fields(cls)
        return self._classes[cls]

    def _with_fields(self, cls: Any) -> None:
        """Its converter is known while those of its fields are made, because it may contain itself."""
        held = Converter(lambda value: made.convert(value), lambda found: made.schema(found), structured=True)
        if hasattr(cls, "__dataclass_fields__"):
            self._classes[cls] = held
            made = converters.record(cls, classes.dataclass_parts(cls, self.compile), "dataclass_type",
                           f"Input should be a dictionary or an instance of {cls.__name__}",
                           ("unexpected_keyword_argument", "Unexpected keyword argument"))
        elif issubclass(cls, dict) and hasattr(cls, "__total__"):
            self._classes[cls] = held
            made = converters.record(cls, classes.typed_dict_parts(cls, self.compile), "dict_type",
                           "Input should be a valid dictionary",
                           ("extra_forbidden", "Extra inputs are not permitted"))
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            self._classes[cls] = held
            found = annotations.fields_of(cls)
            parts = [self.compile(*found[name]) if name in found else None for name in cls._fields]
            made = converters.fixed_tuple(parts, len(cls._fields) - len(cls._field_defaults), lambda each: cls(*each))
        else:
            raise Unusable

    def _model(self, annotation: Any) -> Converter:
        model = models.Model(annotation)
        return Converter(model.convert, model.schema, from_text=None if model.structured else model.from_text,
                         structured=model.structured)

    def _first_of(self, parts: list[Any], names: Names) -> Optional[Converter]:
        made = [(each, self.compile(each, names)) for each in parts]
        if any(each is None for _, each in made):
            return None  # a member that everything fits
        found = [(_shown(each), converter) for each, converter in made if converter is not None]
        found.sort(key=lambda each: each[1] is converters.FLOAT)  # an int stays one: every int is a float, too
        return converters.first_of(found)

    def _array(self, make: Any, args: tuple[Any, ...], names: Names) -> Converter:
        inner = self.compile(args[0], names) if args else None
        return converters.array(inner, *make)

    def _mapping(self, args: tuple[Any, ...], names: Names) -> Converter:
        if len(args) != 2:
            return converters.DICT
        key, value = (self.compile(each, names) for each in args)
        if key is not None and key is not converters.STR and key.from_text is None:
            raise Unusable
        takes_all = value is None and (key is None or key is converters.STR)
        return converters.DICT if takes_all else converters.mapping(key, value)

    def _tuple(self, args: tuple[Any, ...], names: Names) -> Converter:
        if len(args) == 2 and args[1] is Ellipsis:
            return converters.array(self.compile(args[0], names), "tuple", tuple)
        if not args:
            return converters.array(None, "tuple", tuple)
        parts = [] if args == ((),) else [self.compile(each, names) for each in args]  # tuple[()]
        return converters.fixed_tuple(parts, len(parts), tuple)


def _shown(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "None" if annotation is _NONE else annotation.__name__
    return str(annotation).replace("typing.", "")
