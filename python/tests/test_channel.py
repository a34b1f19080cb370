"""Frames across packets, in and out."""

import os
import random
import socket
import unittest

from supervisor import frame

from keelback import wire
from keelback.channel import Channel, SupervisorGone


class Frames(unittest.TestCase):
    def setUp(self):
        self.peer, self.own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(self.own.fileno())
        self.addCleanup(self.peer.close)
        self.addCleanup(self.own.close)

    def test_any_cut_of_the_byte_stream_gives_the_same_frames(self):
        source = random.Random(3)
        for _ in range(100):
            frames = [frame(source.randrange(256), source.randrange(1 << 64), os.urandom(source.choice((0, 1, 47, 48, 300))))
                      for _ in range(source.randrange(1, 8))]
            data = b"".join(frames)
            cuts = sorted(source.sample(range(1, len(data)), min(len(data) - 1, source.randrange(8))))
            for start, end in zip([0, *cuts], [*cuts, len(data)]):
                self.peer.send(data[start:end])
            self.assertEqual(frames, [self.channel.receive() for _ in frames])

    def test_what_is_no_frame_is_refused(self):
        for bad in (b"\x0f\x00\x00\x00" + bytes(12), bytes(16), frame(2)[:6] + b"\x01\x00" + bytes(8), b"\xff" * 16):
            self.peer.send(bad)
            with self.assertRaises(wire.ProtocolError):
                self.channel.receive()

    def test_a_large_frame_leaves_in_packets_of_at_most_64_kib(self):
        body = os.urandom(200_000)
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.channel.send(wire.frame(wire.RESULT, 7, body))
        packets = []
        while sum(map(len, packets)) < len(body) + 16:
            packets.append(self.peer.recv(1 << 20))
        self.assertLessEqual(max(map(len, packets)), 65536)
        self.assertEqual(frame(wire.RESULT, 7, body), b"".join(packets))

    def test_the_end_of_the_supervisor_is_seen_by_reader_and_writer(self):
        self.peer.send(frame(1)[:10])
        self.peer.close()
        with self.assertRaises(SupervisorGone):
            self.channel.receive()
        with self.assertRaises(SupervisorGone):
            self.channel.send(frame(1))


if __name__ == "__main__":
    unittest.main()
