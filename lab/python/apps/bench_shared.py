"""The application that the performance laboratory measures shared calls with. Apart from bench_probe, whose workers run no shared calls and have
to cost what workers without any cost."""
import asyncio

import keelback


@keelback.function(idempotent=True, concurrency=64)
async def answer_after(ms):
    """Answers `ms` milliseconds later, which it waits without a processor; 0: at once."""
    if ms:
        await asyncio.sleep(ms / 1e3)
    return ms
