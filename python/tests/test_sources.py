"""Whose a file is: the application's, an installed package's, the standard library's, or ours."""

import os
import sysconfig
import tempfile
import unittest

import supervisor  # noqa: F401  (finds the package)

from keelback import sources


class Sources(unittest.TestCase):
    def check(self, path, ours=False, standard=False, installed=False):
        got = sources.is_ours(path), sources.is_standard(path), sources.is_installed(path)
        self.assertEqual(got, (ours, standard, installed), path)
        self.assertEqual(sources.is_users(path), not any(got), path)

    def test_every_file_has_one_owner(self):
        library = os.path.dirname(os.__file__)
        self.check(sources.__file__, ours=True)
        self.check(os.path.dirname(sources.__file__), ours=True)
        self.check(os.path.join(os.path.dirname(sources.__file__), "apps", "bench.py"), ours=True)
        self.check(os.__file__, standard=True)
        self.check(os.path.join(library, "json", "decoder.py"), standard=True)
        self.check(os.path.join(library, "site-packages", "numpy", "__init__.py"), installed=True)
        self.check(os.path.join(sysconfig.get_path("purelib"), "x.py"), installed=True)
        self.check(os.path.join(tempfile.gettempdir(), "app.py"))
        self.check(library + "-of-mine" + os.sep + "app.py")


if __name__ == "__main__":
    unittest.main()
