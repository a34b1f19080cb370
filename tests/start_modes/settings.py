"""Applications whose import set something of the process, and applications that draw numbers."""

import random

from table import (
    FORK,
    add,
    all_differ,
    in_turn,
    is_square,
    is_true,
    numbered,
    plain,
    several_workers,
)

add(
    "Settings",
    "variables of the environment",
    FORK,
    """
    import subprocess
    os.environ["APP_MODE"] = "as the import left it"
    os.environ.pop("HOME", None)

    @keelback.function
    def seen(n):
        if n % 50 == 0:
            command = ["sh", "-c", 'echo "$APP_MODE${HOME-}"']
            return subprocess.check_output(command, text=True).strip()
        return os.environ["APP_MODE"] + os.environ.get("HOME", "")
""",
    numbered("seen"),
    lambda i, answer: answer == "as the import left it",
)

add(
    "Settings",
    "the working directory",
    FORK,
    """
    os.chdir(HERE)

    @keelback.function
    def here():
        return os.path.exists("app.py") and os.getcwd() == HERE
""",
    plain("here"),
    is_true,
)

add(
    "Settings",
    "the mask of new files",
    FORK,
    """
    import uuid
    os.umask(0o027)

    @keelback.function
    def mode():
        name = HERE + f"/{uuid.uuid4()}"
        open(name, "w").close()
        found = os.stat(name).st_mode & 0o777
        os.unlink(name)
        return found
""",
    plain("mode"),
    lambda i, answer: answer == 0o640,
)

add(
    "Settings",
    "limits and priority",
    FORK,
    """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (333, 333))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(3)

    @keelback.function
    def limits():
        limits = (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
        files, core = map(resource.getrlimit, limits)
        return [*files, *core, os.nice(0) >= 3]
""",
    plain("limits"),
    lambda i, answer: answer == [333, 333, 0, 0, True],
)

add(
    "Settings",
    "the garbage collector",
    FORK,
    """
    import gc
    gc.disable()
    gc.set_threshold(111, 22, 3)

    @keelback.function
    def collector():
        return [gc.isenabled(), *gc.get_threshold()]
""",
    plain("collector"),
    lambda i, answer: answer == [False, 111, 22, 3],
)

add(
    "Settings",
    "a garbage collector that nobody touched",
    FORK,
    """
    import gc

    @keelback.function
    def collector():
        class Knot: pass
        import weakref
        knot = Knot()
        knot.itself, gone = knot, weakref.ref(knot)
        del knot
        gc.collect()
        return gc.isenabled() and gone() is None
""",
    plain("collector"),
    is_true,
)

add(
    "Settings",
    "the depth of recursion",
    FORK,
    """
    import sys
    sys.setrecursionlimit(5000)

    def deep(n):
        return n and 1 + deep(n - 1)

    @keelback.function
    def depth():
        return [sys.getrecursionlimit(), deep(3000)]
""",
    plain("depth"),
    lambda i, answer: answer == [5000, 3000],
)

add(
    "Settings",
    "the precision of decimals",
    FORK,
    """
    import decimal
    decimal.getcontext().prec = 5
    decimal.getcontext().rounding = decimal.ROUND_DOWN

    @keelback.function
    def third(n):
        return str(decimal.Decimal(2) / decimal.Decimal(3))
""",
    numbered("third"),
    lambda i, answer: answer == "0.66666",
)

add(
    "Settings",
    "a variable of the context",
    FORK,
    """
    import contextvars
    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("what the import said")

    @keelback.function
    def read():
        return variable.get()
""",
    plain("read"),
    lambda i, answer: answer == "what the import said",
)

add(
    "Settings",
    "what warnings become",
    FORK,
    """
    import warnings
    warnings.filterwarnings("error", category=UserWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)

    @keelback.function
    def warn():
        warnings.warn("old", DeprecationWarning)
        try:
            warnings.warn("raised")
        except UserWarning as warning:
            return str(warning)
""",
    plain("warn"),
    lambda i, answer: answer == "raised",
)

