"""Tools for `react` programs: functions that the application offers by name.

A caller names tools and never sends code. An application that serves more than the ones here imports
this module, decorates its functions with `@tool`, and is itself what `keelback serve` is given; or the
operator names modules to import in KEELBACK_DSPY_TOOLS (comma-separated).
"""

import ast
import asyncio
import contextvars
import functools
import importlib
import inspect
import operator
import os
from concurrent.futures import ThreadPoolExecutor

THREADS_MAX = 128  # of a worker, for tools that are not async; they are made when they are needed

_tools = {}
_threads = None


def tool(function):
    """Offers `function` to react programs under its own name. Its type hints and docstring are what
    the model sees. An `async def` runs on the worker's event loop, a `def` in a thread of its own.
    Raises ValueError if the name is taken."""
    name = function.__name__
    if name == "finish" or _tools.get(name, function) is not function:
        raise ValueError(f"a tool named {name!r} exists already")
    _tools[name] = function
    return function


def names():
    return sorted(_tools)


def find(name):
    """The tool of that name, or None."""
    return _tools.get(name)


def awaitable(function):
    """`function` for programs that run on an event loop: it never holds the loop up."""
    if inspect.iscoroutinefunction(inspect.unwrap(function)):
        return function

    @functools.wraps(function)
    async def run(*args, **kwargs):
        answer = await _in_thread(functools.partial(function, *args, **kwargs))
        return await answer if inspect.isawaitable(answer) else answer

    return run


async def _in_thread(function):
    """Its result. Ends when the function has ended, also when it is cancelled: nothing that a call has started
    goes on beside the next call of its session."""
    global _threads
    if _threads is None:
        _threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="keelback-tool")
    loop = asyncio.get_running_loop()
    result = loop.run_in_executor(_threads, contextvars.copy_context().run, function)
    cancelled = None
    while not result.done():
        try:
            await asyncio.wait([result])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        result.exception()  # it was looked at
        raise cancelled
    return result.result()


def load_from_environment():
    for module in os.environ.get("KEELBACK_DSPY_TOOLS", "").split(","):
        if module.strip():
            importlib.import_module(module.strip())


_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}
_NUMBER_MAX = 1e100


@tool
def calculate(expression: str) -> str:
    """Computes a sum such as (2 + 3) * 4 from numbers, + - * / // % and parentheses."""
    if len(expression) > 1000:
        raise ValueError("an expression has at most 1000 characters")
    value = _evaluate(ast.parse(expression.strip(), mode="eval").body)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _evaluate(node):
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = node.value
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _evaluate(node.operand)
        value = -value if isinstance(node.op, ast.USub) else value
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        value = _BINARY[type(node.op)](_evaluate(node.left), _evaluate(node.right))
    else:
        raise ValueError(f"not part of a sum: {ast.unparse(node)}")
    if abs(value) > _NUMBER_MAX:
        raise ValueError(f"a number is beyond {_NUMBER_MAX:g}")
    return value
