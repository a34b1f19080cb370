"""Applications that opened something at import, and only read it."""

from table import (
    BOOK,
    EXEC,
    FORK,
    LINES,
    add,
    all_differ,
    ask_line,
    in_turn,
    is_line,
    is_true,
    line_number,
    numbered,
    plain,
    several_workers,
)

WITH_BOOK = {"files": {"book.txt": BOOK}}

add(
    "Reading",
    "a book that is looked up",
    FORK,
    """
    book = open(HERE + "/book.txt", "rb")

    @keelback.function
    def line(n):
        book.seek(n * 20)
        return book.read(20).decode().strip()
""",
    ask_line,
    is_line,
    **WITH_BOOK,
)

add(
    "Reading",
    "a text file that is looked up",
    FORK,
    """
    book = open(HERE + "/book.txt")
    places = []
    while True:
        places.append(book.tell())
        if not book.readline():
            break

    @keelback.function
    def line(n):
        book.seek(places[n])
        return book.readline().strip()
""",
    ask_line,
    is_line,
    **WITH_BOOK,
)

add(
    "Reading",
    "a descriptor that is looked up",
    FORK,
    """
    book = os.open(HERE + "/book.txt", os.O_RDONLY)

    @keelback.function
    def line(n):
        os.lseek(book, n * 20, os.SEEK_SET)
        return os.read(book, 20).decode().strip()
""",
    ask_line,
    is_line,
    **WITH_BOOK,
)

add(
    "Reading",
    "a file that is read on from where the import stopped",
    FORK,
    """
    book = open(HERE + "/book.txt")
    for _ in range(3):
        book.readline()

    @keelback.function
    def following():
        return [*turn(), book.readline().strip()]
""",
    plain("following"),
    in_turn(lambda n: f"line {n + 3}"),
    after=several_workers,
    **WITH_BOOK,
)

add(
    "Reading",
    "a table that is read row by row",
    FORK,
    """
    import csv
    rows = csv.reader(open(HERE + "/table.csv", newline=""))
    names = next(rows)

    @keelback.function
    def row():
        return [*turn(), dict(zip(names, next(rows)))]
""",
    plain("row"),
    in_turn(lambda n: {"n": str(n), "square": str(n * n)}),
    files={"table.csv": "n,square\n" + "".join(f"{n},{n * n}\n" for n in range(LINES))},
)

add(
    "Reading",
    "a zip archive that is read lazily",
    FORK,
    """
    import zipfile
    with zipfile.ZipFile(HERE + f"/{os.getpid()}.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for n in range(100):
            made.writestr(f"{n}.txt", f"{n} " * 9000)
    archive = zipfile.ZipFile(made.filename)

    @keelback.function
    def member(n):
        return archive.read(f"{n}.txt") == f"{n} ".encode() * 9000
""",
    lambda i: ("member", [i % 100]),
    is_true,
)

add(
    "Reading",
    "a tar archive that is read lazily",
    FORK,
    """
    import io, tarfile
    with tarfile.open(HERE + f"/{os.getpid()}.tar", "w") as made:
        for n in range(100):
            info = tarfile.TarInfo(str(n))
            info.size = 20000
            made.addfile(info, io.BytesIO(bytes([n]) * 20000))
    archive = tarfile.open(made.name)
    members = archive.getmembers()

    @keelback.function
    def member(n):
        return archive.extractfile(members[n]).read() == bytes([n]) * 20000
""",
    lambda i: ("member", [i % 100]),
    is_true,
)

add(
    "Reading",
    "a compressed file that is looked up",
    FORK,
    """
    import gzip
    with gzip.open(HERE + f"/{os.getpid()}.gz", "wb") as made:
        made.write(open(HERE + "/book.txt", "rb").read())
    book = gzip.open(made.name, "rb")

    @keelback.function
    def line(n):
        book.seek(n * 20)
        return book.read(20).decode().strip()
""",
    ask_line,
    is_line,
    **WITH_BOOK,
)

add(
    "Reading",
    "a file that was deleted",
    FORK,
    """
    import shutil
    name = HERE + f"/{os.getpid()}"
    shutil.copy(HERE + "/book.txt", name)
    book = open(name, "rb")
    os.unlink(name)

    @keelback.function
    def line(n):
        book.seek(n * 20)
        return book.read(20).decode().strip()
""",
    ask_line,
    is_line,
    **WITH_BOOK,
)

add(
    "Reading",
    "a database of keys",
    FORK,
    """
    import dbm.dumb
    with dbm.dumb.open(HERE + f"/{os.getpid()}", "n") as made:
        for n in range(200):
            made[str(n)] = str(n * n)
    keys = dbm.dumb.open(HERE + f"/{os.getpid()}", "r")
    index = open(HERE + f"/{os.getpid()}.dat", "rb")

    @keelback.function
    def square(n):
        index.seek(0)
        return int(keys[str(n)])
""",
    lambda i: ("square", [i % 200]),
    lambda i, answer: answer == (i % 200) ** 2,
)

add(
    "Reading",
    "a directory that files are opened in",
    FORK,
    """
    folder = os.open(HERE, os.O_RDONLY | os.O_DIRECTORY)
    place = os.open(HERE, os.O_PATH)

    @keelback.function
    def line(n):
        found = os.open("book.txt", os.O_RDONLY, dir_fd=folder if n % 4 == 1 else place)
        with open(found, "rb") as book:
            book.seek(n * 20)
            return book.read(20).decode().strip()

    @keelback.function
    def names():
        return sorted(os.listdir(folder))
""",
    lambda i: ask_line(i) if i % 2 else ("names", []),
    lambda i, answer: is_line(i, answer) if i % 2 else "app.py" in answer and "book.txt" in answer,
    **WITH_BOOK,
)