add(
    "Settings",
    "handlers of signals",
    FORK,
    """
    import signal
    caught = []
    signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    signal.signal(signal.SIGINT, lambda *_: os._exit(9))

    @keelback.function
    def raised():
        who = turn()
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        return [*who, len(caught)]
""",
    plain("raised"),
    in_turn(lambda n: n + 1),
)

add(
    "Settings",
    "where modules are looked for",
    FORK,
    """
    import sys
    sys.path.insert(0, HERE + "/more")
    os.makedirs(HERE + "/more", exist_ok=True)
    with open(HERE + f"/more/other_{os.getpid()}.py", "w") as file:
        file.write("def square(n):\\n    return n * n\\n")
    name = f"other_{os.getpid()}"

    @keelback.function
    def square(n):
        return __import__(name).square(n)
""",
    numbered("square"),
    is_square,
)

add(
    "Settings",
    "the locale",
    FORK,
    """
    import locale
    chosen = locale.setlocale(locale.LC_ALL, "C.UTF-8")

    @keelback.function
    def read():
        return locale.setlocale(locale.LC_ALL) == chosen
""",
    plain("read"),
    is_true,
)

add(
    "Settings",
    "a cache that the import filled",
    FORK,
    """
    import functools

    @functools.lru_cache(maxsize=None)
    def cached(n):
        return n * n

    for n in range(100):
        cached(n)

    @keelback.function
    def read():
        who = turn()
        return [*who, [cached(who[1] % 100), cached.cache_info().hits, cached.cache_info().misses]]
""",
    plain("read"),
    in_turn(lambda n: [(n % 100) ** 2, n + 1, 100]),
)

add(
    "Settings",
    "a counter of a class",
    FORK,
    """
    class Ticket:
        numbers = itertools.count(1000)

        def __init__(self):
            self.number = next(self.numbers)

    first = Ticket()

    @keelback.function
    def ticket():
        return [*turn(), Ticket().number]
""",
    plain("ticket"),
    in_turn(lambda n: 1001 + n),
    after=several_workers,
)

add(
    "Settings",
    "weak references",
    FORK,
    """
    import weakref

    class Thing:
        pass

    kept, things = [Thing() for _ in range(10)], weakref.WeakValueDictionary()
    for n, thing in enumerate(kept):
        things[n] = thing
    things["gone"] = Thing()
    ended = []
    weakref.finalize(kept[9], ended.append, 9)

    @keelback.function
    def read():
        who = turn()
        if len(kept) == 10:
            kept.pop()
            globals().pop("thing", None)
        return [*who, [len(things), ended, "gone" in things]]
""",
    plain("read"),
    in_turn(lambda n: [9, [9], False]),
)

add(
    "Settings",
    "clocks that were read at import",
    FORK,
    """
    import time
    begun, began = time.monotonic(), time.time()

    @keelback.function
    def age():
        return 0 <= time.monotonic() - begun < 600 and -1 < time.time() - began < 600
""",
    plain("age"),
    is_true,
)

