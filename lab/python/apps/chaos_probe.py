"""The application that the chaos laboratory runs: its own functions beside, and a ledger around, the user's.

Every function, the user's too, first writes one line into an append-only file (KEELBACK_CHAOS_LEDGER): what a
worker began to do survives its death, so what callers were told can be compared with what happened. Workers that
start obey the control file (KEELBACK_CHAOS_CONTROL), through which the laboratory makes starts fail, hang or last.
KEELBACK_CHAOS_APP names the user's application; without it there are the laboratory's functions alone.

Lines of the ledger: ``E CALL SLOT.GENERATION BIRTH EPOCH SESSION KEY`` a function began, KEY is its first argument; ``O FAULT SLOT.GENERATION`` a
starting worker obeyed that fault.
"""

import ast
import asyncio
import atexit
import ctypes
import functools
import inspect
import itertools
import mmap
import os
import signal
import sys
import textwrap
import threading
import time
from typing import Any, Iterator, Optional

import keelback
from keelback import calls, functions, loading, sources

_LEDGER = os.environ.get("KEELBACK_CHAOS_LEDGER", "")
_CONTROL = os.environ.get("KEELBACK_CHAOS_CONTROL", "")
_SHARED = os.environ.get("KEELBACK_CHAOS_SHARED", "")
_APP = os.environ.get("KEELBACK_CHAOS_APP", "")
_HOLDER = ctypes.PyDLL(None)  # calls through PyDLL keep the GIL
_MASK = (1 << 64) - 1

_worker = "0.0"
_ledger_fd = -1


def _write(line: str) -> None:
    """One write to a file that only grows: whole lines, whatever else the other workers do."""
    if not _LEDGER:
        return
    global _ledger_fd
    if _ledger_fd < 0:
        _ledger_fd = os.open(_LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(_ledger_fd, line.encode())


def _note_effect(args: tuple[Any, ...]) -> None:
    call = calls.own_call()
    session = call.session
    first = args[0] if args else None
    named = isinstance(first, int) or isinstance(first, str) and first.isalnum() and len(first) < 40
    key = first if named else "-"
    if session is None:
        _write("".join(f"E {each.id} {_worker} 0 0 - {key}\n" for each in getattr(call, "_elements", (call,))))
    else:
        _write(f"E {call.id} {_worker} {session.birth} {session.epoch} {session.id} {key}\n")


@keelback.worker_setup
def _obey() -> None:
    global _worker, _ledger_fd
    _worker = os.environ.get("KEELBACK_WORKER", "0.0")
    _ledger_fd = -1  # of its own: nothing opened before the fork is used
    _write("")
    try:
        with open(_CONTROL) as file:
            orders = [line.split() for line in file]
    except OSError:
        return
    for fault, word, *rest in orders:
        _write(f"O {fault} {_worker}\n")
        if word == "fail":
            raise RuntimeError(f"the chaos laboratory's fault {fault}: worker_setup fails")
        if word == "exit":
            os._exit(int(rest[0]))
        if word == "sleep":
            time.sleep(int(rest[0]) / 1000)
        if word == "stay":
            atexit.register(time.sleep, 3600)
        if word == "hang":
            while True:
                time.sleep(3600)


# ---- the laboratory's functions


def _offer(word: str, idempotent: bool = False, **more: Any) -> Any:
    return keelback.function(name=f"chaos_{word}", idempotent=idempotent, **more)


@_offer("echo")
def _echo(value):
    return value


def _fnv(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & _MASK
    return value >> 1


@_offer("chain")
def _chain(token):
    """Appends the token to the session's chain: how many there are now, and the chain's value."""
    state = keelback.session().state
    n, h = state.get("keelback_chaos", (0, 0))
    n, h = n + 1, _fnv(f"{h:016x}{token:016x}")
    state["keelback_chaos"] = [n, h]  # as JSON has it: it may be saved
    return {"n": n, "h": h, "t": token}


@_offer("sleep")
def _sleep(ms):
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        calls.check_cancelled()
        time.sleep(min(left, 0.01))
    return ms


@_offer("spin")
def _spin(ms):
    end = time.monotonic() + ms / 1000
    while time.monotonic() < end:
        pass
    return ms


@_offer("hold")
def _hold(ms):
    """Keeps the GIL in a C call; a second lock of a mutex waits until its time is over, and no signal wakes it."""
    mutex, until = ctypes.create_string_buffer(64), time.time_ns() + ms * 1_000_000
    _HOLDER.pthread_mutex_lock(mutex)
    _HOLDER.pthread_mutex_timedlock(mutex, (ctypes.c_long * 2)(*divmod(until, 1_000_000_000)))
    return ms


# ---- those whose calls run beside each other in one worker

_TOGETHER = 64


@_offer("together", concurrency=_TOGETHER)
async def _together(ms):
    await asyncio.sleep(ms / 1000)
    return ms


@_offer("threads", concurrency=8)
def _threads(ms):
    """Heeds no cancel: an interrupt ends it early."""
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.01))
    return ms


