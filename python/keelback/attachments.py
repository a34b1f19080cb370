"""Bytes that travel beside the JSON: what a call carries, and what a function answers with.

From 64 KiB on they lie in slabs, shared memory that the supervisor owns (docs/protocol.md, Attachments). A
function gets a copy, which is its own for ever; with `zero_copy=True` a view, which is good until its call is
over. What user code still looks at then costs its slab: the worker keeps the memory for the view and nobody
writes there again.
"""

import _socket
import mmap
import os
import struct
import sys
from typing import Any, Callable, Optional, Union

from keelback import calls, dtypes, encoding, marks, streams, wire
from keelback.channel import Channel
from keelback.conversions import converted, has_encoder
from keelback.encoding import ResultError

SLAB_FROM = 64 * 1024  # bytes; smaller ones travel in their frame
COUNT_MAX = 64
NAME_MAX = 256  # bytes
DTYPE_MAX = 32  # bytes
DIMS_MAX = 16


class Attachment:
    """Bytes with a name and, for an array, its element type and shape.

    data   anything that has the buffer protocol: bytes, bytearray, memoryview, array.array, a NumPy array
    name   by default its position among the call's or the result's: "0", "1", …
    dtype  the element type in NumPy's words, as dtypes.py has them ("float32", ">f4", "<M8[ns]"); by default
           what the buffer says of itself
    shape  the extents in C order, () for a single element; by default what the buffer says of itself, or all
           elements in a row

    `memoryview(a.view())` sees the array without copying it if its element type is a memoryview's, and
    `numpy.asarray(a)` always. Raises ValueError for a dtype that attachments do not carry, and TypeError for a
    buffer whose elements they do not carry: objects, structures, addresses.
    """

    __slots__ = ("data", "name", "dtype", "shape")

    def __init__(self, data: Any, name: str = "", dtype: Optional[str] = None,
                 shape: Optional[tuple[int, ...]] = None) -> None:
        own_dtype, own_shape = ("", ()) if isinstance(data, (bytes, bytearray)) else _described(data)
        self.data = data
        self.name = name
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

    def view(self) -> memoryview:
        """The bytes as an array of its type and shape; as plain bytes where it has none, or one that a memoryview
        does not have (float16, complex numbers, times, texts, other byte orders, extents of 0). Raises ValueError if
        type, shape and size contradict each other."""
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
        """What a parameter of its name gets: bytes (a memoryview without a copy); of an array a memoryview that has
        its type and shape, or the attachment itself where no memoryview has them. numpy.asarray() takes both."""
        if not self.dtype:
            return self.data
        view = self.view()
        return view if view.format == _known(self.name, self.dtype).cast and view.shape == self.shape else self

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
        array = f" {self.dtype}{list(self.shape)}" if self.dtype else ""
        return f"<keelback.Attachment {self.name!r}, {len(self)} bytes{array}>"


Attachment.__module__ = "keelback"


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


class _Slab:
    __slots__ = ("id", "size", "map", "references")

    def __init__(self, id: int, size: int, fd: int) -> None:
        self.id = id
        self.size = size
        # All pages are there; mapping them at once saves a fault for each.
        self.map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0x8000))
        self.references = sys.getrefcount(self.map)

    def is_seen(self) -> bool:
        """True while any view of it lives: each one holds a reference to the mapping."""
        return sys.getrefcount(self.map) > self.references


