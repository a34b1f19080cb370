"""The zygote: import once, fork clean workers, refuse what a fork would break, leave nobody behind."""

import json
import os
import signal
import time
import unittest

from supervisor import CONFORMANCE, SupervisorTest, has_shared_memory, is_dead, proc_state, wait_until

from keelback import wire

PACKAGE = os.path.dirname(wire.__file__)
SIMPLE = """
    import os, keelback

    @keelback.function
    def pid():
        return os.getpid()
"""


class Forking(SupervisorTest):
    def test_imports_and_sets_up_once_for_all_workers(self):
        zygote = self.zygote(self.app("""
            import os, keelback
            print("imported by", os.getpid(), flush=True)
            hooks = []

            @keelback.setup
            def load():
                hooks.append(["setup", os.getpid()])

            @keelback.setup
            async def load_more():
                hooks.append(["async setup", os.getpid()])

            @keelback.worker_setup
            def each():
                hooks.append(["worker", os.getpid()])

            @keelback.worker_setup
            async def each_too():
                hooks.append(["async worker", os.getpid()])

            @keelback.function
            def told():
                return hooks
        """))
        ready = zygote.expect("ready")
        self.assertGreater(ready["import_s"], 0)
        for number in range(3):
            worker = zygote.fork(f"{number}.1").wait_ready()
            self.assertEqual([["setup", zygote.pid], ["async setup", zygote.pid], ["worker", worker.pid], ["async worker", worker.pid]],
                             worker.call("told").value)
        self.assertEqual(1, zygote.log().count("imported by"))
        self.assertEqual(f"imported by {zygote.pid}\n", zygote.log())

    def test_a_worker_is_ready_at_once(self):
        zygote = self.zygote(self.app(SIMPLE))
        zygote.expect("ready")
        took = []
        for number in range(10):
            began = time.perf_counter()
            zygote.fork(f"0.{number}").wait_ready()
            took.append(time.perf_counter() - began)
        self.assertLess(min(took), 0.02, took)

    def test_without_worker_setup_everything_comes_in_one_packet(self):
        zygote = self.zygote(self.app(SIMPLE))
        zygote.expect("ready")
        worker = zygote.fork()
        packet = worker.data.recv(1 << 17)
        self.assertEqual([wire.CONNECT, wire.HELLO, wire.READY], [kind for kind, *_ in _frames(packet)])

    def test_a_zombie_stands_until_it_is_ordered_away(self):
        zygote = self.zygote(CONFORMANCE)
        zygote.expect("ready")
        worker = zygote.fork().wait_ready()
        worker.submit("exit", [5])
        wait_until(lambda: proc_state(worker.pid) == "Z", "it is a zombie")
        other = zygote.fork("0.2").wait_ready()  # the zygote did other things meanwhile
        self.assertEqual("Z", proc_state(worker.pid))
        self.assertEqual(5, worker.wait())
        self.assertIsNone(proc_state(worker.pid))
        self.assertEqual(other.pid, other.call("pid").value)

    def test_an_order_that_is_none_is_reported_and_ignored(self):
        zygote = self.zygote(self.app(SIMPLE))
        zygote.expect("ready")
        mine = zygote.fork("0.7").wait_ready()
        orders = [b"not json", b"[]", b'{"op":"dance"}', b'{"op":"fork","worker":"1.1"}', b'{"op":"reap"}', b'{"op":"reap","pid":1}',
                  json.dumps({"op": "reap", "pid": mine.pid}).encode()]
        for order in orders:
            zygote.orders.send(order)
        for order in orders:
            if b'"pid":1}' not in order:
                self.assertIn("order not understood", zygote.expect("notice")["text"])
        worker = zygote.fork("1.2").wait_ready()
        self.assertEqual(worker.pid, worker.call("pid").value)
        self.assertEqual(mine.pid, mine.call("pid").value)

    def test_a_worker_setup_that_fails_says_so(self):
        app = self.app(SIMPLE + """
    @keelback.worker_setup
    def connect():
        raise ConnectionError("no database")
        """)
        zygote = self.zygote(app)
        zygote.expect("ready")
        worker = zygote.fork()
        failure = worker.start_failure()
        self.assertEqual(("setup", "ConnectionError", f"no database, at {app}:10"), (failure["step"], failure["type"], failure["message"]))
        self.assertIn("in connect", failure["traceback"])
        self.assertEqual(1, worker.wait())

    def test_generators_of_libraries_are_seeded_anew_in_each_worker(self):
        zygote = self.zygote(self.app("""
            import sys, types, keelback
            seeded = []
            sys.modules["numpy.random"] = types.SimpleNamespace(seed=lambda: seeded.append("numpy"))
            sys.modules["torch"] = types.SimpleNamespace(default_generator=types.SimpleNamespace(seed=lambda: seeded.append("torch")))

            @keelback.function
            def draw():
                return seeded
        """))
        zygote.expect("ready")
        self.assertEqual([["numpy", "torch"]] * 2, [zygote.fork(f"0.{number}").wait_ready().call("draw").value for number in range(2)])

    def test_the_collector_does_in_workers_what_the_import_wants_and_leaves_the_zygotes_objects_alone(self):
        for wish, enabled in (("", True), ("gc.disable()", False), ("gc.disable(); gc.enable()", True)):
            app = self.app(f"""
                import gc, keelback
                at_import = gc.isenabled()
                {wish}
                gc.set_threshold(123, 4, 5)

                @keelback.function
                def collector():
                    return [at_import, gc.isenabled(), list(gc.get_threshold()), gc.get_freeze_count() > 1000]
            """)
            zygote = self.zygote(app)
            zygote.expect("ready")
            for worker in (zygote.fork().wait_ready(), self.exec_worker(app).wait_ready()):
                self.assertEqual([True, enabled, [123, 4, 5], True], worker.call("collector").value)

    def test_a_worker_has_the_environment_of_its_order_before_user_code_runs(self):
        zygote = self.zygote(self.app("""
            import os, keelback
            os.environ.update(CHANGED="by the import", GONE="by the import", KEPT="by the import")
            order = []
            os.register_at_fork(after_in_child=lambda: order.append(seen()))

            @keelback.worker_setup
            def look():
                order.append(seen())

            @keelback.function
            def seen():
                return [*map(os.environ.get, ("CHANGED", "GONE", "KEPT", "NEW")), os.getenv("NEW"), keelback.device()]

            @keelback.function
            def told():
                return [*order, seen()]
        """))
        zygote.expect("ready")
        worker = zygote.fork("1.1", env={"CHANGED": "for 1", "GONE": None, "NEW": "\u00fc", "KEELBACK_DEVICE": "7"}).wait_ready()
        self.assertEqual([["for 1", None, "by the import", "\u00fc", "\u00fc", "7"]] * 3, worker.call("told").value)
        worker = zygote.fork("2.2").wait_ready()
        self.assertEqual([["by the import", "by the import", "by the import", None, None, None]] * 3, worker.call("told").value)

    def test_signals_are_the_supervisors_whatever_the_import_made_of_them(self):
        app = self.app("""
            import signal, keelback
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)

            @keelback.function
            def handlers():
                return [signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)]
        """)
        zygote = self.zygote(app)
        zygote.expect("ready")
        for worker in (zygote.fork().wait_ready(), self.exec_worker(app).wait_ready()):
            self.assertEqual([False, False, False, True], worker.call("handlers").value)


