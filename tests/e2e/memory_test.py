"""Memory that runs out: an OOM kill is named as such where the kernel's counter proves it, and only there."""
import os
import signal
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, descendants, main, wait_until  # noqa: E402

LIMIT = 400 << 20

APP = """
import os, time
import keelback

@keelback.function
def hog(mib):
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if somebody must go, then this process
    kept = []
    for _ in range(mib):
        kept.append(b"x" * (1 << 20))
    return len(kept)

@keelback.function
def wait(seconds, began):
    open(began, "w").close()
    time.sleep(seconds)
"""


class Cgroup:
    """A memory cgroup of its own with a limit, below ours; raises OSError where that is not allowed."""

    def __init__(self, limit):
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        older = next((path for _, names, path in lines if "memory" in names.split(",")), None)
        root = Path("/sys/fs/cgroup/memory" + older if older else "/sys/fs/cgroup" + next(path for number, _, path in lines if number == "0"))
        self.path = root / f"keelback-test-{os.getpid()}"
        self.path.mkdir()
        try:
            (self.path / ("memory.limit_in_bytes" if older else "memory.max")).write_text(str(limit))
            if not older:
                (self.path / "memory.swap.max").write_text("0")
        except OSError:
            self.path.rmdir()
            raise

    def take(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self):
        wait_until(lambda: not (self.path / "cgroup.procs").read_text(), "the cgroup is empty")
        self.path.rmdir()


class Oom(KeelbackTest):
    def _dies(self, daemon, cause, function, *arguments, do=None):
        replies = []
        thread = threading.Thread(target=lambda: replies.append(daemon.client().call(function, list(arguments))))
        thread.start()
        if do:
            wait_until(self.began.exists, "the function runs")
            do()
            self.began.unlink()
        thread.join()
        self.assertEqual("worker_died", replies[0].outcome, replies[0])
        death = replies[0].json["death"]
        self.assertEqual((cause, signal.SIGKILL, True), (death["cause"], death["signal"], death["oom_suspected"]), death)
        wait_until(lambda: daemon.pool()["workers"]["ready"] == 1, "it is replaced")

    @property
    def began(self):
        return self.tmp / "began"

    def _kill_busy(self, daemon):
        os.kill(next(w["pid"] for w in daemon.workers() if w["state"] == "busy"), signal.SIGKILL)

    def test_a_kill_by_anybody_else_is_only_suspected(self):
        daemon = self.serve(self.app(APP), workers=1, settings={"breaker.failures": 0})
        self._dies(daemon, "signal", "wait", 30, str(self.began), do=lambda: self._kill_busy(daemon))

    def test_an_oom_kill_is_named_with_the_cgroups_counter_as_proof(self):
        try:
            cgroup = Cgroup(LIMIT)
        except OSError as error:
            raise unittest.SkipTest(f"no memory cgroup of its own: {error}") from None
        try:
            daemon = self.serve(self.app(APP), workers=1, settings={"breaker.failures": 0})
            for pid in (daemon.pid, *descendants(daemon.pid)):
                cgroup.take(pid)
            daemon.wait_replaced(daemon.kill_worker())  # one that was born in the cgroup
            self._dies(daemon, "oom", "hog", 2000)
            self._dies(daemon, "signal", "wait", 30, str(self.began), do=lambda: self._kill_busy(daemon))
            self._dies(daemon, "oom", "hog", 2000)
        finally:
            for each in self.daemons:
                each.stop()
            cgroup.remove()


if __name__ == "__main__":
    main()
