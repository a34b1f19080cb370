"""What a Python without the GIL gives: threads of one worker compute at the same time. with_python runs this with such a Python."""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from keelback_testing import STRETCH, KeelbackTest, main  # noqa: E402

SPEED_UP = 1.7  # of two threads on two processors
COMPUTES = """
import os, time, threading
import keelback

@keelback.function(concurrency=2)
def compute(rounds):
    begin = time.monotonic()
    total = 0
    for number in range(rounds):
        total += number * number % 7
    return {"total": total, "pid": os.getpid(), "thread": threading.get_ident(), "seconds": time.monotonic() - begin}
"""
EXTENSION = """
#include <Python.h>
static PyModuleDef_Slot slots[] = {%s {0, NULL}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "%s", NULL, 0, NULL, slots};
PyMODINIT_FUNC PyInit_%s(void) { return PyModuleDef_Init(&def); }
"""


class SpeedUp(KeelbackTest):
    """Both times are of one run, on one worker; of each the shortest counts, because a busy machine only adds."""

    ROUNDS = 5
    CALL_S = 0.8

    def measured(self, **env):
        """How many times as fast two calls at once are as two one after another."""
        daemon = self.serve(self.app(COMPUTES), workers=1, python=sys.executable, env=env)
        clients = [daemon.client(), daemon.client()]

        def compute(client, rounds):
            reply = client.call("compute", {"rounds": rounds})
            self.assertEqual("ok", reply.outcome, reply)
            return reply.json

        rounds = 100_000
        while (once := compute(clients[0], rounds)["seconds"]) < self.CALL_S / 2:
            rounds *= 2
        rounds = int(rounds * self.CALL_S / once)

        def at_once():
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                return list(pool.map(compute, clients, [rounds] * 2))

        def seconds(work):
            begin = time.monotonic()
            answers = work()
            taken = time.monotonic() - begin
            self.assertEqual(1, len({(answer["pid"], answer["total"]) for answer in answers}))
            return taken

        alone, beside = [], []
        for _ in range(self.ROUNDS):
            alone.append(seconds(lambda: [compute(client, rounds) for client in clients]))
            beside.append(seconds(at_once))
        self.assertEqual(0, daemon.stop())
        print(f"one after another {min(alone):.3f} s, at once {min(beside):.3f} s: {min(alone) / min(beside):.2f} times as fast")
        return min(alone) / min(beside)

    def setUp(self):
        super().setUp()
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("this machine has one processor")

    def test_two_threads_compute_nearly_twice_as_fast_as_one(self):
        self.assertGreaterEqual(self.measured(), SPEED_UP)

    def test_with_the_gil_they_do_not(self):
        """So it is the GIL that makes the difference."""
        self.assertLess(self.measured(PYTHON_GIL="1"), 1.3)


class Doctor(KeelbackTest):
    def extension(self, name, *slots):
        """Compiles an extension module into the test's folder."""
        source = self.tmp / f"{name}.c"
        source.write_text(EXTENSION % (" ".join(slots), name, name))
        subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", str(source), "-o",
                        str(self.tmp / (name + sysconfig.get_config_var("EXT_SUFFIX")))], check=True)

    def gil(self, *arguments, env=None):
        done = self.run_cli("doctor", *arguments, "--set", f"workers.python={sys.executable}", "--json", env=env or {})
        self.assertEqual(0, done.returncode, done)
        return next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "gil")

    def test_it_is_off_and_an_application_may_leave_it_so(self):
        self.assertEqual("ok", self.gil()["finding"])
        self.assertTrue(self.gil()["found"].startswith("off"))
        self.extension("modern", "{Py_mod_gil, Py_MOD_GIL_NOT_USED},")
        app = self.app("import modern, sys\nprint('to nobody')\n")
        check = self.gil(app)
        self.assertEqual(("ok", f"off, also after the import of {app}"), (check["finding"], check["found"]))

    def test_the_module_that_turns_it_on_is_named_with_who_imports_it(self):
        self.extension("modern", "{Py_mod_gil, Py_MOD_GIL_NOT_USED},")
        self.extension("ancient")
        self.extension("later")
        (self.tmp / "helper.py").write_text("import modern\n\nimport ancient\nimport later\n")
        app = self.app("import warnings\nwarnings.simplefilter('ignore')\nimport helper\n")
        check = self.gil(app)
        self.assertEqual("warn", check["finding"])
        self.assertIn(f"on: ancient ({self.tmp / 'ancient'}", check["found"])
        self.assertIn(f"imported by helper ({self.tmp / 'helper.py'}:3), imported by app", check["found"])
        self.assertIn("Install a version of ancient that", check["advice"])

    def test_who_has_asked_for_it_is_told(self):
        for arguments in ((), (self.app("import json\n"),)):
            check = self.gil(*arguments, env={"PYTHON_GIL": "1"})
            self.assertEqual("warn", check["finding"])
            self.assertIn("PYTHON_GIL=1", check["advice"])

    def test_an_application_that_cannot_be_imported_is_no_riddle(self):
        check = self.gil(self.app("import nothing_of_that_name\n"))
        self.assertEqual("warn", check["finding"])
        self.assertIn("ModuleNotFoundError: No module named 'nothing_of_that_name'", check["found"])
        self.assertIn("ended with status 3", self.gil(self.app("import os\nos._exit(3)\n"))["found"])


