"""The end: what an import registered runs once per import, what a worker did in that worker."""

import os
import textwrap
import unittest

from supervisor import SupervisorTest, frame, is_dead, wait_until

from keelback import wire

APP = """
    import os, keelback

    @keelback.function
    def pid():
        return os.getpid()
"""


def _app(source):
    return textwrap.dedent(APP) + textwrap.dedent(source)


class Exits(SupervisorTest):
    def end(self, zygote):
        zygote.orders.close()
        self.assertEqual(0, zygote.process.wait(10))
        return zygote.log()

    def test_the_zygote_ends_after_its_last_worker_and_runs_what_the_import_registered(self):
        zygote = self.zygote(
            self.app(
                _app("""
            import atexit, tempfile, threading, weakref

            class Thing:
                pass

            thing = Thing()
            folder = tempfile.TemporaryDirectory()
            print(folder.name, flush=True)
            atexit.register(lambda: print("atexit", os.getpid(), flush=True))
            weakref.finalize(thing, lambda: print("finalizer", os.getpid(), flush=True))
            threading._register_atexit(lambda: print("thread", os.getpid(), flush=True))

            @keelback.worker_setup
            def setup():
                there = lambda: os.path.isdir(folder.name)
                atexit.register(lambda: print("it is there:", there(), flush=True))
        """)
            )
        )
        zygote.expect("ready")
        first, last = zygote.fork("0.1").wait_ready(), zygote.fork("1.1").wait_ready()
        folder = zygote.log().strip()
        self.assertEqual(0, first.shutdown())
        self.assertEqual("it is there: True\n", first.log())
        zygote.orders.close()
        last.send(frame(wire.SHUTDOWN))
        self.assertEqual(0, zygote.process.wait(10))
        self.assertEqual("it is there: True\n", last.log())
        self.assertEqual(
            [folder, f"thread {zygote.pid}", f"atexit {zygote.pid}", f"finalizer {zygote.pid}"],
            zygote.log().split("\n")[:-1],
        )
        self.assertFalse(os.path.exists(folder))

    def test_a_worker_runs_what_was_registered_in_it_and_no_more(self):
        app = self.app(
            _app("""
            import atexit, threading, weakref
            say = lambda what: print(what, flush=True)
            atexit.register(say, "import")
            threading._register_atexit(say, "import's thread")
            os.register_at_fork(after_in_child=lambda: atexit.register(say, "fork"))

            @keelback.worker_setup
            def setup():
                atexit.register(say, "setup")

            @keelback.function
            def register():
                global thing
                thing = type("Thing", (), {})()
                atexit.register(say, "call")
                weakref.finalize(thing, say, "finalizer")
                threading._register_atexit(say, "thread")
        """)
        )
        zygote = self.zygote(app)
        zygote.expect("ready")
        for worker, expected in (
            (zygote.fork().wait_ready(), ["thread", "finalizer", "call", "setup", "fork"]),
            (
                self.exec_worker(app).wait_ready(),
                ["thread", "import's thread", "finalizer", "call", "setup", "import"],
            ),
        ):
            worker.call("register")
            self.assertEqual(0, worker.shutdown())
            self.assertEqual(expected, worker.log().split("\n")[:-1])
        self.assertEqual("import's thread\nimport\n", self.end(zygote))

    def test_what_the_standard_library_keeps_for_a_process_is_tidied_up_in_each(self):
        records = self.app("", "records.txt")
        app = self.app(
            _app(f"""
            import concurrent.futures, logging, logging.handlers
            logger = logging.getLogger("app")
            file = logging.FileHandler({records!r})
            logger.addHandler(logging.handlers.MemoryHandler(1000, target=file))

            @keelback.function
            def begin(path):
                logger.error("kept by %d", os.getpid())
                global pool
                pool = concurrent.futures.ThreadPoolExecutor(1)
                pool.submit(lambda: open(path, "w").close())
        """)
        )
        zygote = self.zygote(app)
        zygote.expect("ready")
        pids = []
        for worker in (zygote.fork().wait_ready(), self.exec_worker(app).wait_ready()):
            worker.call("begin", [os.path.join(os.path.dirname(app), str(worker.pid))])
            self.assertEqual(0, worker.shutdown())
            self.assertTrue(
                os.path.exists(os.path.join(os.path.dirname(app), str(worker.pid))),
                "the executor's work was done",
            )
            pids.append(worker.pid)
        self.end(zygote)
        with open(records) as file:
            self.assertEqual([f"kept by {pid}" for pid in pids], file.read().split("\n")[:-1])

    def test_an_executor_that_never_ends_does_not_keep_the_others_from_running(self):
        app = self.app(
            _app("""
            import atexit, concurrent.futures, threading

            @keelback.worker_setup
            def setup():
                pool = concurrent.futures.ThreadPoolExecutor(1)
                pool.submit(threading.Event().wait)
                atexit.register(print, "the rest", flush=True)
        """)
        )
        worker = self.worker(app)
        self.assertEqual(0, worker.shutdown())
        self.assertEqual("the rest\n", worker.log())

    def test_an_import_that_fails_ends_as_one_that_does_not(self):
        source = (
            "import atexit\natexit.register(print, 'tidied up', flush=True)\nraise OSError('no')\n"
        )
        zygote = self.zygote(self.app(source))
        zygote.expect("failed")
        self.assertEqual(1, zygote.process.wait(10))
        self.assertIn("tidied up", zygote.log())
        worker = self.exec_worker(self.app(source))
        worker.start_failure()
        self.assertEqual(1, worker.wait())
        self.assertIn("tidied up", worker.log())

    def test_a_lost_supervisor_is_no_orderly_end(self):
        zygote = self.zygote(
            self.app(
                _app("import atexit\natexit.register(print, 'an exit function', flush=True)\n")
            )
        )
        zygote.expect("ready")
        worker = zygote.fork().wait_ready()
        os.close(zygote.lifeline)
        wait_until(lambda: is_dead(zygote.pid) and is_dead(worker.pid), "both are dead")
        self.assertEqual("", zygote.log() + worker.log())


if __name__ == "__main__":
    unittest.main()