class Clean(SupervisorTest):
    def test_a_forked_worker_has_nothing_of_the_zygotes(self):
        zygote = self.zygote(CONFORMANCE)
        zygote.expect("ready")
        first = zygote.fork("0.1").wait_ready()
        second = zygote.fork("1.1").wait_ready()
        self.assertEqual(1, len(os.listdir(f"/proc/{zygote.pid}/task")))
        kept = {os.stat(f"/proc/{zygote.pid}/fd/{fd}").st_ino for fd in (3,)}
        for worker in (first, second):
            descriptors = worker.descriptors()
            self.assertEqual("/dev/null", descriptors[0])
            self.assertEqual(2, sum(target.startswith("socket:") for target in descriptors.values()), descriptors)
            self.assertFalse(kept & {os.stat(f"/proc/{worker.pid}/fd/{fd}").st_ino for fd in descriptors})
            self.assertLessEqual(len(descriptors), 10, descriptors)
            log = {descriptors[1], descriptors[2]}
            self.assertEqual(1, len(log))
            self.assertNotEqual(os.readlink(f"/proc/{zygote.pid}/fd/1"), log.pop())
            wait_until(lambda w=worker: w.threads() == 2, "the main thread and the control thread")
            wait_until(lambda w=worker: int(w.proc_status()["SigBlk"], 16) == 0, "no signal is blocked; making a thread does for a moment")
            self.assertEqual(0, int(worker.proc_status()["SigIgn"], 16) & ~(1 << signal.SIGPIPE - 1) & ~(1 << signal.SIGXFSZ - 1))
            self.assertEqual(worker.pid, os.getpgid(worker.pid))
        sockets = [target for worker in (first, second) for target in worker.descriptors().values() if target.startswith("socket:")]
        self.assertEqual(4, len(set(sockets)), "no worker has another's")

    def test_a_program_that_user_code_starts_inherits_nothing_but_the_log(self):
        worker = self.worker(self.app("""
            import json, subprocess, sys, keelback

            @keelback.function
            def child():
                code = "import os, signal, json; print(json.dumps([sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1]," \\
                       "signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.getsignal(signal.SIGINT) == signal.SIG_IGN," \\
                       "os.environ['KEELBACK_WORKER']]))"
                return json.loads(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, close_fds=False).stdout)
        """))
        self.assertEqual([[0, 1, 2], True, False, "0.1"], worker.call("child").value)

    @unittest.skipUnless(has_shared_memory(), "/dev/shm takes no files of ours")
    def test_multiprocessing_works_in_a_worker(self):
        worker = self.worker(self.app("""
            import multiprocessing, time, keelback

            @keelback.function
            def squares():
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return pool.map(abs, [-1, -2, -3])

            @keelback.function
            def terminated():
                process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
                process.start()
                process.terminate()
                process.join()
                return process.exitcode
        """))
        self.assertEqual([1, 2, 3], worker.call("squares").value)
        self.assertEqual(-signal.SIGTERM, worker.call("terminated").value)
        self.assertEqual([1, 2, 3], worker.call("squares").value)


