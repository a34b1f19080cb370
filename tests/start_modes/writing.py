"""Applications that opened something at import to write to it, or that act at their end."""

from table import EXEC, FORK, add, in_turn, is_square, is_true, numbered, plain


def lines_of(run, name):
    text = run.text(name)
    assert text == "" or text.endswith("\n"), "the last line is whole"
    return text.split("\n")[:-1]


def each_call_once(name, imports=True):
    """The file has one line for each import, and one for each call."""

    def look(run):
        lines = lines_of(run, name)
        calls = sorted(int(line.split()[1]) for line in lines if line.startswith("call "))
        assert calls == list(range(len(run.answers))), (
            f"{len(calls)} lines of {len(run.answers)} calls"
        )
        begun = [line for line in lines if line.startswith("import ")]
        assert len(begun) == (run.imports if imports else 0), (begun, run.imports)
        assert len(lines) == len(calls) + len(begun), "there are other lines"

    return look


add(
    "Writing",
    "a log that is appended to",
    FORK,
    """
    log = open(HERE + "/log.txt", "a")
    log.write(f"import {os.getpid()}\\n")

    @keelback.function
    def note(n):
        log.write(f"call {n}\\n")
        log.flush()
        return n * n
""",
    numbered("note"),
    is_square,
    after=each_call_once("log.txt"),
)

add(
    "Writing",
    "a descriptor that is appended to",
    FORK,
    """
    log = os.open(HERE + "/log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"import {os.getpid()}\\n".encode())

    @keelback.function
    def note(n):
        os.write(log, f"call {n}\\n".encode())
        return n * n
""",
    numbered("note"),
    is_square,
    after=each_call_once("log.txt"),
)

add(
    "Writing",
    "a C library's file that is appended to",
    FORK,
    """
    import ctypes
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    log = ctypes.c_void_p(libc.fopen((HERE + "/log.txt").encode(), b"a"))
    libc.fputs(f"import {os.getpid()}\\n".encode(), log)

    @keelback.function
    def note(n):
        libc.fputs(f"call {n}\\n".encode(), log)
        libc.fflush(log)
        return n * n
""",
    numbered("note"),
    is_square,
    after=each_call_once("log.txt"),
)

add(
    "Writing",
    "log records in a file",
    FORK,
    """
    import logging
    logging.basicConfig(filename=HERE + "/log.txt", format="%(message)s", level=logging.INFO)
    logging.info("import %d", os.getpid())

    @keelback.function
    def note(n):
        logging.info("call %d", n)
        return n * n
""",
    numbered("note"),
    is_square,
    after=each_call_once("log.txt"),
)

add(
    "Writing",
    "log records that are kept until the end",
    FORK,
    """
    import logging, logging.handlers
    log = logging.getLogger("app")
    file = logging.FileHandler(HERE + "/log.txt")
    log.addHandler(logging.handlers.MemoryHandler(10_000, target=file))
    log.error("import %d", os.getpid())

    @keelback.function
    def note(n):
        log.error("call %d", n)
        return n * n
""",
    numbered("note"),
    is_square,
    after=each_call_once("log.txt"),
)

add(
    "Writing",
    "rows that are written out at the end",
    FORK,
    """
    import atexit, csv
    file = open(HERE + "/log.txt", "a", newline="")
    rows = csv.writer(file, delimiter=" ", lineterminator="\\n")
    rows.writerow(["import", os.getpid()])

    @keelback.worker_setup
    def setup():
        atexit.register(file.flush)  # what imports register runs in the zygote only

    @keelback.function
    def note(n):
        rows.writerow(["call", n])
        file.flush()
        return n * n
""",
    numbered("note"),
    is_square,
    after=each_call_once("log.txt"),
)

add(
    "Writing",
    "a scratch file",
    EXEC,
    """
    import tempfile
    scratch = tempfile.TemporaryFile()

    @keelback.function
    def through(n):
        scratch.seek(0)
        scratch.write(str(n * n).encode().ljust(20))
        scratch.seek(0)
        return int(scratch.read(20))
""",
    numbered("through"),
    is_square,
    kind="file",
)

add(
    "Writing",
    "a scratch file that is appended to",
    EXEC,
    """
    import tempfile
    scratch = tempfile.TemporaryFile("a+b")

    @keelback.function
    def note():
        scratch.write(b"x")
        scratch.flush()
        scratch.seek(0)
        return [*turn(), len(scratch.read())]
""",
    plain("note"),
    in_turn(lambda n: n + 1),
    kind="file",
)

add(
    "Writing",
    "a mapped scratch file",
    EXEC,
    """
    import mmap, tempfile
    scratch = tempfile.TemporaryFile()
    scratch.truncate(4096)
    memory = mmap.mmap(scratch.fileno(), 4096)
    scratch.close()

    @keelback.function
    def count():
        who = turn()
        memory[:8] = (int.from_bytes(memory[:8], "little") + 1).to_bytes(8, "little")
        return [*who, int.from_bytes(memory[:8], "little")]
""",
    plain("count"),
    in_turn(lambda n: n + 1),
    kind="file",
)


