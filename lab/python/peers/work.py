"""The functions that everybody runs."""
import asyncio


def noop(argument):
    return argument


async def answer_after(ms):
    """Answers `ms` milliseconds later; 0: at once."""
    if ms:
        await asyncio.sleep(ms / 1e3)
    return ms
