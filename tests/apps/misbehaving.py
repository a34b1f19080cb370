"""Everything a function can do wrong, one function each."""
import os
import sys

import keelback


@keelback.function
def fine():
    return "fine"


@keelback.function
def needs(a, b):
    return [a, b]


@keelback.function
def unserialisable():
    return {"outer": [object()]}


@keelback.function
def cyclic():
    loop = []
    loop.append(loop)
    return loop


@keelback.function
def huge(size):
    return "x" * size


@keelback.function
def flood(lines):
    for number in range(lines):
        print("flood", number, "x" * 80)
    return lines


@keelback.function
def os_exit(code):
    print("leaving by os._exit", file=sys.stderr, flush=True)
    os._exit(code)


@keelback.function
def sys_exit():
    sys.exit(3)


@keelback.function
def segfault():
    import ctypes

    print("about to read address 0", file=sys.stderr, flush=True)
    ctypes.string_at(0)


@keelback.function
def recursion():
    return recursion()


@keelback.function
def raises():
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("bad value é") from error