class Safety(SupervisorTest):
    def refusal(self, source, **modules):
        for name, text in modules.items():
            self.app(text, f"{name}.py")
        zygote = self.zygote(self.app(source))
        zygote.expect("ready")
        answer = zygote.refused("4.2")
        self.assertEqual("4.2", answer["worker"])
        return answer

    def test_a_thread_started_by_an_import_is_refused_and_its_module_named(self):
        answer = self.refusal("import starts_a_thread\n" + _flat(SIMPLE), starts_a_thread="""
            import threading, time
            threading.Thread(target=time.sleep, args=(1e6,), daemon=True, name="ticker").start()
        """)
        self.assertEqual(("thread", "starts_a_thread"), (answer["what"], answer["module"]))
        self.assertIn("'ticker'", answer["detail"])
        self.assertIn("starts_a_thread.py:3", answer["detail"])
        self.assertIn("imported by app", answer["detail"])

    def test_what_cannot_be_forked_says_so_when_it_is_loaded(self):
        zygote = self.zygote(self.app("""
            import threading, keelback
            threading.Thread(target=threading.Event().wait, daemon=True).start()

            @keelback.function
            def one():
                return 1
        """))
        at_load = zygote.expect("ready")["unsafe"]
        self.assertEqual("thread", at_load["what"])
        refusal = zygote.refused()
        self.assertEqual({name: refusal[name] for name in ("what", "module", "detail")}, {name: at_load[name] for name in ("what", "module", "detail")})
        self.assertNotIn("unsafe", self.zygote(self.app(SIMPLE)).expect("ready"))

    def test_a_thread_pool_is_blamed_on_the_module_that_uses_it(self):
        answer = self.refusal("import warms_up\n" + _flat(SIMPLE), warms_up="""
            from concurrent.futures import ThreadPoolExecutor
            pool = ThreadPoolExecutor(1)
            pool.submit(abs, -1).result()
        """)
        self.assertEqual(("thread", "warms_up"), (answer["what"], answer["module"]))

    def test_a_native_thread_is_refused_and_the_importing_module_named(self):
        answer = self.refusal("import native_threads\nimport colorsys\n" + _flat(SIMPLE), native_threads="""
            import ctypes
            library = ctypes.CDLL(None)
            thread = ctypes.c_ulong()
            # pthread_create(pause): a thread that Python knows nothing of.
            library.pthread_create(ctypes.byref(thread), None, library.pause, None)
        """)
        self.assertEqual(("thread", "native_threads"), (answer["what"], answer["module"]))

    def test_a_thread_that_ended_is_no_obstacle(self):
        zygote = self.zygote(self.app(_flat(SIMPLE) + "import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()\n"))
        zygote.expect("ready")
        zygote.fork().wait_ready()

    def test_a_socket_opened_by_an_import_is_refused_and_described(self):
        answer = self.refusal("import connects\n" + _flat(SIMPLE), connects="""
            import socket
            server = socket.create_server(("127.0.0.1", 0))
        """)
        self.assertEqual(("socket", "connects"), (answer["what"], answer["module"]))
        self.assertIn("AF_INET SOCK_STREAM ('127.0.0.1',", answer["detail"])
        self.assertIn("connects.py:3", answer["detail"])

    def test_a_socket_that_was_closed_again_is_no_obstacle(self):
        zygote = self.zygote(self.app(_flat(SIMPLE) + "import socket\nsocket.socketpair()[0].close()\n"))
        zygote.expect("ready")
        zygote.fork().wait_ready()

    def test_an_initialised_cuda_is_refused(self):
        answer = self.refusal("""
            import sys, types, keelback
            sys.modules["torch"] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))

            @keelback.function
            def f():
                pass
        """)
        self.assertEqual(("cuda", "torch"), (answer["what"], answer["module"]))

    def test_it_is_asked_before_every_fork(self):
        zygote = self.zygote(self.app("""
            import os, queue, signal, threading, keelback
            started = []

            def start(*_):
                if not started:
                    started.append(threading.Thread(target=release.get, daemon=True))
                    started[-1].start()

            release = queue.SimpleQueue()  # put() may be interrupted by another put(), as Event.set() may not
            signal.signal(signal.SIGUSR1, start)
            signal.signal(signal.SIGUSR2, lambda *_: release.put(None))

            @keelback.function
            def pid():
                return os.getpid()
        """))
        zygote.expect("ready")
        zygote.fork("0.1").wait_ready()

        def told(number, threads):
            # Again and again: Python acts on a signal that comes just before a system call only after it.
            os.kill(zygote.pid, number)
            return len(os.listdir(f"/proc/{zygote.pid}/task")) == threads

        wait_until(lambda: told(signal.SIGUSR1, 2), "the thread runs")
        answer = zygote.refused("0.2")
        self.assertEqual(("thread", "app"), (answer["what"], answer["module"]))
        wait_until(lambda: told(signal.SIGUSR2, 1), "the thread has ended")
        zygote.fork("0.3").wait_ready()

    def test_an_application_that_opens_nothing_gets_no_notice(self):
        zygote = self.zygote(CONFORMANCE)
        zygote.expect("ready")
        self.assertEqual([], zygote.notices)

    def test_the_recorders_are_gone_in_a_worker(self):
        worker = self.worker(self.app("""
            import socket, sys, threading, keelback

            @keelback.function
            def patched():
                return [threading.Thread.start.__module__, socket.socket.__init__.__module__,
                        [type(finder).__module__ for finder in sys.meta_path if type(finder).__module__.startswith("keelback")]]
        """))
        self.assertEqual(["threading", "socket", []], worker.call("patched").value)

    def test_a_hook_of_the_worker_finds_the_zygote_gone_as_a_call_does(self):
        worker = self.worker(self.app("""
            import atexit, gc, os, threading, keelback
            atexit.register(print, "the zygote's to do")
            found = []

            def look():
                lifelines = [fd for fd in os.listdir("/proc/self/fd") if int(fd) != 6 and os.path.exists(f"/proc/self/fd/{fd}")
                             and os.readlink(f"/proc/self/fd/{fd}") == PIPE]
                return [threading.Thread.start.__module__, gc.isenabled(), atexit._ncallbacks(), len(lifelines), os.path.exists("/proc/self/fd/6")]

            PIPE = os.readlink("/proc/self/fd/6")

            @keelback.worker_setup
            def setup():
                found.append(look())

            @keelback.function
            def looks():
                return found + [look()]
        """))
        self.assertEqual([["threading", True, 0, 2, False]] * 2, worker.call("looks").value)