def sum_in_database(run):
    import sqlite3

    with sqlite3.connect(run.folder / "sums.db") as database:
        count, total = database.execute("select count(*), sum(n) from notes").fetchone()
    database.close()
    assert (count, total) == (len(run.answers), sum(range(len(run.answers)))), (
        "each commit is there, once"
    )


add(
    "Writing",
    "a database that is committed to",
    EXEC,
    """
    import sqlite3
    base = sqlite3.connect(HERE + "/sums.db", timeout=60, isolation_level=None)
    base.execute("pragma journal_mode = wal")
    base.execute("pragma synchronous = off")
    base.execute("create table if not exists notes (n integer)")

    @keelback.function
    def note(n):
        base.execute("insert into notes values (?)", [n])
        return n * n
""",
    numbered("note"),
    is_square,
    after=sum_in_database,
    kind="database",
)

add(
    "Writing",
    "a database in memory",
    FORK,
    """
    import sqlite3
    base = sqlite3.connect(":memory:", isolation_level=None)
    base.execute("create table notes (n integer)")

    @keelback.function
    def note():
        who = turn()
        base.execute("insert into notes values (?)", [who[1]])
        return [*who, base.execute("select count(*), sum(n) from notes").fetchone()]
""",
    plain("note"),
    in_turn(lambda n: [n + 1, n * (n + 1) // 2]),
)


def each_import_ended_once(run):
    lines = lines_of(run, "log.txt")
    begun = [line.split()[1] for line in lines if line.startswith("begin ")]
    ended = [line.split()[1] for line in lines if line.startswith("end ")]
    assert len(begun) == run.imports, (begun, run.imports)
    assert sorted(ended) == sorted(begun), "each import ends once"
    workers = [line.split()[1] for line in lines if line.startswith("setup ")]
    left = [line.split()[1] for line in lines if line.startswith("left ")]
    assert len(workers) == 4 and sorted(left) == sorted(workers), (workers, left)


add(
    "Writing",
    "functions that run at the end",
    FORK,
    """
    import atexit, weakref

    def note(what):
        with open(HERE + "/log.txt", "a") as log:
            log.write(f"{what} {os.getpid()}\\n")

    class Thing:
        pass

    note("begin")
    thing = Thing()
    weakref.finalize(thing, note, "end")

    @keelback.worker_setup
    def setup():
        note("setup")
        atexit.register(note, "left")

    @keelback.function
    def square(n):
        return n * n
""",
    numbered("square"),
    is_square,
    after=each_import_ended_once,
)


def directories_are_gone(run):
    names = lines_of(run, "log.txt")
    assert len(names) == run.imports
    import os

    assert not any(os.path.exists(name) for name in names), "what the import made is removed"


add(
    "Writing",
    "a temporary directory",
    FORK,
    """
    import tempfile, uuid
    folder = tempfile.TemporaryDirectory()
    with open(HERE + "/log.txt", "a") as log:
        log.write(folder.name + "\\n")

    @keelback.function
    def through(n):
        name = f"{folder.name}/{uuid.uuid4()}"  # the directory is shared by forked workers
        with open(name, "w") as file:
            file.write(str(n * n))
        with open(name) as file:
            return int(file.read())
""",
    numbered("through"),
    is_square,
    after=directories_are_gone,
)


SAID = 200  # a log that grows too fast is cut


def said_by_workers(run):
    said = [line for line in run.log.split("\n") if "said in call" in line]
    assert len(said) == SAID, len(said)
    assert not any("[zygote]" in line for line in said), (
        "each line came from the worker that wrote it"
    )


add(
    "Writing",
    "a copy of the standard output",
    FORK,
    """
    import logging, sys
    out = os.fdopen(os.dup(1), "w", buffering=1)
    logging.basicConfig(stream=os.fdopen(os.dup(2), "w", buffering=1), format="%(message)s")

    @keelback.function
    def say(n):
        if n < 200 and n % 2:
            print("said in call", n, file=out)
        elif n < 200:
            logging.error("said in call %d", n)
        return n * n
""",
    numbered("say"),
    is_square,
    after=said_by_workers,
)


def said_in_file(run):
    lines = lines_of(run, "out.txt")
    assert sorted(lines) == sorted(f"said in call {n}" for n in range(len(run.answers)))


add(
    "Writing",
    "a standard output that was redirected",
    EXEC,
    """
    out = os.open(HERE + "/out.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(out, 1)
    os.close(out)

    @keelback.function
    def say(n):
        os.write(1, f"said in call {n}\\n".encode())
        return n * n
""",
    numbered("say"),
    is_square,
    after=said_in_file,
    kind="output",
)

add(
    "Writing",
    "what a worker sets up for itself",
    FORK,
    """
    import tempfile

    @keelback.worker_setup
    def setup():
        global scratch
        scratch = tempfile.TemporaryFile()

    @keelback.function
    def through(n):
        scratch.seek(0)
        scratch.write(str(n).encode().ljust(20))
        scratch.seek(0)
        return int(scratch.read(20)) == n
""",
    numbered("through"),
    is_true,
)
