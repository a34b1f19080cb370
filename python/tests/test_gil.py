"""Who turns the GIL on: found out while an application is imported. tests/free_threaded does it with a Python that has none."""

import concurrent.futures
import json
import os
import queue
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from unittest import mock

from supervisor import PYTHON, ROOT, START, WAIT_S, wait_until

from keelback import leftovers, marks, native
from keelback.turns import Turns


class Report(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(textwrap.dedent(text))
        return path

    def report(self, *command):
        done = subprocess.run([PYTHON, *command], cwd=self.folder, capture_output=True, text=True, check=False, timeout=WAIT_S)
        self.assertEqual(0, done.returncode, done.stderr)
        return json.loads(done.stdout)

    def test_what_an_import_prints_and_leaves_running_is_no_part_of_it(self):
        app = self.write("app.py", """
            import threading, time
            threading.Thread(target=time.sleep, args=(1000,)).start()
            print("hello")
        """)
        found = self.report(START, "keelback.gil", "--app", app)
        self.assertEqual(("", "", ""), (found["error"], found["module"], found["imported_by"]))
        self.assertEqual(found["on_at_start"], found["on"])

    def test_an_import_that_fails_is_told(self):
        app = self.write("app.py", "raise ValueError('not today')")
        self.assertEqual("ValueError: not today", self.report(START, "keelback.gil", "--app", app)["error"])
        self.assertIn("nothing.py", self.report(START, "keelback.gil", "--app", "nothing.py")["error"])

    def test_the_first_module_that_turns_it_on_is_named_with_who_imports_it(self):
        """A Python whose GIL two extension modules turn on."""
        self.write("helper.py", "import json\n\nimport VICTIM\nimport OTHER\n".replace("VICTIM", "_lsprof").replace("OTHER", "_elementtree"))
        app = self.write("app.py", "import helper\n")
        program = self.write("program.py", f"""
            import _imp, sys
            sys.path.insert(0, {os.path.join(ROOT, "python")!r})
            from keelback import gil, standard
            is_on = False
            create = _imp.create_dynamic

            def turns_it_on(spec, *rest):
                global is_on
                module = create(spec, *rest)
                is_on = is_on or spec.name in ("_lsprof", "_elementtree")
                return module

            _imp.create_dynamic = turns_it_on
            gil.is_on = lambda: is_on
            gil.main(["--app", {app!r}])
        """)
        found = self.report(program)
        self.assertEqual((False, True, "_lsprof"), (found["on_at_start"], found["on"], found["module"]))
        self.assertIn("_lsprof", os.path.basename(found["file"]))
        self.assertEqual(f"helper ({os.path.join(self.folder, 'helper.py')}:3), imported by app", found["imported_by"])


class Threads(unittest.TestCase):
    """What looks at other threads does it without their frames where there is no GIL."""

    def setUp(self):
        patch = mock.patch.object(native, "has_gil", lambda: False)
        patch.start()
        self.addCleanup(patch.stop)
        frames = mock.patch.object(sys, "_current_frames", side_effect=AssertionError("frames of other threads"))
        frames.start()
        self.addCleanup(frames.stop)

    def test_nobody_sees_whose_code_the_loop_runs_if_no_row_says_it(self):
        self.assertEqual(0, Turns(memoryview(bytearray(marks.SIZE)).cast("Q"), object()).call())

    def test_the_threads_of_an_executor_are_idle_when_all_of_them_wait(self):
        go = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = [pool.submit(go.wait, WAIT_S) for _ in range(2)]
            threads = list(pool._threads)
            self.assertEqual(2, len(threads))
            self.assertEqual([False] * 2, [leftovers._is_idle(thread) for thread in threads])
            go.set()
            for done in running:
                done.result()
            wait_until(lambda: all(map(leftovers._is_idle, threads)), "both wait for work")
            look = leftovers.Leftovers()
            look.adopt()
            self.assertEqual([], look.after_call(True, mock.Mock(tasks_left=list)))

    def test_another_thread_is_not_known_to_be_idle(self):
        waiting = queue.Queue()
        thread = threading.Thread(target=waiting.get, daemon=True)
        thread.start()
        self.assertFalse(leftovers._is_idle(thread))
        waiting.put(None)
        thread.join()


if __name__ == "__main__":
    unittest.main()
