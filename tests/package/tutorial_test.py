"""docs/tutorial.md is done word by word in an empty directory: its files are written, its commands are typed, and what it shows must come.

    tutorial_test.py BUILD_DIR    with an installation of this build
    tutorial_test.py              with the `keelback` that is installed on this machine
"""
import sys
import unittest
from pathlib import Path

from pages import ROOT, PageTest, every_block, installed

PAGE = ROOT / "docs" / "tutorial.md"


class Tutorial(PageTest):
    def test_a_reader_reaches_the_end(self):
        if BUILD:
            installed(BUILD, self.here / ".installed")
            self.path_begins_with(self.here / ".installed" / "bin")
        self.do(every_block(PAGE))
        self.wait_until_nobody_serves()


if __name__ == "__main__":
    BUILD = Path(sys.argv[1]).resolve() if sys.argv[1:] else None
    sys.argv[1:] = []
    unittest.main(verbosity=2)
