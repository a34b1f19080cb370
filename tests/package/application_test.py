"""docs/application.md is done as it stands there, and has every name that an application can use.

    application_test.py BUILD_DIR
"""
import inspect
import subprocess
import sys
import unittest
from pathlib import Path

from pages import ROOT, PageTest, every_block, section

sys.path.insert(0, str(ROOT / "python"))
import keelback  # noqa: E402

PAGE = ROOT / "docs" / "application.md"


class Application(PageTest):
    def test_the_page_works(self):
        self.path_begins_with(BUILD)
        self.do(every_block(PAGE))
        tests = subprocess.run([sys.executable, "-m", "unittest", "test_functions"], cwd=self.here, capture_output=True, text=True,
                               env={**self.environment, "PYTHONPATH": str(ROOT / "python")})
        self.assertEqual(0, tests.returncode, tests.stderr)

    def test_nothing_is_missing(self):
        text = PAGE.read_text()
        self.assertEqual([], [name for name in keelback.__all__ if f"keelback.{name}" not in text])
        options = [name for name in inspect.signature(keelback.function).parameters if name != "target"]
        table = next(line for line in text.splitlines() if line.startswith("| option |"))
        self.assertGreater(len(options), 5)
        rows = text[text.index(table):].split("\n\n")[0]
        self.assertEqual([], [name for name in options if f"| `{name}=" not in rows])

    def test_every_program_is_called(self):
        for title in ("Functions", "Types", "Before the first call", "Sessions", "Results, errors, files"):
            self.assertEqual({"python", "sh"}, {language for _, language, _ in section(PAGE, title)}, title)


if __name__ == "__main__":
    BUILD = Path(sys.argv[1]).resolve()
    sys.argv[1:] = []
    unittest.main(verbosity=2)
