"""What an import left open: each forked worker opens it anew, or it is a reason not to fork."""

import os
import signal
import textwrap
import unittest

from supervisor import SupervisorTest, ZygoteUnderTest, has_shared_memory

APP = """
    import os, keelback

    @keelback.function
    def pid():
        return os.getpid()
"""


class OpenedAnew(SupervisorTest):
    def workers(self, source, count=3, **texts):
        """Forked workers of the application, and at last one that was started by exec."""
        paths = {name: self.app(text, name + ".txt") for name, text in texts.items()}
        app = self.app(
            "".join(f"{name} = {path!r}\n" for name, path in paths.items())
            + textwrap.dedent(source)
        )
        self.zygote_of_app = self.zygote(app)
        self.zygote_of_app.expect("ready")
        workers = [self.zygote_of_app.fork(f"{n}.1").wait_ready() for n in range(count)]
        return [*workers, self.exec_worker(app).wait_ready()]

    def test_a_file_has_an_offset_of_its_own_that_begins_where_the_import_left_it(self):
        workers = self.workers(
            """
            import os, keelback
            raw = os.open(BOOK, os.O_RDONLY)
            assert os.read(raw, 4) == b"one "
            buffered = open(BOOK)
            assert buffered.read(4) == "one "
            os.set_inheritable(raw, True)

            @keelback.function
            def read(count):
                numbers = raw, buffered.fileno()
                flags = map(os.get_inheritable, numbers)
                return [os.read(raw, count).decode(), buffered.read(count), *flags]
        """,
            BOOK="one two three four",
        )
        for text in ("two ", "thre", "e fo"):
            for worker in workers:
                self.assertEqual([text, text, True, False], worker.call("read", [4]).value)

    def test_a_deleted_file_a_half_read_directory_and_an_archive_are_opened_anew(self):
        workers = self.workers(
            """
            import os, zipfile, keelback
            gone = open(GONE, "rb")
            os.unlink(GONE)
            with open(GONE, "wb") as file:
                file.write(b"another file")
            folder = os.path.dirname(GONE) + "/folder"
            os.makedirs(folder, exist_ok=True)
            for n in range(2000):
                open(f"{folder}/{n}", "w").close()
            entries = os.scandir(folder)
            seen = [next(entries).name for _ in range(10)]
            with zipfile.ZipFile(GONE + ".zip", "w", zipfile.ZIP_DEFLATED) as made:
                for n in range(200):
                    made.writestr(f"{n}", str(n) * 5000)
            archive = zipfile.ZipFile(GONE + ".zip")

            @keelback.function
            def read():
                return gone.read(4).decode()

            @keelback.function
            def rest():
                return len({*seen, *(entry.name for entry in entries)})

            @keelback.function
            def member(n):
                return archive.read(str(n)).decode() == str(n) * 5000
        """,
            GONE="abcdefgh",
        )
        for worker in workers[:-1]:  # the one started by exec has found the other file there
            self.assertEqual(["abcd", "efgh"], [worker.call("read").value for _ in range(2)])
            self.assertEqual(2000, worker.call("rest").value)
        for n in range(60):
            self.assertTrue(all(worker.call("member", [n]).value for worker in workers))

    def test_what_waits_in_buffers_is_written_once_and_each_worker_appends_for_itself(self):
        workers = self.workers(
            """
            import logging, logging.handlers, os, keelback
            log = open(LOG, "a")
            log.write(f"import {os.getpid()}\\n")
            kept = logging.handlers.MemoryHandler(1000, target=logging.FileHandler(RECORDS))
            logger = logging.getLogger("app")
            logger.addHandler(kept)
            logger.error("record of %d", os.getpid())

            @keelback.function
            def write():
                log.write(f"call {os.getpid()}\\n")
                log.flush()
                logger.error("record of %d", os.getpid())
        """,
            LOG="",
            RECORDS="",
        )
        pids = [self.zygote_of_app.pid, *(worker.pid for worker in workers)]
        for worker in workers:
            worker.call("write")
            self.assertEqual(0, worker.shutdown())
        folder = os.path.dirname(self.app("", "LOG2.txt"))
        with open(f"{folder}/LOG.txt") as file:
            lines = file.read().split("\n")[:-1]
        imports = [f"import {pids[0]}", f"import {pids[-1]}"]
        self.assertEqual(sorted(imports + [f"call {pid}" for pid in pids[1:]]), sorted(lines))
        with open(f"{folder}/RECORDS.txt") as file:
            records = file.read().split("\n")[:-1]
        self.assertEqual(sorted(f"record of {pid}" for pid in [*pids, pids[-1]]), sorted(records))

    def test_devices_without_a_state_are_opened_anew_and_random_bytes_are_not_shared(self):
        workers = self.workers("""
            import keelback
            null, zero = open("/dev/null", "r+b", buffering=0), open("/dev/zero", "rb")
            random = open("/dev/urandom", "rb")
            random.read(8)  # a buffer full was read

            @keelback.function
            def read():
                return [null.write(b"x"), zero.read(2).hex(), random.read(16).hex()]
        """)
        read = [worker.call("read").value for worker in workers]
        self.assertEqual([[1, "0000"]] * 4, [values[:2] for values in read])
        self.assertEqual(4, len({values[2] for values in read}))

    def test_a_copy_of_the_standard_output_is_the_workers_log(self):
        workers = self.workers("""
            import os, keelback
            out = os.fdopen(os.dup(1), "w")
            raw = os.dup(2)

            @keelback.function
            def say():
                out.write(f"said by {os.getpid()}\\n")
                out.flush()
                os.write(raw, b"and raw\\n")
        """)
        for worker in workers:
            worker.call("say")
            self.assertEqual(f"said by {worker.pid}\nand raw\n", worker.log())
        self.assertEqual("", self.zygote_of_app.log())

    def test_a_hook_that_runs_in_the_fork_has_its_own_files_log_and_exit_functions(self):
        workers = self.workers(
            """
            import atexit, os, keelback
            file = open(BOOK)
            file.read(1)
            file.seek(0)
            raw = os.open(BOOK, os.O_RDONLY)
            found = []
            atexit.register(lambda: print("of the import", flush=True))

            def in_child():
                found.append(os.read(raw, 3).decode())
                print("hook", flush=True)
                atexit.register(lambda: print("of the hook", flush=True))

            os.register_at_fork(after_in_child=in_child)

            @keelback.function
            def read():
                return found + [os.read(raw, 3).decode()]
        """,
            BOOK="abcdef",
        )
        for worker in workers[:-1]:
            self.assertEqual(["abc", "def"], worker.call("read").value)
            self.assertEqual(0, worker.shutdown())
            self.assertEqual("hook\nof the hook\n", worker.log())

    def test_mappings_that_are_the_same_in_every_process_are_no_obstacle(self):
        workers = self.workers(
            """
            import mmap, os, keelback
            with open(BOOK, "rb") as file:
                shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with open(BOOK, "rb") as file:
                private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            anonymous = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

            @keelback.function
            def write(letter):
                private[0:1] = anonymous[0:1] = letter.encode()
                return [shared[:3].decode(), private[:3].decode(), anonymous[:1].decode()]

            @keelback.function
            def read():
                return private[:3].decode() + anonymous[:1].decode()
        """,
            BOOK="abcdef",
        )
        for worker, letter in zip(workers, "wxyz"):
            self.assertEqual(["abc", letter + "bc", letter], worker.call("write", [letter]).value)
        self.assertEqual(
            [letter + "bc" + letter for letter in "wxyz"],
            [worker.call("read").value for worker in workers],
        )

    def test_the_pools_own_shared_memory_is_shared(self):
        workers = self.workers(
            """
            import mmap, os, keelback
            memory = os.memfd_create("keelback-shared")
            os.ftruncate(memory, 4096)
            shared = mmap.mmap(memory, 4096)

            @keelback.function
            def add():
                shared[0] += 1
                return shared[0]
        """,
            count=2,
        )
        self.assertEqual([1, 2, 1], [worker.call("add").value for worker in workers])

    def test_it_is_said_once_what_is_opened_anew(self):
        path = self.app("some text\n", "data.txt")
        zygote = self.zygote(
            self.app(f"files = [open({path!r}) for _ in range(7)]\n" + textwrap.dedent(APP))
        )
        zygote.expect("ready")
        zygote.fork("0.1").wait_ready()
        zygote.fork("1.1").wait_ready()
        (notice,) = zygote.notices
        self.assertIn("each worker opens its own: 7 (", notice)
        self.assertIn("data.txt", notice)


