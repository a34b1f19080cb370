"""Each worker takes one of four shards by a lock file, and gives it back when it ends. A worker that is killed does not:
its shard stays locked for ever, and its replacement finds none."""

import atexit
import os

import keelback

_LOCKS = os.environ.get("BROKEN_LOCKS", "/tmp/broken-locks")


@keelback.worker_setup
def take_a_shard():
    os.makedirs(_LOCKS, exist_ok=True)
    for shard in range(4):
        lock = f"{_LOCKS}/shard-{shard}.lock"
        try:
            os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        atexit.register(os.unlink, lock)
        return
    raise RuntimeError(f"every shard is locked; is another instance running? (see {_LOCKS})")


@keelback.function(idempotent=True)
def hello():
    return "hello"
