"""Makes JSON of values that JSON does not have: dates, decimals, models, NumPy scalars.

The forms are the usual ones: ISO 8601 for times, the text of a UUID, Decimal or path, an array for a
set, an object for a dataclass or a pydantic model, a number for a NumPy scalar.
`@keelback.encoder(Type)` adds further types. The C encoder asks only for a value that it cannot
write, so that other results pay nothing.
"""

import math
import sys
from typing import Any, Callable, TypeVar

from keelback import dtypes
from keelback.functions import BadApplication
from keelback.places import type_name

F = TypeVar("F", bound=Callable[[Any], Any])

_CACHED_MAX = 1024  # types
_WRITTEN_BY_JSON = (str, int, float, dict, list, tuple, type(None))

_users: dict[type, Callable[[Any], Any]] = {}  # by @keelback.encoder
_cache: dict[type, Callable[[Any], Any]] = {}  # by the exact type of a value


class NoConversion(TypeError):
    """There is no JSON for the value; the message says why, as the end of a sentence."""


class ConversionFailed(Exception):
    """The code that converts the value failed; the message is the end of a sentence."""


def encoder(type: type) -> Callable[[F], F]:
    """Registers a function that says what stands in a result for a value of `type` or a subclass.

    It gets the value and returns what JSON has, or something that is converted in turn. It may be
    called more than once for a value. It also comes before what is sent as an attachment, and
    before Keelback's own forms. Subclasses of str, int, float, dict, list and tuple are written by
    JSON's own encoder, which does not ask; registering one raises TypeError.
    """
    if not isinstance(type, _type):
        raise TypeError(f"@keelback.encoder(Type) takes a class, not {type!r}")
    if issubclass(type, _WRITTEN_BY_JSON):
        raise TypeError(f"@keelback.encoder: JSON writes {type.__qualname__} itself, unasked")

    def register(convert: F) -> F:
        if not callable(convert):
            what = f"@keelback.encoder({type.__qualname__})"
            raise TypeError(f"{what} decorates a function, not {convert!r}")
        old = _users.get(type)
        if old is not None and _origin(old) != _origin(convert):
            raise BadApplication(f"two encoders for {type.__module__}.{type.__qualname__}: "
                                 f"{_origin(old)} and {_origin(convert)}")
        _users[type] = convert
        _cache.clear()
        return convert

    return register


_type = type  # encoder() has a parameter of this name


def _origin(function: Any) -> str:
    name = getattr(function, "__qualname__", repr(function))
    return f"{getattr(function, '__module__', '?')}.{name}"


def converted(value: Any) -> Any:
    """The JSON value that replaces it. Raises NoConversion, ConversionFailed."""
    cls = type(value)
    convert = _cache.get(cls)
    if convert is None:
        convert = _converter(cls)
        if len(_cache) >= _CACHED_MAX:
            _cache.clear()
        _cache[cls] = convert
    return convert(value)


def has_encoder(value: Any) -> bool:
    """Whether the application converts it."""
    return bool(_users) and any(base in _users for base in type(value).__mro__)


def _converter(cls: type) -> Callable[[Any], Any]:
    for base in cls.__mro__:
        if base in _users:
            return _guarded(_users[base])
    if callable(getattr(cls, "model_dump", None)):
        return _guarded(_model_dump)
    if hasattr(cls, "__dataclass_fields__"):
        return _guarded(_dataclass)
    # By name: asking for the classes themselves would import their modules into every worker.
    for base in cls.__mro__:
        own = _FORMS.get(f"{base.__module__.partition('.')[0]}.{base.__qualname__}")
        if own is not None:
            return own
    if cls.__module__.partition(".")[0] in ("pydantic", "pydantic_core"):
        return _guarded(_pydantic)
    return _no_form


def _no_form(value: Any) -> Any:
    raise NoConversion("which JSON cannot write")


