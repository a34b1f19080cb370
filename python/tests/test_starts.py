"""An application starts whatever files lie about."""

import os
import shutil
import unittest

from supervisor import SupervisorTest, wire

# All of them, but those that Python's own start imports before any of our code runs.
STANDARD = sorted(
    {
        *("asyncio argparse array base64 bisect calendar code contextlib copy csv ctypes dataclasses datetime decimal".split()),
        *("email enum faulthandler fcntl functools gettext hashlib heapq http inspect io json keyword linecache".split()),
        *("logging math mmap multiprocessing numbers operator pathlib pickle platform profile queue random re".split()),
        *("select selectors shutil signal site socket ssl stat string struct subprocess tempfile textwrap threading".split()),
        *("token tokenize traceback types typing unittest urllib uuid warnings weakref zipfile".split()),
    }
)
EACH = """
    import json, random, keelback

    @keelback.function
    def plain(n: int) -> str:
        return json.dumps([random.randint(1, 1), n])

    @keelback.function
    async def asynchronous() -> str:
        return "done"

    @keelback.function
    def items(n: int):
        yield from range(n)

    @keelback.function
    def fails() -> None:
        raise ValueError("as it should")
"""


class Names(SupervisorTest):
    def folder(self, names):
        """A directory with a module of each name that cannot be imported."""
        folder = os.path.join(os.path.dirname(self.app("")), "work")
        os.mkdir(folder)
        for name in names:
            with open(os.path.join(folder, f"{name}.py"), "w") as file:
                file.write(f"raise ImportError('{name}.py of the directory')\n")
        return folder

    def answers(self, worker):
        self.assertEqual("[1, 7]", worker.call("plain", [7]).value)
        self.assertEqual("done", worker.call("asynchronous").value)
        self.assertEqual([0, 1, 2], worker.call("items", [3]).value)
        failed = worker.call("fails")
        self.assertEqual((wire.ERROR, "ValueError"), (failed.kind, failed.error["type"]))
        self.assertEqual(0, worker.shutdown())

    def test_files_of_the_working_directory_are_not_imported(self):
        folder = self.folder([*STANDARD, "keelback"])
        for worker in self.both(self.app(EACH), cwd=folder):
            self.answers(worker)

    def test_a_package_of_the_working_directory_called_keelback_is_not_imported(self):
        folder = os.path.dirname(self.app("raise ImportError('not this one')\n", "work/keelback/__init__.py"))
        for worker in self.both(self.app(EACH), cwd=os.path.dirname(folder)):
            self.answers(worker)

    def test_files_beside_the_application_do_not_hide_what_the_runtime_needs(self):
        folder = self.folder([*STANDARD, "keelback"])
        shutil.copy(self.app(EACH), folder)
        for worker in self.both(os.path.join(folder, "app.py")):
            self.assertIn("not imported, because a module of that name is loaded already", worker.log() + self.zygotes_log())
            self.answers(worker)

    def test_the_applications_own_module_is_found_under_a_standard_name_that_nobody_has_used(self):
        self.app("NAME = 'ours'\n", "calendar.py")
        app = self.app("import calendar, keelback\n@keelback.function\ndef f(): return calendar.NAME\n")
        for worker in self.both(app):
            self.assertEqual("ours", worker.call("f").value)

    def test_an_application_may_be_called_keelback(self):
        app = self.app(EACH, "keelback.py")
        for cwd in ("/", os.path.dirname(app)):
            for worker in self.both(app, cwd=cwd):
                self.answers(worker)

    def test_both_modes_have_the_same_modules_before_the_application(self):
        app = self.app("import sys\nloaded = sorted(sys.modules)\nimport keelback\n@keelback.function\ndef f(): return loaded\n")
        forked, executed = (worker.call("f").value for worker in self.both(app))
        self.assertEqual(forked, executed)

    def zygotes_log(self):
        return "".join(zygote.log() for zygote in self.zygotes)


class OtherProcesses(SupervisorTest):
    SOURCE = """
        import concurrent.futures, multiprocessing
        import keelback

        def square(n):
            return n * n

        class Failure(Exception):
            pass

        def fails(n):
            raise Failure(n)

        @keelback.function
        def pool(method: str) -> list:
            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.map(square, [1, 2, 3])

        @keelback.function
        def executor(method: str) -> list:
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                answers = list(pool.map(square, [1, 2, 3]))
                try:
                    pool.submit(fails, 4).result()
                except Failure as failure:
                    answers += failure.args
                return answers
    """

    def test_a_spawned_process_finds_the_applications_functions(self):
        for name in ("my-service.py", "app.py", "my.service.py", "json.py", "keelback.py", "2 fast.py"):
            for worker in self.both(self.app(self.SOURCE, name)):
                with self.subTest(name=name):
                    self.assertEqual([1, 4, 9], worker.call("pool", ["spawn"]).value, worker.log())
                    self.assertEqual([1, 4, 9, 4], worker.call("executor", ["forkserver"]).value, worker.log())
                    self.assertEqual(0, worker.shutdown())
            os.unlink(os.path.join(self._folder, name))


if __name__ == "__main__":
    unittest.main()
