"""ctest starts this with what a machine might export (CMakeLists.txt here): nothing of it is left in what a test starts."""
import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import environment  # noqa: E402


class Environment(unittest.TestCase):
    def test_of_what_a_test_starts_is_the_tests(self):
        self.assertIn("KEELBACK_POOL_WORKERS", os.environ, "run it by ctest")
        environment.settle()
        told = subprocess.run(["sh", "-c", "env; echo python3=$(command -v python3)"], check=True, capture_output=True, text=True).stdout.splitlines()
        names = {line.split("=")[0] for line in told}
        self.assertEqual(set(), names & {"PYTHONPATH", "PYTHONUNBUFFERED", "KEELBACK_POOL_WORKERS", "LC_ALL"})
        self.assertIn("LANG=C.UTF-8", told)
        self.assertIn(f"python3={os.path.dirname(sys.executable)}/python3", told)


if __name__ == "__main__":
    unittest.main()
