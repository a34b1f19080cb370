"""A handler that swallows every error, also the one that would end it."""

import time

import keelback


@keelback.function
def work():
    done = 0
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        try:
            time.sleep(0.02)
            done += 1
        except:  # noqa: E722
            pass
    return done > 0


@keelback.function(idempotent=True)
def hello():
    return "hello"