@_offer("together_chain", concurrency=_TOGETHER)
async def _together_chain(token, ms):
    """As `chain`, with a pause between reading and writing: two calls of a session at once would lose a step."""
    state = keelback.session().state
    n, h = state.get("keelback_chaos", (0, 0))
    await asyncio.sleep(ms / 1000)
    n, h = n + 1, _fnv(f"{h:016x}{token:016x}")
    state["keelback_chaos"] = [n, h]
    return {"n": n, "h": h, "t": token}


@_offer("together_stream", concurrency=_TOGETHER)
async def _together_stream(n, ms):
    for i in range(n):
        await asyncio.sleep(ms / 1000)
        yield i


@_offer("together_crash", concurrency=_TOGETHER)
async def _together_crash(ms):
    """As a broken C extension: the dying thread leads to this call."""
    await asyncio.sleep(ms / 1000)
    ctypes.string_at(0)


@_offer("together_die", concurrency=_TOGETHER)
async def _together_die(ms):
    """Nobody can know that it was this call."""
    await asyncio.sleep(ms / 1000)
    signal.raise_signal(signal.SIGKILL)


@_offer("together_block", concurrency=_TOGETHER)
async def _together_block(ms):
    """Keeps the event loop from turning."""
    time.sleep(ms / 1000)
    return ms


@_offer("together_stuck", concurrency=_TOGETHER)
async def _together_stuck(ms):
    """Swallows every cancel."""
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            pass
    return ms


@_offer("threads_hold", concurrency=8)
def _threads_hold(ms):
    """Keeps the GIL, so that no thread of the worker gets on."""
    return _hold(ms)


@_offer("threads_stuck", concurrency=8)
def _threads_stuck(ms):
    """Swallows every interrupt."""
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except BaseException:
            pass
    return ms


# ---- those that take many calls at once


@_offer("gather", batch=32, batch_wait="2ms")
def _gather(ms, act=""):
    """Takes as long as the longest of its calls; one that is to `raise` does so alone, one that is to `die` does not."""
    _sleep(max(ms))
    if "die" in act:
        _crash(signal.SIGSEGV)
    return [ValueError("this call was to fail") if each == "raise" else number for number, each in zip(ms, act)]


@_offer("fail")
def _fail(message):
    raise ValueError(message)


class _WithArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} {second}")
        self.lock = threading.Lock()  # and nothing can pickle it


class _Mute(Exception):
    def __str__(self):
        raise RuntimeError("it does not say")


class _Base(BaseException):
    pass


def _recurse(depth=0):
    return _recurse(depth + 1) + 1


def _group():
    several = getattr(sys.modules["builtins"], "ExceptionGroup", None)  # since 3.11
    return several("several", [ValueError("one"), KeyError("two")]) if several else ValueError("one")


_RAISED = {
    "plain": lambda: ValueError("plain"), "custom": lambda: _WithArguments(1, 2), "mute": _Mute, "base": _Base,
    "group": _group, "memory": MemoryError, "interrupt": KeyboardInterrupt, "exit": lambda: SystemExit(3),
    "stop": StopIteration, "generator_exit": GeneratorExit, "surrogate": lambda: ValueError("\ud800"),
    "huge": lambda: ValueError("x" * 4_000_000), "recursion": _recurse,
}


@_offer("raise")
def _raise(kind):
    raise _RAISED[kind]()


def _cyclic():
    loop: list = []
    loop.append(loop)
    return loop


def _deep():
    inner: list = []
    for _ in range(100_000):
        inner = [inner]
    return inner


_RETURNED = {
    "object": object, "nan": lambda: float("nan"), "cyclic": _cyclic, "deep": _deep,
    "keys": lambda: {(1, 2): 3}, "complex": lambda: 1j, "module": lambda: sys,
}


@_offer("return")
def _return(kind):
    return _RETURNED[kind]()


_kept = []


@_offer("keep")
def _keep(size):
    """Keeps so many bytes for ever: a leak."""
    _kept.append(b"\x01" * size)
    return size


@_offer("keep_files")
def _keep_files(count):
    _kept.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(count))
    return count


@_offer("keep_threads")
def _keep_threads(count):
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return count