class _Carried:
    """The attachments of the call that runs. Copies are made when somebody asks, and once."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, str, tuple[int, ...], Any, int, int]] = []
        self._copies: Optional[dict[str, Attachment]] = None
        self._views: Optional[dict[str, Attachment]] = None
        self._lent: list[memoryview] = []
        self.wrong: Optional[str] = None  # the first that is no array

    def add(self, name: str, dtype: str, shape: tuple[int, ...], source: Any, at: int, size: int) -> None:
        name = name or str(len(self._entries))
        self.wrong = self.wrong or dtypes.fault(name, dtype, shape, size)
        self._entries.append((name, dtype, shape, source, at, size))

    def all(self, zero_copy: bool) -> dict[str, Attachment]:
        if zero_copy:
            if self._views is None:
                self._views = {entry[0]: self._view(*entry) for entry in self._entries}
            return self._views
        if self._copies is None:
            self._copies = {entry[0]: _copy(*entry) for entry in self._entries}
        return self._copies

    def _view(self, name: str, dtype: str, shape: tuple[int, ...], source: Any, at: int, size: int) -> Attachment:
        whole = memoryview(_buffer(source))
        view = whole[at : at + size]
        whole.release()
        self._lent.append(view)
        return Attachment(view, name, dtype, shape)

    def argument(self, attachment: Attachment) -> Any:
        value = attachment.argument()
        if isinstance(value, memoryview):
            self._lent.append(value)
        return value

    def release(self) -> None:
        """The call is over: views that nobody has taken further end here."""
        self._copies = self._views = None
        for view in reversed(self._lent):
            try:
                view.release()
            except BufferError:  # an array stands on it; is_seen() will tell
                pass
        self._lent.clear()
        self._entries.clear()
        self.wrong = None


def _buffer(source: Any) -> Any:
    """What has the bytes. An entry names the slab and not its mapping: only who looks at it counts as looking."""
    return source.map if isinstance(source, _Slab) else source


def _copy(name: str, dtype: str, shape: tuple[int, ...], source: Any, at: int, size: int) -> Attachment:
    if not dtype:
        return Attachment(bytes(_buffer(source)[at : at + size]), name, "", shape)
    with memoryview(_buffer(source)) as whole, whole[at : at + size] as part:
        return Attachment(bytearray(part), name, dtype, shape)  # an array is there to be written to


class Slabs:
    """A worker's side of attachments. Main thread only."""

    def __init__(self, channel: Channel, words: Any, interrupts: Any) -> None:
        self._channel = channel
        self._words = words
        self._interrupts = interrupts
        self._slabs: dict[int, _Slab] = {}
        self._kept: dict[int, _Slab] = {}
        self._carried = _Carried()

    # ---- what the supervisor says

    def take(self, frame: bytes) -> None:
        """SLAB. Raises ProtocolError."""
        op, id, size = wire.SLAB_BODY.unpack_from(frame, wire.HEADER_SIZE)
        if op == wire.SLAB_COMING:
            fd = self._receive(id)
            try:
                self._slabs[id] = _Slab(id, size, fd)
            finally:
                os.close(fd)  # the mapping has its own
        elif op == wire.SLAB_GONE:
            slab = self._slabs.pop(id, None)
            if slab is not None:
                _unmap(slab)
        elif op != wire.SLAB_NONE:
            raise wire.ProtocolError(f"SLAB {op} has no meaning here")

    def _receive(self, id: int) -> int:
        """The descriptor, which comes alone in the next packet."""
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, self._channel.fd)
        try:
            _, beside, _, _ = socket.recvmsg(wire.PACKET_MAX, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        finally:
            socket.detach()
        if len(beside) != 1 or len(beside[0][2]) != 4:
            raise wire.ProtocolError(f"slab {id} came without its descriptor")
        return struct.unpack("i", beside[0][2])[0]

    def attach(self, frame: bytes) -> None:
        """ATTACH: one attachment of the call that comes next. Raises ProtocolError."""
        slab, dtype_len, dims, name_len, offset, size = wire.ATTACH_BODY.unpack_from(frame, wire.HEADER_SIZE)
        at = wire.HEADER_SIZE + wire.ATTACH_BODY.size
        shape = struct.unpack_from(f"<{dims}Q", frame, at)
        at += 8 * dims
        dtype = frame[at : at + dtype_len].decode(errors="replace")
        at += dtype_len
        name = frame[at : at + name_len].decode(errors="replace")
        at += name_len
        if not slab:
            self._carried.add(name, dtype, shape, frame, at, size)
        elif slab in self._slabs and offset + size <= self._slabs[slab].size:
            self._carried.add(name, dtype, shape, self._slabs[slab], offset, size)
        else:
            raise wire.ProtocolError(f"an attachment in slab {slab}, which is not here")

    # ---- a call

    def begin(self, function: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """The call that ATTACH announced: its attachments become arguments where a parameter has their name.

        Raises TypeError, also if the JSON has that argument too: neither may win.
        """
        if self._carried.wrong:
            raise TypeError(self._carried.wrong)
        calls.here.attached = self._carried
        names = function.attachable
        if names:
            for name, attachment in self._carried.all(function.zero_copy).items():
                if name not in names:
                    continue
                if name in kwargs:
                    raise TypeError(f"argument {name!r} is given twice: in the JSON and as an attachment")
                kwargs[name] = self._carried.argument(attachment)

    def end(self) -> bytes:
        """Frames for in front of the answer: which slabs user code still looks at, and which no more."""
        calls.here.attached = None
        frames = b""
        if self._kept:
            for id, slab in list(self._kept.items()):
                if not slab.is_seen():
                    del self._kept[id]
                    _unmap(slab)
                    frames += wire.frame(wire.SLAB_FREED, 0, wire.U32.pack(id))
        self._carried.release()
        for id, slab in list(self._slabs.items()):
            if slab.is_seen():
                self._kept[id] = self._slabs.pop(id)
                frames += wire.frame(wire.SLAB_KEPT, 0, wire.U32.pack(id))
        return frames

    # ---- a result

    def encode(self, call: int, value: Any, most: int) -> bytes:
        """The result's JSON; its attachments are sent. Raises ResultError, and nothing is sent."""
        gathering = _Gathering()
        try:
            body = encoding.encode_with(value, gathering.begin)
        except ResultError:
            raise
        except Exception as error:
            raise ResultError(encoding.explain(value, error, gathering.carried)) from None
        if len(body) > most:
            raise ResultError(encoding.too_large(len(body), most))
        allowed = self._words[marks.ATTACHED_MAX] or marks.ATTACHED_MAX_DEFAULT
        gathered = gathering.attachments
        views = [dtypes.raw(attachment.data) for attachment in gathered]
        size = sum(view.nbytes for view in views)
        if size > allowed:
            raise ResultError(f"the result's attachments are too large: {size} bytes; attachments.max is {allowed}")
        self._interrupts.mask()
        try:
            self._send(call, gathered, views)
        finally:
            self._interrupts.unmask()
        return body

    def _send(self, call: int, gathered: list[Attachment], views: list[memoryview]) -> None:
        used: set[int] = set()
        for attachment, view in zip(gathered, views):
            with view:
                slab = self._slab_for(call, view.nbytes, used) if view.nbytes >= SLAB_FROM else None
                if slab is not None:
                    used.add(slab.id)
                    slab.map[: view.nbytes] = view
                name, dtype = attachment.name.encode(), attachment.dtype.encode()
                body = wire.ATTACH_BODY.pack(0 if slab is None else slab.id, len(dtype), len(attachment.shape),
                                             len(name), 0, view.nbytes)
                body += struct.pack(f"<{len(attachment.shape)}Q", *attachment.shape) + dtype + name
                if slab is None:
                    body += view
                self._channel.send(wire.frame(wire.ATTACHED, call, body))

    def _slab_for(self, call: int, size: int, used: set[int]) -> Optional[_Slab]:
        """The smallest slab that holds it and that nobody looks at; a new one; None: the supervisor has none."""
        best = None
        for slab in self._slabs.values():
            if slab.size >= size and slab.id not in used and not slab.is_seen():
                if best is None or slab.size < best.size:
                    best = slab
        if best is not None:
            return best
        return self._ask(call, size)

    def _ask(self, call: int, size: int) -> Optional[_Slab]:
        pending = self._channel.pending
        others = list(pending)  # they came before and have their turn later
        pending.clear()
        self._channel.send(wire.frame(wire.SLAB_WANTED, call, wire.U64.pack(size)))
        try:
            while True:
                frame = self._channel.receive()
                if frame[4] != wire.SLAB:
                    others.append(frame)
                    if len(others) > streams.PENDING_MAX:
                        raise wire.ProtocolError(f"more than {streams.PENDING_MAX} frames in front of a slab")
                    continue
                self.take(frame)
                op, id, _ = wire.SLAB_BODY.unpack_from(frame, wire.HEADER_SIZE)
                return self._slabs[id] if op == wire.SLAB_COMING else None
        finally:
            pending.extendleft(reversed(others))


def _unmap(slab: _Slab) -> None:
    try:
        slab.map.close()
    except BufferError:  # a view of which nobody knows: the mapping goes with it
        pass


def _is_attachment(value: Any) -> bool:
    return isinstance(value, Attachment) or dtypes.is_buffer(value)


class _Gathering:
    """The attachments of one result, in the order in which they are met."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> Callable[[Any], Any]:
        """Forgets everything; gives what encode_with() asks."""
        self.attachments: list[Attachment] = []
        # By the value's id. The value is kept, so that no other one gets its id.
        self._places: dict[int, tuple[Any, dict[str, str]]] = {}
        return self._stand_in

    def _stand_in(self, value: Any) -> Any:
        """What stands in the JSON for a value that JSON cannot write. Raises NoConversion, ConversionFailed, ResultError."""
        found = self._places.get(id(value))
        if found is None:
            if has_encoder(value) or not _is_attachment(value):
                return converted(value)
            attachment = value if isinstance(value, Attachment) else Attachment(value)
            found = self._places[id(value)] = (value, {"$attachment": self._add(attachment)})
        return found[1]

    @staticmethod
    def carried(value: Any) -> Union[bool, str, None]:
        """What explain() asks."""
        if has_encoder(value) or not _is_attachment(value):
            return None
        try:
            if isinstance(value, Attachment):
                dtypes.raw(value.data)
            elif not isinstance(value, (bytes, bytearray)):
                dtypes.described(value)
        except dtypes.NotCarried as error:
            return str(error)
        return True

    def _add(self, attachment: Attachment) -> str:
        name = attachment.name or str(len(self.attachments))
        if len(self.attachments) == COUNT_MAX:
            raise ResultError(f"a result has at most {COUNT_MAX} attachments")
        if any(name == known.name for known in self.attachments):
            raise ResultError(f"two attachments of the result are called {name!r}")
        if (len(name.encode()) > NAME_MAX or len(attachment.dtype.encode()) > DTYPE_MAX
                or len(attachment.shape) > DIMS_MAX):
            raise ResultError(f"attachment {name[:40]!r}: a name has at most {NAME_MAX} bytes, a dtype {DTYPE_MAX}, a "
                              f"shape {DIMS_MAX} extents")
        wrong = dtypes.fault(name, attachment.dtype, attachment.shape, len(attachment))
        if wrong:
            raise ResultError(f"the result's {wrong}")
        self.attachments.append(Attachment(attachment.data, name, attachment.dtype, attachment.shape))
        return name
