"""Many calls at once in one worker, as an operator sees them: the log, /metrics, /v1/pool."""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import KeelbackTest, concurrently, main, wait_until  # noqa: E402

APP = """
import asyncio, time, keelback

@keelback.function(concurrency=16)
async def waits(seconds):
    await asyncio.sleep(seconds)
    return seconds

@keelback.function(concurrency=16)
async def blocks(seconds):
    time.sleep(seconds)
    return seconds

@keelback.function(concurrency=16)
async def blocks_in_a_task(seconds):
    async def child():
        time.sleep(seconds)
    await asyncio.gather(child(), asyncio.sleep(0))
    return seconds

@keelback.function(concurrency=16)
async def computes(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return seconds
"""


class LoopLag(KeelbackTest):
    def notice(self, daemon, function):
        """The message of the log about the function, whole."""
        start = f'Function "{function}" blocks the event loop of worker '

        def found():
            messages = [json.loads(line)["message"] for line in list(daemon.log)]
            return next((text for text in messages if text.startswith(start)), None)

        return wait_until(found, daemon.log_text)

    def test_what_blocks_the_loop_is_in_log_and_metrics(self):
        for zygote in ("auto", "off"):
            daemon = self.serve(self.app(APP), workers=1, settings={"log.format": "json", "workers.zygote": zygote})
            client = daemon.client()
            self.assertEqual(0, daemon.pool()["loop_blocks"])
            for n, function in enumerate(("blocks", "blocks_in_a_task", "computes"), 1):
                calls = [lambda: daemon.client().call("waits", [0.2]), lambda: client.call(function, [1.5])]
                self.assertEqual(["ok", "ok"], [reply.outcome for reply in concurrently(calls)])
                notice = self.notice(daemon, function)
                self.assertIn("Stack (most recent call first):\n", notice)
                self.assertIn("app.py", notice)
                self.assertNotIn("asyncio", notice, "what lies below the application's code")
                self.assertGreaterEqual(daemon.pool()["loop_blocks"], n)
            metrics = daemon.metrics()
            self.assertGreaterEqual(metrics["keelback_worker_loop_blocks_total"], 3)
            slow = metrics["keelback_worker_loop_lag_seconds_count"] - metrics['keelback_worker_loop_lag_seconds_bucket{le="0.25"}']
            self.assertGreater(slow, 10, metrics)
            daemon.stop()

    def test_the_limit_is_live_and_0_silences_the_notice(self):
        daemon = self.serve(self.app(APP), workers=1, settings={"log.format": "json", "workers.loop_lag_warn": 0})
        client = daemon.client()
        self.assertEqual("ok", client.call("blocks", [0.5]).outcome)
        wait_until(lambda: daemon.pool()["loop_blocks"] == 1, "the block is counted")
        self.assertNotIn("blocks the event loop", daemon.log_text())
        reply = client.request("PATCH", "/v1/config", body=json.dumps({"workers.loop_lag_warn": "200ms"}),
                               headers={"Content-Type": "application/json"})
        self.assertEqual(200, reply.status, reply)
        self.assertEqual("ok", client.call("blocks", [0.8]).outcome)
        self.notice(daemon, "blocks")


if __name__ == "__main__":
    main()
