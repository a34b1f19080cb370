"""What the applications of this suite have in common: a table, and how an entry is written.

The expected answers stand in it by reasoning; nothing was written down from a run.
"""

import textwrap
from dataclasses import dataclass, field
from typing import Any, Callable

FORK, EXEC = "zygote", "exec"
LINES = 4000  # of the book: more than any worker gets calls
BOOK = "".join(f"line {n}".ljust(19) + "\n" for n in range(LINES))
HEAD = """
    import itertools, os
    import keelback
    HERE = os.path.dirname(os.path.abspath(__file__))
    _turns = itertools.count()

    def turn():
        return [os.getpid(), next(_turns)]
"""


@dataclass
class Run:
    """What one application did in one mode, after its daemon has ended."""

    mode: str
    folder: Any  # a Path; the application is app.py in it
    answers: list
    log: str  # the daemon's, to its end
    imports: int  # how many there were: one in the zygote, or one in each worker

    def text(self, name):
        return (self.folder / name).read_text()


@dataclass
class App:
    name: str
    mode: str  # how `auto` starts it
    source: str
    ask: Callable[[int], tuple]  # the i-th call: function and arguments
    right: Callable[[int, Any], bool]  # is that the answer to it?
    after: Callable[[Run], None] = lambda run: None  # asserts on all answers and on what is left
    files: dict = field(default_factory=dict)
    kind: str = ""  # what /v1/pool calls the reason, if it must not be forked
    needs: str = ""  # a module beyond the standard library
    settings: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)  # of the daemon; None: not there


GROUPS: dict = {}


def add(group, name, mode, source, ask, right, **more):
    """`source` comes after HEAD: os, keelback, HERE, and turn(), which counts a worker's calls."""
    text = textwrap.dedent(HEAD) + textwrap.dedent(source)
    GROUPS.setdefault(group, []).append(App(name, mode, text, ask, right, **more))


# ---- what several entries expect


def all_differ(values):
    values = [tuple(value) if isinstance(value, list) else value for value in values]
    assert len(set(values)) == len(values), (
        f"{len(values) - len(set(values))} of {len(values)} came twice"
    )


def in_turn(expected):
    """For answers [pid, n, value]: the n-th call in a worker, from 0, gets expected(n)."""
    return lambda i, answer: answer[2] == expected(answer[1])


def several_workers(run):
    assert len({answer[0] for answer in run.answers}) > 1, "one worker took all calls"


def plain(function):
    return lambda i: (function, [])


def numbered(function):
    return lambda i: (function, [i])


def is_square(i, answer):
    return answer == i * i


def is_true(i, answer):
    return answer is True


def line_number(i):
    return i * 37 % LINES


def ask_line(i):
    return "line", [line_number(i)]


def is_line(i, answer):
    return answer == f"line {line_number(i)}"
