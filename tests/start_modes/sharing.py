"""Applications whose import made processes, threads, pipes, sockets or memory."""

from table import EXEC, FORK, add, in_turn, is_square, is_true, numbered, plain

add(
    "Sharing",
    "a program that answers line by line",
    EXEC,
    """
    import subprocess, sys
    answers = "for line in open(0): print(int(line) ** 2, flush=True)"
    helper = subprocess.Popen([sys.executable, "-c", answers], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, bufsize=1)

    @keelback.function
    def square(n):
        helper.stdin.write(f"{n}\\n")
        return int(helper.stdout.readline())
""",
    numbered("square"),
    is_square,
    kind="pipe",
)

add(
    "Sharing",
    "a program that only runs",
    EXEC,
    """
    import subprocess
    program = subprocess.Popen(["sleep", "1000"])

    @keelback.function
    def square(n):
        return n * n if program.poll() is None else None
""",
    numbered("square"),
    is_square,
    kind="child",
)

add(
    "Sharing",
    "a program that has ended, whose status is asked for later",
    EXEC,
    """
    import subprocess
    program = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)

    @keelback.function
    def status():
        return program.wait()
""",
    plain("status"),
    lambda i, answer: answer == 7,
    kind="child",
)

add(
    "Sharing",
    "a pool of processes",
    EXEC,
    """
    import concurrent.futures
    pool = concurrent.futures.ProcessPoolExecutor(1)

    def square_of(n):
        return n * n

    @keelback.function
    def square(n):
        return pool.submit(square_of, n).result(timeout=30)
""",
    numbered("square"),
    is_square,
    kind="pipe",
)

add(
    "Sharing",
    "a pool of threads that has not begun",
    FORK,
    """
    import concurrent.futures
    pool = concurrent.futures.ThreadPoolExecutor(2)

    @keelback.function
    def square(n):
        return pool.submit(pow, n, 2).result(timeout=30)
""",
    numbered("square"),
    is_square,
)

add(
    "Sharing",
    "a pool of threads that has worked",
    EXEC,
    """
    import concurrent.futures
    pool = concurrent.futures.ThreadPoolExecutor(2)
    pool.submit(pow, 2, 2).result()

    @keelback.function
    def square(n):
        return pool.submit(pow, n, 2).result(timeout=30)
""",
    numbered("square"),
    is_square,
    kind="thread",
)

add(
    "Sharing",
    "a thread with a queue",
    EXEC,
    """
    import queue, threading
    asked, answered = queue.SimpleQueue(), queue.SimpleQueue()

    def work():
        while True:
            answered.put(asked.get() ** 2)

    threading.Thread(target=work, daemon=True).start()

    @keelback.function
    def square(n):
        asked.put(n)
        return answered.get(timeout=30)
""",
    numbered("square"),
    is_square,
    kind="thread",
)

add(
    "Sharing",
    "a thread that has ended",
    FORK,
    """
    import threading
    found = []
    thread = threading.Thread(target=found.append, args=(2,))
    thread.start()
    thread.join()

    @keelback.function
    def square(n):
        return n ** found[0]
""",
    numbered("square"),
    is_square,
)

add(
    "Sharing",
    "locks and conditions",
    FORK,
    """
    import threading
    lock, condition, held = threading.RLock(), threading.Condition(), threading.Lock()
    held.acquire()

    @keelback.function
    def square(n):
        with lock, condition:
            condition.notify_all()
            return n * n if held.locked() and not held.acquire(blocking=False) else None
""",
    numbered("square"),
    is_square,
)

add(
    "Sharing",
    "a value of multiprocessing",
    EXEC,
    """
    import multiprocessing
    value = multiprocessing.Value("q", 0)

    @keelback.function
    def count():
        with value.get_lock():
            value.value += 1
            return [*turn(), value.value]
""",
    plain("count"),
    in_turn(lambda n: n + 1),
    kind="memory",
)

add(
    "Sharing",
    "a queue of multiprocessing",
    EXEC,
    """
    import multiprocessing
    queue = multiprocessing.SimpleQueue()

    @keelback.function
    def through(n):
        queue.put(n * n)
        return queue.get()
""",
    numbered("through"),
    is_square,
    kind="pipe",
)