class Ends(SupervisorTest):
    def test_a_zygote_that_dies_harms_no_worker(self):
        zygote = self.zygote(CONFORMANCE)
        zygote.expect("ready")
        worker = zygote.fork().wait_ready()
        zygote.process.kill()
        zygote.process.wait(10)
        self.assertEqual(worker.pid, worker.call("pid").value)

    def test_the_zygote_ignores_sigterm_and_sigint(self):
        zygote = self.zygote(self.app(SIMPLE + "\n    import signal\n    signal.signal(signal.SIGINT, signal.default_int_handler)\n"))
        zygote.expect("ready")
        for _ in range(3):
            os.kill(zygote.pid, signal.SIGTERM)
            os.kill(zygote.pid, signal.SIGINT)
        zygote.fork().wait_ready()

    def test_the_lifeline_kills_zygote_and_workers_and_their_groups_while_the_gil_is_held(self):
        zygote = self.zygote(self.app("""
            import ctypes, subprocess, keelback

            @keelback.function
            def hold():
                mutex = ctypes.create_string_buffer(64)
                ctypes.PyDLL(None).pthread_mutex_lock(mutex)
                ctypes.PyDLL(None).pthread_mutex_lock(mutex)

            @keelback.function
            def child():
                return subprocess.Popen(["sleep", "1000"]).pid
        """))
        zygote.expect("ready")
        holding, idle = zygote.fork("0.1").wait_ready(), zygote.fork("1.1").wait_ready()
        child = idle.call("child").value
        holding.wait_started(holding.submit("hold"))
        began = time.monotonic()
        os.close(zygote.lifeline)
        for pid in (holding.pid, idle.pid, child, zygote.pid):
            wait_until(lambda pid=pid: is_dead(pid), f"{pid} is dead", 1.0)
        self.assertLess(time.monotonic() - began, 1.0)

    def test_the_lifeline_kills_a_zygote_that_still_imports(self):
        zygote = self.zygote(self.app("import time, sys\nprint('importing', flush=True)\ntime.sleep(60)\n"))
        wait_until(lambda: "importing" in zygote.log(), "it imports")
        os.close(zygote.lifeline)
        self.assertEqual(-signal.SIGKILL, zygote.process.wait(10))

    def test_a_worker_born_after_the_supervisors_death_ends_at_once(self):
        worker = self.exec_worker(self.app("import time\ntime.sleep(0)\n" + _flat(SIMPLE)))
        os.close(worker.lifeline)
        self.assertIn(worker.wait(), (1, -signal.SIGKILL))

    def test_the_lifeline_kills_a_worker_started_by_exec(self):
        worker = self.exec_worker(CONFORMANCE).wait_ready()
        worker.wait_started(worker.submit("hold", [60_000]))
        os.close(worker.lifeline)
        self.assertEqual(-signal.SIGKILL, worker.wait())


