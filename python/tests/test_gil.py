"""Who turns the GIL on: found out while an application is imported. tests/free_threaded does it with a Python that has none."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

from supervisor import PYTHON, ROOT, START, WAIT_S


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


if __name__ == "__main__":
    unittest.main()
