"""What docs/clients.md shows for a language is done as it stands there, against a daemon with the page's application.

    clients_test.py BUILD_DIR CXX SECTION [PROGRAM]

Exit status 77, and one line that says why, if the language's PROGRAM is not on this machine.
"""
import os
import shutil
import sys
import unittest
from pathlib import Path

MACHINE = os.environ.get("PATH", "")  # before the tests' own: a language may be installed anywhere

from pages import ROOT, PageTest, installed, section, typed  # noqa: E402

PAGE = ROOT / "docs" / "clients.md"


class Client(PageTest):
    def test_the_page_works(self):
        steps = section(PAGE, TITLE)
        shown = [lines for _, language, text in steps if language == "sh" for _, lines in typed(text)]
        self.assertIn(["1"], shown, "a call that is answered")
        self.assertTrue(any("unknown_function" in line for lines in shown for line in lines), "a call that is refused")
        if TITLE == "C++":
            installed(BUILD, self.here / "prefix")
            self.environment["PKG_CONFIG_PATH"] = str(next((self.here / "prefix").rglob("keelback.pc")).parent)
            (self.here / "bin").mkdir()
            (self.here / "bin" / "g++").symlink_to(shutil.which(CXX))
            self.path_begins_with(self.here / "bin")
        self.environment["PATH"] += os.pathsep + MACHINE
        self.path_begins_with(BUILD)
        self.do(section(PAGE, "The application"))
        self.do(steps)

    def test_the_program_is_short(self):
        programs = [text for _, language, text in section(PAGE, TITLE) if language not in ("sh", "text")]
        for text in programs:
            self.assertLessEqual(len(text.splitlines()), 40, "it is meant to be copied")


if __name__ == "__main__":
    BUILD, CXX, TITLE = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3]
    for program in sys.argv[4:]:
        if shutil.which(program) is None and shutil.which(program, path=MACHINE) is None:
            print(f"skipped: {program} is not on this machine, so what docs/clients.md shows for {TITLE} is not tried")
            sys.exit(77)
    os.environ["LC_ALL"] = "C.UTF-8"
    sys.argv[1:] = []
    unittest.main(verbosity=2)
