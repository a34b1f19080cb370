"""Imports the application once and forks workers of it, in milliseconds, when the supervisor orders one.

The zygote has one thread. It reaps only on order: a zombie keeps its pid and group for the supervisor
(docs/protocol.md, The zygote's order socket). When that socket closes, the zygote forks no more and waits until
its last worker has ended. Then it runs the exit functions that the import has registered, so that they cannot
remove something that a worker still needs.
"""

import array
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
from contextvars import Context, copy_context
from typing import Any, Optional

from keelback import (
    cgroups,
    commandline,
    contexts,
    descriptors,
    environment,
    errors,
    exits,
    functions,
    hooks,
    interrupts,
    lifeline,
    loading,
    logs,
    native,
    offspring,
    origins,
    safety,
    standard,
    wire,
)
from keelback.census import Census
from keelback.channel import SupervisorGone
from keelback.origins import Recorder
from keelback.safety import Checker
from keelback.seeds import Seeds
from keelback.worker import Worker, greeting

_PACKET_MAX = 192 * 1024  # bytes; a seqpacket socket's default buffer takes a little more
_HELLO_IN_READY = 160 * 1024  # bytes; a longer one comes before, in parts
_HELLO_PART = 64 * 1024  # characters, all ASCII; JSON may write two for one
_FDS = 4  # data, control, marks, log
_LOG = 3

_REAP_EVERY_MS = 50
_NAMED = 5  # things of a kind in a notice


