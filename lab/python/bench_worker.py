"""What the worker's loop costs beside the least that a Python worker can do.

    python3 lab/python/bench_worker.py [--blocks 30] [--calls 2000]

The floor is `os.read → json.loads → function → json.dumps → os.write` with nothing around it: no framing, no names, no
deadline, no marks, no errors. Both loops run the same function on the same arguments over a SOCK_SEQPACKET pair, in
interleaved blocks, everything on one CPU. Round trips include the same client for both; "busy" is the loop's own CPU
time a call (getrusage of the process), without the client. The ratio is the median over blocks of worker / floor.
"""

import argparse
import json
import os
import platform
import resource
import socket
import statistics
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python"))

from keelback import functions, wire  # noqa: E402
from keelback.worker import Worker  # noqa: E402

ARGUMENTS = b'{"name":"Ada Lovelace","number":123456}'


def greet(name, number):
    return {"text": f"Hello, {name}!", "number": number + 1}


def floor_loop(fd):
    read, write, loads, dumps = os.read, os.write, json.loads, json.dumps
    while True:
        data = read(fd, 65536)
        if not data:
            os._exit(0)
        if data == b"usage":
            write(fd, _usage())
            continue
        write(fd, dumps(greet(**loads(data))).encode())


def worker_loop(fd):
    marks = os.memfd_create("marks")
    os.ftruncate(marks, 192 * 1024)
    control, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    functions.add(functions.Function("greet", greet))
    functions.add(functions.Function("usage", lambda: _usage().decode()))
    worker = Worker("0.1", fd, control.detach(), marks)
    worker.prepare()
    worker.ready(b"")
    worker.live()


def _usage():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return json.dumps(used.ru_utime + used.ru_stime).encode()


class Peer:
    def __init__(self, loop):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self.socket.close()
            loop(theirs.detach())
        theirs.close()

    def block(self, message, calls):
        """(seconds a call round trip, seconds a call of the loop's own CPU)"""
        write, read, fd = os.write, os.read, self.socket.fileno()
        before, began = self.usage(), time.perf_counter()
        for _ in range(calls):
            write(fd, message)
            read(fd, 65536)
        took = time.perf_counter() - began
        return took / calls, (self.usage() - before) / calls


class Floor(Peer):
    def __init__(self):
        super().__init__(floor_loop)

    def usage(self):
        self.socket.send(b"usage")
        return json.loads(self.socket.recv(65536))


class Keelback(Peer):
    def __init__(self):
        super().__init__(worker_loop)
        self.socket.recv(65536)  # READY

    def usage(self):
        self.socket.send(call_frame(b"usage", b""))
        return json.loads(json.loads(self.socket.recv(65536)[wire.HEADER_SIZE :]))


def call_frame(name, payload):
    body = struct.pack("<qQIIHHHH", time.monotonic_ns() + 10**12, 0, 0, 1, len(name), 0, 0, 0) + name + payload
    return wire.frame(wire.CALL, 1, body)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peers = {"floor": (Floor(), ARGUMENTS), "worker": (Keelback(), call_frame(b"greet", ARGUMENTS))}
    trips = {name: [] for name in peers}
    busy = {name: [] for name in peers}
    for name in list(peers) * options.blocks:
        peer, message = peers[name]
        trip, own = peer.block(message, options.calls)
        trips[name].append(trip * 1e6)
        busy[name].append(own * 1e6)
    print(f"python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, "
          f"Linux {platform.release()}, {options.blocks} blocks of {options.calls} calls, one CPU")
    for title, values in (("round trip", trips), ("busy", busy)):
        ratios = sorted(w / f for w, f in zip(values["worker"], values["floor"]))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        print(f"{title:>10}: floor {statistics.median(values['floor']):.2f} µs, worker "
              f"{statistics.median(values['worker']):.2f} µs, ratio {statistics.median(ratios):.3f} "
              f"(p10 {low:.3f}, p90 {high:.3f})")


if __name__ == "__main__":
    main()
