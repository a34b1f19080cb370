"""The element types of arrays that are sent, and the type of a buffer.

An element type is written in NumPy's words (docs/protocol.md, Element types; src/base/dtype.h reads
the same). The canonical form is NumPy's name where the byte order is the machine's ("float32"),
else NumPy's `dtype.str` (">f4", "<M8[ns]", "|S5", "<U3").
"""

import functools
import re
import sys
from typing import Any, NamedTuple, Optional

Shape = tuple[int, ...]

ITEM_MAX = 0x7FFFFFFF  # bytes, as in NumPy

_NATIVE = "<" if sys.byteorder == "little" else ">"
_NAMES = {"bool": "b1", "complex64": "c8", "complex128": "c16", "complex256": "c32"}
for _size in (1, 2, 4, 8):
    _NAMES[f"int{8 * _size}"] = f"i{_size}"
    _NAMES[f"uint{8 * _size}"] = f"u{_size}"
for _size in (2, 4, 8, 16):
    _NAMES[f"float{8 * _size}"] = f"f{_size}"
_NAME_OF = {code: name for name, code in _NAMES.items()}
_TIME = r"(?:\[(?:[1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
_NUMBER = "b1|[iu][1248]|f2|f4|f8|f16|c8|c16|c32"
_CODE = re.compile(rf"([<>=|]?)(?:({_NUMBER})|([Mm]8{_TIME})|([SU])([1-9][0-9]*))", re.ASCII)
_TIME_NAME = re.compile(rf"(datetime64|timedelta64)({_TIME})", re.ASCII)

# Formats of the buffer protocol by kind. The size is the item's: that of "l" depends on "=".
_KINDS = {"?": "b", **dict.fromkeys("efdg", "f"), **dict.fromkeys("bhilqn", "i"),
          **dict.fromkeys("BHILQN", "u"), **dict.fromkeys(("Zf", "Zd", "Zg", "F", "D", "G"), "c")}
_FORMAT = re.compile(r"([@=<>!]?)(?:([0-9]*)(s|w)|(u|c)|(Z?[a-zA-Z?]))", re.ASCII)

# What memoryview.cast() takes, by canonical name.
_CASTS = {"bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
          "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d"}


class Dtype(NamedTuple):
    name: str  # the canonical form
    typestr: str  # NumPy's dtype.str
    size: int  # bytes of an element

    @property
    def cast(self) -> Optional[str]:
        """The format of a memoryview of such elements; None: there is none."""
        return _CASTS.get(self.name)


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Optional[Dtype]:
    """None: no array has such elements here."""
    named = _TIME_NAME.fullmatch(text)
    if named:
        text = f"{'M' if named[1] == 'datetime64' else 'm'}8{named[2]}"
    found = _CODE.fullmatch(_NAMES.get(text, text))
    if not found:
        return None
    order, number, time, kind, count = found.groups()
    size = int(count) * (4 if kind == "U" else 1) if kind else 8 if time else int(number[1:])
    if size > ITEM_MAX:
        return None
    if size == 1 or kind == "S":
        order = "|"
    elif order == "|":
        return None
    elif order in ("", "="):
        order = _NATIVE
    code = number or time or f"{kind}{int(count)}"
    name = _NAME_OF.get(code) if order in ("|", _NATIVE) else None
    return Dtype(name or order + code, order + code, size)


def fault(name: str, dtype: str, shape: Shape, size: int) -> Optional[str]:
    """Why `size` bytes are no such array, as a sentence; None: they are, or plain bytes.
    src/base/dtype.h says the same."""
    if not dtype:
        return f'attachment "{name}" has a shape and no dtype' if shape else None
    known = parse(dtype)
    if known is None:
        return unknown(name, dtype)
    elements = 1
    for extent in shape:
        elements *= extent
    if elements * known.size == size:
        return None
    return f'attachment "{name}" of {size} bytes is no {dtype} array of shape {list(shape)}'


def unknown(name: str, dtype: str) -> str:
    return f'attachment "{name}" has the dtype "{dtype}", which attachments do not carry'


# ---- buffers


class NotCarried(TypeError):
    """A buffer whose elements mean nothing to others; the message is the end of a sentence."""


def is_array(data: Any) -> bool:
    """A NumPy array. NumPy is not imported for this."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(data, numpy.ndarray)


def is_buffer(data: Any) -> bool:
    """Whether it has bytes, or elements in a row. A NumPy scalar is one value."""
    if isinstance(data, (bytes, bytearray, memoryview)) or is_array(data):
        return True
    try:
        with memoryview(data) as view:
            return view.ndim > 0
    except (TypeError, ValueError, BufferError):
        return False


def described(data: Any) -> tuple[str, Shape]:
    """The dtype and the shape that a buffer says of itself; none for plain bytes.

    Raises NotCarried.
    """
    if is_array(data):
        return _of_array(data).name, data.shape
    with memoryview(data) as view:
        if view.ndim == 1 and view.itemsize == 1:
            if view.format.lstrip("@=<>!") == "c":
                return "", ()
            if view.format.lstrip("@=<>!") == "B" and _is_plain(data):
                return "", ()
        known = _of_format(view.format, view.itemsize)
        if known is None:
            raise NotCarried(_strange(view))
        return known.name, view.shape


def _strange(view: memoryview) -> str:
    return f"is a buffer of format {view.format!r:.80}, which attachments do not carry"


def _is_plain(data: Any) -> bool:
    mmap = sys.modules.get("mmap")
    if mmap is not None and isinstance(data, mmap.mmap):
        return True
    return isinstance(data, (bytes, bytearray, memoryview))


def _of_format(format: str, size: int) -> Optional[Dtype]:
    found = _FORMAT.fullmatch(format)
    if not found:
        return None
    order, _, text, character, number = found.groups()
    order = ">" if order in (">", "!") else "<" if order == "<" else _NATIVE
    if text or character:
        return parse(f"{order}U{size // 4}" if (text or character) in ("w", "u") and size % 4 == 0
                     else f"|S{size}" if (text or character) in ("s", "c") else "")
    kind = _KINDS.get(number)
    return parse(f"{order}{kind}{size}") if kind else None


def _of_array(data: Any) -> Dtype:
    numpy = sys.modules["numpy"]
    known = parse(data.dtype.str)
    # An extension may use a code of NumPy's for a type of its own.
    if known is None or numpy.dtype(known.typestr) != data.dtype:
        raise NotCarried(f"is an array of dtype {data.dtype!s:.80}, which attachments do not carry")
    if isinstance(data, numpy.ma.MaskedArray) and numpy.ma.getmaskarray(data).any():
        raise NotCarried("is a masked array, and attachments do not carry masks; filled() gives an "
                         "array without one")
    return known


def size_of(data: Any) -> int:
    """Its bytes, counted and not copied."""
    if is_array(data):
        return data.nbytes
    with memoryview(data) as view:
        return view.nbytes


def raw(data: Any) -> memoryview:
    """The bytes in C order; copied only if they do not lie so. Raises NotCarried."""
    if is_array(data):
        _of_array(data)
        return memoryview(sys.modules["numpy"].ascontiguousarray(data).reshape(-1).view("u1"))
    view = memoryview(data)
    if _of_format(view.format, view.itemsize) is None:
        raise NotCarried(_strange(view))
    try:
        return view.cast("B")
    except TypeError:
        return memoryview(view.tobytes())
