"""Batches: a function that takes the calls of several callers at once (docs/protocol.md, Batches).

BATCH and its CALLs come in a row. Each call is read and bound by itself, so that a call whose arguments do not
fit is refused alone. The others make one run of the function: a parameter is the list of what the calls give for
it. Each call has its own row of the marks, and one answer. The interrupt is the batch's, by the words of page 0.
"""

import sys
from collections.abc import Sequence
from typing import Any, Callable, Optional

from keelback import answers, calls, encoding, marks, streams, wire
from keelback.attachments import Carried, encode_inline
from keelback.calls import Cancelled
from keelback.channel import SupervisorGone
from keelback.coroutines import is_cancelled_error
from keelback.encoding import ResultError, decode
from keelback.functions import Function

_CALL_SIZE = wire.CALL_HEADER.size
_current = calls.current
_here = calls.here


class _Element:
    """One call of a batch."""

    __slots__ = ("id", "marks_at", "deadline", "attempt", "trace", "args", "kwargs", "carried", "answer")

    def __init__(self, id: int, row: int, deadline: int, attempt: int, trace: bytes) -> None:
        self.id = id
        self.marks_at = marks.row_at(row)
        self.deadline = deadline
        self.attempt = attempt
        self.trace = trace
        self.args: Any = ()
        self.kwargs: dict[str, Any] = {}
        self.carried: Optional[Carried] = None
        self.answer: Optional[bytes] = None  # it is refused, or was cancelled before the start

    def is_told(self, words: Sequence[int]) -> bool:
        return words[self.marks_at + marks.CANCEL] == self.id


class BatchCall:
    """What user code finds as its call while a batch runs: see calls.py."""

    __slots__ = ("id", "deadline", "attempt", "trace", "retiring", "_elements")
    session = None
    marks_at = -1  # is_cancelled() says it

    def __init__(self, id: int, elements: list[_Element]) -> None:
        deadlines = [each.deadline for each in elements]
        self.id = id
        self.deadline = max(deadlines) if all(deadlines) else 0  # the last one
        self.attempt = max(each.attempt for each in elements)
        self.trace = elements[0].trace
        self.retiring = ""
        self._elements = elements

    def is_cancelled(self, words: Sequence[int]) -> bool:
        """Nobody waits for any of its calls any more."""
        return all(each.is_told(words) for each in self._elements)

    def parent(self, words: Sequence[int]) -> int:
        """Which of its calls is the parent of a nested call: the first that is to go on."""
        going_on = (each.id for each in self._elements if not each.is_told(words))
        return next(going_on, self._elements[0].id)

    @property
    def attached(self) -> Any:
        raise RuntimeError("the attachments of a batch are the arguments of its function; there are no others")


