"""An application starts whatever files lie about, serves what its files hold, and says what to give instead."""

import os
import py_compile
import shutil
import socket
import subprocess
import sys
import unittest

from supervisor import SupervisorTest, has_shared_memory, wire

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


ASYNC = """
    import keelback

    @keelback.function
    async def lonely(): ...

    @keelback.function
    async def items():
        yield 1

    @keelback.function(concurrency=1)
    async def meant(): ...

    @keelback.function(concurrency=8)
    async def shared(): ...

    @keelback.function
    def plain(): ...
"""


class AsyncWithoutConcurrency(SupervisorTest):
    NOTICE = ("keelback: async functions without concurrency=, so a worker runs one call of them at a time: "
              "items, lonely (docs/concurrency.md)\n")

    def test_is_said_once_where_it_is_loaded(self):
        app = self.app(ASYNC)
        zygote = self.zygote(app)
        zygote.expect("ready")
        worker = zygote.fork().wait_ready()
        self.assertEqual((self.NOTICE, ""), (zygote.log(), worker.log()))
        self.assertEqual(self.NOTICE, self.exec_worker(app).wait_ready().log())
        self.assertEqual({"lonely": 1, "items": 1, "meant": 1, "shared": 8, "plain": 1},
                         {each["name"]: each["concurrency"] for each in worker.hello["functions"]})


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


class Bytecode(SupervisorTest):
    """Python takes cached bytecode for valid if size and time are the same. Here they always are."""

    ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": None}

    def write(self, name, source):
        path = self.app(source, name)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        return path

    def test_what_the_files_hold_is_served(self):
        app = ""
        for version in range(10, 14):
            self.write("package/__init__.py", f"V = {version}\n")
            self.write("package/inner.py", f"V = {version}\n")
            self.write("beside.py", f"V = {version}\n")
            app = self.write("app.py", "import beside, package, package.inner, keelback\n@keelback.function\n"
                             f"def f(): return [{version}, beside.V, package.V, package.inner.V]\n")
            for worker in self.both(app, environment=self.ENVIRONMENT):
                self.assertEqual([version] * 4, worker.call("f").value)
        folder = os.path.dirname(app)
        self.assertTrue(os.path.isdir(os.path.join(folder, "__pycache__")), "the bytecode is cached")
        self.write("beside.py", "V = 99\n")
        plain = subprocess.run([sys.executable, "-c", "import beside; print(beside.V)"], cwd=folder, capture_output=True, text=True)
        self.assertEqual("99\n", plain.stdout, "and what is cached does not mislead Python itself")

    def test_bytecode_that_python_cached_itself_is_not_believed(self):
        app = self.write("app.py", "import keelback\n@keelback.function\ndef f(): return 1\n")
        py_compile.compile(app, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
        self.write("app.py", "import keelback\n@keelback.function\ndef f(): return 2\n")
        for worker in self.both(app, environment=self.ENVIRONMENT):
            self.assertEqual(2, worker.call("f").value)

    def test_cached_bytecode_is_used_as_long_as_it_is_true(self):
        app = self.write("app.py", "import beside, keelback\n@keelback.function\ndef f(): return beside.V\n")
        self.write("beside.py", "V = 1\n")
        next(self.both(app, environment=self.ENVIRONMENT))
        cached = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.dirname(app)) for name in names if name.endswith(".pyc")]
        before = {path: os.stat(path).st_mtime_ns for path in cached}
        self.assertEqual(2, len(before))
        for worker in self.both(app, environment=self.ENVIRONMENT):
            self.assertEqual(1, worker.call("f").value)
        self.assertEqual(before, {path: os.stat(path).st_mtime_ns for path in cached})

    def test_a_tree_that_was_copied_names_its_own_files_in_tracebacks(self):
        app = self.write("one/app.py", "import keelback\n@keelback.function\ndef f(): raise ValueError\n")
        next(self.both(app, environment=self.ENVIRONMENT))
        other = os.path.join(os.path.dirname(os.path.dirname(app)), "two")
        shutil.copytree(os.path.dirname(app), other)
        for worker in self.both(os.path.join(other, "app.py"), environment=self.ENVIRONMENT):
            self.assertIn(os.path.join(other, "app.py"), worker.call("f").error["traceback"])

    def test_installed_modules_keep_their_cache(self):
        installed = os.path.dirname(self.write("site-packages/installed.py", "V = 1\n"))
        app = self.write("app.py", "import installed, keelback\n@keelback.function\ndef f(): return type(installed.__loader__).__module__\n")
        path = os.pathsep.join([os.path.dirname(os.path.dirname(os.path.abspath(__file__))), installed])
        for worker in self.both(app, environment={**self.ENVIRONMENT, "PYTHONPATH": path}):
            self.assertNotIn("keelback", worker.call("f").value)


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

    @unittest.skipUnless(has_shared_memory(), "/dev/shm takes no files of ours")
    def test_a_spawned_process_finds_the_applications_functions(self):
        for name in ("my-service.py", "app.py", "my.service.py", "json.py", "keelback.py", "2 fast.py"):
            for worker in self.both(self.app(self.SOURCE, name)):
                with self.subTest(name=name):
                    self.assertEqual([1, 4, 9], worker.call("pool", ["spawn"]).value, worker.log())
                    self.assertEqual([1, 4, 9, 4], worker.call("executor", ["forkserver"]).value, worker.log())
                    self.assertEqual(0, worker.shutdown())
            os.unlink(os.path.join(self._folder, name))


