"""Functions that attack what they run in: the walls of docs/security.md are tested with them."""
import ctypes
import gc
import http.client
import json
import os
import signal
import socket
import time

import keelback

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@keelback.function
def add(a, b):
    return a + b


@keelback.function
def pid():
    return os.getpid()


@keelback.function
def daemonise():
    """The pid of a process that has left its group, its session, its parents, its descriptors and its environment."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            os.closerange(0, 256)
            os.chdir("/")
            os.execve("/bin/sleep", ["sleep", "1000"], {})
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    found = int(os.read(read, 32))
    os.close(read)
    deadline = time.monotonic() + 10
    while open(f"/proc/{found}/cmdline").read().split("\0")[0] != "sleep" and time.monotonic() < deadline:
        time.sleep(0.001)
    return found


@keelback.function
def grow_and_wait(size):
    held = bytearray(os.urandom(1 << 20)) * (size >> 20)
    time.sleep(1000)
    return len(held)


def _refused(attack):
    """None: the attack worked. Else the name of the error."""
    try:
        attack()
    except OSError as error:
        return type(error).__name__
    return None


def _trace(victim):
    if _libc.ptrace(PTRACE_ATTACH, victim, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(victim, 0x40000000)
    _libc.ptrace(PTRACE_DETACH, victim, None, None)


def _take_descriptor(victim):
    handle = _libc.syscall(SYS_PIDFD_OPEN, victim, 0)
    taken = _libc.syscall(SYS_PIDFD_GETFD, handle, 3, 0)
    error = ctypes.get_errno()
    os.close(handle)
    if taken < 0:
        raise OSError(error, "pidfd_getfd")
    os.close(taken)


@keelback.function
def attack(victim):
    """What each attack on a process of ours ends with."""
    return {
        "trace": _refused(lambda: _trace(victim)),
        "memory": _refused(lambda: open(f"/proc/{victim}/mem", "rb").close()),
        "environment": _refused(lambda: open(f"/proc/{victim}/environ", "rb").read()),
        "descriptors": _refused(lambda: os.listdir(f"/proc/{victim}/fd")),
        "take": _refused(lambda: _take_descriptor(victim)),
    }


def _connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


@keelback.function
def reach(victims, files, sockets):
    """What each way out to signal, to read and to connect ends with."""
    return {
        **{f"signal {pid}": _refused(lambda pid=pid: os.kill(pid, 0)) for pid in victims},
        **{f"read {path}": _refused(lambda path=path: open(path, "rb").close()) for path in files},
        **{f"connect {path}": _refused(lambda path=path: _connect(path)) for path in sockets},
    }


@keelback.function
def environment_of(victim):
    with open(f"/proc/{victim}/environ", "rb") as file:
        return file.read().decode(errors="replace") + "".join(f"{k}={v}\0" for k, v in os.environ.items())


@keelback.function
def forge(body):
    """Says something in place of the runtime."""
    from keelback import calls, wire

    channel = next(thing for thing in gc.get_objects() if type(thing).__name__ == "Channel")
    channel.send(wire.frame(wire.RESULT, calls.here.call.id, body.encode("latin-1")))
    time.sleep(1000)


@keelback.function
def patch(path, values):
    """Changes the configuration through the Unix socket, and tells the status."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("PATCH", "/v1/config", json.dumps(values), {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


@keelback.function
def kill(victim):
    os.kill(victim, signal.SIGKILL)
