"""The application that the performance laboratory measures when it is not given one: small functions of known cost.

KEELBACK_BENCH_SPIN_NS makes every ``noop`` burn that many nanoseconds more, KEELBACK_BENCH_IMPORT_S makes the import last longer, KEELBACK_BENCH_BALLAST_MB
makes the zygote as heavy as a real application's imports. The laboratory's own canary and its A/A runs are made with the first.
"""
import base64
import os
import time

import keelback

_SPIN_NS = int(os.environ.get("KEELBACK_BENCH_SPIN_NS", "0"))
time.sleep(float(os.environ.get("KEELBACK_BENCH_IMPORT_S", "0")))
# Pages that a fork has to map, touched so that they exist.
_BALLAST = bytearray(os.urandom(1) * (int(os.environ.get("KEELBACK_BENCH_BALLAST_MB", "0")) << 20))


if _SPIN_NS:

    @keelback.function(idempotent=True)
    def noop(x=None):
        """Returns its argument, after the injected delay."""
        end = time.perf_counter_ns() + _SPIN_NS
        while time.perf_counter_ns() < end:
            pass
        return x

else:

    @keelback.function(idempotent=True)
    def noop(x=None):
        """Returns its argument."""
        return x


@keelback.function
def spin_ms(ms):
    """Burns CPU for ms milliseconds of this process' CPU time. Not idempotent: killed with its worker, it is lost, and the laboratory sees when."""
    end = time.process_time_ns() + int(ms * 1e6)
    while time.process_time_ns() < end:
        pass
    return ms


@keelback.function(idempotent=True)
def sleep_ms(ms):
    """Waits for ms milliseconds without using the CPU."""
    time.sleep(ms / 1e3)
    return ms


@keelback.function
def ask_host(ms):
    """Asks the program's function `echo` for ms milliseconds, one time after another, and answers how long one took."""
    body = {"name": "Ada", "values": [1, 2, 3, 4]}
    echo, clock = keelback.host.echo, time.perf_counter_ns
    times = []
    end = clock() + int(ms * 1e6)
    while not times or times[-1][1] < end:
        begun = clock()
        echo(body)
        times.append((begun, clock()))
    took = sorted(after - before for before, after in times)
    return {"p50_us": took[len(took) // 2] / 1e3, "requests": len(took)}


@keelback.function
def count():
    """1, 2, 3, ... in each session."""
    state = keelback.session().state
    state["count"] = state.get("count", 0) + 1
    return state["count"]


@keelback.function(idempotent=True)
def size(x):
    """How long its argument is: of an attachment, when it has been copied to bytes."""
    return len(x)


@keelback.function(zero_copy=True)
def look(x):
    """How long its argument is: a view of shared memory."""
    return x.nbytes


@keelback.function
def text_size(x):
    """How many bytes its argument has, which is base64."""
    return len(base64.b64decode(x))


@keelback.function
def text_back(x):
    """Its argument, which is base64, decoded and encoded again."""
    return base64.b64encode(base64.b64decode(x)).decode()


@keelback.function(idempotent=True)
def blob(size):
    """A string of that many characters."""
    return "x" * size