class Hints(SupervisorTest):
    def failure(self, app, **options):
        failed = self.zygote(app, **options).expect("failed")
        executed = self.exec_worker(app, **options)
        self.assertEqual(failed["message"], executed.start_failure()["message"])
        return failed["message"]

    def test_a_file_of_a_package_is_to_be_given_by_its_modules_name(self):
        self.app("", "src/pack/__init__.py")
        self.app("", "src/pack/inner/__init__.py")
        self.app("V = 1\n", "src/pack/inner/other.py")
        for source in ("from . import other\n", "import pack.inner.other\n"):
            app = self.app(source + "import keelback\n@keelback.function\ndef f(): pass\n", "src/pack/inner/app.py")
            message = self.failure(app)
            self.assertIn("keelback serve pack.inner.app", message)
            self.assertIn(f"started in {self._folder}/src or with that directory in PYTHONPATH", message)

    def test_a_file_that_is_not_there(self):
        self.app("", "src/service.py")
        message = self.failure("service.py", cwd=self._folder)
        self.assertEqual(f"there is no file service.py in {self._folder}; perhaps it is src/service.py", message)
        self.assertTrue(self.failure("src/service", cwd=self._folder).endswith("perhaps it is src/service.py"))
        self.assertEqual("there is no file /nowhere/app.py", self.failure("/nowhere/app.py"))

    def test_a_module_that_is_not_there(self):
        self.app("", "src/pack/__init__.py")
        self.assertTrue(self.failure("pack.app", cwd=self._folder).endswith(
            "There is one in src: start in that directory, or put it into PYTHONPATH"))


class Places(SupervisorTest):
    """The message of a start that failed, which is all that a log line has, names the application's own line."""

    def message(self, app, **options):
        failed = self.zygote(app, **options).expect("failed")
        executed = self.exec_worker(app, **options).start_failure()
        self.assertEqual(failed["message"], executed["message"])
        return failed["message"]

    def test_a_port_that_is_taken(self):
        installed = os.path.dirname(self.app(
            "import socketserver\ndef listen(port):\n    return socketserver.TCPServer(('127.0.0.1', port), None)\n", "site-packages/metrics.py"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            app = self.app(f"import keelback, beside\n@keelback.function\ndef f(): pass\nbeside.start({port})\n")
            beside = self.app("import metrics\ndef start(port):\n    metrics.listen(port)\n", "beside.py")
            path = os.pathsep.join([os.path.dirname(os.path.dirname(os.path.abspath(__file__))), installed])
            message = self.message(app, environment={"PYTHONPATH": path})
        self.assertIn(f"Address already in use, at {beside}:3. Each worker imports the application", message)
        self.assertIn("open it in @keelback.worker_setup", message)
        self.assertIn("KEELBACK_WORKER", message)

    def test_an_error_of_an_installed_module_names_the_line_that_called_it(self):
        app = self.app("import json, keelback\n\njson.loads('{')\n")
        self.assertTrue(self.message(app).endswith(f", at {app}:3"))

    def test_an_error_of_syntax(self):
        self.app("x = 1\ny = = 2\n", "beside.py")
        self.assertTrue(self.message(self.app("import beside\n")).endswith(f"invalid syntax, at {self._folder}/beside.py:2"))

    def test_a_decorator_that_refuses(self):
        app = self.app("import keelback\n\nkeelback.function(timeout=-1)(len)\n")
        self.assertTrue(self.message(app).endswith(f", at {app}:3"))


if __name__ == "__main__":
    unittest.main()
