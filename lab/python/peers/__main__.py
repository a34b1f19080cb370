"""The order loop; see the package's docstring."""
import json
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from peers import work


class Peer:
    """One alternative: call() blocks for one result."""

    version = ""

    def __init__(self, workers: int) -> None:
        raise NotImplementedError

    def call(self, argument: Any) -> Any:
        raise NotImplementedError

    def many(self, callers: int, seconds: float) -> float:
        """Results a second with that many callers in flight."""
        counts = [0] * callers
        end = time.perf_counter() + seconds

        def run(index: int) -> None:
            while time.perf_counter() < end:
                self.call(1)
                counts[index] += 1

        began = time.perf_counter()
        threads = [threading.Thread(target=run, args=(index,)) for index in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - began)

    def close(self) -> None:
        pass


class ProcessPool(Peer):
    def __init__(self, workers: int) -> None:
        import concurrent.futures
        import platform

        self.version = "Python " + platform.python_version()
        self._pool = concurrent.futures.ProcessPoolExecutor(workers)

    def call(self, argument: Any) -> Any:
        return self._pool.submit(work.noop, argument).result()

    def many(self, callers: int, seconds: float) -> float:
        """Its fastest idiom: map() over a batch, results in order, its own queue kept full."""
        done = 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            done += sum(1 for _ in self._pool.map(work.noop, [1] * 1000, chunksize=1))
        return done / (time.perf_counter() - began)

    def close(self) -> None:
        self._pool.shutdown()


class MultiprocessingPool(Peer):
    def __init__(self, workers: int) -> None:
        import multiprocessing
        import platform

        self.version = "Python " + platform.python_version()
        self._pool = multiprocessing.get_context("fork").Pool(workers)

    def call(self, argument: Any) -> Any:
        return self._pool.apply(work.noop, (argument,))

    def many(self, callers: int, seconds: float) -> float:
        """imap_unordered with chunks of 1: results as they come, the pool's own queue kept full."""
        end = time.perf_counter() + seconds

        def arguments() -> Any:
            while time.perf_counter() < end:
                yield 1

        began = time.perf_counter()
        done = sum(1 for _ in self._pool.imap_unordered(work.noop, arguments(), chunksize=1))
        return done / (time.perf_counter() - began)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()


class Loky(Peer):
    def __init__(self, workers: int) -> None:
        import joblib
        from joblib.externals.loky import get_reusable_executor

        self.version = "joblib " + joblib.__version__
        self._pool = get_reusable_executor(max_workers=workers, timeout=600)

    def call(self, argument: Any) -> Any:
        return self._pool.submit(work.noop, argument).result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, kill_workers=True)


class Grpc(Peer):
    def __init__(self, workers: int) -> None:
        import subprocess

        import grpc

        self.version = "grpcio " + grpc.__version__
        self._server = subprocess.Popen([sys.executable, "-m", "peers.grpc_server", str(workers)], stdout=subprocess.PIPE, text=True)
        assert self._server.stdout is not None
        port = int(self._server.stdout.readline())
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._call = self._channel.unary_unary("/peer/noop")
        self.call(1)

    def call(self, argument: Any) -> Any:
        return json.loads(self._call(json.dumps([argument]).encode()))

    def close(self) -> None:
        self._channel.close()
        self._server.terminate()
        self._server.wait()


