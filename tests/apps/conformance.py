"""The functions that every worker of the conformance suite has; keelback-fakeworker has them built in."""

import asyncio
import ctypes
import os
import signal
import threading
import time

import keelback

_HOLDER = ctypes.PyDLL(None)  # calls through PyDLL keep the GIL
_ended = []  # [id, reason] of each session that ended in this process


@keelback.on_session_end
def note_end(reason):
    _ended.append([keelback.session().id, reason])


@keelback.function
def ended():
    return _ended


@keelback.function(idempotent=True)
def echo(value):
    return value


@keelback.function(idempotent=True)
def typed(n: int):
    return n


@keelback.function
def counter():
    """Calls of this session so far, this one included."""
    state = keelback.session().state
    state["calls"] = state.get("calls", 0) + 1
    return state["calls"]


@keelback.function
def count():
    return counter()


@keelback.function
def peek():
    return keelback.session().state.get("calls", 0)


@keelback.function(idempotent=True)
def sleep(ms):
    """Heeds cancel and interrupt."""
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        keelback.check_cancelled()
        time.sleep(min(left, 0.01))
    return ms


@keelback.function(interruptible=True)
def nap(ms):
    """Heeds the interrupt only, and leaves everything whole."""
    time.sleep(ms / 1000)
    return ms


@keelback.function
def fail(message):
    raise ValueError(message)


@keelback.function
def crash(signal=11):
    os.kill(os.getpid(), signal)
    time.sleep(60)  # the signal may take a moment to be delivered


@keelback.function
def exit(code=0):
    os._exit(code)


@keelback.function
def hold(ms):
    """Keeps the GIL in a C call: nothing short of SIGKILL ends it early."""
    # A second lock of a mutex waits until its time is over; unlike usleep, signals do not wake it.
    mutex, until = ctypes.create_string_buffer(64), time.time_ns() + ms * 1_000_000
    _HOLDER.pthread_mutex_lock(mutex)
    _HOLDER.pthread_mutex_timedlock(mutex, (ctypes.c_long * 2)(*divmod(until, 1_000_000_000)))
    return ms


@keelback.function
def spin(ms):
    """A loop in pure Python: an interrupt ends it."""
    end = time.monotonic() + ms / 1000
    while time.monotonic() < end:
        pass
    return ms


@keelback.function
def items(n):
    yield from range(n)


@keelback.function
def pause(ms):
    """Two items, and a silence between them."""
    yield 0
    time.sleep(ms / 1000)
    yield 1


@keelback.function
def blob(bytes):
    return "x" * bytes


@keelback.function
def log(text, n=1):
    for _ in range(n):
        print(text)
    return n


@keelback.function(idempotent=True)
def pid():
    return os.getpid()


@keelback.function
def unserialisable():
    return object()


@keelback.function
def spoil():
    """Gives the session a state that no snapshot can carry."""
    keelback.session().state["spoilt"] = object()


@keelback.function
def append(path, line, ms=0):
    """An effect that outlives the worker: a line at the end of a file, in one write; `ms` before it and `ms` after it."""
    time.sleep(ms / 1000)
    _write_line(path, line)
    time.sleep(ms / 1000)


def _write_line(path, line):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


@keelback.function
def litter():
    """Leaves a thread behind that was not there before the call."""
    threading.Thread(target=threading.Event().wait).start()


_looked_at = []  # views of shared memory that outlive their call


def _carried():
    for each in keelback.attachments().values():
        yield from each if isinstance(each, list) else [each]


@keelback.function(idempotent=True)
def attach_echo():
    return list(_carried())


@keelback.function(idempotent=True)
def attach_sum():
    """The size and the sum of each attachment."""
    return [[len(each), sum(bytes(each))] for each in _carried()]


@keelback.function(idempotent=True)
def attach_make(n, bytes):
    return [b"abcdefghijklmnopqrstuvwxyz"[i % 26 : i % 26 + 1] * bytes for i in range(n)]


@keelback.function
def attach_keep():
    """Looks at its first attachment after its end: a slice is not released with the call."""
    for each in keelback.attachments(zero_copy=True).values():
        _looked_at.append(each.data[:])
        return len(each) >= 64 * 1024
    return False


@keelback.function
def attach_seen():
    return sum(sum(view) for view in _looked_at)


@keelback.function
def attach_drop():
    _looked_at.clear()


_TOGETHER = 64


@keelback.function(concurrency=_TOGETHER)
async def together(ms):
    await asyncio.sleep(ms / 1000)
    return ms


