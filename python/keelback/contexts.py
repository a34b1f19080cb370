"""Context variables: each call runs in its own copy of the context that imports and setup hooks have left.

The main thread's own context is the ground that is copied. User code runs in it while the process
starts and never later, so a call finds what the start has left and nothing of another call.
"""

from contextvars import Context, copy_context
from typing import Any, Callable

_MISSING: Any = object()
_DECIMAL = "decimal_context"  # the name of decimal's variable, of the C module and the Python one


def adopt(context: Context) -> None:
    """Sets here what a coroutine has set in its task's context, as a plain function would have."""
    for variable, value in context.items():
        if variable.get(_MISSING) is not value:
            variable.set(value)


def maker() -> Callable[[], Context]:
    """What makes a call's context of the ground as it is now. To be called in the ground."""
    if any(variable.name == _DECIMAL for variable in copy_context()):
        return _with_its_own_decimal
    return copy_context


def _with_its_own_decimal() -> Context:
    """decimal keeps one object in its variable and changes that object, so it is copied too."""
    import decimal

    context = copy_context()
    context.run(decimal.setcontext, decimal.getcontext().copy())
    return context
