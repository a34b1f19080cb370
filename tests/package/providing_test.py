"""What docs/providing-over-http.md shows is done as it stands there.

    providing_test.py BUILD_DIR

Exit status 77 if there is no curl on this machine.
"""
import os
import shutil
import sys
import unittest
from pathlib import Path

MACHINE = os.environ.get("PATH", "")  # before the tests' own

from pages import ROOT, Client, PageTest, section, wait_until  # noqa: E402

PAGE = ROOT / "docs" / "providing-over-http.md"


class Page(PageTest):
    def type(self, place, command, shown):
        if command != "bash provide.sh &":
            return super().type(place, command, shown)
        # A reader types more slowly than a script connects.
        super().type(place, "{ bash provide.sh >provide.log 2>&1 & }", shown)
        metrics = Client(f"127.0.0.1:{self.port}")
        return wait_until(lambda: b"\nkeelback_providers 1\n" in metrics.get("/metrics").body, "the script provides its function", 30)

    def test_the_page_works(self):
        self.environment["PATH"] += os.pathsep + MACHINE
        self.path_begins_with(BUILD)
        self.do(section(PAGE, "An example"))
        # What the script says where it has no price.
        reply = Client(f"127.0.0.1:{self.port}").call("total", {"fruit": "pear", "count": 1})
        self.assertEqual("error", reply.outcome, reply)
        self.assertEqual("keelback.CallFailed", reply.json["python"]["type"], reply)
        self.assertIn("there is no such fruit", reply.json["python"]["message"])
        self.assertEqual("", (self.here / "provide.log").read_text())


if __name__ == "__main__":
    BUILD = Path(sys.argv[1]).resolve()
    if shutil.which("curl") is None and shutil.which("curl", path=MACHINE) is None:
        print("skipped: curl is not on this machine, so the page is not tried")
        sys.exit(77)
    os.environ["LC_ALL"] = "C.UTF-8"
    sys.argv[1:] = []
    unittest.main(verbosity=2)
