"""State of a session, kept where every session of the worker sees it."""

import keelback

_basket = []


@keelback.function
def add():
    """How many things are in the basket: the session's, its author thinks."""
    _basket.append("thing")
    return len(_basket)


@keelback.function(idempotent=True)
def hello():
    return "hello"
