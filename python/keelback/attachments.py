"""Bytes that travel beside the JSON, of a call and of its result.

From 64 KiB on they lie in slabs: shared memory that the supervisor owns (docs/protocol.md, Attachments). A
function gets a copy, which it may keep. With `zero_copy=True` it gets a view, which is valid until its call
ends. If user code still holds a view after that, the worker keeps the slab for it, and no process writes
there again.
"""

import _socket
import copy
import mmap
import os
import struct
import sys
from typing import Any, Callable, NamedTuple, Optional, Union

from keelback import calls, dtypes, encoding, fields, marks, wire
from keelback.arguments import Filled
from keelback.attachment import Attachment, why_not
from keelback.channel import Channel
from keelback.conversions import converted, has_encoder
from keelback.encoding import ResultError

SLAB_FROM = 64 * 1024  # bytes; smaller ones travel in their frame
COUNT_MAX = 64


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


class _Entry(NamedTuple):
    """One attachment of a call, and where its bytes are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content_type: str
    filename: str
    source: Any
    at: int
    size: int

    def attachment(self, data: Any) -> Attachment:
        made = Attachment(data, self.name, self.dtype, self.shape)
        made.content_type = self.content_type  # whatever the client has written
        made.filename = self.filename
        return made

    def copy(self) -> Attachment:
        end = self.at + self.size
        if not self.dtype:
            return self.attachment(bytes(_buffer(self.source)[self.at : end]))
        with memoryview(_buffer(self.source)) as whole, whole[self.at : end] as part:
            return self.attachment(bytearray(part))  # an array is there to be written to


class Carried:
    """The attachments of one call. A copy is made when user code asks for it, and only once."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._copies: Optional[dict[str, list[Attachment]]] = None
        self._views: Optional[dict[str, list[Attachment]]] = None
        self._lent: list[memoryview] = []
        self.wrong: Optional[str] = None  # the first that is no array

    def add(self, name: str, dtype: str, shape: tuple[int, ...], content_type: str, filename: str,
            source: Any, at: int, size: int) -> None:
        name = name or str(len(self._entries))
        self.wrong = self.wrong or dtypes.fault(name, dtype, shape, size)
        self._entries.append(_Entry(name, dtype, shape, content_type, filename, source, at, size))

    def add_frame(self, frame: bytes, slabs: "dict[int, _Slab]") -> None:
        """What one ATTACH says. Raises ProtocolError."""
        fixed = wire.ATTACH_BODY.unpack_from(frame, wire.HEADER_SIZE)
        slab, dtype_len, dims, name_len, offset, size, filename_len, type_len = fixed
        at = wire.HEADER_SIZE + wire.ATTACH_BODY.size
        shape = struct.unpack_from(f"<{dims}Q", frame, at)
        at += 8 * dims
        dtype = frame[at : at + dtype_len].decode(errors="replace")
        at += dtype_len
        name = frame[at : at + name_len].decode(errors="replace")
        at += name_len
        filename = frame[at : at + filename_len].decode(errors="surrogateescape")
        at += filename_len
        content_type = frame[at : at + type_len].decode(errors="replace")
        at += type_len
        said = (name, dtype, shape, content_type, filename)
        if not slab:
            self.add(*said, frame, at, size)
        elif slab in slabs and offset + size <= slabs[slab].size:
            self.add(*said, slabs[slab], offset, size)
        else:
            raise wire.ProtocolError(f"an attachment in slab {slab}, which is not here")

    def fill(self, function: Any, kwargs: dict[str, Any]) -> None:
        """Makes arguments of them where a parameter has their name.

        Raises TypeError, also if the JSON has that argument too: neither may win; ArgumentError, Misfit.
        """
        if self.wrong:
            raise TypeError(self.wrong)
        names = function.attachable
        if names:
            for name, attachments in self.groups(function.zero_copy).items():
                if name not in names:
                    continue
                if name in kwargs:
                    raise TypeError(f"argument {name!r} is given twice: in the JSON and as an attachment")
                value = self.argument(name, function.plan(name), attachments, function.zero_copy)
                kwargs[name] = Filled(value) if name in function.arguments.converters else value

    def all(self, zero_copy: bool) -> dict[str, Union[Attachment, list[Attachment]]]:
        """By name; several of one name are a list."""
        return {name: each[0] if len(each) == 1 else each
                for name, each in self.groups(zero_copy).items()}

    def groups(self, zero_copy: bool) -> dict[str, list[Attachment]]:
        """All of each name, in the caller's order."""
        made = self._views if zero_copy else self._copies
        if made is None:
            made = {}
            for entry in self._entries:
                each = self._view(entry) if zero_copy else entry.copy()
                made.setdefault(entry.name, []).append(each)
            if zero_copy:
                self._views = made
            else:
                self._copies = made
        return made

    def _view(self, entry: _Entry) -> Attachment:
        whole = memoryview(_buffer(entry.source))
        view = whole[entry.at : entry.at + entry.size]
        whole.release()
        self._lent.append(view)
        return entry.attachment(view)

    def argument(self, name: str, plan: fields.Plan, attachments: list[Attachment],
                 zero_copy: bool) -> Any:
        """Raises ArgumentError."""
        value = fields.argument(name, plan, attachments, zero_copy)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, memoryview):
                self._lent.append(each)
        return value

    def release(self) -> None:
        """The call is over: views that user code does not hold end here."""
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
    """The object that has the bytes. An entry stores the slab and not its mapping, which would count as a view."""
    return source.map if isinstance(source, _Slab) else source


