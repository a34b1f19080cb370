"""Finds and imports the application, and says what is wrong with it in the application's own terms."""

import importlib
import importlib.util
import json
import os
import platform
import sys
from types import ModuleType
from typing import Optional

from keelback import functions, hooks
from keelback.functions import BadApplication

HELLO_MAX = 160 * 1024  # bytes; the order socket's packets are at most 192 KiB


def load(app: str, expose: list[str]) -> ModuleType:
    """Imports `app`, a path to a Python file or the name of a module, and exposes the named functions.

    Raises BadApplication, or whatever the application's import raises.
    """
    module = _load_file(app) if _is_path(app) else _load_module(app)
    functions.expose(module, expose)
    if not functions.table():
        raise BadApplication(f"{app} offers no function: decorate one with @keelback.function, or use --expose")
    return module


def hello(app: str) -> str:
    """The HELLO object of the loaded application as JSON, without the pid. Raises BadApplication if it is too large."""
    described = [function.describe() for function in functions.table().values()]
    about = {"runtime": f"python {platform.python_version()}", "app": name_of(app), "functions": described,
             "health": bool(hooks.of("health"))}
    for doc_max in (functions.DOC_MAX, 200, 0):  # long texts go first; everything has to fit into one packet
        for function in described:
            function["doc"] = function["doc"][:doc_max]
        text = json.dumps(about)
        if len(text) <= HELLO_MAX:
            return text
    raise BadApplication(
        f"{app} offers {len(described)} functions; their description takes {len(text)} bytes, {HELLO_MAX} is the most")


def name_of(app: str) -> str:
    return os.path.splitext(os.path.basename(app))[0] if _is_path(app) else app


def _is_path(app: str) -> bool:
    return app.endswith(".py") or os.sep in app


def _load_file(app: str) -> ModuleType:
    path = os.path.abspath(app)
    if not os.path.exists(path):
        raise BadApplication(f"there is no file {app}")
    if os.path.isdir(path):
        raise BadApplication(f"{app} is a directory; give a Python file, or the name of a package")
    _put_first(os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    # Under its own name, so that other modules which import it get this one; unless the name is taken.
    if not name.isidentifier() or name in sys.modules or _is_standard(name):
        name = "keelback_app"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadApplication(f"{app} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load_module(app: str) -> ModuleType:
    _put_first(os.getcwd())
    try:
        return importlib.import_module(app)
    except ModuleNotFoundError as error:
        # Only if it is the application itself that is missing, not something it imports.
        if error.name is not None and (app == error.name or app.startswith(error.name + ".")):
            raise BadApplication(
                f"there is no module {error.name!r}; looked in {', '.join(path or '.' for path in sys.path)}") from None
        raise


def _put_first(folder: str) -> None:
    # `python -m` puts the working directory first; a file's own folder takes its place, as in `python file.py`.
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    sys.path.insert(0, folder)


def _is_standard(name: str) -> bool:
    names: Optional[frozenset] = getattr(sys, "stdlib_module_names", None)  # since 3.10
    if names is not None:
        return name in names
    return name in sys.builtin_module_names