add(
    "Sharing",
    "a semaphore of multiprocessing",
    EXEC,
    """
    import multiprocessing
    one = multiprocessing.Semaphore(1)

    @keelback.function
    def square(n):
        # Nobody else takes it: the other workers have their own.
        if not one.acquire(block=False):
            return None
        one.release()
        return n * n
""",
    numbered("square"),
    is_square,
    kind="memory",
)

add(
    "Sharing",
    "shared memory without a name",
    EXEC,
    """
    import mmap
    memory = mmap.mmap(-1, 4096)

    @keelback.function
    def through(n):
        memory[:8] = (n * n).to_bytes(8, "little")
        return int.from_bytes(memory[:8], "little")
""",
    numbered("through"),
    is_square,
    kind="memory",
)

add(
    "Sharing",
    "private memory without a name",
    FORK,
    """
    import mmap
    memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    @keelback.function
    def count():
        who = turn()
        memory[:8] = (int.from_bytes(memory[:8], "little") + 1).to_bytes(8, "little")
        return [*who, int.from_bytes(memory[:8], "little")]
""",
    plain("count"),
    in_turn(lambda n: n + 1),
)

add(
    "Sharing",
    "a file in memory",
    EXEC,
    """
    memory = os.memfd_create("scratch")

    @keelback.function
    def through(n):
        os.pwrite(memory, (n * n).to_bytes(8, "little"), 0)
        return int.from_bytes(os.pread(memory, 8, 0), "little")
""",
    numbered("through"),
    is_square,
    kind="memory",
)

add(
    "Sharing",
    "a pipe",
    EXEC,
    """
    ends = os.pipe()

    @keelback.function
    def through(n):
        os.write(ends[1], (n * n).to_bytes(8, "little"))
        return int.from_bytes(os.read(ends[0], 8), "little")
""",
    numbered("through"),
    is_square,
    kind="pipe",
)

add(
    "Sharing",
    "a pair of sockets",
    EXEC,
    """
    import socket
    near, far = socket.socketpair()

    @keelback.function
    def through(n):
        near.send((n * n).to_bytes(8, "little"))
        return int.from_bytes(far.recv(8), "little")
""",
    numbered("through"),
    is_square,
    kind="socket",
)

add(
    "Sharing",
    "a counter of the kernel's",
    EXEC,
    """
    import ctypes
    libc = ctypes.CDLL(None)
    event = libc.eventfd(0, 0)

    @keelback.function
    def through(n):
        os.write(event, (n + 1).to_bytes(8, "little"))
        return int.from_bytes(os.read(event, 8), "little") == n + 1
""",
    numbered("through"),
    is_true,
    kind="event",
)

add(
    "Sharing",
    "an epoll",
    EXEC,
    """
    import select
    ends = os.pipe()
    epoll = select.epoll()
    epoll.register(ends[0], select.EPOLLIN)

    @keelback.function
    def through(n):
        quiet = epoll.poll(0) == []
        os.write(ends[1], b"x")
        loud = [fd for fd, _ in epoll.poll(10)] == [ends[0]]
        os.read(ends[0], 1)
        return n * n if quiet and loud else None
""",
    numbered("through"),
    is_square,
    kind="pipe",
)

add(
    "Sharing",
    "an event loop",
    EXEC,
    """
    import asyncio
    loop = asyncio.new_event_loop()

    async def square_of(n):
        await asyncio.sleep(0)
        return n * n

    @keelback.function
    def square(n):
        return loop.run_until_complete(square_of(n))
""",
    numbered("square"),
    is_square,
    kind="event",
)

add(
    "Sharing",
    "an event loop that was closed again",
    FORK,
    """
    import asyncio
    lock = asyncio.Lock()
    asyncio.run(asyncio.sleep(0))

    @keelback.function
    async def square(n):
        async with lock:
            await asyncio.sleep(0)
            return n * n
""",
    numbered("square"),
    is_square,
)

add(
    "Sharing",
    "a timer",
    EXEC,
    """
    import signal, time
    ticks = []
    signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

    @keelback.function
    def tick():
        before, end = len(ticks), time.monotonic() + 20
        while len(ticks) == before and time.monotonic() < end:
            time.sleep(0.001)
        return len(ticks) > before
""",
    plain("tick"),
    is_true,
    kind="timer",
)
