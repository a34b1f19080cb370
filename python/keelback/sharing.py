"""Shared calls: those that run side by side in one worker (docs/protocol.md, Shared calls).

A call of an async function is a task of the worker's loop, another's has a thread. While shared calls are there
the main thread waits for its next packet in the loop. It starts shared calls right where it reads them, and
leaves the loop only for a frame that is something else: whatever that frame leads to may run a loop of its own.
"""

import _socket
import functools
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, Callable, Optional

from keelback import answers, calls, contexts, coroutines, errors, hooks, marks, native, snapshots, streams, wire
from keelback.attachments import Carried, encode_inline
from keelback.calls import Call, Cancelled, Interrupted
from keelback.channel import SupervisorGone
from keelback.coroutines import is_cancelled_error
from keelback.encoding import decode
from keelback.sessions import Session, SessionNotHere
from keelback.shared_requests import SharedRequests
from keelback.threads import Threads, Window
from keelback.turns import Turns

_CALL_SIZE = wire.CALL_HEADER.size
_PACKETS_A_TURN = 64  # read at most, before what was started has its turn
_CANCEL_AGAIN_S = 0.02  # one cancel can be lost
_BESIDE_MAX = 128  # frames that announce a call: 64 attachments and a state
_current = calls.current

# What a call's user code has led to: frames that come before the last one, and the last one's body; None: END.
_Answer = tuple[list[bytes], Optional[bytes]]


class SharedCall:
    """One call while it runs. User code finds it in its context, as it finds a Call."""

    __slots__ = ("id", "deadline", "session", "attempt", "trace", "marks_at", "attached", "retiring",
                 "function", "args", "kwargs", "flags", "context", "after", "stale", "task", "hook", "window",
                 "sink", "began", "over", "told", "cancelling")

    def __init__(self, id: int, deadline: int, session: Optional[Session], attempt: int, trace: bytes, row: int) -> None:
        self.id = id
        self.deadline = deadline
        self.session = session
        self.attempt = attempt
        self.trace = trace
        self.marks_at = marks.row_at(row)
        self.attached: Any = None
        self.retiring = ""  # why keelback.retire() gives the worker up
        self.function: Any = None
        self.args: Any = ()
        self.kwargs: Any = None
        self.flags = 0
        self.context: Any = None
        self.after: Any = None  # the context in which its session is saved
        self.stale: Optional[Session] = None  # its end hooks run first
        self.task: Any = None
        self.hook: Any = None  # the task of a thread's async hook
        self.window: Optional[Window] = None  # of a thread
        self.sink: Any = None  # of a stream
        self.began = False
        self.over = False
        self.told = False  # to stop, by INTERRUPT; the cancel mark tells too
        self.cancelling = False  # its task is being cancelled, again and again

    @property
    def saves(self) -> bool:
        """Whether its session's state goes with its answer. Of a call that has not begun, that is what it was."""
        return self.began and self.after is not None