class BadApplications(SupervisorTest):
    CASES = (
        ("missing.py", None, "keelback.BadApplication", ["there is no file", "missing.py"], 0),
        ("syntax.py", "x = 1\ndef f(:\n", "SyntaxError", ["syntax.py:2"], 2),
        ("import_error.py", "import not_there_at_all\n", "ModuleNotFoundError", ["not_there_at_all"], 1),
        ("raises.py", "def g():\n    raise RuntimeError('no licence')\ng()\n", "RuntimeError", ["no licence"], 2),
        ("exits.py", "import sys\nsys.exit('gone')\n", "SystemExit", ["gone"], 2),
        ("empty.py", "x = 1\n", "keelback.BadApplication", ["offers no function"], 0),
        ("twice.py", "import keelback\nfor n in 'ab':\n    keelback.function(name='f')(len if n == 'a' else abs)\n",
         "keelback.BadApplication", ["two functions"], 3),
        ("not_there.module", None, "keelback.BadApplication", ["there is no module 'not_there'", "looked in"], 0),
    )

    def test_each_says_what_is_wrong_and_where(self):
        for name, source, kind, words, line in self.CASES:
            app = self.app(source, name) if source else name
            zygote = self.zygote(app)
            failed = zygote.expect("failed")
            self.assertEqual(("import", kind), (failed["step"], failed["type"]), name)
            self.assertEqual(1, zygote.process.wait(10))
            failure = self.exec_worker(app).start_failure()
            self.assertEqual("hello", failure["step"])
            for report in (failed, failure):
                for word in words:
                    self.assertIn(word, report["message"], name)
                if line:
                    self.assertIn(f'{name}", line {line}', report["traceback"])
                    self.assertTrue(report["message"].endswith(f", at {app}:{line}"), report["message"])
                self.assertNotIn(f'File "{PACKAGE}/', report["traceback"], name)

    def test_a_report_is_cut_to_fit_its_packet(self):
        failed = self.zygote(self.app("raise RuntimeError('\\U0001F40D' * 1_000_000)\n")).expect("failed")
        self.assertIn("characters left out", failed["message"])

    def test_a_hello_is_as_long_as_it_must_be(self):
        source = "import keelback\nfor n in range({n}):\n    def f(a, b, c): ...\n    f.__doc__ = 'd' * 4000\n" \
                 "    f.__qualname__ = str(n)\n    keelback.function(name=f'f{{n}}')(f)\n"
        zygote = self.zygote(self.app(source.format(n=100)))
        self.assertEqual(4000, len(zygote.expect("ready")["hello"]["functions"][99]["doc"]))
        self.assertEqual([4000] * 100, [len(function["doc"]) for function in zygote.fork().wait_ready().hello["functions"]])

    def test_long_docstrings_are_cut_before_an_application_is_refused(self):
        source = "import keelback\nfrom keelback import loading\nloading.HELLO_MAX = {most}\n" \
                 "@keelback.function\ndef f(): ...\nf.__doc__ = 'd' * 4000\n"
        for most, length in ((100_000, 4000), (4000, 200), (500, 200), (300, 0)):
            hello = self.zygote(self.app(source.format(most=most))).expect("ready")["hello"]
            self.assertEqual(length, len(hello["functions"][0]["doc"]), most)
        failed = self.zygote(self.app(source.format(most=30))).expect("failed")
        self.assertIn("offers 1 functions", failed["message"])

    def test_a_setup_that_fails_is_named_as_such(self):
        app = self.app(SIMPLE + "\n    @keelback.setup\n    def load():\n        raise OSError('no model file')\n")
        failed = self.zygote(app).expect("failed")
        self.assertEqual(("setup", "OSError", f"no model file, at {app}:10"), (failed["step"], failed["type"], failed["message"]))
        worker = self.exec_worker(app)
        self.assertEqual("setup", worker.start_failure()["step"])
        self.assertEqual(1, worker.wait())