add(
    "Reading",
    "a directory that is read on from where the import stopped",
    FORK,
    """
    os.makedirs(HERE + f"/{os.getpid()}")
    for n in range(1000):
        open(HERE + f"/{os.getpid()}/{n}", "w").close()
    entries = os.scandir(HERE + f"/{os.getpid()}")
    seen = {next(entries).name for _ in range(100)}

    @keelback.function
    def rest():
        first = not turn()[1]
        found = {entry.name for entry in entries}
        return first, len(found), len(found | seen)
""",
    plain("rest"),
    lambda i, answer: answer in ([True, 900, 1000], [False, 0, 100]),
)

add(
    "Reading",
    "a mapped file, read only",
    FORK,
    """
    import mmap
    with open(HERE + "/book.txt", "rb") as file:
        book = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @keelback.function
    def line(n):
        book.seek(n * 20)
        return book.readline().decode().strip()
""",
    ask_line,
    is_line,
    **WITH_BOOK,
)

add(
    "Reading",
    "a mapped file, a copy of each worker's own",
    FORK,
    """
    import mmap
    with open(HERE + "/book.txt", "rb") as file:
        book = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    @keelback.function
    def write():
        who = turn()
        book[who[1] * 20 : who[1] * 20 + 4] = b"read"
        return [*who, book[:].count(b"read")]
""",
    plain("write"),
    in_turn(lambda n: n + 1),
    **WITH_BOOK,
)

add(
    "Reading",
    "a file and its mapping, which share one offset",
    EXEC,
    """
    import mmap
    book = open(HERE + "/book.txt", "rb")
    mapped = mmap.mmap(book.fileno(), 0, access=mmap.ACCESS_READ)

    @keelback.function
    def line(n):
        book.seek(n * 20)
        return book.read(20).decode().strip() if mapped[n * 20 : n * 20 + 4] == b"line" else ""
""",
    ask_line,
    is_line,
    kind="file",
    **WITH_BOOK,
)

add(
    "Reading",
    "two descriptors with one offset",
    EXEC,
    """
    one = os.open(HERE + "/book.txt", os.O_RDONLY)
    other = os.dup(one)

    @keelback.function
    def line(n):
        os.lseek(one, n * 20, os.SEEK_SET)
        return (os.read(other, 10) + os.read(one, 10)).decode().strip()
""",
    ask_line,
    is_line,
    kind="file",
    **WITH_BOOK,
)

add(
    "Reading",
    "a file under a lock",
    EXEC,
    """
    import fcntl
    book = open(HERE + "/book.txt", "rb")
    fcntl.flock(book, fcntl.LOCK_SH)

    @keelback.function
    def line(n):
        book.seek(n * 20)
        return book.read(20).decode().strip()
""",
    ask_line,
    is_line,
    kind="lock",
    **WITH_BOOK,
)

add(
    "Reading",
    "a database that is only read",
    EXEC,
    """
    import sqlite3
    name = HERE + f"/{os.getpid()}.db"
    with sqlite3.connect(name) as made:
        made.execute("create table squares (n integer primary key, square integer)")
        made.executemany("insert into squares values (?, ?)", [(n, n * n) for n in range(500)])
    made.close()
    squares = sqlite3.connect(f"file:{name}?mode=ro", uri=True)
    squares.execute("select count(*) from squares").fetchall()

    @keelback.function
    def square(n):
        return squares.execute("select square from squares where n = ?", [n]).fetchone()[0]
""",
    lambda i: ("square", [i % 500]),
    lambda i, answer: answer == (i % 500) ** 2,
    kind="database",
)

add(
    "Reading",
    "random bytes that were read ahead",
    FORK,
    """
    source = open("/dev/urandom", "rb")
    source.read(4)

    @keelback.function
    def draw():
        return source.read(8).hex()
""",
    plain("draw"),
    lambda i, answer: len(answer) == 16,
    after=lambda run: all_differ(run.answers),
)

add(
    "Reading",
    "devices without a state",
    FORK,
    """
    zero, null = open("/dev/zero", "rb"), os.open("/dev/null", os.O_RDWR)

    @keelback.function
    def read(n):
        return [zero.read(n % 100).hex(), os.write(null, b"x" * n), os.read(null, 10).decode()]
""",
    numbered("read"),
    lambda i, answer: answer == ["00" * (i % 100), i, ""],
)

add(
    "Reading",
    "a file that describes the process",
    EXEC,
    """
    status = open("/proc/self/stat")

    @keelback.function
    def own():
        status.seek(0)
        return int(status.read().split()[0]) == os.getpid()
""",
    plain("own"),
    is_true,
    kind="file",
)

add(
    "Reading",
    "an array that is read lazily",
    FORK,
    """
    import numpy
    name = HERE + f"/{os.getpid()}.npz"
    numpy.savez(name, **{f"a{n}": numpy.full(5000, n) for n in range(50)})
    arrays = numpy.load(name)
    numpy.save(HERE + f"/{os.getpid()}.npy", numpy.arange(100_000))
    mapped = numpy.load(HERE + f"/{os.getpid()}.npy", mmap_mode="r")

    @keelback.function
    def total(n):
        return [int(arrays[f"a{n % 50}"].sum()), int(mapped[n])]
""",
    lambda i: ("total", [line_number(i)]),
    lambda i, answer: answer == [line_number(i) % 50 * 5000, line_number(i)],
    needs="numpy",
)
