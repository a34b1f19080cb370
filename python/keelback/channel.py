"""Reads and writes whole frames on the data socket: joins frames that come in pieces, sends packets of at most 64 KiB.

A frame may span packets and a packet may hold frames, so the packets are read as one byte stream. The
common case, one frame in one packet, is not copied: the worker's loop takes it straight from the socket.
"""

from collections import deque
from collections.abc import Iterable
from typing import Union

from keelback import native, wire


class SupervisorGone(Exception):
    """The other end of the socket is closed."""


class Channel:
    """Blocking. Any thread sends. The main thread receives, or whoever inbox.py says."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.sending = native.allocate_lock()  # held while a frame is on its way: its packets come in a row
        self.pending: deque[bytes] = deque()  # whole frames that wait for their turn
        self._requests = 0

    def send(self, data: bytes) -> None:
        """Sends whole frames. Raises SupervisorGone."""
        with self.sending:
            self.put(data)

    def put(self, data: Union[bytes, bytearray]) -> None:
        """send() for who holds `sending`."""
        if not data:
            return  # an empty packet would read as the end of the socket
        try:
            if len(data) <= wire.PACKET_MAX:
                native.write(self.fd, data)
                return
            with memoryview(data) as view:
                for at in range(0, len(data), wire.PACKET_MAX):
                    native.write(self.fd, view[at : at + wire.PACKET_MAX])
        except (BrokenPipeError, ConnectionResetError):
            raise SupervisorGone from None

    def send_together(self, frames: Iterable[bytes]) -> None:
        """In a row, in as few packets as whole frames allow. Raises SupervisorGone."""
        packet: list[bytes] = []
        size = 0
        with self.sending:
            for frame in frames:
                if packet and size + len(frame) > wire.PACKET_MAX:
                    self.put(b"".join(packet))
                    packet, size = [], 0
                packet.append(frame)
                size += len(frame)
            self.put(b"".join(packet))

    def next_request(self) -> int:
        """A number for a nested call, which no other one has. For who holds `sending`."""
        self._requests += 1
        return self._requests

    def receive(self) -> bytes:
        """The next whole frame. Raises SupervisorGone, ProtocolError."""
        if not self.pending:
            self.accept(self.read())
        return self.pending.popleft()

    def read(self) -> bytes:
        try:
            packet = native.read(self.fd, wire.PACKET_MAX)
        except ConnectionResetError:
            packet = b""
        if not packet:
            raise SupervisorGone
        return packet

    def accept(self, packet: bytes) -> None:
        """Takes a packet that was read, reads on until it ends with a frame, and appends all frames to `pending`."""
        self.pending.extend(self.frames(packet))

    def frames(self, packet: bytes) -> list[bytes]:
        """The frames of a packet that was read; reads on until it ends with a frame. Raises as receive() does."""
        found = []
        data = bytearray(packet)
        at = 0
        while at < len(data):
            while len(data) - at < wire.HEADER_SIZE:
                data += self.read()
            length, kind, _, row, _ = wire.HEADER.unpack_from(data, at)
            if (row and kind != wire.CALL) or not wire.HEADER_SIZE <= length <= wire.FRAME_MAX:
                raise wire.ProtocolError(f"no frame starts like this: length {length}, type {kind}, row {row}")
            while len(data) - at < length:
                data += self.read()
            found.append(bytes(data[at : at + length]))
            at += length
        return found
