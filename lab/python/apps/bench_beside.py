"""Another application, one of whose functions is declared anew with another concurrency or batch_wait: how `keelback bench app` tries several.

KEELBACK_BENCH_APP names the application as `keelback serve` takes it, KEELBACK_BENCH_EXPOSE its exposed functions, separated by commas,
KEELBACK_BENCH_FUNCTION the function, and KEELBACK_BENCH_CONCURRENCY its concurrency, or KEELBACK_BENCH_BATCH and KEELBACK_BENCH_BATCH_WAIT_MS how many
calls it takes at once, and how long they wait for each other.
"""
import os

from keelback import functions, loading

_NAME = os.environ["KEELBACK_BENCH_FUNCTION"]
loading.load(os.environ["KEELBACK_BENCH_APP"], [name for name in os.environ.get("KEELBACK_BENCH_EXPOSE", "").split(",") if name])
_function = functions.table().get(_NAME)
if _function is not None:  # else its first call says so
    if "KEELBACK_BENCH_CONCURRENCY" in os.environ:
        _function.concurrency = int(os.environ["KEELBACK_BENCH_CONCURRENCY"])
    else:  # it takes batches as it is
        _function.batch = int(os.environ["KEELBACK_BENCH_BATCH"])
        _function.batch_wait = float(os.environ["KEELBACK_BENCH_BATCH_WAIT_MS"]) / 1e3
