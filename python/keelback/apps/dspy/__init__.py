"""The DSPy application: `keelback serve keelback.apps.dspy`.

Callers configure a language model once for the pool, create programs in their sessions, and execute
them. A session's state holds definitions only (JSON), so its programs build on whichever worker has the
session, after a restore or a move too. The model's configuration lives in memory that all workers of the
pool share (`shared.py` says what it survives); KEELBACK_DSPY_LM may hold one to begin with: a JSON object of
configure_lm's arguments. Keys stand in no log, reply or listing. KEELBACK_DSPY_LOG=info makes a line of every
execution (program and session, never what was asked), so that a dead worker's last lines say what it was doing.

All functions are coroutines of one event loop: a worker waits for many models at once. What one of them
needs is in its context (dspy.context), so calls beside each other know nothing of each other.
"""

import os

if __name__ == "dspy":
    raise ImportError("serve this application by its module name, keelback.apps.dspy: as a file it would hide DSPy")

# Read by the packages below while they are imported: no request to anywhere at import, no telemetry.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_TELEMETRY", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
from typing import Any, Optional, Union  # noqa: E402

import dspy  # noqa: E402

import keelback  # noqa: E402
from keelback.apps.dspy import definitions, models, programs, tools  # noqa: E402
from keelback.apps.dspy.shared import SharedValue  # noqa: E402
from keelback.apps.dspy.tools import tool  # noqa: E402, F401  (for applications built on this one)

PROGRAMS_MAX = 64  # per session
CONCURRENCY = 64  # calls of each function in one worker: DSPy's connections to one model are at most 100
_ID_MAX = 128
_CACHED_ANSWERS_MAX = 1000  # per worker, and only if configure_lm asks for caching


_IMPORTED_BY_A_FIRST_REQUEST = ("dspy._vendor.lm15.transports", "dspy._vendor.lm15.cloud.sigv4",
                                "dspy._vendor.lm15.cloud.hosts")

_shared = keelback.function(concurrency=CONCURRENCY)


class NoSession(RuntimeError):
    """Programs belong to a session, and the call came without one."""


class UnknownProgram(LookupError):
    """The session has no program of that id."""


class ProgramExists(ValueError):
    """The session has a program of that id already."""


class TooManyPrograms(RuntimeError):
    """The session holds PROGRAMS_MAX programs."""


class _Worker:
    """What one worker process knows. Nothing in it is needed to serve a session elsewhere."""

    def __init__(self):
        self.shared = SharedValue()
        self.built = programs.Cache()
        self._model = None
        self.executed, self.failed = 0, 0

    async def model(self):
        """The models.Model as configured now. Raises LmNotConfigured, BadModel."""
        if self.shared.version != (self._model.version if self._model is not None else 0):
            old, self._model = self._model, models.Model(*self.shared.read())
            if old is not None:
                await old.replaced()
        if self._model is None:
            raise models.LmNotConfigured("no language model is configured: call configure_lm")
        return self._model


_worker = _Worker()
_log = logging.getLogger(__name__)


@keelback.setup
def load():
    """In the zygote: pays for what DSPy imports and builds lazily, so that no worker's first call does."""
    logging.getLogger("dspy").setLevel(logging.WARNING)
    if not _log.handlers:
        _log.addHandler(logging.StreamHandler())
        _log.setLevel(os.environ.get("KEELBACK_DSPY_LOG", "warning").upper())
    # The cache on disk would open 48 files that every worker then shares; answers are cached in memory.
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True, memory_max_entries=_CACHED_ANSWERS_MAX)
    tools.load_from_environment()
    _warm()
    given = os.environ.get("KEELBACK_DSPY_LM")
    if given and _worker.shared.version == 0:
        _worker.shared.write(models.normalise(_arguments(given)))


def _arguments(text):
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        # Without the text, and without the parser's error, which holds it: there may be a key in it.
        raise models.BadModel("KEELBACK_DSPY_LM is not a JSON object of configure_lm's arguments") from None
    return arguments


def _warm():
    loop = asyncio.new_event_loop()  # its own, which ends with all its threads
    try:
        loop.run_until_complete(_run_each_kind())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    models.normalise({"model": "openai/warm", "api_base": "http://127.0.0.1:9", "api_key": "none"})
    for module in _IMPORTED_BY_A_FIRST_REQUEST:
        with contextlib.suppress(ImportError):  # another version of DSPy may have them elsewhere
            importlib.import_module(module)


async def _run_each_kind():
    scripted = models.normalise({"kind": "scripted"})
    lm = models.build(scripted)
    for kind in definitions.KINDS:
        definition = definitions.normalise("question -> answer", kind=kind)
        await programs.Built(definition).run({"question": "?"}, lm, scripted)


@_shared
async def configure_lm(
    model: Optional[str] = None,
    kind: str = "model",
    api_base: Optional[str] = None,
    api_key: Optional[str] = None,
    temperature: Optional[float] = None,
    max_tokens: Optional[int] = None,
    timeout: float = 30.0,
    num_retries: int = 2,
    cache: bool = False,
    adapter: str = "chat",
    options: Optional[dict] = None,
    script: Optional[dict] = None,
) -> dict:
    """Sets the language model of the whole pool: workers there are, and workers to come.

    `model` is "provider/name" as DSPy spells it; `api_base` and `api_key` say where and as whom;
    `timeout` is seconds per request; `options` are further arguments of dspy.LM. `kind` "scripted" answers from
    `script` without any network (keelback/apps/scripted_lm.py). Nothing is asked of the model here. Replies with
    the description, a version, and `reach`: "pool", "zygote" or "worker" (shared.py).
    """
    config = models.normalise({
        "model": model, "kind": kind, "api_base": api_base, "api_key": api_key, "temperature": temperature,
        "max_tokens": max_tokens, "timeout": timeout, "num_retries": num_retries, "cache": cache,
        "adapter": adapter, "options": options, "script": script,
    })
    version = await _worker.shared.write_async(config)
    return {"version": version, "reach": _worker.shared.reach, "lm": models.describe(config)}


