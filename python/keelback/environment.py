"""What the supervisor sets in the environment of one worker, and that worker's device."""

import os
from typing import Optional


def change(changes: dict[str, Optional[str]]) -> None:
    """Sets variables; None takes one away."""
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def device() -> Optional[str]:
    """The device of this worker, one of `workers.devices`; None without that setting.

    It is what CUDA_VISIBLE_DEVICES says, too: a library that reads that variable sees one device, its first.
    All workers of a slot have the same. At import, and in `@keelback.setup`, it is None in a pool that forks.
    """
    return os.environ.get("KEELBACK_DEVICE")
