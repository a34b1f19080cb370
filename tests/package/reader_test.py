"""README.md and docs/tutorial.md are typed along, word by word, by a reader who has installed the packages of this version.

    reader_test.py    with the `keelback` that is installed on this machine

`scripts/test packages` does it in a bare machine, without a build tree.
"""
import unittest

from pages import ROOT, PageTest, blocks, every_block, typed


class Reader(PageTest):
    def test_the_front_page(self):
        (self.here / "examples").symlink_to(ROOT / "examples")
        steps = [(place, *step) for place, text in blocks(ROOT / "README.md", "sh") for step in typed(text)]
        self.assertGreaterEqual(len(steps), 5)
        for place, command, shown in steps:
            self.type(place, command, shown)

    def test_the_tutorial(self):
        self.do(every_block(ROOT / "docs" / "tutorial.md"))
        self.wait_until_nobody_serves()


if __name__ == "__main__":
    unittest.main(verbosity=2)
