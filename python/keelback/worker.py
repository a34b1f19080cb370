"""A worker: takes calls from its socket, one at a time, and answers each exactly once.

Calls that run side by side are in sharing.py. `Worker.serve` is the hot path; docs/protocol.md describes its
messages. Started by exec as `start.py keelback.worker --app APP [--expose a,b] --worker SLOT.GENERATION`, or
by the zygote's fork.
"""

import functools
import gc
import os
import sys
from contextvars import Context
from typing import Any, Callable, Optional

from keelback import (
    answers,
    calls,
    commandline,
    contexts,
    control,
    descriptors,
    errors,
    exits,
    functions,
    hooks,
    lifeline,
    loading,
    logs,
    marks,
    native,
    offspring,
    ordering,
    snapshots,
    streams,
    wire,
)
from keelback.attachments import Slabs
from keelback.calls import Call, Cancelled
from keelback.channel import Channel, SupervisorGone
from keelback.coroutines import Runner, is_cancelled_error
from keelback.encoding import ResultError, decode, encode, encode_within, explain, too_large
from keelback.inbox import Inbox
from keelback.interrupts import ForksOfUserCode, Interrupts
from keelback.leftovers import Leftovers
from keelback.offspring import Offspring
from keelback.sessions import Session, SessionNotHere, SessionTable
from keelback.sharing import SharedCalls

_CALL_SIZE = wire.CALL_HEADER.size
_new_tuple = tuple.__new__
_pack = wire.HEADER.pack
_current = calls.current
_here = calls.here
# Names of this module cost the hot path half of what another module's do.
_STARTED, _ENDED, _CANCEL, _INTERRUPT, _RESULT_MAX = (
    marks.STARTED, marks.ENDED, marks.CANCEL, marks.INTERRUPT, marks.RESULT_MAX)
_RESULT_MAX_DEFAULT, _DUMPED = marks.RESULT_MAX_DEFAULT, marks.DUMPED
_SAVES = wire.CALL_SAVES_SESSION
# Stands among the frames that wait for their turn while the loop has something to do between calls:
# a worker whose loop has nothing to do pays nothing for it.
_LOOPS_TURN = wire.frame(0, 0)


class Shutdown(Exception):
    """The supervisor asked the worker to leave."""


