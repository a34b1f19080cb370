"""The programs of Keelback, as `cmake --install` lays them out, and the command that starts them.

The command is not Python: this module only takes its place. It is apart from the package keelback,
because a worker has the runtime of the program that started it, and that need not be this version.
"""

import os
import sys

PREFIX = os.path.join(os.path.dirname(os.path.abspath(__file__)), "prefix")


def main() -> None:
    """The command `keelback`, with this environment's Python as the first python3 in PATH."""
    own = os.path.dirname(os.path.abspath(sys.executable))
    path = os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != own:
        os.environ["PATH"] = own + os.pathsep + path
    os.execv(os.path.join(PREFIX, "bin", "keelback"), ["keelback", *sys.argv[1:]])