class Loading(SupervisorTest):
    def test_a_plain_module_is_exposed_by_name(self):
        worker = self.exec_worker("colorsys", expose="rgb_to_hsv, hsv_to_rgb").wait_ready()
        self.assertEqual([0.0, 0.0, 1.0], worker.call("rgb_to_hsv", [1, 1, 1]).value)
        self.assertEqual(["rgb_to_hsv", "hsv_to_rgb"], [function["name"] for function in worker.hello["functions"]])
        failed = self.zygote("colorsys", expose="rgb_to_hsv,nothere").expect("failed")
        self.assertIn("colorsys has no such function", failed["message"])
        self.assertIn("a float, not a function", self.zygote("math", expose="pi").expect("failed")["message"])

    def test_a_package_module_and_a_builtin_function_are_served(self):
        folder = os.path.dirname(self.app("from . import other\nimport keelback\nkeelback.function(other.f)\n", "pack/inner.py"))
        self.app("", "pack/__init__.py")
        self.app("def f():\n    return __name__\n", "pack/other.py")
        worker = self.exec_worker("pack.inner", environment={"PYTHONPATH": os.pathsep.join([os.path.dirname(folder), _python()])}).wait_ready()
        self.assertEqual("pack.other", worker.call("f").value)
        self.assertEqual(2.0, self.exec_worker("math", expose="sqrt").wait_ready().call("sqrt", [4]).value)

    def test_a_file_finds_its_neighbours_and_may_be_called_like_a_standard_module(self):
        self.app("NAME = 'neighbour'\n", "neighbour_of_app.py")
        for name in ("json.py", "app.py", "not-an-identifier.py"):
            worker = self.worker(self.app("import json, neighbour_of_app, keelback\n@keelback.function\ndef f():\n"
                                          "    return [neighbour_of_app.NAME, __name__]\n" if name != "json.py" else
                                          "import neighbour_of_app, keelback\n@keelback.function\ndef f():\n"
                                          "    return [neighbour_of_app.NAME, __name__]\n", name))
            self.assertEqual(["neighbour", "keelback.application" if name == "json.py" else name[:-3]], worker.call("f").value)
            os.unlink(os.path.join(self._folder, name))


def _python():
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _flat(source):
    return source.replace("\n    ", "\n")


def _frames(packet):
    while packet:
        length, kind = int.from_bytes(packet[:4], "little"), packet[4]
        yield kind, packet[16:length]
        packet = packet[length:]


if __name__ == "__main__":
    unittest.main()