class Ray(Peer):
    def __init__(self, workers: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves this machine
        import ray

        self.version = "ray " + ray.__version__
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
        self._ray = ray

        @ray.remote
        class Actor:
            def noop(self, argument: Any) -> Any:
                return argument

        self._actors = [Actor.remote() for _ in range(workers)]
        self._next = 0
        for actor in self._actors:
            ray.get(actor.noop.remote(1))

    def call(self, argument: Any) -> Any:
        self._next += 1
        return self._ray.get(self._actors[self._next % len(self._actors)].noop.remote(argument))

    def many(self, callers: int, seconds: float) -> float:
        done = 0
        began = time.perf_counter()
        flying = [self._actors[i % len(self._actors)].noop.remote(1) for i in range(callers)]
        while time.perf_counter() - began < seconds:
            ready, flying = self._ray.wait(flying, num_returns=1)
            done += len(ready)
            flying += [self._actors[(done + i) % len(self._actors)].noop.remote(1) for i in range(len(ready))]
        took = time.perf_counter() - began
        self._ray.get(flying)
        return done / took

    def close(self) -> None:
        self._ray.shutdown()


class Bare(Peer):
    """No pool at all: a process that imports the application that Keelback's zygote imports, and forks."""

    def __init__(self, workers: int) -> None:
        import gc
        import importlib

        importlib.import_module("keelback.zygote")
        began = time.perf_counter()
        importlib.import_module("apps.bench_probe")
        self._import_ms = (time.perf_counter() - began) * 1e3
        gc.freeze()

    def order_import_ms(self, order: Dict[str, Any]) -> Dict[str, Any]:
        return {"ms": self._import_ms}

    def order_forks(self, order: Dict[str, Any]) -> Dict[str, Any]:
        """From before the fork to the child's first byte, in this process' hands."""
        times: List[float] = []
        for _ in range(order["times"]):
            reading, writing = os.pipe()
            began = time.perf_counter()
            child = os.fork()
            if child == 0:
                os.write(writing, b"x")
                os._exit(0)
            os.read(reading, 1)
            times.append((time.perf_counter() - began) * 1e3)
            os.waitpid(child, 0)
            os.close(reading)
            os.close(writing)
        return {"ms": times}


class Server(Peer):
    """Serves HTTP in processes of its own; measured from outside."""

    module = ""  # prints the port that it is going to listen on

    def __init__(self, workers: int) -> None:
        import subprocess

        self.version = self.versions()
        self._server = subprocess.Popen([sys.executable, "-m", self.module, str(workers)], stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._server.stdout is not None
        self.port = int(self._server.stdout.readline())

    def versions(self) -> str:
        raise NotImplementedError

    def close(self) -> None:
        # All of its processes: not every server ends on SIGTERM, and whoever measures does not wait long.
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()


class Uvicorn(Server):
    """FastAPI behind uvicorn."""

    module = "peers.http_server"

    def versions(self) -> str:
        import fastapi
        import uvicorn

        return f"fastapi {fastapi.__version__}, uvicorn {uvicorn.__version__}"


class LitServe(Server):
    module = "peers.lit_server"

    def versions(self) -> str:
        import litserve

        return "litserve " + litserve.__version__


class LitServeBatches(Server):
    module = "peers.lit_batch_server"

    def versions(self) -> str:
        import litserve
        import numpy  # noqa: F401  # the function needs it

        return "litserve " + litserve.__version__


class Mosec(Server):
    module = "peers.mosec_server"

    def versions(self) -> str:
        import importlib.metadata

        import mosec  # noqa: F401
        import numpy  # noqa: F401

        return "mosec " + importlib.metadata.version("mosec")


class RayServe(Peer):
    """Its own HTTP proxy in front of replicas."""

    def __init__(self, workers: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves this machine
        import ray
        from ray import serve

        from peers.ports import free_port

        self.version = "ray " + ray.__version__
        self.port = free_port()
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
        serve.start(http_options={"host": "127.0.0.1", "port": self.port})

        @serve.deployment(num_replicas=workers, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.1})
        class AnswerAfter:
            async def __call__(self, request: Any) -> Any:
                return await work.answer_after(*await request.json())

        serve.run(AnswerAfter.bind(), route_prefix="/v1/call/answer_after")
        self._ray = ray

    def close(self) -> None:
        self._ray.shutdown()


PEERS: Dict[str, Callable[[int], Peer]] = {"process_pool": ProcessPool, "mp_pool": MultiprocessingPool, "loky": Loky, "grpc": Grpc, "ray": Ray,
                                           "uvicorn": Uvicorn, "litserve": LitServe, "litserve_batches": LitServeBatches, "mosec": Mosec, "ray_serve": RayServe, "bare": Bare}


def _latency(peer: Peer, seconds: float) -> Dict[str, Any]:
    for _ in range(20):
        peer.call(1)
    times: List[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter_ns()
        peer.call(1)
        times.append(time.perf_counter_ns() - began)
    times.sort()
    return {"ok": True, "calls": len(times), "p50_us": times[len(times) // 2] / 1e3, "p99_us": times[int(len(times) * 0.99)] / 1e3}


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in PEERS:
        print(f"usage: python -m peers {'|'.join(PEERS)}", file=sys.stderr)
        return 2
    peer: Optional[Peer] = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["op"] == "start":
                peer = PEERS[sys.argv[1]](order["workers"])
                answer = {"ok": True, "version": peer.version, "port": getattr(peer, "port", 0)}
            elif peer is None:
                answer = {"ok": False, "error": "not started"}
            elif order["op"] == "latency":
                answer = _latency(peer, order["ms"] / 1e3)
            elif order["op"] == "throughput":
                answer = {"ok": True, "per_second": peer.many(order["callers"], order["ms"] / 1e3)}
            elif hasattr(peer, "order_" + order["op"]):
                answer = {"ok": True, **getattr(peer, "order_" + order["op"])(order)}
            else:
                answer = {"ok": False, "error": f"unknown order {order['op']!r}"}
        except ImportError as error:
            answer = {"ok": False, "error": f"not installed: {error.name or error}"}
        except Exception as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    if peer is not None:
        peer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
