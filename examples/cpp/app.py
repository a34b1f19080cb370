"""The Python side of the C++ examples."""

import array
import time

import keelback


@keelback.function(idempotent=True)
def greet(name: str) -> str:
    return f"Hello, {name}!"


@keelback.function
def remember(word: str) -> list:
    """Every word this session has heard so far."""
    words = keelback.session().state.setdefault("words", [])
    words.append(word)
    return words


@keelback.function(stream=True)
def countdown(start: int):
    for number in range(start, 0, -1):
        yield number


@keelback.function
def divide(a: float, b: float) -> float:
    return a / b


@keelback.function(idempotent=True)
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


@keelback.function(idempotent=True)
def reverse(data: bytes) -> keelback.Attachment:
    return keelback.Attachment(data[::-1], name="reversed")


@keelback.function(idempotent=True)
def halve(grid: memoryview) -> array.array:
    """An array comes as a view of its type and shape; NumPy would read it as numpy.asarray(grid)."""
    return array.array("f", (value / 2 for value in memoryview(grid.tobytes()).cast("f")))