class Zygote:
    def __init__(self, app: str, expose: list[str]) -> None:
        self._app = app
        self._expose = expose
        self._orders = socket.socket(fileno=descriptors.ORDERS)
        self._lifelines = lifeline.arm(descriptors.LIFELINE)
        self._recorder = Recorder()
        self._checker = Checker(self._recorder, loading.name_of(app))
        self._seeds = Seeds(self._recorder)
        self._hello = ""
        self._collects = True  # whether the application wants the garbage collector
        self._workers: set[int] = set()  # pids that were not reaped
        self._unreaped: set[int] = set()  # of those: to be reaped as soon as it can be
        self._log = -1  # in a fork of ours: the new worker's log
        self._environment: dict[str, Optional[str]] = {}  # what the next worker has otherwise; None: not at all
        self._fork_failure: Optional[BaseException] = None
        # Before the application registers its own: the child's part runs first, so that nothing of
        # the application's ever runs on what workers must not share.
        os.register_at_fork(after_in_child=self._part_from_zygote)

    def start(self) -> None:
        """Imports and sets up the application. Ends the process with status 1 if that fails."""
        sys.argv[:] = [self._app]
        offspring.note_starts()
        exits.note_ends()
        began = time.monotonic()
        step = "import"
        self._recorder.install()
        try:
            loading.load(self._app, self._expose)
            self._hello = loading.hello(self._app)
            step = "setup"
            for hook in hooks.of("setup"):
                _run_once(hook)
                self._recorder.sample(getattr(hook, "__module__", self._app))
            _import_for_workers()
            took = time.monotonic() - began
        except BaseException as error:
            self._send({"op": "failed", "step": step, **errors.describe_start(error)})
            exits.leave(1, run_exit_functions=True)
        interrupts.ignore_in_zygote()  # whatever imports made of it
        self._look_around()
        ready: dict[str, Any] = {"op": "ready", "import_s": round(took, 6)}
        if len(self._hello) <= _HELLO_IN_READY:
            ready["hello"] = {"pid": os.getpid(), **json.loads(self._hello)}
        else:
            for at in range(0, len(self._hello), _HELLO_PART):
                self._send({"op": "hello", "text": self._hello[at : at + _HELLO_PART]})
        unsafe = self._checker.unsafe()
        if unsafe:
            ready["unsafe"] = _refusal(unsafe)
        self._send(ready)

    def _look_around(self) -> None:
        """Once, after the import: what the forks to come must do and must not share."""
        self._recorder.remove()
        self._seeds.finish()
        self._collects = gc.isenabled()
        gc.disable()  # a collection would only touch pages that workers share
        logs.flush_handlers()
        census = Census()
        self._checker.look(census)
        if self._checker.unsafe():
            return  # the supervisor is told why, and nothing of the following happens
        files = [opening.target for opening in self._checker.anew.files]
        own = [_described(thing) for thing in self._seeds.unseeded(census.generators)]
        temporary = [f"{path} (by {origin.module or self._app})"
                     for path, origin in self._recorder.temporary if os.path.exists(path)]
        for text, things in (
            ("open after the import, each worker opens its own: {}", files),
            ("random generators made at import draw the same numbers in every forked worker: {}; "
             "make them in @keelback.worker_setup (docs/start-modes.md)", own),
            ("temporary files made at import are the same for every forked worker: {}; "
             "make them in @keelback.worker_setup if each needs its own (docs/start-modes.md)", temporary),
        ):
            if things:
                more = ", …" if len(things) > _NAMED else ""
                shown = ", ".join(sorted(things)[:_NAMED]) + more
                self._send({"op": "notice", "text": text.format(f"{len(things)} ({shown})")})

    def serve(self) -> None:
        while True:
            self._reap_what_can_be()
            packet, fds = self._receive()
            if not packet:
                self._end()
            try:
                order = json.loads(packet)
                if order["op"] == "fork" and len(fds) == _FDS:
                    self._environment = order.get("env", {})
                    self._fork(str(order["worker"]), int(order.get("kin", 0)), order.get("cgroup"), fds)
                elif order["op"] == "reap":
                    self._reap(int(order["pid"]))
                else:
                    raise ValueError("unknown, or without its descriptors")
            except (ValueError, KeyError, TypeError) as error:
                self._send({"op": "notice", "text": f"order not understood: {packet[:200]!r}: {error}"})
            finally:
                for fd in fds:
                    os.close(fd)

    def _end(self) -> None:
        """Nobody orders any more, and nobody reads the status of those that are left."""
        for pid in self._workers:
            _await_death(pid)
        exits.leave(0, run_exit_functions=True)

    def _receive(self) -> tuple[bytes, list[int]]:
        fds = array.array("i")
        if self._unreaped:
            self._await_order()
        # socket.recv_fds() forgets its flags, and without this one every program that user code starts inherits them.
        try:
            packet, ancillary, _, _ = self._orders.recvmsg(
                _PACKET_MAX, socket.CMSG_LEN(_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it was closed before all our answers were read
            return b"", []
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        return packet, list(fds)

    def _await_order(self) -> None:
        poll = native.poll()
        poll.register(self._orders, native.POLLIN)
        while self._unreaped and not poll.poll(_REAP_EVERY_MS):
            self._reap_what_can_be()

    def _fork(self, name: str, kin: int, place: Optional[dict[str, Any]], fds: list[int]) -> None:
        unsafe = self._checker.unsafe(fds, self._workers)
        if unsafe:
            self._send({"op": "unsafe", "worker": name, **_refusal(unsafe)})
            return
        logs.flush()
        gc.freeze()  # what exists now is never looked at by a worker's collector, so its pages stay shared
        self._log = fds[_LOG]
        try:
            pid = native.fork()
        except OSError as error:
            self._log = -1
            self._send({"op": "fork_failed", "worker": name, "errno": error.errno, "detail": str(error)})
            return
        if pid == 0:
            self._become_worker(name, kin, place, fds)
        self._log = -1
        self._workers.add(pid)
        try:
            os.setpgid(pid, pid)  # both sides do it: whoever is first, the group is there before it is needed
        except OSError:
            pass
        self._send({"op": "forked", "worker": name, "pid": pid})

    def _part_from_zygote(self) -> None:
        """In the child of any fork: first of all, if the fork is ours."""
        log, self._log = self._log, -1
        if log < 0:
            return
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            environment.change(self._environment)
            self._checker.anew.open_all(log)
            exits.forget_inherited()
        except BaseException as error:  # raised here, it would only be printed
            self._fork_failure = error

    def _become_worker(self, name: str, kin: int, place: Optional[dict[str, Any]], fds: list[int]) -> None:
        """In the child. Never returns."""
        try:
            offspring.take_kin(kin)
            data, control, marks, log = fds
            lifeline.lead_group()
            self._orders.detach()
            for fd in (log, descriptors.ORDERS, *self._lifelines):
                os.close(fd)
            signal.set_wakeup_fd(-1)
            worker = Worker(name, data, control, marks, zygote=os.getppid())
            worker.prepare()
            hello = wire.frame(wire.CONNECT, 0, wire.U32.pack(wire.PROTOCOL_VERSION)) + greeting(self._hello)
            try:
                if self._fork_failure is not None:
                    raise self._fork_failure
                if place and place["required"]:
                    cgroups.enter(place)
                    place = None
                worker.ready(hello, lambda: self._let_go_of_worker(place))
            except SupervisorGone:
                worker.leave(1)
            except BaseException as error:
                worker.start_failed("setup", error)
            worker.live()
        except BaseException as error:
            errors.log(f"worker {name} could not be made", error)
        finally:
            os._exit(1)

    def _let_go_of_worker(self, place: Optional[dict[str, Any]]) -> None:
        """In the child: what must be done before user code runs, and need not be done before it is ready.

        Until then it runs our code only, and finds its sockets closed if the supervisor is gone.
        """
        lifeline.arm(descriptors.LIFELINE)
        os.close(descriptors.LIFELINE)
        if self._collects:
            gc.enable()
        self._seeds.in_worker()
        if place:
            try:
                cgroups.enter(place)
            except OSError as error:
                errors.log("this worker has no control group", error)

    def _reap(self, pid: int) -> None:
        self._unreaped.add(pid)
        self._reap_what_can_be()
        if pid in self._unreaped and not _is_zombie(pid):
            self._unreaped.discard(pid)
            raise ValueError(f"{pid} is alive")

    def _reap_what_can_be(self) -> None:
        """A zombie cannot be had while its other threads are on their way out, nor while a debugger
        is attached to it. Nobody's start waits for that."""
        for pid in list(self._unreaped):
            try:
                if native.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            except ChildProcessError:
                pass  # not ours, or gone
            self._unreaped.discard(pid)
            self._workers.discard(pid)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._orders.send(_packet(message))
        except OSError:
            self._end()


def _refusal(unsafe: list[safety.Unsafe]) -> dict[str, Any]:
    first = unsafe[0]
    return {"what": first.what, "module": first.module, "detail": safety.in_words(unsafe), "bytes": safety.price()}


def _await_death(pid: int) -> None:
    """Returns when the process is dead, also while a debugger keeps its status from us."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # Python may have been built without it
        with contextlib.suppress(ChildProcessError):
            native.waitpid(pid, 0)
        return
    poll = native.poll()
    poll.register(process, native.POLLIN)
    poll.poll()
    os.close(process)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return False


def _run_once(hook: Any) -> None:
    answer = hook()
    if hasattr(answer, "__await__"):
        asyncio = standard.load("asyncio")
        # A loop of its own, closed at once: its descriptors must not be shared by workers.
        loop = asyncio.new_event_loop()
        try:
            contexts.adopt(loop.run_until_complete(_context_after(answer)))
        finally:
            loop.close()


async def _context_after(awaitable: Any) -> Context:
    await awaitable
    return copy_context()


def _import_for_workers() -> None:
    """What a worker would import after its fork."""
    if any(function.is_async or function.is_shared for function in functions.table().values()):
        standard.load("asyncio")


def _packet(message: dict[str, Any]) -> bytes:
    """JSON of at most _PACKET_MAX bytes: of a report that is longer, the middle of its texts is cut."""
    packet = json.dumps(message, ensure_ascii=False).encode(errors="replace")
    if len(packet) > _PACKET_MAX:
        short = {key: errors.cut(value, 8192) if isinstance(value, str) else value for key, value in message.items()}
        packet = json.dumps(short, ensure_ascii=False).encode(errors="replace")
    return packet


def _described(thing: Any) -> str:
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    name = origins.module_with(lambda value: value is thing)
    return f"{name}, a {kind}" if name else kind


def main(arguments: list[str]) -> None:
    options = commandline.parse(arguments, ("--app",))
    descriptors.claim(descriptors.ORDERS, descriptors.LIFELINE)
    lifeline.lead_group()
    logs.prepare()
    interrupts.ignore_in_zygote()
    zygote = Zygote(options["--app"], commandline.names(options["--expose"]))
    zygote.start()
    zygote.serve()