class Batches:
    """The batches of a worker. Main thread only."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._words = worker.words
        self._channel = worker.channel

    def run(self, frame: bytes) -> None:
        """BATCH: reads its calls, runs them and answers each. Raises ProtocolError, SupervisorGone."""
        if len(frame) != wire.HEADER_SIZE + wire.U32.size:
            raise wire.ProtocolError(f"a BATCH of {len(frame)} bytes")
        batch = wire.HEADER.unpack_from(frame)[4]
        count = wire.U32.unpack_from(frame, wire.HEADER_SIZE)[0]
        if not 1 <= count <= marks.ROWS_MAX:
            raise wire.ProtocolError(f"a batch of {count} calls")
        function: Optional[Function] = None
        elements = []
        for _ in range(count):
            function, element = self._read()
            elements.append(element)
        if len({each.marks_at for each in elements}) != count:
            raise wire.ProtocolError("two calls of a batch have one row")
        if function is None:
            frames = [each.answer or b"" for each in elements]
        elif function.batch is None:  # the supervisor knows newer code than this worker has, or older
            return self._run_each(function, elements)
        else:
            frames = self._run_together(batch, function, elements)
        self._channel.send_together(frames)

    # ---- the calls

    def _read(self) -> tuple[Optional[Function], _Element]:
        """The next call, with its attachments in front of it. Raises ProtocolError."""
        attached = []
        frame = self._channel.receive()
        while frame[4] == wire.ATTACH and len(attached) < wire.ATTACHMENTS_MAX:
            attached.append(frame)
            frame = self._channel.receive()
        if len(frame) < _CALL_SIZE or frame[4] != wire.CALL:
            raise wire.ProtocolError(f"a frame of type {frame[4]} in place of a call of a batch")
        fields = wire.CALL_HEADER.unpack_from(frame)
        _, _, _, row, id, deadline, _, _, attempt, name_len, session_len, trace_len, flags = fields
        if not 1 <= row <= marks.ROWS_MAX or session_len:
            raise wire.ProtocolError(f"call {id} of a batch, in row {row}")
        at = _CALL_SIZE + name_len
        name = frame[_CALL_SIZE:at]
        element = _Element(id, row, deadline, attempt, frame[at : at + trace_len])
        function = self._worker.functions.get(name)
        if function is None:
            text = name.decode(errors="replace")
            error = LookupError(f"there is no function {text!r}")
            element.answer = answers.failed(id, wire.KIND_UNKNOWN_FUNCTION, error)
            return None, element
        try:
            self._bind(function, element, frame, at + trace_len, attached if flags & wire.CALL_HAS_ATTACHMENTS else [])
        except wire.ProtocolError:
            raise
        except MemoryError:
            refusal = MemoryError("there is no memory for the call's arguments; the function did not run")
            element.answer = answers.failed(id, wire.KIND_ERROR, refusal)
        except Exception as error:
            element.answer = answers.bad_request(id, error)
        return function, element

    def _bind(self, function: Function, element: _Element, frame: bytes, at: int, attached: list[bytes]) -> None:
        """Raises what the arguments are not."""
        given: Any = decode(frame[at:]) if at < len(frame) else {}
        if type(given) is dict:
            element.kwargs = given
        elif type(given) is list:
            element.args = given
        else:
            raise TypeError("arguments are a JSON object (keywords) or an array (positions)")
        if attached:
            element.carried = Carried()
            for each in attached:
                element.carried.add_frame(each, {})
            element.carried.fill(function, element.kwargs)
        if function.bind(*element.args, **element.kwargs):
            element.args, element.kwargs = function.convert(element.args, element.kwargs)

    def _begin(self, elements: list[_Element]) -> list[_Element]:
        """Writes the started marks; returns the calls that nobody has cancelled before."""
        words = self._words
        live = []
        for each in elements:
            if each.answer is not None:
                continue
            words[each.marks_at] = each.id  # only now the cancel mark is looked at: docs/protocol.md, Marks
            if each.is_told(words):
                words[each.marks_at] = words[each.marks_at + marks.ENDED]
                refusal = Cancelled("the call was cancelled before it started")
                each.answer = answers.failed(each.id, wire.KIND_CANCELLED, refusal)
            else:
                live.append(each)
        return live

    # ---- user code

    def _run_together(self, batch: int, function: Function, elements: list[_Element]) -> list[bytes]:
        words, worker = self._words, self._worker
        if words[marks.DUMPED]:
            worker.marks.rewind_dump()
        live = self._begin(elements)
        refused = [each.answer for each in elements if each.answer is not None]
        if not live:
            return refused
        _here.call = about = BatchCall(batch, live)
        _current.set(about)  # type: ignore[arg-type]
        context = worker.new_context()
        failure: Optional[BaseException] = None
        results: Any = None
        try:
            try:
                words[marks.STARTED] = batch
                results = context.run(together, function, live)
                words[marks.ENDED] = batch
            except BaseException as error:
                failure = error
                words[marks.ENDED] = batch
        except BaseException as error:  # the one interrupt of this batch, while the above was being noted
            failure = error
            words[marks.ENDED] = batch
        for each in live:
            words[each.marks_at + marks.ENDED] = each.id
        _here.call = None
        flags = worker.flags_after(batch, function, about.is_cancelled(words))
        try:
            if failure is not None:
                frames = self._failed(batch, live, failure)
            else:
                frames = self._answers(live, results)
        finally:
            failure = None  # its traceback holds this frame
            for each in live:
                if each.carried is not None:
                    each.carried.release()
        last = bytearray(frames.pop())
        last[5] |= flags  # the last answer speaks for the whole batch
        retired = [answers.retire(batch, about.retiring)] if about.retiring else []
        return [*refused, *frames, *retired, bytes(last)]

    def _answers(self, live: list[_Element], results: Sequence[Any]) -> list[bytes]:
        """One for each; the last frame is the last answer's."""
        frames = []
        for each, value in zip(live, results):
            if isinstance(value, BaseException):
                frames.append(answers.failed(each.id, wire.KIND_ERROR, value))
                continue
            try:
                before, body = encode_inline(each.id, value, self._worker.marks)
            except ResultError as error:
                frames.append(answers.failed(each.id, wire.KIND_ERROR, error))
                continue
            frames += before
            frames.append(wire.frame(wire.RESULT, each.id, body))
        return frames

    def _failed(self, batch: int, live: list[_Element], failure: BaseException) -> list[bytes]:
        """The function has raised: that is the end of all."""
        if isinstance(failure, (SupervisorGone, wire.ProtocolError)):
            raise failure
        stopped = isinstance(failure, KeyboardInterrupt) and self._worker.interrupts.raised == batch
        gives_way = isinstance(failure, Cancelled) or is_cancelled_error(failure)
        frames = []
        for each in live:
            cancelled = stopped or (gives_way and each.is_told(self._words))
            frames.append(answers.failed(each.id, wire.KIND_CANCELLED if cancelled else wire.KIND_ERROR, failure))
        return frames

    def _run_each(self, function: Function, elements: list[_Element]) -> None:
        """One after another, each as a call that runs alone. Answers them."""
        worker, words = self._worker, self._words
        for element in elements:
            if not self._begin([element]):
                self._channel.send(element.answer or b"")
                continue
            about = BatchCall(element.id, [element])
            _here.call = about
            _current.set(about)  # type: ignore[arg-type]
            try:
                words[marks.STARTED] = element.id
                try:
                    body = worker.new_context().run(worker.answer_plainly, element.id, function, element.args,
                                                    element.kwargs)
                finally:
                    words[marks.ENDED] = words[element.marks_at + marks.ENDED] = element.id
                    _here.call = None
                    worker.end_requests()
                frames = [wire.frame(wire.RESULT, element.id, body)]
            except BaseException as error:
                frames = self._failed(element.id, [element], error)
            if about.retiring:
                frames.insert(0, answers.retire(element.id, about.retiring))
            self._channel.send_together(frames)


