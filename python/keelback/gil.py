"""Whether this Python runs without its GIL, and which module of an application turns it on again.

A build without the GIL turns it on for good when it imports an extension module that does not say that it can do
without. `keelback doctor APP` starts this as `start.py keelback.gil --app APP`, imports the application as a worker
would, and prints what has happened as JSON. It is imported nowhere else.
"""

import _imp
import json
import os
import sys
import sysconfig
from typing import Any

from keelback import commandline, errors, exits, loading
from keelback.origins import Origin


def can_be_off() -> bool:
    """This Python was built without the GIL."""
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def is_on() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


class Watch:
    """Remembers the first module whose import turns the GIL on. All extension modules go through these two functions,
    however they are imported; a warning, which Python prints too, may be filtered."""

    def __init__(self) -> None:
        self.module = ""
        self.file = ""
        self.imported_by = ""  # a place in the source, and the modules whose import led there
        for name in ("create_dynamic", "exec_dynamic"):
            setattr(_imp, name, self._noting(getattr(_imp, name)))

    def _noting(self, function: Any) -> Any:
        def noting(*args: Any) -> Any:
            before = is_on()
            try:
                return function(*args)
            finally:
                if is_on() and not before and not self.module:
                    self._note(args[0])

        return noting

    def _note(self, of: Any) -> None:
        """`of`: the spec of a module, or the module."""
        spec = getattr(of, "__spec__", of)
        self.module = str(getattr(spec, "name", "?"))
        self.file = str(getattr(spec, "origin", None) or "")
        self.imported_by = str(Origin(sys._getframe(2)))


def main(arguments: list[str]) -> None:
    options = commandline.parse(arguments, ("--app",))
    report_fd = os.dup(1)
    os.dup2(2, 1)  # what the application prints is no part of the report
    found: dict[str, Any] = {"can_be_off": can_be_off(), "on_at_start": is_on(), "error": ""}
    watch = Watch()
    try:
        loading.imported(options["--app"])
    except BaseException as error:
        found["error"] = errors.cut(f"{errors.type_of(error)}: {errors.message_of(error)}", 2000)
    found.update(on=is_on(), module=watch.module, file=watch.file, imported_by=watch.imported_by)
    os.write(report_fd, json.dumps(found).encode())
    exits.leave(0, run_exit_functions=False)