class SharedCalls:
    """All shared calls of a worker. Main thread, where nothing else is said."""

    def __init__(self, worker: Any) -> None:
        self.running: dict[int, SharedCall] = {}
        self._worker = worker
        self._words = worker.words
        self._marks = worker.marks
        self._sessions = worker.sessions
        self._channel = worker.channel
        self._loop = worker.runner.loop
        self.turns = Turns(worker.words, worker.runner.loop)
        self._threads = Threads(self._run_in_thread)
        self.requests = SharedRequests(worker.channel, self.running, self._answer_soon)
        self._beside: list[bytes] = []  # RESTORE and ATTACH frames, whose CALL follows
        self._unsent: list[bytes] = []
        self._will_flush = False
        self._leaves_loop = False
        self._failure: Optional[BaseException] = None
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, self._channel.fd)
        self._socket.settimeout(None)  # user code may have set another default
        self.forked = False  # this is a child of user code

    def has_work(self) -> bool:
        return bool(self.running or self._unsent)

    # ---- the loop

    def run_loop(self) -> None:
        """Until a frame is pending that is for the main thread. Raises SupervisorGone, ProtocolError."""
        loop = self._loop
        self._leaves_loop = False
        loop.add_reader(self._channel.fd, self._read)
        self.turns.watch()
        try:
            while not self._leaves_loop:
                try:
                    loop.run_forever()
                except BaseException as error:  # a SystemExit of a task that a call has made, for one
                    if self.forked:
                        self._worker.leave_users_child(error)
                    errors.log("a task failed", error)
        finally:
            loop.remove_reader(self._channel.fd)
            if not self.running:
                self.turns.ignore()
        self._flush()
        if self._failure is not None:
            raise self._failure

    def _read(self) -> None:
        """Takes what has come; leaves the loop if some of that is for the main thread."""
        pending, receive = self._channel.pending, self._socket.recv
        try:
            for _ in range(_PACKETS_A_TURN):
                try:
                    packet = receive(wire.PACKET_MAX, _socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                except ConnectionResetError:
                    packet = b""
                if not packet:
                    raise SupervisorGone
                if len(packet) >= wire.HEADER_SIZE and wire.HEADER.unpack_from(packet)[0] == len(packet):
                    if self.take(packet):
                        continue
                    pending.append(packet)
                else:
                    self._channel.accept(packet)
                    while pending and self.take(pending[0]):
                        pending.popleft()
                if pending:
                    pending.extendleft(reversed(self._beside))
                    self._beside.clear()
                    self._leave_loop()
                    break
        except BaseException as error:
            self._leave_loop(error)
        self._flush_soon()

    def _leave_loop(self, failure: Optional[BaseException] = None) -> None:
        self._failure = self._failure or failure
        self._leaves_loop = True
        self._loop.stop()

    def take(self, frame: bytes) -> bool:
        """Handles a frame that is about shared calls; False: it is not. Raises ProtocolError."""
        _, kind, _, row, id = wire.HEADER.unpack_from(frame)
        if kind == wire.CALL:
            if not row:
                return False
            beside, self._beside = self._beside, []
            self.start(frame, beside)
            return True
        if row:
            raise wire.ProtocolError(f"a frame of type {kind} with row {row}")
        if kind == wire.CREDIT:
            call = self.running.get(id)
            if call is not None and call.sink is not None and len(frame) == wire.HEADER_SIZE + wire.U32.size:
                call.sink.give(wire.U32.unpack_from(frame, wire.HEADER_SIZE)[0])
            return True
        if kind == wire.OUTCOME:
            self.requests.take(frame)
            return True
        if kind == wire.ATTACH or kind == wire.RESTORE:
            self._beside.append(frame)  # of whose call, its CALL will tell
            if len(self._beside) > _BESIDE_MAX:
                raise wire.ProtocolError(f"more than {_BESIDE_MAX} frames in front of a call")
            return True
        if self._beside:
            raise wire.ProtocolError(f"a frame of type {kind} in place of the call that was announced")
        return False

    # ---- the start of a call

    def start(self, frame: bytes, beside: list[bytes]) -> None:
        """Starts the call, or answers why not. `beside`: its RESTORE and ATTACH frames. Raises ProtocolError."""
        if len(frame) < _CALL_SIZE:
            raise wire.ProtocolError(f"a CALL of {len(frame)} bytes")
        fields = wire.CALL_HEADER.unpack_from(frame)
        _, _, _, row, id, deadline, birth, epoch, attempt, name_len, session_len, trace_len, flags = fields
        if row > marks.ROWS_MAX or id in self.running:
            raise wire.ProtocolError(f"call {id} in row {row}")
        at = _CALL_SIZE + name_len
        function = self._worker.functions.get(frame[_CALL_SIZE:at])
        session, stale = None, None
        if session_len:
            try:
                session, stale = self._session(id, frame[at : at + session_len], birth, epoch, flags, beside)
            except SessionNotHere as error:
                self._answer_soon(answers.failed(id, wire.KIND_ERROR, error))
                return
            at += session_len
        call = SharedCall(id, deadline, session, attempt, frame[at : at + trace_len] if trace_len else b"", row)
        at += trace_len
        new_context = self._worker.new_context
        call.context = new_context()
        call.context.run(_current.set, call)
        call.flags, call.stale = flags, stale
        self._words[call.marks_at + marks.THREAD] = self.turns.thread  # the types of its arguments may be user code
        refusal = None
        if function is None:
            name = frame[_CALL_SIZE : _CALL_SIZE + name_len].decode(errors="replace")
            refusal = answers.failed(id, wire.KIND_UNKNOWN_FUNCTION, LookupError(f"there is no function {name!r}"))
        else:
            try:
                kwargs = decode(frame[at:]) if at < len(frame) else {}
                if type(kwargs) is not dict:
                    if type(kwargs) is not list:
                        raise TypeError("arguments are a JSON object (keywords) or an array (positions)")
                    call.args, kwargs = kwargs, {}
                if flags & wire.CALL_HAS_ATTACHMENTS:
                    call.attached = Carried()
                    for each in beside:
                        if each[4] == wire.ATTACH:
                            call.attached.add_frame(each, {})
                    call.attached.fill(function, kwargs)
                if function.bind(*call.args, **kwargs):
                    call.args, kwargs = function.convert(call.args, kwargs)
                call.kwargs = kwargs
            except wire.ProtocolError:
                raise
            except MemoryError:
                refusal = answers.failed(id, wire.KIND_ERROR, MemoryError("there is no memory for the call's arguments; the function did not run"))
            except Exception as error:
                refusal = answers.bad_request(id, error)
            except BaseException as error:  # of a type that user code has made: no reason to end the neighbours
                refusal = answers.failed(id, wire.KIND_ERROR, error)
        self._words[call.marks_at + marks.THREAD] = 0
        if refusal is not None:
            if stale is not None:
                call.context.run(self._loop.create_task, _end_session(stale, _ask))
            self._answer_soon(refusal)
            return
        call.function = function
        if function.is_stream and flags & wire.CALL_TAKES_STREAM:  # CREDIT may come before it has begun
            make, send = (streams.TaskSink, self._send_now) if function.is_async else (streams.ThreadSink, self.send)
            call.sink = make(call, self._words, send, self._marks.result_max)
        if session is not None and flags & wire.CALL_SAVES_SESSION:
            call.after = new_context()
        if self._words[marks.DUMPED] and not self.running:
            self._marks.rewind_dump()
        if function.is_async:
            self.running[id] = call
            call.task = call.context.run(self._loop.create_task, self._run_task(call))
            return
        call.window = Window()  # before the control thread can find the call: by it a thread is told from a task
        self.running[id] = call
        try:
            self._threads.give(call)
        except RuntimeError as error:  # there can be no more threads
            self._end(call, None, error)

    def _session(self, call: int, id: bytes, birth: int, epoch: int, flags: int,
                 beside: list[bytes]) -> tuple[Session, Optional[Session]]:
        """Raises SessionNotHere."""
        if not flags & (wire.CALL_OPENS_SESSION | wire.CALL_RESTORES_SESSION):
            return self._sessions.find(id, birth, epoch), None
        given = None
        if flags & wire.CALL_RESTORES_SESSION:
            for frame in beside:
                if frame[4] == wire.RESTORE and wire.HEADER.unpack_from(frame)[4] == call and len(frame) > wire.HEADER_SIZE:
                    given = (frame[wire.HEADER_SIZE], frame[wire.HEADER_SIZE + 1 :])
            if given is None:
                raise SessionNotHere("the call came without the state that it is to restore")
        return self._sessions.admit(id, birth, epoch, given)

    # ---- user code

    async def _run_task(self, call: SharedCall) -> None:
        answer, failure = None, None
        try:
            answer = await self.turns.steps(call, self._user_code(call, _ask))
        except BaseException as error:
            failure = error
        self._mark_over(call, failure)
        try:
            if call.saves and hooks.of("snapshot"):
                # A task of its own: a cancel that this one has not felt yet is none of the snapshot.
                call.task = call.after.run(self._loop.create_task, self._save_and_end(call, answer, failure))
            else:
                self._end(call, answer, failure)
        finally:
            failure = None  # its traceback holds this frame

    async def _save_and_end(self, call: SharedCall, answer: Optional[_Answer], failure: Optional[BaseException]) -> None:
        try:
            state = await self.turns.steps(call, self._snapshot(call, _ask))
            self._end(call, answer, failure, state)
        finally:
            failure = None

    def _run_in_thread(self, call: SharedCall) -> None:
        """On a thread of its own."""
        window: Any = call.window
        ask = functools.partial(self._ask_from_thread, call)
        answer, failure, state = None, None, None
        self._words[call.marks_at + marks.THREAD] = native.get_ident()
        try:
            try:
                self._check_told(call)
                window.open()
                answer = call.context.run(_driven, self._user_code(call, ask))
            except BaseException as error:
                failure = error
            window.close()
        except Interrupted as error:  # while the above was being noted
            if answer is None:
                failure = error
            window.close()
        self._mark_over(call, failure)
        try:
            if call.saves and hooks.of("snapshot"):
                state = call.after.run(_driven, self._snapshot(call, ask))
            self._end(call, answer, failure, state)
        finally:
            failure = None

    def _mark_over(self, call: SharedCall, failure: Optional[BaseException]) -> None:
        """Any thread: the call's user code is over."""
        if self.forked:
            self._worker.leave_users_child(failure)
        call.over = True
        if call.began:
            self._words[call.marks_at + marks.ENDED] = call.id

    async def _user_code(self, call: SharedCall, ask: Callable[..., Any]) -> _Answer:
        """All of the call's user code but the snapshot. In its task; or driven by its thread, where `ask` does
        not suspend and so this does not either."""
        words, at = self._words, call.marks_at
        words[at] = call.id  # started; only now the cancel mark is looked at: docs/protocol.md, Marks
        try:
            self._check_told(call)
        except Cancelled:
            words[at] = words[at + marks.ENDED]
            raise
        call.began = True
        if call.stale is not None:
            await _end_session(call.stale, ask)
        session = call.session
        if session is not None and not session.opened:
            await _open(session, ask)
        function, most = call.function, self._marks.result_max
        if function.batch is None:
            answer = function.target(*call.args, **call.kwargs)
        else:  # the supervisor knows older code
            answer = function.run_one(call.args, call.kwargs)
        if not function.is_stream:
            if function.is_async:
                answer = await answer
            return encode_inline(call.id, answer, self._marks)
        sink = call.sink
        if sink is None:
            sink = streams.ListSink(call.id, self._words, most, call.marks_at)
        if function.is_async:
            await streams.pump_async(answer, sink, self._loop)
        else:
            streams.pump(answer, sink)
        return [], sink.result()

    def _check_told(self, call: SharedCall) -> None:
        if self._is_told(call):
            raise Cancelled("the call was cancelled before it started")

    def _is_told(self, call: SharedCall) -> bool:
        return call.told or self._words[call.marks_at + marks.CANCEL] == call.id

    async def _snapshot(self, call: SharedCall, ask: Callable[..., Any]) -> tuple[int, bytes]:
        _current.set(Call(0, 0, call.session, 1, b""))
        return await snapshots.take_async(call.session, ask, self._marks.snapshot_max())

    async def _ask_from_thread(self, call: SharedCall, hook: Callable[..., Any], *args: Any) -> Any:
        """Does not suspend: a coroutine runs on the loop, and the thread waits for it."""
        answer = hook(*args)
        if not hasattr(answer, "__await__"):
            return answer
        outcome: list[Any] = []
        done = native.allocate_lock()
        done.acquire()
        context = copy_context()

        def begin() -> None:
            call.hook = context.run(self._loop.create_task, coroutines.into(outcome, answer))
            call.hook.add_done_callback(lambda _: done.release())
            if call.told:  # before there was a hook to cancel
                call.hook.cancel()

        self._loop.call_soon_threadsafe(begin)
        done.acquire()
        call.hook = None
        if not outcome:
            raise Cancelled("the call was cancelled")
        value, failure, after = outcome
        if failure is not None:
            raise failure
        contexts.adopt(after)
        return value

    # ---- the end of a call

    def _end(self, call: SharedCall, answer: Optional[_Answer], failure: Optional[BaseException],
             state: Optional[tuple[int, bytes]] = None) -> None:
        """Answers. Any thread."""
        try:
            frames = self._frames(call, answer, failure, state)
        except BaseException as error:  # no memory, for one
            frames = [answers.failed(call.id, wire.KIND_ERROR, error)]
        if call.attached is not None:
            attached, call.attached = call.attached, None
            attached.release()
        # What the call used is freed now: its context knows the call, too.
        call.context = call.after = call.task = call.kwargs = call.stale = None
        call.args = ()
        if call.window is not None:
            self._words[call.marks_at + marks.THREAD] = 0
        del self.running[call.id]  # before the supervisor can give its row away
        self.requests.end(call)
        if call.window is not None:
            try:
                self.send(*frames)
            except SupervisorGone:
                pass  # the main thread hears of it too
        else:
            self._unsent += frames
            self._flush_soon()

    def _frames(self, call: SharedCall, answer: Optional[_Answer], failure: Optional[BaseException],
                state: Optional[tuple[int, bytes]]) -> list[bytes]:
        id, flags, kind = call.id, 0, wire.KIND_ERROR
        if self._is_told(call):
            if call.began and self._worker.offspring.has_noted(id):
                self._worker.end_offspring(id, call.function)
            if isinstance(failure, (Cancelled, Interrupted)) or (failure is not None and is_cancelled_error(failure)):
                kind = wire.KIND_CANCELLED
        if call.window is not None and call.window.taken:
            flags = wire.INTERRUPTED
        if failure is not None:
            frames, last = [], answers.failed(id, kind, failure, flags)
        else:
            assert answer is not None
            frames, last = answer[0], answers.finished(id, answer[1], flags)
        if call.retiring:
            frames = [answers.retire(id, call.retiring), *frames]
        if call.saves:
            if state is None:
                state = snapshots.take(call.session, None, self._marks.snapshot_max())
            last = answers.saved(last, *state)
        return [*frames, last]

    def _answer_soon(self, frame: bytes) -> None:
        """On the loop's thread."""
        self._unsent.append(frame)
        self._flush_soon()

    def _send_now(self, frame: bytes) -> None:
        """For items: a coroutine that does not suspend would hold them back."""
        self._unsent.append(frame)
        self._flush()

    def _flush_soon(self) -> None:
        """What gets ready in one turn of the loop goes out together."""
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._will_flush = False
        if self._unsent:
            frames, self._unsent = self._unsent, []
            try:
                self.send(*frames)
            except BaseException as error:
                self._leave_loop(error)

    def send(self, *frames: bytes) -> None:
        """Any thread. Frames of one answer are sent by one call. Raises SupervisorGone."""
        self._channel.send_together(frames)

    # ---- on the thread of control.py

    def cancel(self, id: int) -> None:
        call = self.running.get(id)
        if call is not None:
            self._stop(call)

    def interrupt(self, id: int) -> None:
        call = self.running.get(id)
        if call is None:
            return
        call.told = True
        if call.window is not None:
            call.window.interrupt()
            self.requests.wake(call)
            hook = call.hook
            if hook is not None:
                self._loop.call_soon_threadsafe(hook.cancel)
        self._stop(call)

    def _stop(self, call: SharedCall) -> None:
        if call.window is None:
            self._loop.call_soon_threadsafe(self._cancel_first, call)
        elif call.sink is not None:
            call.sink.give(0)

    def _cancel_first(self, call: SharedCall) -> None:
        """On the loop."""
        if not call.cancelling:
            call.cancelling = True
            self._cancel(call)

    def _cancel(self, call: SharedCall) -> None:
        if call.over:
            return
        if call.began:  # a task that is cancelled before its first step never takes it
            call.task.cancel()
        self._loop.call_later(_CANCEL_AGAIN_S, self._cancel, call)


async def _ask(hook: Callable[..., Any], *args: Any) -> Any:
    answer = hook(*args)
    return await answer if hasattr(answer, "__await__") else answer


async def _open(session: Session, ask: Callable[..., Any]) -> None:
    session.state = {}
    if session.given is not None:
        await snapshots.restore_async(session, ask)
    else:
        for hook in hooks.of("session_open"):
            await ask(hook)
    session.opened = True


async def _end_session(session: Session, ask: Callable[..., Any]) -> None:
    """One that was in the way of a call's own."""
    token = _current.set(Call(0, 0, session, 1, b""))
    try:
        for hook in hooks.of("session_end"):
            try:
                await ask(hook, "lost")
            except BaseException as error:
                if isinstance(error, Interrupted) or is_cancelled_error(error):
                    raise
                errors.log(f"on_session_end('lost') failed for {session!r}", error)
    finally:
        _current.reset(token)


def _driven(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    finally:
        coroutine.close()
    raise AssertionError("it has suspended")
