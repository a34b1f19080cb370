"""The command lines of a worker and a zygote. The supervisor writes them, not people."""

import sys

_KNOWN = ("--app", "--expose", "--worker")


def parse(arguments: list[str], required: tuple[str, ...]) -> dict[str, str]:
    """Option to value, "" for one that is absent. Ends the process with status 2 on anything else."""
    options = dict.fromkeys(_KNOWN, "")
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if name not in options or not rest:
            sys.exit(f"keelback: {name!r} is no option with a value; the supervisor starts this program, not people")
        options[name] = rest.pop(0)
    for name in required:
        if not options[name]:
            sys.exit(f"keelback: {name} is missing; the supervisor starts this program, not people")
    return options


def names(text: str) -> list[str]:
    """The parts of "a,b"."""
    return [name.strip() for name in text.split(",") if name.strip()]
