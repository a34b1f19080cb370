"""The smallest application: one function."""

import keelback


@keelback.function(idempotent=True)
def greet(name: str) -> str:
    """Greets somebody by name."""
    return f"Hello, {name}!"