_names = itertools.count()


@_offer("keep_shared")
def _keep_shared(size):
    """Shared memory with a name, which outlives this process until the laboratory removes it."""
    file = os.open(f"{_SHARED}/{os.getpid()}-{next(_names)}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, size)
        segment = mmap.mmap(file, size)
    finally:
        os.close(file)
    segment[:] = b"\x01" * size
    _kept.append(segment)
    return size


@_offer("crash")
def _crash(number):
    signal.signal(number, signal.SIG_DFL) if number not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), number)
    time.sleep(60)  # the signal may take a moment to be delivered


@_offer("exit")
def _exit(code):
    os._exit(code)


@_offer("unserialisable")
def _unserialisable():
    return object()


@_offer("blob")
def _blob(size):
    return "x" * size


@_offer("alloc")
def _alloc(size):
    return len(bytearray(size))


@_offer("open")
def _open(count):
    """Opens and closes so many files at once."""
    files = []
    try:
        for _ in range(count):
            files.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for fd in files:
            os.close(fd)
    return count


@_offer("about")
def _about():
    """Of each function of the application that swallows everything: where, and with which words."""
    found = {name: _swallows(inspect.unwrap(each.target)) for name, each in functions.table().items()
             if not name.startswith("chaos_")}
    return {name: where for name, where in found.items() if where}


@_offer("locks")
def _locks():
    """The locks that are held now, of those in the application's modules and in the objects that stand there."""
    return sorted(_held_in(sys.modules))


def _held_in(modules: Any) -> Iterator[str]:
    for name, module in list(modules.items()):
        if not _is_the_applications(module):
            continue
        for word, value in list(vars(module).items()):
            if _is_held(value):
                yield f"{name}.{word}"
            elif type(value).__module__ == name or isinstance(value, (threading.Condition, threading.Semaphore)):
                yield from (f"{name}.{word}.{part}" for part, each in _parts(value) if _is_held(each))
            if inspect.isclass(value) and value.__module__ == name:
                yield from (f"{name}.{word}.{part}" for part, each in _parts(value) if _is_held(each))


def _parts(value: Any) -> list[tuple[str, Any]]:
    return list(getattr(value, "__dict__", {}).items())


def _is_held(value: Any) -> bool:
    """A plain lock; one that its own thread may take again is in nobody's way here."""
    return isinstance(value, type(threading.Lock())) and value.locked()


def _is_the_applications(module: Any) -> bool:
    """Neither the standard library nor Keelback; what is installed counts."""
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and not sources.is_ours(path) and not sources.is_standard(path)


def _swallows(target: Any) -> Optional[str]:
    """Its first handler that catches KeyboardInterrupt too and neither raises nor leaves; None: there is none in sight."""
    try:
        lines, first = inspect.getsourcelines(target)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        path = inspect.getsourcefile(target)
    except (OSError, TypeError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler) or not _catches_everything(node.type):
            continue
        if any(isinstance(each, (ast.Raise, ast.Return, ast.Break)) for each in ast.walk(node)):
            continue
        at = first + node.lineno - 1
        return f"{os.path.basename(path or '?')}:{at}: `{lines[node.lineno - 1].split('#')[0].strip()}`"
    return None


def _catches_everything(kind: Optional[ast.expr]) -> bool:
    if kind is None:
        return True
    if isinstance(kind, ast.Tuple):
        return any(map(_catches_everything, kind.elts))
    return isinstance(kind, ast.Name) and kind.id in ("BaseException", "KeyboardInterrupt")


# ---- around every function


def _with_ledger(target: Any) -> Any:
    if inspect.isasyncgenfunction(target):

        @functools.wraps(target)
        async def stream_later(*args: Any, **kwargs: Any) -> Any:
            _note_effect(args)
            async for item in target(*args, **kwargs):
                yield item

        return stream_later
    if inspect.iscoroutinefunction(target):

        @functools.wraps(target)
        async def later(*args: Any, **kwargs: Any) -> Any:
            _note_effect(args)
            return await target(*args, **kwargs)

        return later
    if inspect.isgeneratorfunction(target):

        @functools.wraps(target)
        def stream(*args: Any, **kwargs: Any) -> Any:
            _note_effect(args)
            yield from target(*args, **kwargs)

        return stream

    @functools.wraps(target)
    def now(*args: Any, **kwargs: Any) -> Any:
        _note_effect(args)
        return target(*args, **kwargs)

    return now


def _assemble() -> None:
    if _APP:
        loading.load(_APP, [])
    for each in functions.table().values():
        each.target = _with_ledger(each.target)


_assemble()