# ---- the function's side

def together(function: Function, elements: list[_Element]) -> Sequence[Any]:
    """Runs the function once. Returns what each call gets. Raises what it raises, and TypeError."""
    rows = [function.arrange(*each.args, **each.kwargs) for each in elements]
    return run(function, rows)


def one(function: Function, args: Any, kwargs: dict[str, Any]) -> Any:
    """A batch of one. Raises what its call gets as an error."""
    result = run(function, [function.arrange(*args, **kwargs)])[0]
    if isinstance(result, BaseException):
        raise result
    return result


def run(function: Function, rows: list[tuple[Any, ...]]) -> Sequence[Any]:
    columns: list[Any] = [list(column) for column in zip(*rows)]
    if function.stacked:
        columns = [_stacked(column) for column in columns]
    keywords = dict(zip(function.keyword_only, columns[len(columns) - len(function.keyword_only) :]))
    positions = columns[: len(columns) - len(keywords)]
    return _results(function, function.target(*positions, **keywords), len(rows))


def _stacked(column: list[Any]) -> Any:
    """One contiguous array, if all are arrays of one kind; the batch is its first extent."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not all(isinstance(each, (numpy.ndarray, memoryview)) for each in column):
        return column
    arrays = [numpy.asarray(each) for each in column]
    first = arrays[0]
    if any(each.shape != first.shape or each.dtype != first.dtype for each in arrays):
        return column
    return numpy.stack(arrays)


def _results(function: Function, value: Any, count: int) -> Sequence[Any]:
    """Raises TypeError."""
    numpy = sys.modules.get("numpy")
    if function.stacked and numpy is not None and isinstance(value, numpy.ndarray) and value.ndim > 0:
        value = list(value)
    if not isinstance(value, (list, tuple)):
        kind = type(value).__name__
        raise TypeError(f"{function.name} takes a batch, so it returns a list with a result for each call, not {kind}")
    if len(value) != count:
        raise TypeError(f"{function.name} took a batch of {count} calls and returned {len(value)} results")
    return value