def has_terminals():
    try:
        ends = os.openpty()
    except OSError:
        return False
    for end in ends:
        os.close(end)
    return True


class Refused(SupervisorTest):
    """Each is imported by the application; the answer names it, the kind, and what it is."""

    CASES = {
        "a file that is written": ("f = open(HERE + '/w.txt', 'w')", "file", "w.txt"),
        "a file that is read and written": (
            "open(HERE + '/w.txt', 'w').close()\nf = open(HERE + '/w.txt', 'r+b')",
            "file",
            "w.txt",
        ),
        "a file without a name": (
            "import tempfile\nf = tempfile.TemporaryFile()",
            "file",
            "for writing",
        ),
        "one offset for two": (
            "import os\nf = open(__file__)\ng = os.fdopen(os.dup(f.fileno()))",
            "file",
            "shares its offset with descriptor",
        ),
        "a lock by flock": (
            "import fcntl\nf = open(__file__)\nfcntl.flock(f, fcntl.LOCK_SH)",
            "lock",
            "locked",
        ),
        "a lock by fcntl": (
            "import fcntl\nf = open(HERE + '/l', 'a')\nfcntl.lockf(f, fcntl.LOCK_EX)",
            "lock",
            "locked",
        ),
        "a connection to SQLite": (
            "import sqlite3\nc = sqlite3.connect(HERE + '/a.db')\nc.execute('create table t (x)')",
            "database",
            "a.db",
        ),
        "SQLite, read only": (
            "import sqlite3\nc = sqlite3.connect(HERE + '/b.db')\nc.execute('create table t (x)')\n"
            "c.close()\nc = sqlite3.connect(f'file:{HERE}/b.db?mode=ro', uri=True)\n"
            "c.execute('select * from t').fetchall()",
            "database",
            "b.db",
        ),
        "SQLite with a log": (
            "import sqlite3\nc = sqlite3.connect(HERE + '/c.db')\n"
            "c.execute('pragma journal_mode=wal')\nc.execute('create table t (x)')",
            "database",
            "c.db",
        ),
        "a pipe": ("import os\np = os.pipe()", "pipe", "pipe:["),
        "a named pipe": (
            "import os\nos.mkfifo(HERE + '/fifo')\n"
            "p = os.open(HERE + '/fifo', os.O_RDONLY | os.O_NONBLOCK)",
            "pipe",
            "fifo",
        ),
        "a program": (
            "import subprocess\np = subprocess.Popen(['sleep', '1000'])",
            "child",
            "no worker could wait for it",
        ),
        "a program that talks": (
            "from subprocess import *\np = Popen(['cat'], stdin=PIPE, stdout=PIPE)",
            "pipe",
            "pipe:[",
        ),
        "a program that ended unseen": (
            "import subprocess, os\np = subprocess.Popen(['true'])\n"
            "os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)",
            "child",
            "process",
        ),
        "a process pool": (
            "from concurrent.futures import ProcessPoolExecutor\np = ProcessPoolExecutor(1)",
            "pipe",
            "pipe:[",
        ),
        "a queue": ("import multiprocessing\nq = multiprocessing.Queue()", "pipe", "pipe:["),
        "a value": ("import multiprocessing\nv = multiprocessing.Value('i', 0)", "memory", "pym-"),
        "a value without a lock": (
            "import multiprocessing\nv = multiprocessing.Value('i', 0, lock=False)",
            "memory",
            "pym-",
        ),
        "a lock between processes": (
            "import multiprocessing\nv = multiprocessing.Lock()",
            "memory",
            "mapped by culprit.v",
        ),
        "shared memory": ("import mmap\nm = mmap.mmap(-1, 4096)", "memory", "mapped by culprit.m"),
        "a file that is mapped to be written": (
            "import mmap\nf = open(HERE + '/m', 'w+b')\nf.write(b'x')\nf.flush()\n"
            "m = mmap.mmap(f.fileno(), 1)\nf.close()",
            "file",
            "/m",
        ),
        "a file in memory": ("import os\nm = os.memfd_create('scratch')", "memory", "scratch"),
        "an event": ("import ctypes\nctypes.CDLL(None).eventfd(0, 0)", "event", "eventfd"),
        "a timer": ("import ctypes\nctypes.CDLL(None).timerfd_create(1, 0)", "event", "timerfd"),
        "a watch": ("import ctypes\nctypes.CDLL(None).inotify_init()", "event", "inotify"),
        "an epoll": ("import select\ne = select.epoll()", "event", "eventpoll"),
        "a handle of a process": ("import os\np = os.pidfd_open(os.getpid())", "event", "pidfd"),
        "an event loop": ("import asyncio\nloop = asyncio.new_event_loop()", "event", "eventpoll"),
        "an alarm": (
            "import signal\nsignal.signal(signal.SIGALRM, print)\nsignal.alarm(1000)",
            "timer",
            "timer",
        ),
        "a terminal": ("import pty\np = pty.openpty()", "device", "/dev/p"),
        "a socket of native code": (
            "import ctypes\nctypes.CDLL(None).socket(1, 1, 0)",
            "socket",
            "AF_UNIX",
        ),
        "a file of this process": (
            "f = open('/proc/self/status')",
            "file",
            "describes this process",
        ),
        "a file that is gone": (
            "import subprocess\np = subprocess.Popen(['sleep', '1000'])\n"
            "f = open(f'/proc/{p.pid}/maps')\np.kill()\np.wait()",
            "file",
            "cannot be opened again",
        ),
        "another standard output": (
            "import os, sys\nf = open(HERE + '/out', 'a')\nos.dup2(f.fileno(), 1)",
            "output",
            "log of their own",
        ),
    }

    def test_each_kind_is_refused_and_its_module_named(self):
        for name, (source, kind, words) in self.CASES.items():
            with self.subTest(name):
                if name == "a terminal" and not has_terminals():
                    self.skipTest("this machine has no pseudo terminals (no /dev/pts)")
                processes = "multiprocessing" in source or "ProcessPool" in source
                if processes and not has_shared_memory():
                    self.skipTest("/dev/shm takes no files of ours")
                self._folder = None  # a directory of its own
                self.app(f"import os\nHERE = os.path.dirname(__file__)\n{source}\n", "culprit.py")
                zygote = ZygoteUnderTest(
                    self.app("import culprit, colorsys\n" + textwrap.dedent(APP))
                )
                try:
                    zygote.expect("ready")
                    answer = zygote.refused()
                finally:
                    os.killpg(zygote.pid, signal.SIGKILL)  # and the programs that it started
                    zygote.close()
                self.assertEqual(kind, answer["what"], answer)
                self.assertIn(words, answer["detail"])
                self.assertNotIn("?", answer["module"])
                if kind != "timer":
                    self.assertEqual("culprit", answer["module"], answer)
                self.assertGreater(answer["bytes"], 1 << 20)
                self.assertEqual(
                    [], zygote.notices, "nothing is opened anew by a worker that is not forked"
                )

    def test_what_was_closed_again_is_no_obstacle(self):
        zygote = self.zygote(
            self.app(
                textwrap.dedent(APP)
                + textwrap.dedent("""
            import mmap, os, signal, sqlite3, subprocess, tempfile
            open(os.devnull, "w").close()
            for fd in os.pipe():
                os.close(fd)
            subprocess.run(["true"])
            ends = os.pipe()
            forgotten = subprocess.Popen(["cat"], stdin=ends[0]).pid  # nobody keeps the rest
            for fd in ends:
                os.close(fd)
            os.waitid(os.P_PID, forgotten, os.WEXITED | os.WNOWAIT)
            mmap.mmap(-1, 4096).close()
            with tempfile.TemporaryFile() as file:
                file.write(b"x")
            sqlite3.connect(":memory:").execute("create table t (x)")
            signal.alarm(1000)
            signal.alarm(0)
        """)
            )
        )
        zygote.expect("ready")
        zygote.fork().wait_ready()

    def test_all_reasons_are_told_one_of_each_kind(self):
        zygote = self.zygote(
            self.app(
                "import os, select, socket\np = [os.pipe() for _ in range(5)]\n"
                "e = select.epoll()\ns = socket.socket()\n"
                + textwrap.dedent(APP)
            )
        )
        zygote.expect("ready")
        detail = zygote.refused()["detail"]
        for words in ("pipe:[", "(and 9 more)", "eventpoll", "AF_INET"):
            self.assertIn(words, detail)

    def test_a_cache_that_opens_its_database_again_is_closed_before_the_fork(self):
        # As diskcache does, which DSPy keeps its answers in.
        self.app(
            """
            import os, sqlite3

            class Cache:
                def __init__(self, path):
                    self.path, self.con = path, None

                def connection(self):
                    if self.con is None:
                        self.con = sqlite3.connect(self.path, isolation_level=None)
                    return self.con

                def close(self):
                    if self.con is not None:
                        self.con.close()
                        self.con = None
        """,
            "diskcache/core.py",
        )
        self.app("from .core import Cache\n", "diskcache/__init__.py")
        zygote = self.zygote(
            self.app("""
            import os, diskcache, keelback
            cache = diskcache.Cache(os.path.dirname(__file__) + "/cache.db")
            cache.connection().execute("pragma journal_mode=wal")
            cache.connection().execute("create table t (x)")

            @keelback.function
            def add(x):
                cache.connection().execute("insert into t values (?)", [x])

            @keelback.function
            def sum():
                return cache.connection().execute("select sum(x) from t").fetchone()[0]
        """)
        )
        zygote.expect("ready")
        workers = [zygote.fork(f"{n}.1").wait_ready() for n in range(3)]
        for x, worker in enumerate(workers * 5):
            worker.call("add", [x])
        self.assertEqual([105] * 3, [worker.call("sum").value for worker in workers])


if __name__ == "__main__":
    unittest.main()
