"""The program that the supervisor starts: `start.py keelback.worker OPTIONS`, or keelback.zygote.

It is started by its path, because `python -m` looks into the working directory first, and a file
`json.py` there would replace the module json. The whole runtime, and what it needs, is imported before
Python looks into a directory of the application (docs/start-modes.md).
"""

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _main() -> None:
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # the folder of this file: its modules are the package's, and no others
    if _ROOT not in map(os.path.abspath, sys.path):
        sys.path.insert(0, _ROOT)  # an interpreter that does not listen to PYTHONPATH
    users, folders = sys.path[:], _standard()
    sys.path[:] = [_ROOT, *folders]
    # Both programs import the same, so an application finds the same modules in both modes.
    from keelback import standard, worker, zygote

    sys.path[:] = users
    standard.remember(folders)
    programs = {"keelback.worker": worker.main, "keelback.zygote": zygote.main, "keelback.gil": _look_at_gil}
    if len(sys.argv) < 2 or sys.argv[1] not in programs:
        sys.exit("keelback: the supervisor starts this program, not people")
    programs[sys.argv[1]](sys.argv[2:])


def _look_at_gil(arguments: "list[str]") -> None:
    from keelback import gil  # no worker needs it

    gil.main(arguments)


def _standard() -> "list[str]":
    """The folders of the standard library; all there are, if it is somewhere else."""
    library = os.path.dirname(os.__file__)
    found = [
        folder
        for folder in sys.path
        if folder == library
        or os.path.basename(folder) == "lib-dynload"
        or (folder.endswith(".zip") and os.path.dirname(folder) == os.path.dirname(library))
    ]
    return found if library in found else sys.path[:]


def _in_users_process() -> None:
    """User code has started this process with multiprocessing, which has given it our path."""
    users, sys.path[:] = sys.path[:], [_ROOT, *_standard()]
    import keelback  # noqa: F401

    sys.path[:] = users


if __name__ == "__main__":
    _main()
elif __name__ == "__mp_main__":
    _in_users_process()