class Pool(KeelbackTest):
    def test_many_threads_answer_right_while_others_fail_are_cancelled_and_stream(self):
        """Everything that shared calls do, at once and without the GIL, in both ways to start a worker."""
        source = """
import threading, time
import keelback

LOCK, DONE = threading.Lock(), {}
SHARED = {"rows": [{"row": row, "text": "x" * row} for row in range(20)]}

@keelback.on_session_open
def opens():
    keelback.session().state["count"] = 0

@keelback.function(concurrency=8)
def work(number):
    total = sum(n * n for n in range(2000 + number))
    if number % 5 == 0:
        raise ValueError(str(number))
    return {"number": number, "total": total, "shared": SHARED}

@keelback.function(concurrency=8)
def counts():
    state = keelback.session().state
    state["count"] += 1
    return state["count"]

@keelback.function(concurrency=8)
def items(count):
    for number in range(count):
        yield [number, SHARED]

@keelback.function(concurrency=8)
def waits():
    while not keelback.cancelled():
        time.sleep(0.001)
    keelback.check_cancelled()
"""
        shared = {"rows": [{"row": row, "text": "x" * row} for row in range(20)]}
        for zygote in ("auto", "off"):
            with self.subTest(zygote=zygote):
                daemon = self.serve(self.app(source), workers=2, python=sys.executable, settings={"workers.zygote": zygote}).prewarm(2)

                def work(thread, daemon=daemon):
                    client = daemon.client()
                    for number in range(60):
                        reply = client.call("work", {"number": number})
                        if number % 5 == 0:
                            self.assertEqual(("error", str(number)), (reply.outcome, reply.json["python"]["message"]))
                        else:
                            self.assertEqual((number, sum(n * n for n in range(2000 + number)), shared),
                                             (reply.json["number"], reply.json["total"], reply.json["shared"]), reply)
                        self.assertEqual(number + 1, client.call("counts", session=f"s{thread}").json)
                    self.assertEqual([[number, shared] for number in range(100)], client.call("items", {"count": 100}).json)
                    late = client.call("waits", deadline_ms=int(100 * STRETCH))
                    self.assertEqual("timeout", late.outcome, late)

                with concurrent.futures.ThreadPoolExecutor(12) as pool:
                    list(pool.map(work, range(12)))
                self.assertEqual(0, daemon.pool()["restarts"])
                self.assertEqual(0, daemon.stop())


class Runtime(unittest.TestCase):
    """The tests of the runtime itself, each file of them on this Python."""

    def test_they_pass(self):
        tests = ROOT / "python" / "tests"
        for path in sorted(tests.glob("test_*.py")):
            with self.subTest(file=path.name):
                done = subprocess.run([sys.executable, "-m", "unittest", path.stem], cwd=tests, capture_output=True, text=True, check=False,
                                      timeout=300 * STRETCH)
                self.assertEqual(0, done.returncode, done.stderr[-6000:])


if __name__ == "__main__":
    main()
