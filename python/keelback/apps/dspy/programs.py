"""Definitions become DSPy modules here, and answers become JSON.

A module is kept by the digest of its definition, not by session: it holds no state between calls, nor of
the calls that run it at once (histories and traces are off). So equal programs of many sessions are one object,
and a session that was restored, moved or rolled over can never meet a module of another time.
"""

import typing
from collections import OrderedDict

import dspy
import pydantic

from keelback.apps.dspy import definitions, models
from keelback.apps.dspy import tools as toolbox

BUILT_MAX = 256

_SCALARS = {"str": str, "int": int, "float": float, "bool": bool, "Any": typing.Any, "list": list, "dict": dict}


class BadInput(ValueError):
    """The inputs are not those of the program's signature. No model was asked."""


class LmFailed(RuntimeError):
    """The model or its server failed; the message begins with DSPy's name for it (LMRateLimitError, …)."""


class Built:
    """A definition and the DSPy module made of it."""

    def __init__(self, definition):
        self.definition = definition
        fields = {}
        for side, make in (("inputs", dspy.InputField), ("outputs", dspy.OutputField)):
            for field in definition[side]:
                fields[field["name"]] = (python_type(field["type"]), make(desc=field["description"] or None))
        try:
            signature = dspy.Signature(fields, definition["instructions"])
            self.module = self._module(definition, signature)
        except (TypeError, ValueError, NameError, AttributeError) as error:
            raise definitions.BadDefinition(f"DSPy refuses the signature: {error}") from None
        self._inputs = {field["name"]: pydantic.TypeAdapter(fields[field["name"]][0]) for field in definition["inputs"]}
        for predictor in self.module.predictors():
            predictor.demos = [dspy.Example(**demo) for demo in definition["demos"]]

    @staticmethod
    def _module(definition, signature):
        if definition["kind"] == "predict":
            return dspy.Predict(signature)
        if definition["kind"] == "chain_of_thought":
            return dspy.ChainOfThought(signature)
        offered = [(name, toolbox.find(name)) for name in definition["tools"]]
        gone = [name for name, function in offered if function is None]
        if gone:
            raise definitions.BadDefinition(f"tools: this worker has no {', '.join(gone)}")
        functions = [toolbox.awaitable(function) for _, function in offered]
        return dspy.ReAct(signature, tools=functions, max_iters=definition["max_iters"])

    async def run(self, inputs, lm, config):
        """Asks `lm`. Returns {"outputs", "reasoning", "steps", "usage"}. Raises BadInput, LmFailed, and
        dspy.AdapterParseError when the model's answer does not have the signature's fields."""
        values = self._checked(inputs)
        # These settings belong to the context of this call; the calls beside it have others.
        with dspy.context(lm=lm, adapter=models.adapter(config), track_usage=True, usage_tracker=None,
                          disable_history=True, max_history_size=0, trace=None, callbacks=[]):
            try:
                prediction = await self.module.acall(**values)
            except dspy.LMError as error:
                raise LmFailed(models.scrub(f"{type(error).__name__}: {error}", config)) from None
        said = prediction.toDict()
        steps = said.get("trajectory") or {}
        return {
            "outputs": {field["name"]: said.get(field["name"]) for field in self.definition["outputs"]},
            "reasoning": said.get("reasoning"),
            "steps": [
                {"thought": steps.get(f"thought_{i}"), "tool": steps.get(f"tool_name_{i}"),
                 "arguments": steps.get(f"tool_args_{i}"), "observation": str(steps.get(f"observation_{i}"))}
                for i in range(sum(1 for key in steps if key.startswith("tool_name_")))
            ],
            "usage": _usage(prediction),
        }

    def _checked(self, inputs):
        if not isinstance(inputs, dict):
            raise BadInput(f"inputs: an object, not {type(inputs).__name__}")
        wanted = [field["name"] for field in self.definition["inputs"]]
        missing = [name for name in wanted if name not in inputs]
        unknown = sorted(set(inputs) - set(wanted))
        if missing or unknown:
            raise BadInput("; ".join(filter(None, [
                missing and f"missing: {', '.join(missing)}", unknown and f"unknown: {', '.join(unknown)}",
                f"the program's inputs are {', '.join(wanted)}"])))
        try:
            return {name: self._inputs[name].validate_python(inputs[name]) for name in wanted}
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BadInput(f"{error.error_count()} wrong value(s): {first['msg']}") from None


class Cache:
    """The modules built most recently in this worker; at most BUILT_MAX."""

    def __init__(self):
        self._built = OrderedDict()

    def __len__(self):
        return len(self._built)

    def get(self, definition):
        """The module of `definition`, built if need be. Raises BadDefinition."""
        key = definitions.digest(definition)
        built = self._built.get(key)
        if built is None:
            built = self._built[key] = Built(definition)
            if len(self._built) > BUILT_MAX:
                self._built.popitem(last=False)
        self._built.move_to_end(key)
        return built


def python_type(text):
    """The type that a canonical type text of `definitions` names."""
    names = {**_SCALARS, "Optional": typing.Optional, "Literal": typing.Literal, "list": list, "dict": dict}
    # The text was checked against a closed grammar of names, brackets and constants when it was made, and
    # is checked again here, because a session's state may come from a store that others can write.
    if definitions.canonical_type(text) != text:
        raise definitions.BadDefinition(f"not a type: {text!r}")
    return eval(text, {"__builtins__": {}}, names)  # noqa: S307


def _usage(prediction):
    usage = {"prompt_tokens": 0, "completion_tokens": 0}
    for counted in (prediction.get_lm_usage() or {}).values():
        for key in usage:
            usage[key] += counted.get(key) or 0
    return usage
