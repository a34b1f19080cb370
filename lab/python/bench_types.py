"""What annotations cost a call of a trivial function: the worker's loop with them beside the loop without.

    python3 lab/python/bench_types.py [--blocks 200] [--calls 500] [--against DIR]

All peers run the worker's loop on the same arguments, in interleaved blocks on one CPU. `none` has no annotation,
`plain` says str and int, `twice` is `none` once more: what it differs from `none` is the noise. `fields` takes the same
two values as a dataclass, `model` as a pydantic model (where there is pydantic). With --against, `before` is the loop
of another checkout, without annotations. "busy" is the loop's own CPU time a call (getrusage), the first decile over
blocks: what other programs do to the caches only ever adds to it. The ratio is that to `none`.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "python")
ARGUMENTS = {"name": "Ada Lovelace", "number": 123456}
KINDS = ("none", "twice", "plain", "fields", "model")


# ---- the loop's process

def none(name, number):
    return {"text": f"Hello, {name}!", "number": number + 1}


def plain(name: str, number: int):
    return {"text": f"Hello, {name}!", "number": number + 1}


def of_class(person):
    return {"text": f"Hello, {person.name}!", "number": person.number + 1}


def serve(kind, fd):
    import keelback  # noqa: F401  (that of PYTHONPATH, before bench_worker finds ours)

    sys.path.insert(0, HERE)
    import bench_worker

    function = {"plain": plain, "fields": of_class, "model": of_class}.get(kind, none)
    if kind == "fields":
        import dataclasses

        function.__annotations__["person"] = dataclasses.make_dataclass("Person", [("name", str), ("number", int)])
    elif kind == "model":
        import pydantic

        function.__annotations__["person"] = pydantic.create_model("Person", name=(str, ...), number=(int, ...))
    bench_worker.greet = function
    bench_worker.worker_loop(fd)


# ---- the client's

def peer(kind, package):
    import bench_worker

    made = bench_worker.Keelback.__new__(bench_worker.Keelback)
    made.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    subprocess.Popen([sys.executable, __file__, "--serve", kind, "--fd", str(theirs.fileno())], pass_fds=[theirs.fileno()],
                     env={**os.environ, "PYTHONPATH": package})
    theirs.close()
    if not made.socket.recv(65536):  # READY
        sys.exit(f"the loop of {kind} has not begun")
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--against", metavar="DIR", help="another checkout")
    parser.add_argument("--serve", choices=(*KINDS, "before"), help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.fd)
    sys.path[:0] = [OURS, HERE]
    import bench_worker

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kinds = [kind for kind in KINDS if kind != "model" or _has_pydantic()]
    peers = {kind: peer(kind, OURS) for kind in kinds}
    if options.against:
        peers["before"] = peer("before", os.path.join(options.against, "python"))
    flat, nested = json.dumps(ARGUMENTS).encode(), json.dumps({"person": ARGUMENTS}).encode()
    busy = {kind: [] for kind in peers}
    for block in range(options.blocks):
        order = list(peers)
        for kind in order if block % 2 else reversed(order):
            payload = nested if kind in ("fields", "model") else flat
            _, own = peers[kind].block(bench_worker.call_frame(b"greet", payload), options.calls)
            busy[kind].append(own * 1e6)
    print(f"python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, "
          f"Linux {platform.release()}, {options.blocks} blocks of {options.calls} calls, one CPU")
    quiet = {kind: sorted(values)[len(values) // 10] for kind, values in busy.items()}
    for kind, values in busy.items():
        print(f"{kind:>7}: busy {quiet[kind]:6.2f} µs, ratio {quiet[kind] / quiet['none']:.3f} "
              f"(median {statistics.median(values):.2f} µs)")


def _has_pydantic():
    return subprocess.run([sys.executable, "-c", "import pydantic"], stderr=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    main()