@_shared
async def create_program(
    signature: Union[str, dict],
    id: Optional[str] = None,
    kind: str = "predict",
    instructions: Optional[str] = None,
    tools: Optional[list] = None,
    demos: Optional[list] = None,
    max_iters: Optional[int] = None,
    replace: bool = False,
) -> dict:
    """Creates a program in the caller's session; replies with its description.

    `signature` is "question: str -> answer: str" or {"inputs": […], "outputs": […]}; `kind` is predict,
    chain_of_thought or react (which may name `tools`); `demos` are examples shown to the model. `id` is made up if
    it is not given.
    """
    store = _store()
    definition = definitions.normalise(signature, kind, instructions, tools, demos, max_iters)
    if id is None:
        id = _next_id(store)
    elif not isinstance(id, str) or not 0 < len(id) <= _ID_MAX or not id.isprintable():
        raise definitions.BadDefinition(f"id: a printable string of at most {_ID_MAX} characters")
    if id in store["programs"] and not replace:
        raise ProgramExists(f"this session has a program {id!r} already; replace=true replaces it")
    if id not in store["programs"] and len(store["programs"]) >= PROGRAMS_MAX:
        raise TooManyPrograms(f"a session holds at most {PROGRAMS_MAX} programs")
    _worker.built.get(definition)  # what DSPy refuses must fail here, not at the first execution
    store["programs"][id] = {"definition": definition, "executions": 0, "failures": 0}
    return _describe(id, store["programs"][id])


@_shared
async def execute_program(id: str, inputs: dict) -> dict:
    """Runs a program of the caller's session. Replies {"program", "outputs", "reasoning", "steps", "usage"}."""
    program = _program(id)
    _log.info("execute_program %r of session %r", id, _session().id)
    try:
        answer = await _run(program["definition"], inputs)
    except Exception:
        program["failures"] += 1
        raise
    program["executions"] += 1
    return {"program": id, **answer}


@_shared
async def run_once(
    signature: Union[str, dict],
    inputs: dict,
    kind: str = "predict",
    instructions: Optional[str] = None,
    tools: Optional[list] = None,
    demos: Optional[list] = None,
    max_iters: Optional[int] = None,
) -> dict:
    """Runs a program without creating it: for callers without a session. Replies as execute_program does."""
    definition = definitions.normalise(signature, kind, instructions, tools, demos, max_iters)
    return {"program": None, **await _run(definition, inputs)}


@_shared
async def list_programs() -> list:
    """The programs of the caller's session, in the order they were created."""
    return [_describe(id, program) for id, program in _store()["programs"].items()]


@_shared
async def program_info(id: str) -> dict:
    """One program of the caller's session, with its whole definition."""
    program = _program(id)
    return {**_describe(id, program), "definition": program["definition"]}


@_shared
async def delete_program(id: str) -> dict:
    """Deletes a program of the caller's session."""
    _program(id)
    del _store()["programs"][id]
    return {"deleted": id}


@_shared
async def reset_session() -> dict:
    """Deletes every program of the caller's session."""
    store = _store()
    count = len(store["programs"])
    store["programs"].clear()
    return {"deleted": count}


@_shared
async def stats() -> dict:
    """What the worker that took this call has done, the model it would ask, and the session's programs.
    Counts of the whole pool are the supervisor's to give (GET /v1/pool, /metrics)."""
    version, config = _worker.shared.read()
    session = _session()
    held = ((session.state.get("dspy") or {}).get("programs") or {}) if session is not None else None
    return {
        "worker": {
            "worker": os.environ.get("KEELBACK_WORKER"), "pid": os.getpid(), "executed": _worker.executed,
            "failed": _worker.failed, "built": len(_worker.built),
        },
        "lm": {"configured": config is not None, "version": version, "reach": _worker.shared.reach,
               **(models.describe(config) if config else {})},
        "session": None if held is None else {
            "programs": len(held), "executions": sum(p["executions"] for p in held.values()),
            "failures": sum(p["failures"] for p in held.values()),
        },
        "dspy": dspy.__version__,
        "tools": tools.names(),
    }


async def _run(definition, inputs: Any):
    model = await _worker.model()
    try:
        async with model.used():
            answer = await _worker.built.get(definition).run(inputs, model.lm, model.config)
    except Exception:
        _worker.failed += 1
        raise
    _worker.executed += 1
    return answer


def _session():
    """The call's session, or None."""
    return keelback.session() if keelback.has_session() else None


def _store():
    session = _session()
    if session is None:
        raise NoSession("programs belong to a session: name one (header Keelback-Session), or use run_once")
    return session.state.setdefault("dspy", {"programs": {}, "serial": 0})


def _program(id):
    program = _store()["programs"].get(id)
    if program is None:
        raise UnknownProgram(f"this session has no program {id!r}")
    return program


def _next_id(store):
    while True:
        store["serial"] += 1
        if f"program-{store['serial']}" not in store["programs"]:
            return f"program-{store['serial']}"


def _describe(id, program):
    definition = program["definition"]
    return {"program": id, "kind": definition["kind"], "signature": definitions.signature_text(definition),
            "tools": definition["tools"], "executions": program["executions"], "failures": program["failures"]}