add(
    "Settings",
    "threads of numeric libraries",
    FORK,
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    at_import = [os.environ.get(name) for name in names]

    @keelback.function
    def threads():
        return at_import + [os.environ.get(name) for name in names]
""",
    plain("threads"),
    lambda i, answer: answer == ["1"] * 8,
)


def one_order(run):
    assert len({answer[1] for answer in run.answers}) == 1, "all workers have one order"
    several_workers(run)


add(
    "Settings",
    "the order of a set",
    FORK,
    """
    words = {f"word {n}" for n in range(30)}

    @keelback.function
    def order():
        return [os.getpid(), " ".join(words | {"another"}) + str(hash("text"))]
""",
    plain("order"),
    lambda i, answer: len(answer[1].split()) >= 61,
    after=one_order,
)

# ---- random numbers


def after_seed(seed, drawn=0):
    generator = random.Random(seed)
    numbers = [generator.random() for _ in range(drawn + 4000)][drawn:]
    return lambda n: numbers[n]


add(
    "Numbers",
    "a generator with a seed",
    FORK,
    """
    import random
    random.seed(42)

    @keelback.function
    def draw():
        return [*turn(), random.random()]
""",
    plain("draw"),
    in_turn(after_seed(42)),
    after=several_workers,
)

add(
    "Numbers",
    "a generator with a seed, and numbers drawn at import",
    FORK,
    """
    from random import random, seed
    seed("a text")
    for _ in range(5):
        random()

    @keelback.function
    def draw():
        return [*turn(), random()]
""",
    plain("draw"),
    in_turn(after_seed("a text", 5)),
)

add(
    "Numbers",
    "a generator of its own with a seed",
    FORK,
    """
    import random
    own = random.Random(7)

    @keelback.function
    def draw():
        return [*turn(), own.random()]
""",
    plain("draw"),
    in_turn(after_seed(7)),
)

add(
    "Numbers",
    "a generator without a seed",
    FORK,
    """
    import random
    at_import = random.random()

    @keelback.function
    def draw():
        return random.random()
""",
    plain("draw"),
    lambda i, answer: 0 <= answer < 1,
    after=lambda run: all_differ(run.answers),
)

add(
    "Numbers",
    "a generator that had a seed for a while",
    FORK,
    """
    import random
    state = random.getstate()
    random.seed(1)
    random.shuffle(list(range(10)))
    random.setstate(state)

    @keelback.function
    def draw():
        return random.random()
""",
    plain("draw"),
    lambda i, answer: 0 <= answer < 1,
    after=lambda run: all_differ(run.answers),
)

add(
    "Numbers",
    "a generator that each worker makes for itself",
    FORK,
    """
    import random

    @keelback.worker_setup
    def setup():
        global own
        own = random.Random()

    @keelback.function
    def draw():
        return own.random()
""",
    plain("draw"),
    lambda i, answer: 0 <= answer < 1,
    after=lambda run: all_differ(run.answers),
)

add(
    "Numbers",
    "numbers of the kernel's",
    FORK,
    """
    import random, secrets, ssl, tempfile, uuid
    secrets.token_hex(), uuid.uuid4(), ssl.RAND_bytes(4), next(tempfile._get_candidate_names())
    system = random.SystemRandom()

    @keelback.function
    def draw():
        name, bits = next(tempfile._get_candidate_names()), ssl.RAND_bytes(8).hex()
        return [secrets.token_hex(8), str(uuid.uuid4()), bits, name, system.random()]
""",
    plain("draw"),
    lambda i, answer: len(answer) == 5,
    after=lambda run: [all_differ([answer[n] for answer in run.answers]) for n in range(5)],
)


def after_seed_of_numpy(seed):
    """NumPy fills the Mersenne Twister from a seed as its authors did (init_genrand)."""
    words = [seed]
    for n in range(1, 624):
        words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + n) % (1 << 32))
    generator = random.Random()
    generator.setstate((3, (*words, 624), None))
    numbers = [generator.random() for _ in range(4000)]
    return lambda n: numbers[n]


add(
    "Numbers",
    "NumPy's generator with a seed",
    FORK,
    """
    import numpy
    numpy.random.seed(42)

    @keelback.function
    def draw():
        return [*turn(), float(numpy.random.random_sample())]
""",
    plain("draw"),
    in_turn(after_seed_of_numpy(42)),
    needs="numpy",
)

add(
    "Numbers",
    "NumPy's generator without a seed",
    FORK,
    """
    import numpy
    numpy.random.random_sample(3)

    @keelback.function
    def draw():
        return float(numpy.random.random_sample())
""",
    plain("draw"),
    lambda i, answer: 0 <= answer < 1,
    after=lambda run: all_differ(run.answers),
    needs="numpy",
)
