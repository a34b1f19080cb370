"""Loads its model in the first call, as many applications do: each new worker makes its first caller wait."""

import time

import keelback

model = None


@keelback.function
def predict(x: int = 1) -> int:
    global model
    if model is None:
        time.sleep(0.4)
        model = True
    return x


@keelback.function
def ready() -> bool:
    return True
