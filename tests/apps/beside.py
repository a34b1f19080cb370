"""Functions whose calls may run beside each other, or together: some gain everything by that, some nothing."""
import asyncio
import time

import keelback


@keelback.function(idempotent=True, concurrency=16)
async def waits(ms):
    await asyncio.sleep(ms / 1e3)
    return ms


@keelback.function(idempotent=True, concurrency=4)
def computes(rounds):
    sum_of_squares = 0
    for i in range(rounds):
        sum_of_squares += i * i
    return sum_of_squares


@keelback.function(idempotent=True)
async def waits_alone(ms):
    await asyncio.sleep(ms / 1e3)
    return ms


@keelback.function(idempotent=True, batch=8, batch_wait="3ms")
def together(ms: "list[float]"):
    """Takes as long for eight calls as for one."""
    time.sleep(max(ms) / 1e3)
    return ms


@keelback.function(idempotent=True, batch=8)
def in_turn(ms: "list[float]"):
    """Takes eight times as long for eight calls."""
    time.sleep(sum(ms) / 1e3)
    return ms
