"""keelback.Attachment: bytes that travel beside the JSON, with their name, type and shape."""

import re
from typing import Any, Optional

from keelback import dtypes

NAME_MAX = 256  # bytes
DTYPE_MAX = 32  # bytes
DIMS_MAX = 16
CONTENT_TYPE_MAX = 256  # bytes
FILENAME_MAX = 1024  # bytes

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"
_CONTENT_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?: *;[ -~]*)?")
_CHARSET = re.compile(r'; *charset *= *"?([^"; ]+)', re.IGNORECASE)


class Attachment:
    """Bytes with a name and, if they are known, a type, a shape and a file name.

    data          anything that has the buffer protocol: bytes, bytearray, memoryview, array.array,
                  a NumPy array
    name          by default its position among the call's or the result's: "0", "1", …
    dtype         of an array: the element type in NumPy's words ("float32", ">f4", "<M8[ns]");
                  by default what the buffer says of itself
    shape         of an array: the extents in C order, () for a single element; by default what the
                  buffer says of itself, or all elements in a row
    content_type  what the bytes are: "image/png"
    filename      how the file is called that they come from, or that they may become; as the
                  client wrote it, so do not open it

    `memoryview(a.view())` sees the array without copying it if its element type is a memoryview's,
    and `numpy.asarray(a)` always. Raises ValueError for a dtype that attachments do not carry and
    for what is no content type, and TypeError for a buffer whose elements attachments do not carry:
    objects, structures, addresses.
    """

    __slots__ = ("data", "name", "dtype", "shape", "content_type", "filename")

    def __init__(self, data: Any, name: str = "", dtype: Optional[str] = None,
                 shape: Optional[tuple[int, ...]] = None, content_type: str = "",
                 filename: str = "") -> None:
        if content_type and not _CONTENT_TYPE.fullmatch(content_type):
            raise ValueError(f"{content_type!r:.60} is no content type, like 'image/png'")
        plain = isinstance(data, (bytes, bytearray))
        own_dtype, own_shape = ("", ()) if plain else _described(data)
        self.data = data
        self.name = name
        self.content_type = content_type
        self.filename = filename
        if not dtype:
            self.dtype = own_dtype
            self.shape = own_shape if shape is None else tuple(shape)
            if self.shape and not own_dtype:
                raise ValueError("an attachment with a shape needs a dtype")
            return
        known = _known(name, dtype)
        self.dtype = known.name
        if shape is not None:
            self.shape = tuple(shape)
        elif own_dtype and _known(name, own_dtype).size == known.size:
            self.shape = own_shape
        else:
            self.shape = (len(self) // known.size,)

    @property
    def is_text(self) -> bool:
        """Whether it is a form's field, or the like: a text that comes from no file."""
        kind = self.content_type.partition(";")[0].strip().lower()
        return (kind.startswith("text/") or kind == "application/json") and not (
            self.filename or self.dtype)

    def text(self) -> str:
        """The bytes as text, in the charset of the content type or UTF-8. Raises ValueError."""
        found = _CHARSET.search(self.content_type)
        charset = found[1] if found else "utf-8"
        try:
            return bytes(self).decode(charset)
        except LookupError:
            raise ValueError(f"there is no charset {charset!r:.60}") from None
        except UnicodeDecodeError as error:
            why = f"it is not {charset} text ({error.reason} at byte {error.start}); bytes are "
            raise ValueError(why + "sent as a file, or to a parameter of type bytes") from None

    def view(self) -> memoryview:
        """The bytes as an array of its type and shape; as plain bytes where it has none, or one
        that a memoryview does not have (float16, complex numbers, times, texts, other byte orders,
        extents of 0). Raises ValueError if type, shape and size contradict each other."""
        plain = dtypes.raw(self.data)
        wrong = dtypes.fault(self.name, self.dtype, self.shape, plain.nbytes)
        if wrong:
            raise ValueError(wrong)
        format = _known(self.name, self.dtype).cast if self.dtype else None
        if format is None:
            return plain
        if 0 in self.shape:
            return plain.cast(format) if len(self.shape) == 1 else plain
        return plain.cast(format, list(self.shape))

    def argument(self) -> Any:
        """What a parameter without annotation gets: a text, bytes (a memoryview without a copy),
        or of an array a memoryview that has its type and shape. Where no memoryview has them it
        gets the attachment itself; numpy.asarray() takes both. Raises ValueError for a text that is
        none."""
        if not self.dtype:
            return self.text() if self.is_text else self.data
        view = self.view()
        fits = view.format == _known(self.name, self.dtype).cast and view.shape == self.shape
        return view if fits else self

    @property
    def __array_interface__(self) -> dict[str, Any]:
        plain = dtypes.raw(self.data)
        if not self.dtype:
            return {"version": 3, "shape": (plain.nbytes,), "typestr": "|u1", "data": plain}
        typestr = _known(self.name, self.dtype).typestr
        return {"version": 3, "shape": self.shape, "typestr": typestr, "data": plain}

    def __len__(self) -> int:
        return dtypes.size_of(self.data)

    def __bytes__(self) -> bytes:
        return bytes(dtypes.raw(self.data))

    def __repr__(self) -> str:
        more = f" {self.dtype}{list(self.shape)}" if self.dtype else ""
        more += f" {self.content_type}" if self.content_type else ""
        more += f" {self.filename!r:.60}" if self.filename else ""
        return f"<keelback.Attachment {self.name!r}, {len(self)} bytes{more}>"


Attachment.__module__ = "keelback"


def why_not(attachment: Attachment) -> Optional[str]:
    """Why it cannot be sent, as a sentence; None: it can. User code may have put anything into its fields."""
    texts = ((attachment.name, "name", NAME_MAX), (attachment.dtype, "dtype", DTYPE_MAX),
             (attachment.content_type, "content type", CONTENT_TYPE_MAX),
             (attachment.filename, "file name", FILENAME_MAX))
    shown = f'attachment "{attachment.name[:40]}"'
    for text, what, most in texts:
        if len(text.encode("utf-8", "surrogateescape")) > most:
            return f"{shown}: a {what} has at most {most} bytes"
    if len(attachment.shape) > DIMS_MAX:
        return f"{shown}: a shape has at most {DIMS_MAX} extents"
    if not (attachment.content_type.isascii() and attachment.content_type.isprintable()):
        return f"{shown}: a content type is printable ASCII"
    return dtypes.fault(attachment.name, attachment.dtype, attachment.shape, len(attachment))


def _known(name: str, dtype: str) -> dtypes.Dtype:
    known = dtypes.parse(dtype)
    if known is None:
        raise ValueError(dtypes.unknown(name, dtype))
    return known


def _described(data: Any) -> tuple[str, dtypes.Shape]:
    try:
        return dtypes.described(data)
    except dtypes.NotCarried as error:
        raise TypeError(f"the data {error}") from None