@keelback.function(concurrency=8)
def threads(ms):
    """The same in a thread; heeds cancel and interrupt."""
    return sleep(ms)


@keelback.function(concurrency=_TOGETHER)
async def together_stream(n, ms=0):
    for i in range(n):
        await asyncio.sleep(ms / 1000)
        yield i


@keelback.function(concurrency=_TOGETHER)
async def together_die(ms):
    """Nobody can know who it was."""
    await asyncio.sleep(ms / 1000)
    signal.raise_signal(signal.SIGKILL)


@keelback.function(concurrency=_TOGETHER)
async def together_crash(ms):
    """As a broken C extension."""
    await asyncio.sleep(ms / 1000)
    ctypes.string_at(0)


@keelback.function(concurrency=_TOGETHER)
async def together_exit(ms):
    await asyncio.sleep(ms / 1000)
    os._exit(3)


@keelback.function(concurrency=8)
def threads_crash(ms):
    """As together_crash, in a thread of its own."""
    time.sleep(ms / 1000)
    ctypes.string_at(0)


@keelback.function(concurrency=_TOGETHER)
async def together_stuck(ms):
    """Swallows every cancel."""
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            pass
    return ms


@keelback.function(concurrency=_TOGETHER)
async def together_block(ms):
    """Keeps the event loop from turning."""
    time.sleep(ms / 1000)
    return ms


@keelback.function(concurrency=_TOGETHER)
async def together_hold(ms):
    """Keeps the GIL, so that no thread of the worker gets on."""
    return hold(ms)


@keelback.function(concurrency=8)
def threads_late(ms):
    """Heeds no cancel: an interrupt ends it early."""
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.01))
    return ms


@keelback.function(concurrency=8)
def threads_stuck(ms):
    """One C call, which no interrupt ends."""
    time.sleep(ms / 1000)
    return ms


@keelback.function(concurrency=_TOGETHER)
async def append_together(path, line, ms=0):
    """A line at the end of a file, in one write, and `ms` after it."""
    _write_line(path, line)
    await asyncio.sleep(ms / 1000)


@keelback.function(concurrency=8)
def append_threads(path, line, ms=0):
    """The same in a thread; heeds cancel and interrupt."""
    _write_line(path, line)
    sleep(ms)


@keelback.function(concurrency=_TOGETHER)
async def count_together():
    """Calls of this session so far, this one included; it waits amid them."""
    calls = keelback.session().state.get("calls", 0) + 1
    await asyncio.sleep(0)
    keelback.session().state["calls"] = calls
    return calls


@keelback.function(batch=32, batch_wait="2ms")
def gather(ms: "list[int]", act: "list[str]" = ""):
    """Takes as long as the longest of its calls. `act`: raise: an error of that call alone; die: the end of the
    process; short: a list of another length; stuck: nothing but a kill ends it."""
    end = time.monotonic() + max(ms) / 1000
    while (left := end - time.monotonic()) > 0:
        try:
            keelback.check_cancelled()
            time.sleep(min(left, 0.01))
        except BaseException:
            if "stuck" not in act:
                raise
    if "die" in act:
        os.kill(os.getpid(), 11)
    if "short" in act:
        return ms[1:]
    return [ValueError("this call was to fail") if what == "raise" else each for each, what in zip(ms, act)]


keelback.function(batch=4, batch_wait="1m", name="gather_wait")(gather)  # its calls wait long for each other


@keelback.function(batch=8, batch_wait="2ms", stacked=True)
def stack(x):
    """Twice the arrays, and how many came together."""
    return x * 2 if hasattr(x, "shape") else [None] * len(x)


@keelback.function
def relay(function, arguments=(), session=None, timeout=None):
    """Calls another function, and answers its answer."""
    args, named = _spread(arguments)
    return keelback.call(function, *args, session=session, timeout=timeout, **named)


@keelback.function(concurrency=_TOGETHER)
async def relay_together(function, arguments=(), session=None, timeout=None):
    """The same, and waits on the event loop."""
    args, named = _spread(arguments)
    return await keelback.acall(function, *args, session=session, timeout=timeout, **named)


@keelback.function
def ask_host(name, arguments=()):
    """Calls a function of the program, and answers its answer."""
    args, named = _spread(arguments)
    return getattr(keelback.host, name)(*args, **named)


@keelback.function(concurrency=_TOGETHER)
async def ask_host_together(name, arguments=()):
    """The same, and waits on the event loop."""
    args, named = _spread(arguments)
    return await keelback.host.acall(name, *args, **named)


def _spread(arguments):
    return ((), arguments) if isinstance(arguments, dict) else (arguments, {})
