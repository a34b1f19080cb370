"""A function that keeps 1 MiB of every call, and one that keeps a file open."""

import keelback

_kept = []


@keelback.function
def remember():
    _kept.append(b"\x01" * (1 << 20))
    return "remembered"


@keelback.function
def look():
    _kept.append(open(__file__))
    return "looked"


@keelback.function(idempotent=True)
def hello():
    return "hello"
