"""Finds and imports the application, and says what is wrong with it in the application's own terms."""

import importlib
import importlib.util
import json
import os
import platform
import sys
from importlib.machinery import SOURCE_SUFFIXES
from types import ModuleType

from keelback import errors, functions, hints, hooks, sources, standard
from keelback.functions import BadApplication
from keelback.schemas import Schemas

FILE_VARIABLE = "KEELBACK_APP_FILE"  # names the application's file to keelback.application
_STAND_IN = "keelback.application"
_SHOWN = 8
HELLO_MAX = 16 * 1024 * 1024  # bytes


def load(app: str, expose: list[str]) -> ModuleType:
    """Imports `app`, a path to a Python file or the name of a module, and exposes the named functions.

    Raises BadApplication, or whatever the application's import raises.
    """
    module = imported(app)
    functions.expose(module, expose)
    if not functions.table():
        raise BadApplication(f"{app} offers no function: decorate one with @keelback.function, or use --expose")
    _tell_of_exclusive_coroutines()
    _tell_of_unusable_annotations()
    return module


def imported(app: str) -> ModuleType:
    """The application's module. Raises BadApplication, or whatever the import raises."""
    return _load_file(app) if _is_path(app) else _load_module(app)


def _tell_of_exclusive_coroutines() -> None:
    """Users of other servers expect that calls of an async function run side by side."""
    alone = sorted(name for name, function in functions.table().items()
                   if function.is_async and function.concurrency is None)
    if alone:
        shown = ", ".join(alone[:_SHOWN]) + (", …" if len(alone) > _SHOWN else "")
        errors.log(f"async functions without concurrency=, so a worker runs one call of them at a time: "
                   f"{shown} (docs/concurrency.md)")


def _tell_of_unusable_annotations() -> None:
    unusable = sorted(f"{name}({each})" for name, function in functions.table().items()
                      for each in function.arguments.unusable)
    if unusable:
        shown = ", ".join(unusable[:_SHOWN]) + (", …" if len(unusable) > _SHOWN else "")
        errors.log(f"annotations that count as none, because Keelback cannot find them or make such values: "
                   f"{shown} (docs/application.md)")


def hello(app: str) -> str:
    """The HELLO object of the loaded application as JSON, without the pid. Raises BadApplication if it is too large."""
    found = Schemas()
    described = [function.describe(found) for function in functions.table().values()]
    about = {"runtime": f"python {platform.python_version()}", "app": name_of(app), "functions": described,
             "health": bool(hooks.of("health"))}
    if found.definitions:
        about["$defs"] = found.definitions
    for doc_max in (functions.DOC_MAX, 200, 0):  # long texts go first
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


def load_as(name: str, path: str) -> ModuleType:
    """Executes the file as the module `name`."""
    loader = sources.Loader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def _load_file(app: str) -> ModuleType:
    path = _absolute(app)
    if not os.path.exists(path):
        raise BadApplication(hints.no_file(app))
    if os.path.isdir(path):
        raise BadApplication(f"{app} is a directory; give a Python file, or the name of a package")
    if not path.endswith(tuple(SOURCE_SUFFIXES)):
        raise BadApplication(f"{app} is not a Python file")
    folder, file = os.path.split(path)
    _put_first(folder, file)
    name = os.path.splitext(file)[0]
    # Under its own name, so that other modules, and processes that it starts, get this one when
    # they import it. It need not be an identifier, but a dot would ask for a package.
    if "." in name or name in sys.modules or standard.is_module(name):
        name = _STAND_IN
        os.environ[FILE_VARIABLE] = path
    try:
        return load_as(name, path)
    except ImportError as error:
        hint = hints.of_package(path, error)
        if hint:
            raise BadApplication(f"{error}; {hint}") from error
        raise


def _load_module(app: str) -> ModuleType:
    folder = _absolute("")
    _put_first(folder)
    try:
        return importlib.import_module(app)
    except ModuleNotFoundError as error:
        # Only if it is the application itself that is missing, not something it imports.
        if error.name is not None and (app == error.name or app.startswith(error.name + ".")):
            raise BadApplication(hints.no_module(app, error.name, folder)) from None
        raise


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        wanted = path or "the application"
        raise BadApplication(
            f"the working directory is gone, and {wanted} is looked for there") from None


def _put_first(folder: str, app: str = "") -> None:
    """The folder of the application, whose file is `app`, is the first to be looked into."""
    sources.watch()
    sys.path.insert(0, folder)
    hidden = standard.hidden(folder)
    if any(file.startswith("keelback") for file in hidden):
        # Programs that the application starts look there, too.
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    hidden = [file for file in hidden if file != app]
    if hidden:
        names = ", ".join(hidden)
        errors.log(
            f"not imported, because a module of that name is loaded already: {names} in {folder}")