class Slabs:
    """A worker's side of attachments. Main thread only."""

    def __init__(self, channel: Channel, words: Any, interrupts: Any) -> None:
        self._channel = channel
        self._words = words
        self._interrupts = interrupts
        self._slabs: dict[int, _Slab] = {}
        self._kept: dict[int, _Slab] = {}
        self._carried = Carried()

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
            socket.settimeout(None)  # user code may have set another default, which makes the descriptor non-blocking
            _, beside, _, _ = socket.recvmsg(wire.PACKET_MAX, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        finally:
            socket.detach()
        if len(beside) != 1 or len(beside[0][2]) != 4:
            raise wire.ProtocolError(f"slab {id} came without its descriptor")
        return struct.unpack("i", beside[0][2])[0]

    def attach(self, frame: bytes) -> None:
        """ATTACH: one attachment of the call that comes next. Raises ProtocolError."""
        self._carried.add_frame(frame, self._slabs)

    def forget_call(self) -> None:
        """The call that ATTACH has announced is a shared one: not ours."""
        self._carried.release()

    # ---- a call

    def begin(self, function: Any, kwargs: dict[str, Any]) -> None:
        """The call that ATTACH announced: see Carried.fill()."""
        calls.here.attached = self._carried
        self._carried.fill(function, kwargs)

    def end(self) -> bytes:
        """Frames to send before the answer: the slabs that user code still holds, and those that it has let go."""
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
        allowed = self._words[marks.ATTACHED_MAX] or marks.ATTACHED_MAX_DEFAULT
        body, gathered, views = _gathered(value, most, allowed)
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
                self._channel.send(_attached(call, attachment, view, 0 if slab is None else slab.id))

    def _slab_for(self, call: int, size: int, used: set[int]) -> Optional[_Slab]:
        """The smallest free slab that it fits into, or a new one. None: the supervisor has none."""
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
                    if len(others) > wire.PENDING_MAX:
                        raise wire.ProtocolError(f"more than {wire.PENDING_MAX} frames in front of a slab")
                    continue
                self.take(frame)
                op, id, _ = wire.SLAB_BODY.unpack_from(frame, wire.HEADER_SIZE)
                return self._slabs[id] if op == wire.SLAB_COMING else None
        finally:
            pending.extendleft(reversed(others))


def encode_inline(call: int, value: Any, limits: marks.Marks) -> tuple[list[bytes], bytes]:
    """The frames that come before the result of a call that does not run alone, and its JSON. Raises ResultError."""
    most = limits.result_max()
    try:
        body = encoding.encode(value)
    except TypeError:
        allowed = limits.words[marks.ATTACHED_MAX] or marks.ATTACHED_MAX_DEFAULT
        body, gathered, views = _gathered(value, most, allowed)
        frames = []
        for attachment, view in zip(gathered, views):
            with view:
                frames.append(_attached(call, attachment, view, 0))
        return frames, body
    except Exception as error:
        raise ResultError(encoding.explain(value, error)) from None
    if len(body) > most:
        raise ResultError(encoding.too_large(len(body), most))
    return [], body


def _gathered(value: Any, most: int, allowed: int) -> tuple[bytes, list[Attachment], list[memoryview]]:
    """The result's JSON, its attachments and their bytes. Raises ResultError."""
    gathering = _Gathering()
    try:
        body = encoding.encode_with(value, gathering.begin)
    except ResultError:
        raise
    except Exception as error:
        raise ResultError(encoding.explain(value, error, gathering.carried)) from None
    if len(body) > most:
        raise ResultError(encoding.too_large(len(body), most))
    views = [dtypes.raw(attachment.data) for attachment in gathering.attachments]
    size = sum(view.nbytes for view in views)
    if size > allowed:
        raise ResultError(f"the result's attachments are too large: {size} bytes; attachments.max is {allowed}")
    return body, gathering.attachments, views


def _attached(call: int, attachment: Attachment, view: memoryview, slab: int) -> bytes:
    """ATTACHED, with the bytes where there is no slab that has them."""
    name, dtype = attachment.name.encode(), attachment.dtype.encode()
    filename = attachment.filename.encode(errors="surrogateescape")
    content_type = attachment.content_type.encode()
    body = wire.ATTACH_BODY.pack(slab, len(dtype), len(attachment.shape), len(name), 0, view.nbytes,
                                 len(filename), len(content_type))
    body += struct.pack(f"<{len(attachment.shape)}Q", *attachment.shape)
    body += dtype + name + filename + content_type
    if not slab:
        body += view
    return wire.frame(wire.ATTACHED, call, body)


def _unmap(slab: _Slab) -> None:
    try:
        slab.map.close()
    except BufferError:  # a view of which nobody knows: the mapping goes with it
        pass


def is_attachment(value: Any) -> bool:
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
        """The JSON that replaces a value that JSON cannot write.

        Raises NoConversion, ConversionFailed, ResultError, NotCarried.
        """
        found = self._places.get(id(value))
        if found is None:
            if has_encoder(value) or not is_attachment(value):
                return converted(value)
            given = value if isinstance(value, Attachment) else Attachment(value)
            found = self._places[id(value)] = (value, {"$attachment": self._add(given)})
        return found[1]

    @staticmethod
    def carried(value: Any) -> Union[bool, str, None]:
        """What explain() asks."""
        if has_encoder(value) or not is_attachment(value):
            return None
        try:
            if isinstance(value, Attachment):
                dtypes.raw(value.data)
            elif not isinstance(value, (bytes, bytearray)):
                dtypes.described(value)
        except dtypes.NotCarried as error:
            return str(error)
        return True

    def _add(self, given: Attachment) -> str:
        """Raises ResultError."""
        name = given.name or str(len(self.attachments))
        if len(self.attachments) == COUNT_MAX:
            raise ResultError(f"a result has at most {COUNT_MAX} attachments")
        if any(name == known.name for known in self.attachments):
            raise ResultError(f"two attachments of the result are called {name!r}")
        made = copy.copy(given)
        made.name = name
        wrong = why_not(made)
        if wrong:
            raise ResultError(f"the result's {wrong}")
        self.attachments.append(made)
        return name