class Worker:
    """The state of one worker; lives on the main thread."""

    def __init__(self, name: str, data: int, control_fd: int, marks_fd: int,
                 zygote: int = 0) -> None:
        self.name = name
        self.channel = Channel(data)
        self.marks = marks.Marks(marks_fd)
        self.words = self.marks.words
        self.interrupts = Interrupts(self.words)
        self.runner = Runner(self.words, self.interrupts)
        self.sessions = SessionTable()
        self.slabs = Slabs(self.channel, self.words, self.interrupts)
        self.offspring = Offspring(name, self.marks.inode(), zygote)
        self._control_fd = control_fd
        self.functions: dict[bytes, functions.Function] = {}
        self._leftovers: Any = None
        self.new_context = contexts.maker()
        self._given: Any = None  # the last RESTORE: call, format, state
        self._forked = False
        self._loop_has_turn = False  # _LOOPS_TURN waits
        self._shared: Optional[SharedCalls] = None  # made for the first shared call
        self._batches: Any = None  # made for the first batch
        self._inbox: Optional[Inbox] = None  # made for the first stream that waits, or the first nested call
        self._main_thread = native.get_ident()

    def prepare(self) -> None:
        """Everything that needs no application."""
        self.interrupts.install()
        self.marks.register_dump()
        _here.words = self.words
        _here.retire = self._retire
        _here.requests_of = self._requests_of
        os.environ["KEELBACK_WORKER"] = self.name
        self.words[marks.ORDERED] = ordering.register()
        offspring.forget_starts()
        forks = ForksOfUserCode()
        os.register_at_fork(before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child)
        os.register_at_fork(after_in_child=self._after_users_fork)

    def ready(self, greeting: bytes, before_user_code: Callable[[], None] = lambda: None) -> None:
        """Sends `greeting` and READY, after the hooks of this worker. Raises what a hook raises.

        Calls `before_user_code` before the hooks; if there are none, while the supervisor takes note of READY.
        """
        hooks_of_worker = hooks.of("worker_setup")
        if hooks_of_worker:
            before_user_code()
            if greeting:  # an empty packet would look like the end of the stream
                self.channel.send(greeting)
            greeting = b""
            for hook in hooks_of_worker:
                self.run_hook(0, hook)
            self.runner.adopt_tasks(for_good=True)
        self.functions = {name.encode(): function for name, function in functions.table().items()}
        _here.shared = any(function.is_shared for function in self.functions.values())
        self._leftovers = Leftovers()
        self.new_context = contexts.maker()
        self.channel.send(greeting + wire.frame(wire.READY, 0))
        # Its first steps, too, are over when the first call is there: a stack dump meets one thread at work.
        handlers = control.Handlers(self._on_cancel, self._on_interrupt, self._on_loop, self._whose_turn)
        control.start(self._control_fd, self.marks, handlers)
        if not hooks_of_worker:
            before_user_code()

    def serve(self) -> None:
        """Answers calls until it is told to leave or the supervisor is gone."""
        fd, pending = self.channel.fd, self.channel.pending
        read, write = native.read, native.write
        unpack, run = wire.CALL_HEADER.unpack_from, self._run
        try:
            while True:
                frame = pending.popleft() if pending else read(fd, wire.PACKET_MAX)
                if len(frame) >= _CALL_SIZE:
                    fields = unpack(frame)
                    if fields[0] == len(frame) and fields[1] == wire.CALL and not fields[3]:
                        reply = run(frame, fields)
                        if len(reply) <= wire.PACKET_MAX:
                            write(fd, reply)
                        else:
                            self.channel.send(reply)
                        continue
                self._other(frame)
        except (SupervisorGone, BrokenPipeError, ConnectionResetError):
            self.leave(1)
        except Shutdown:
            self.end_all_sessions()
            self.runner.end()
            exits.leave(0, run_exit_functions=True)

    def leave(self, status: int) -> None:
        exits.leave(status, run_exit_functions=False)

    def start_failed(self, step: str, error: BaseException) -> None:
        body = errors.as_json({"step": step, **errors.describe_start(error)})
        try:
            self.channel.send(wire.frame(wire.START_FAILED, 0, body))
        except SupervisorGone:
            pass
        exits.leave(1, run_exit_functions=True)  # an import that failed half-way has made things, too

    # ---- a call

    def _run(self, frame: bytes, fields: tuple[int, ...]) -> bytes:
        """The call's last frame. In one piece, because every call of a helper would be paid by every call."""
        _, _, _, _, call, deadline, birth, epoch, attempt, name_len, session_len, trace_len, callflags = fields
        at = _CALL_SIZE + name_len
        function = self.functions.get(frame[_CALL_SIZE:at])
        session, trace = None, b""
        if session_len or trace_len:
            try:
                if session_len:
                    if callflags & _SAVES:
                        return self._run_and_save(frame, fields)
                    session = self._session(call, frame[at : at + session_len], birth, epoch, callflags)
            except SessionNotHere as error:
                return answers.failed(call, wire.KIND_ERROR, error)
            at += session_len
            trace = frame[at : at + trace_len]
            at += trace_len
        if function is None:
            name = frame[_CALL_SIZE : _CALL_SIZE + name_len].decode(errors="replace")
            return answers.failed(call, wire.KIND_UNKNOWN_FUNCTION, LookupError(f"there is no function {name!r}"))
        try:
            kwargs = decode(frame[at:]) if at < len(frame) else {}
            args: Any = ()
            if type(kwargs) is not dict:
                if type(kwargs) is not list:
                    raise TypeError("arguments are a JSON object (keywords) or an array (positions)")
                args, kwargs = kwargs, {}
            if callflags & wire.CALL_HAS_ATTACHMENTS:
                self.slabs.begin(function, kwargs)
            if function.bind(*args, **kwargs):
                args, kwargs = function.convert(args, kwargs)
        except MemoryError:
            del frame
            kwargs = args = None
            return answers.failed(call, wire.KIND_ERROR, MemoryError("there is no memory for the call's arguments; the function did not run"))
        except Exception as error:
            return answers.bad_request(call, error)

        words = self.words
        if words[_DUMPED]:  # of an earlier call; until now the supervisor could read it
            self.marks.rewind_dump()
        _here.call = about = _new_tuple(Call, (call, deadline, session, attempt, trace))
        _current.set(about)
        context = self.new_context()
        failure: Optional[BaseException] = None
        result = None
        try:
            try:
                words[_STARTED] = call
                if words[_CANCEL] == call:  # looked at after the mark: docs/protocol.md, Marks
                    words[_STARTED] = words[_ENDED]
                    _here.call = None
                    return answers.failed(call, wire.KIND_CANCELLED, Cancelled("the call was cancelled before it started"))
                if session is not None and not session.opened:
                    context.run(self._open, call, session)
                if function.is_plain:
                    result = context.run(function.target, *args, **kwargs)
                else:
                    result = context.run(self._answer, call, function, args, kwargs, callflags)
                words[_ENDED] = call
            except BaseException as error:
                failure = error
                words[_ENDED] = call
        except BaseException as error:  # the one interrupt of this call, while the above was being noted
            failure = error
            words[_ENDED] = call
        _here.call = None

        leftovers = self._leftovers
        flags = 0  # as in flags_after()
        if (leftovers.threads != leftovers.active or words[_CANCEL] == call or function.is_async
                or self.interrupts.raised == call):
            flags = self._aftermath(call, function)
        if failure is not None:
            try:
                return self._failed(call, failure, flags)
            finally:
                failure = None  # its traceback holds this frame: what the call used is freed now, not some day
        if not function.is_plain:
            return answers.finished(call, result, flags)
        try:
            body = encode(result)
        except BaseException as error:
            return self._with_attachments(call, result, error, flags)
        if len(body) > (words[_RESULT_MAX] or _RESULT_MAX_DEFAULT):
            too_much = ResultError(too_large(len(body), self.marks.result_max()))
            return answers.failed(call, wire.KIND_ERROR, too_much, flags)
        return _pack(wire.HEADER_SIZE + len(body), wire.RESULT, flags, 0, call) + body

    def _with_attachments(self, call: int, result: Any, error: BaseException, flags: int) -> bytes:
        """What JSON alone cannot carry."""
        if not isinstance(error, TypeError):
            return answers.failed(call, wire.KIND_ERROR, ResultError(explain(result, error)), flags)
        try:
            return answers.finished(call, self.slabs.encode(call, result, self.marks.result_max()), flags)
        except ResultError as refused:
            return answers.failed(call, wire.KIND_ERROR, refused, flags)

    def _call_with_attachments(self, frame: bytes) -> None:
        """ATTACH frames and the CALL that they announce come in a row."""
        turn = self._loop_has_turn
        if turn:
            self.channel.pending.remove(_LOOPS_TURN)
        attached = []
        while frame[4] == wire.ATTACH:
            attached.append(frame)
            self.slabs.attach(frame)
            frame = self.channel.receive()
        if frame[4] != wire.CALL:
            raise wire.ProtocolError(f"a frame of type {frame[4]} in place of the call that has attachments")
        if turn:
            self.channel.pending.append(_LOOPS_TURN)
        if wire.HEADER.unpack_from(frame)[3]:
            self.slabs.forget_call()
            self._share(frame, attached)
            return
        reply = self._run(frame, wire.CALL_HEADER.unpack_from(frame))
        notes = self.slabs.end()
        self.channel.send(notes + reply if notes else reply)

    def _batch(self, frame: bytes) -> None:
        """BATCH: the calls that follow are run together."""
        if self._batches is None:
            from keelback.batches import Batches  # is imported, if a function takes batches

            self._batches = Batches(self)
        turn = self._loop_has_turn
        if turn:
            self.channel.pending.remove(_LOOPS_TURN)
        self._batches.run(frame)
        if turn:
            self.channel.pending.append(_LOOPS_TURN)

    def flags_after(self, call: int, function: functions.Function, cancelled: bool) -> int:
        """The flags of the answer of a batch: see _run(), where this is written out."""
        leftovers = self._leftovers
        if leftovers.threads == leftovers.active and not cancelled and self.interrupts.raised != call:
            return 0
        return self._aftermath(call, function)

    def answer_plainly(self, call: int, function: functions.Function, args: Any, kwargs: Any) -> bytes:
        """The result's JSON of a call whose caller takes no stream; its attachments are sent. Raises what it raises."""
        if function.is_plain:
            return self._encode_with_slabs(call, function.target(*args, **kwargs))
        return self._answer(call, function, args, kwargs, 0) or b"null"

    def _answer(self, call: int, function: functions.Function, args: Any, kwargs: Any,
                callflags: int) -> Optional[bytes]:
        """What an async or streaming function answers, as JSON; None: it was sent as items."""
        runner, most = self.runner, self.marks.result_max
        if function.batch is not None:
            return self._encode_with_slabs(call, function.run_one(args, kwargs))
        if not function.is_stream:
            value = runner.run(call, function.target(*args, **kwargs))
            try:
                return encode_within(value, most())
            except ResultError:
                return self._encode_with_slabs(call, value)
        sink: Any = streams.ListSink(call, self.words, most)
        if callflags & wire.CALL_TAKES_STREAM:
            sink = streams.ItemSink(call, self.channel, self.words, self.interrupts, most, self.inbox)
        if function.is_async:
            runner.run(call, streams.pump_async(function.target(*args, **kwargs), sink, runner.loop))
        else:
            streams.pump(function.target(*args, **kwargs), sink)
        return sink.result()

    def _encode_with_slabs(self, call: int, value: Any) -> bytes:
        """Raises ResultError."""
        self.inbox().end()  # a slab is waited for on the socket
        return self.slabs.encode(call, value, self.marks.result_max())

    def _failed(self, call: int, failure: BaseException, flags: int) -> bytes:
        kind = wire.KIND_ERROR
        if isinstance(failure, KeyboardInterrupt):
            if self.interrupts.raised == call:
                kind = wire.KIND_CANCELLED
        elif self.words[_CANCEL] == call and (isinstance(failure, Cancelled) or is_cancelled_error(failure)):
            kind = wire.KIND_CANCELLED
        elif isinstance(failure, (SupervisorGone, wire.ProtocolError)):
            raise failure
        return answers.failed(call, kind, failure, flags)

    def _aftermath(self, call: int, function: functions.Function) -> int:
        """The reply's flags. Work of the call that goes on is named in the log."""
        self.end_requests()
        flags = wire.INTERRUPTED if self.interrupts.raised == call else 0
        stopped = call in (self.words[_CANCEL], self.words[_INTERRUPT])
        if stopped:  # before the threads are looked at: some of them wait for these processes
            self.end_offspring(call, function)
        left = self._leftovers.after_call(stopped, self.runner)
        if left:
            errors.log(f"{function.name} left work behind: {', '.join(left[:8])}")
            flags |= wire.UNCLEAN
        self._give_loop_its_turn()
        return flags

    def end_offspring(self, call: int, function: functions.Function) -> None:
        words = self.words
        dispatched = words[marks.DISPATCHED] if words[_CANCEL] == call else 0
        ended = self.offspring.end(call, dispatched)
        if ended:
            more = f" and {len(ended) - 8} more" if len(ended) > 8 else ""
            named = ", ".join(ended[:8]) + more
            errors.log(f"{function.name} was stopped; what it had started is killed: {named}")

    # ---- calls that the call makes

    def inbox(self) -> Inbox:
        """Any thread."""
        if self._inbox is None:
            with self.channel.sending:
                if self._inbox is None:
                    self._inbox = Inbox(self.channel, self.words, self.interrupts, self._main_thread,
                                        self._leftovers.will_look, lambda: self.runner.made)
        return self._inbox

    def _requests_of(self, about: Any) -> Any:
        if about.marks_at > 0 and self._shared is not None:
            return self._shared.requests
        return self.inbox()

    def end_requests(self) -> None:
        """The code of the call that has the worker alone is over."""
        if self._inbox is not None:
            self._inbox.end()

    # ---- sessions

    def _session(self, call: int, id: bytes, birth: int, epoch: int, callflags: int) -> Session:
        """Raises SessionNotHere. Runs no user code, except the end hooks of a session that is in the way."""
        if not callflags & (wire.CALL_OPENS_SESSION | wire.CALL_RESTORES_SESSION):
            return self.sessions.find(id, birth, epoch)
        given = None
        if callflags & wire.CALL_RESTORES_SESSION:
            if self._given is None or self._given[0] != call:
                raise SessionNotHere("the call came without the state that it is to restore")
            given, self._given = self._given[1:], None
        session, stale = self.sessions.admit(id, birth, epoch, given)
        if stale is not None:
            self._run_end_hooks(stale, "lost")
        return session

    def _open(self, call: int, session: Session) -> None:
        session.state = {}
        if session.given is not None:
            snapshots.restore(session, lambda hook, *args: self.run_hook(call, hook, *args))
            session.opened = True
            return
        for hook in hooks.of("session_open"):
            self.run_hook(call, hook)
        session.opened = True

    def _end(self, id: bytes, session: Session, reason: str) -> None:
        self.sessions.drop(id)
        if session.opened:
            self._run_end_hooks(session, reason)

    def _run_end_hooks(self, session: Session, reason: str) -> None:
        context = self._context_of(session)
        for hook in hooks.of("session_end"):
            try:
                context.run(self.run_hook, 0, hook, reason)
            except BaseException as error:
                errors.log(f"on_session_end({reason!r}) failed for {session!r}", error)
        _here.call = None

    def end_all_sessions(self) -> None:
        for id in self.sessions.ids():
            session = self.sessions.get(id)
            if session is not None:
                self._end(id, session, "drained")

    def run_hook(self, call: int, hook: Callable[..., Any], *args: Any) -> Any:
        answer = hook(*args)
        if hasattr(answer, "__await__"):
            try:
                return self.runner.run(call, answer, adopts=True)
            finally:
                self.runner.adopt_tasks()
                self._give_loop_its_turn()
        return answer

    def _context_of(self, session: Session) -> Context:
        """Where hooks run that are part of no call; session() is `session` there."""
        _here.call = about = Call(0, 0, session, 1, b"")
        _current.set(about)
        return self.new_context()

    # ---- snapshots

    def _run_and_save(self, frame: bytes, fields: tuple[int, ...]) -> bytes:
        """The call's answer as SAVED, with its session's state; as it is, if nothing ran that could have changed it."""
        birth, epoch, name_len, session_len = fields[6], fields[7], fields[9], fields[10]
        answer = self._run(frame, fields[:12] + (fields[12] & ~wire.CALL_SAVES_SESSION,))
        if self.words[_ENDED] != fields[4]:  # it has not begun
            return answer
        at = _CALL_SIZE + name_len
        try:
            session = self.sessions.find(frame[at : at + session_len], birth, epoch)
        except SessionNotHere:
            return answer
        kind, state = self._snapshot(session)
        return answers.saved(answer, kind, state)

    def _snapshot(self, session: Session) -> tuple[int, bytes]:
        context = self._context_of(session)
        _here.attached = None  # the call's, if one has just run: its memory may hold the result by now
        try:
            ask = functools.partial(self.run_hook, 0)
            return context.run(snapshots.take, session, ask, self.marks.snapshot_max())
        finally:
            _here.call = None

    def _save(self, body: bytes) -> None:
        birth, epoch = wire.SAVE_BODY.unpack_from(body)
        id = body[wire.SAVE_BODY.size :]
        try:
            kind, state = self._snapshot(self.sessions.find(id, birth, epoch))
        except SessionNotHere as error:
            kind, state = snapshots.NONE, str(error).encode(errors="replace")
        head = wire.SNAPSHOT_BODY.pack(birth, epoch, len(id), kind, 0)
        self._send(wire.frame(wire.SNAPSHOT, 0, b"".join((head, id, state))))

    # ---- health

    def _retire(self, call: int, reason: str) -> None:
        self.channel.send(answers.retire(call, reason))

    def _check(self) -> None:
        """Runs the health functions, until one fails, and answers."""
        _here.call = None
        _current.set(None)
        failure = b""
        for hook in hooks.of("health"):
            try:
                healthy = self.new_context().run(self.run_hook, 0, hook)
            except (SupervisorGone, wire.ProtocolError):
                raise
            except BaseException as error:
                errors.log(f"the health function {hook.__qualname__} failed", error)
                failure = f"{hook.__qualname__} raises {errors.type_of(error)}: {errors.message_of(error)}".encode(errors="replace")
            else:
                if healthy is False:
                    failure = f"{hook.__qualname__} returns False".encode(errors="replace")
            if failure:
                break
        body = bytes((not failure,)) + failure[:wire.REASON_MAX]
        self._send(wire.frame(wire.CHECKED, 0, body))

    # ---- shared calls

    def _share(self, frame: bytes, attached: list[bytes]) -> None:
        """Starts a shared call; from now on the main thread waits in the loop."""
        if self._shared is None:
            _here.shared = True
            self._shared = SharedCalls(self)
        call = wire.HEADER.unpack_from(frame)[4]
        if self._given is not None and self._given[0] == call:
            _, kind, state = self._given
            self._given = None
            attached = [wire.frame(wire.RESTORE, call, bytes((kind,)) + state), *attached]
        self._shared.start(frame, attached)
        self._give_loop_its_turn()

    def _send(self, frame: bytes) -> None:
        """A frame that may come while shared calls run, whose threads send too."""
        if self._shared is not None:
            self._shared.send(frame)
        else:
            self.channel.send(frame)

    # The following are called on the thread of control.py.

    def _on_cancel(self, call: int) -> None:
        if self._shared is not None:
            self._shared.cancel(call)
        self.runner.cancel(call)

    def _on_interrupt(self, call: int) -> None:
        if self._shared is not None:
            self._shared.interrupt(call)

    def _on_loop(self, answer: Callable[[], bool]) -> bool:
        """Has the loop call `answer`; False if no call can hold the loop up."""
        loop = self.runner.made
        if loop is None or not (self.marks.running() or (self._shared is not None and self._shared.running)):
            return False
        try:
            loop.call_soon_threadsafe(answer)
        except RuntimeError:  # user code has closed it
            return False
        return True

    def _whose_turn(self) -> int:
        if self._shared is None or not self._shared.running:
            return 0
        call = self._shared.turns.call()
        return call if call in self._shared.running else 0

    # ---- everything but a call

    def _other(self, frame: bytes) -> None:
        """A frame that is no CALL, or a packet that is not one frame. Raises Shutdown, SupervisorGone."""
        if frame is _LOOPS_TURN:
            self._run_loop_between_calls()
            return
        if not frame:
            raise SupervisorGone
        if len(frame) < wire.HEADER_SIZE or wire.HEADER.unpack_from(frame)[0] != len(frame):
            self.channel.accept(frame)
            return
        _, kind, _, row, call = wire.HEADER.unpack_from(frame)
        if row:
            if kind != wire.CALL:
                raise wire.ProtocolError(f"a frame of type {kind} with row {row}")
            self._share(frame, [])
        elif kind == wire.SESSION_END and len(frame) >= wire.HEADER_SIZE + wire.SESSION_END_BODY.size:
            birth, reason = wire.SESSION_END_BODY.unpack_from(frame, wire.HEADER_SIZE)
            id = frame[wire.HEADER_SIZE + wire.SESSION_END_BODY.size :]
            session = self.sessions.get(id)
            if session is not None and session.birth == birth:
                reasons = wire.SESSION_END_REASONS
                self._end(id, session, reasons[reason] if reason < len(reasons) else "ended")
        elif kind == wire.RESTORE and len(frame) > wire.HEADER_SIZE:
            self._given = (call, frame[wire.HEADER_SIZE], frame[wire.HEADER_SIZE + 1 :])
        elif kind == wire.SAVE and len(frame) >= wire.HEADER_SIZE + wire.SAVE_BODY.size:
            self._save(frame[wire.HEADER_SIZE :])
        elif kind == wire.BATCH:
            self._batch(frame)
        elif kind == wire.CHECK and len(frame) == wire.HEADER_SIZE:
            self._check()
        elif kind == wire.SHUTDOWN:
            raise Shutdown
        elif kind == wire.ATTACH and len(frame) >= wire.HEADER_SIZE + wire.ATTACH_BODY.size:
            self._call_with_attachments(frame)
        elif kind == wire.SLAB and len(frame) == wire.HEADER_SIZE + wire.SLAB_BODY.size:
            self.slabs.take(frame)
        elif kind == wire.CREDIT or kind == wire.OUTCOME:
            if self._shared is not None:
                self._shared.take(frame)  # else it is for a call that is over
        else:
            raise wire.ProtocolError(f"a frame of type {kind} and {len(frame)} bytes has no meaning here")

    def _give_loop_its_turn(self) -> None:
        """After a coroutine of the application has run, and while shared calls do."""
        if not self._loop_has_turn and (
                (self._shared is not None and self._shared.has_work()) or self.runner.goes_on()):
            self._loop_has_turn = True
            self.channel.pending.append(_LOOPS_TURN)

    def _run_loop_between_calls(self) -> None:
        """Waits for the next packet with the loop running, in place of reading it."""
        self._loop_has_turn = False
        if self._shared is not None:
            if not self.channel.pending:
                self._shared.run_loop()
            self._leftovers.adopt()
        elif not self.channel.pending:
            self.runner.run_until_readable(self.channel.fd)
            self.channel.accept(self.channel.read())
        self.runner.adopt_tasks()
        self._give_loop_its_turn()

    def _after_users_fork(self) -> None:
        """A child that user code forked is no worker: it must not write marks, read calls or answer them."""
        self._forked = True
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self.channel.fd, inheritable=False)
        os.dup2(nowhere, self._control_fd, inheritable=False)
        os.close(nowhere)
        _here.words = bytes(marks.SIZE // 8)
        if self._shared is not None:
            self._shared.forked = True
        _here.retire = _here.requests_of = None
        self.channel.sending = native.allocate_lock()  # another thread may hold it, which is not here
        self._inbox = None
        self.words.release()  # the loop fails at its next mark, and live() below ends the process

    def live(self) -> None:
        """serve(), and the end of the process whatever happens. Never returns."""
        try:
            self.serve()
        except BaseException as error:
            if self._forked:
                self.leave_users_child(error)
            errors.log("the worker cannot go on", error)
        self.leave(1)

    def leave_users_child(self, error: Optional[BaseException]) -> None:
        while error is not None and not isinstance(error, SystemExit):
            error = error.__context__
        if error is None:
            errors.log("a process that a function forked returned from it; it ends here")
        code = 1 if error is None else error.code
        self.leave(code if isinstance(code, int) else int(code is not None))


def greeting(hello_json: str) -> bytes:
    """HELLO; `hello_json` is the object without its pid."""
    body = f'{{"pid":{os.getpid()},{hello_json[1:]}'
    return wire.frame(wire.HELLO, 0, body.encode())


def main(arguments: list[str]) -> None:
    """A worker started by exec: imports the application itself."""
    options = commandline.parse(arguments, ("--app", "--worker"))
    descriptors.claim(descriptors.DATA, descriptors.CONTROL, descriptors.MARKS, descriptors.LIFELINE)
    lifeline.lead_group()
    lifeline.arm(descriptors.LIFELINE)
    os.close(descriptors.LIFELINE)
    logs.prepare()
    worker = Worker(options["--worker"], descriptors.DATA, descriptors.CONTROL, descriptors.MARKS)
    worker.prepare()
    worker.channel.send(wire.frame(wire.CONNECT, 0, wire.U32.pack(wire.PROTOCOL_VERSION)))
    step = "hello"
    sys.argv[:] = [options["--app"]]
    offspring.note_starts()
    exits.note_ends()
    try:
        loading.load(options["--app"], commandline.names(options["--expose"]))
        hello = loading.hello(options["--app"])
        worker.channel.send(greeting(hello))
        step = "setup"
        for hook in hooks.of("setup"):
            worker.run_hook(0, hook)
        worker.interrupts.install()  # whatever imports made of the signals, as in a forked worker
        gc.freeze()  # imports are not garbage: the collector need not look at them again and again
        worker.ready(b"")
    except SupervisorGone:
        worker.leave(1)
    except BaseException as error:
        worker.start_failed(step, error)
    worker.live()
