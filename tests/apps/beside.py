"""Functions whose calls may run beside each other: one gains everything by that, one nothing."""
import asyncio

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