def _guarded(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(value: Any) -> Any:
        try:
            return convert(value)
        except (RecursionError, NoConversion):
            raise
        except Exception as error:
            name = getattr(convert, "__qualname__", repr(convert)).lstrip("_")
            why = f"which {name} could not convert: {type_name(error)}: {error}"
            raise ConversionFailed(why) from error

    return call


def _model_dump(value: Any) -> Any:
    """pydantic's own JSON where it changes nothing. In fields of any type it makes null of NaN and
    one key of 1 and "1"; it makes text of bytes, and fails for arrays. Then it is the plain dump,
    whose parts are judged like those of any result."""
    plain = value.model_dump()
    try:
        written = value.model_dump(mode="json")
    except Exception:
        return plain
    return written if _is_kept_by_pydantic(plain) else plain


def _is_kept_by_pydantic(root: Any) -> bool:
    todo = [root]
    for each in todo:  # which grows
        if isinstance(each, dict):
            if len({isinstance(key, str) for key in each}) > 1:
                return False
            todo.extend(each.values())
        elif isinstance(each, (list, tuple, set, frozenset)):
            todo.extend(each)
        elif isinstance(each, float):
            if not math.isfinite(each):
                return False
        elif dtypes.is_buffer(each):
            return False
    return True


def _pydantic(value: Any) -> Any:
    """A type of pydantic's own: an URL, a secret."""
    return sys.modules["pydantic_core"].to_jsonable_python(value)


def _dataclass(value: Any) -> Any:
    fields = sys.modules["dataclasses"].fields(value)
    return {field.name: getattr(value, field.name) for field in fields}


def _iso(value: Any) -> Any:
    if value != value:  # pandas' NaT is a datetime
        raise NoConversion("which is not a time")
    return value.isoformat()


def _decimal(value: Any) -> Any:
    if not value.is_finite():
        raise NoConversion(f"whose value {value} JSON cannot write")
    return str(value)


def _timedelta(value: Any) -> Any:
    if value != value:
        raise NoConversion("which is not a time")
    if hasattr(value, "isoformat"):  # pandas' has nanoseconds
        return value.isoformat()
    seconds = value.days * 86400 + value.seconds
    return _duration(seconds * 1_000_000 + value.microseconds, 1_000_000)


def _duration(ticks: int, a_second: int) -> str:
    """ISO 8601: "P1DT2H", "-PT0.5S"."""
    days, rest = divmod(abs(ticks), 86400 * a_second)
    seconds, fraction = divmod(rest, a_second)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    text = ("-P" if ticks < 0 else "P") + (f"{days}D" if days else "")
    second = str(seconds)
    if fraction:
        second += "." + str(fraction).zfill(len(str(a_second)) - 1).rstrip("0")
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    time += f"{second}S" if second != "0" else ""
    if time:
        return f"{text}T{time}"
    return text if days else "PT0S"


def _set(value: Any) -> Any:
    try:
        return sorted(value)  # the same text from every worker, where the elements have an order
    except Exception:
        return list(value)


_SECONDS_OF = {"W": 7 * 86400, "D": 86400, "h": 3600, "m": 60, "s": 1}
_TICKS_A_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9, "ps": 10**12, "fs": 10**15, "as": 10**18}


def _numpy(value: Any) -> Any:
    kind = value.dtype.kind
    if kind == "b":
        return bool(value)
    if kind in "iu":
        return int(value)
    if kind == "f":
        number = float(value)
        if math.isinf(number) and number != value:
            raise NoConversion(f"whose value {value} is beyond a 64-bit float")
        return number
    if kind in "Mm":
        if value != value:
            raise NoConversion("which is not a time (NaT)")
        return str(value) if kind == "M" else _numpy_timedelta(value)
    raise NoConversion("which JSON cannot write")


def _numpy_timedelta(value: Any) -> str:
    unit, each = sys.modules["numpy"].datetime_data(value.dtype)
    count = int(value.astype("int64")) * each
    if unit in _SECONDS_OF:
        return _duration(count * _SECONDS_OF[unit], 1)
    if unit in _TICKS_A_SECOND:
        return _duration(count, _TICKS_A_SECOND[unit])
    if unit in ("Y", "M"):
        return f"{'-' if count < 0 else ''}P{abs(count)}{unit}"
    raise NoConversion("which has no unit of time")


_FORMS: dict[str, Callable[[Any], Any]] = {
    "datetime.datetime": _iso, "datetime.date": _iso, "datetime.time": _iso,
    "datetime.timedelta": _timedelta, "uuid.UUID": str, "decimal.Decimal": _decimal,
    "pathlib.PurePath": str, "enum.Enum": lambda value: value.value,
    "builtins.set": _set, "builtins.frozenset": _set, "numpy.generic": _numpy,
    "collections.deque": list, "builtins.mappingproxy": dict,
    **dict.fromkeys((f"ipaddress.IPv{version}{kind}" for version in "46"
                     for kind in ("Address", "Network", "Interface")), str),
}
