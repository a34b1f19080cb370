"""Which language model a worker asks: a JSON configuration, checked, described without its secrets, built.

A configuration never leaves this process but through `SharedValue`, and nothing here logs.
"""

import asyncio
import contextlib
import json
import time
from urllib.parse import urlsplit, urlunsplit

import dspy
from dspy.lm15 import Message, RateLimitError, Response, ServerError, TextPart, Usage
from dspy.lm15 import TimeoutError as LmTimeoutError

from keelback.apps.scripted_lm import Script

ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}
_MODEL_MAX = 256
_HANG_MAX_S = 24 * 3600.0
# Set by their own arguments, or not the caller's to set: callbacks and engine objects are not JSON.
_NOT_OPTIONS = ("model", "api_base", "base_url", "api_key", "temperature", "max_tokens", "timeout",
                "num_retries", "cache", "callbacks", "provider", "async_engine", "prompt_cache")


class BadModel(ValueError):
    """The configuration names no usable model; the message says why, without secrets."""


class LmNotConfigured(RuntimeError):
    """Nobody called configure_lm for this pool, and KEELBACK_DSPY_LM is not set."""


def normalise(given):
    """A checked configuration: every key there, defaults filled in. Raises BadModel."""
    config = {"kind": "model", "model": None, "api_base": None, "api_key": None, "temperature": None,
              "max_tokens": None, "timeout": 30.0, "num_retries": 2, "cache": False, "adapter": "chat",
              "options": {}, "script": None}
    unknown = sorted(set(given) - set(config))
    if unknown:
        raise BadModel(f"unknown: {', '.join(unknown)}; known are {', '.join(config)}")
    config.update((key, value) for key, value in given.items() if value is not None)
    if config["adapter"] not in ADAPTERS:
        raise BadModel(f"adapter: one of {', '.join(ADAPTERS)}")
    if config["kind"] == "scripted":
        Script(config["script"])
        config["model"] = config["model"] or "scripted"
    elif config["kind"] != "model":
        raise BadModel(f"kind: 'model' or 'scripted', not {config['kind']!r}")
    elif config["script"] is not None:
        raise BadModel("script: only for kind 'scripted'")
    _check_values(config)
    build(config).close()  # what DSPy itself refuses is refused here, on the caller's call
    return config


def describe(config):
    """What anybody may see of a configuration: no key, no option's value, no password in an address."""
    shown = {key: config[key] for key in ("kind", "model", "temperature", "max_tokens", "timeout",
                                          "num_retries", "cache", "adapter")}
    shown["api_base"] = _without_password(config["api_base"])
    shown["api_key_set"] = config["api_key"] is not None
    shown["options"] = sorted(config["options"])
    return shown


def build(config):
    """A dspy.LM for the configuration; connects to nothing. Raises BadModel."""
    try:
        if config["kind"] == "scripted":
            script = Script(config["script"])
            return dspy.LM(config["model"], engine=ScriptedEngine(script), async_engine=AsyncScriptedEngine(script),
                           cache=config["cache"], num_retries=config["num_retries"])
        clients = {key: config[key] for key in ("api_base", "api_key", "timeout") if config[key] is not None}
        return dspy.LM(config["model"], temperature=config["temperature"], max_tokens=config["max_tokens"],
                       cache=config["cache"], num_retries=config["num_retries"], **clients, **config["options"])
    except (TypeError, ValueError, dspy.DSPyError) as error:
        raise BadModel(scrub(str(error), config)) from None


def adapter(config):
    return ADAPTERS[config["adapter"]]()


def scrub(text, config):
    """`text` without the configuration's key, which some servers repeat in their complaint about it."""
    key = config.get("api_key")
    return text.replace(key, "***") if key else text


def _check_values(config):
    model = config["model"]
    if not isinstance(model, str) or not 0 < len(model) <= _MODEL_MAX:
        raise BadModel("model: a string such as 'openai/gpt-4o-mini'")
    for key in ("api_base", "api_key"):
        if config[key] is not None and (not isinstance(config[key], str) or not config[key]):
            raise BadModel(f"{key}: a string")
    if config["api_base"] is not None and urlsplit(config["api_base"]).scheme not in ("http", "https"):
        raise BadModel("api_base: an http or https address")
    for key, low, high in (("temperature", 0, 2), ("max_tokens", 1, 1_000_000), ("timeout", 0.01, 3600),
                           ("num_retries", 0, 10)):
        value = config[key]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise BadModel(f"{key}: a number from {low} to {high}, not {value!r}")
    if not isinstance(config["cache"], bool):
        raise BadModel("cache: true or false")
    if not isinstance(config["options"], dict):
        raise BadModel("options: an object of further arguments of dspy.LM")
    refused = sorted(set(config["options"]) & set(_NOT_OPTIONS))
    if refused:
        raise BadModel(f"options: {', '.join(refused)} cannot be given there")
    try:
        json.dumps(config["options"])
    except (TypeError, ValueError):
        raise BadModel("options: JSON only") from None


def _without_password(address):
    if address is None:
        return None
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Model:
    """A configuration, and the dspy.LM made of it. It is closed when another one has taken its place and the
    last call that asks it has ended. For one event loop."""

    def __init__(self, version, config):
        """Raises BadModel."""
        self.version, self.config, self.lm = version, config, build(config)
        self._calls, self._replaced = 0, False

    @contextlib.asynccontextmanager
    async def used(self):
        """Keeps it open meanwhile."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            await self._close_if_done()

    async def replaced(self):
        self._replaced = True
        await self._close_if_done()

    async def _close_if_done(self):
        if self._replaced and not self._calls:
            await self.lm.aclose()


class ScriptedEngine:
    """DSPy's engine interface over a Script: complete(request) answers, waits or raises as it says."""

    def __init__(self, script):
        self._script = script

    def complete(self, request):
        messages = _messages(request)
        answer = self._script.answer(messages)
        time.sleep(_seconds(answer))
        return _response(request, messages, answer)

    def close(self):
        pass


class AsyncScriptedEngine:
    """The same for an event loop."""

    def __init__(self, script):
        self._script = script

    async def complete(self, request):
        messages = _messages(request)
        answer = self._script.answer(messages)
        await asyncio.sleep(_seconds(answer))  # a cancel ends it: that is how a hanging model is got rid of
        return _response(request, messages, answer)

    async def aclose(self):
        pass


def _messages(request):
    system = request.system
    if system is not None and not isinstance(system, str):
        system = "".join(part.text for part in system)
    messages = [{"role": "system", "content": system or ""}]
    return messages + [{"role": message.role, "content": message.text or ""} for message in request.messages]


def _seconds(answer):
    return _HANG_MAX_S if answer.fail == "hang" else answer.delay_s


def _response(request, messages, answer):
    if answer.fail == "rate_limit":
        raise RateLimitError("429 from the script: too many requests")
    if answer.fail == "error":
        raise ServerError("500 from the script: the model is broken")
    if answer.fail == "timeout":
        raise LmTimeoutError("the script lets this request time out")
    words = sum(len(message["content"].split()) for message in messages)
    said = len(answer.text.split())
    return Response(id=None, model=request.model, message=Message.assistant([TextPart(answer.text)]),
                    finish_reason="stop",
                    usage=Usage(input_tokens=words, output_tokens=said, total_tokens=words + said))
