"""A language model that follows a script: same question, same answer, no network and no weights.

It reads prompts the way DSPy writes them (field lists and `[[ ## field ## ]]` markers, or the JSON
form), so it answers any signature with values of the right shape; rules say what it answers, how long
it takes and how it fails. Standard library only, and no DSPy: the application uses it inside a worker
and a stand-in HTTP server uses it outside.

A script is a JSON object:

    {"delay_ms": 20,                       # each answer takes that long; at most 10 minutes
     "rules": [{"match": "capital of (\\w+)",          # searched in the last user message
                "answer": {"answer": "Paris"},         # per output field, or a string for the first text field
                "delay_ms": 5, "fail": "rate_limit"}]} # both optional; `fail` wins over `answer`

The first rule that matches decides; without one the answer is derived from the question. Kinds of
failure: rate_limit, error, timeout, garbage (text that fits no signature), hang (ends only with the call).
"""

import ast
import json
import re

DELAY_MS_MAX = 600_000
RULES_MAX = 256
FAILURES = ("rate_limit", "error", "timeout", "garbage", "hang")
GARBAGE = "~~ this is not what you asked for ~~"

_FIELD = re.compile(r"^\d+\. `(\w+)` \((.*?)\):", re.MULTILINE)
_VALUE = re.compile(r"^\[\[ ## (\w+) ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\nRespond with |\Z)", re.MULTILINE | re.DOTALL)
_ARITHMETIC = re.compile(r"[\d(][\d\s.+*/()-]*[+*/-][\d\s.+*/()-]*[\d)]")


class ScriptError(ValueError):
    """The script is not one; the message names the entry."""


class Answer:
    """What the model does with one prompt: waits `delay_s`, then fails as `fail` says or says `text`."""

    __slots__ = ("text", "delay_s", "fail")

    def __init__(self, text, delay_s, fail):
        self.text, self.delay_s, self.fail = text, delay_s, fail


class Script:
    """A checked script. Raises ScriptError. Immutable, so any thread may ask it."""

    def __init__(self, script=None):
        script = {} if script is None else script
        _only(script, ("delay_ms", "rules"), "script")
        self.delay_s = _delay(script, "script")
        rules = script.get("rules", [])
        if not isinstance(rules, list) or len(rules) > RULES_MAX:
            raise ScriptError(f"rules: a list of at most {RULES_MAX} rules")
        self.rules = [_rule(rule, f"rules[{index}]", self.delay_s) for index, rule in enumerate(rules)]

    def answer(self, messages):
        """The Answer to `messages`, a list of {"role": ..., "content": text}."""
        system = "\n".join(_text(m) for m in messages if m.get("role") in ("system", "developer"))
        user = next((_text(m) for m in reversed(messages) if m.get("role") == "user"), "")
        for match, answer, delay_s, fail in self.rules:
            if match.search(user):
                text = GARBAGE if fail == "garbage" else _compose(system, user, answer)
                return Answer(text, delay_s, None if fail == "garbage" else fail)
        return Answer(_compose(system, user, None), self.delay_s, None)


def _only(value, known, where):
    if not isinstance(value, dict):
        raise ScriptError(f"{where}: an object, not {type(value).__name__}")
    for key in value:
        if key not in known:
            raise ScriptError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")


def _delay(value, where, default=0.0):
    delay = value.get("delay_ms")
    if delay is None:
        return default
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay <= DELAY_MS_MAX:
        raise ScriptError(f"{where}.delay_ms: milliseconds from 0 to {DELAY_MS_MAX}, not {delay!r}")
    return delay / 1000.0


def _rule(rule, where, delay_s):
    _only(rule, ("match", "answer", "delay_ms", "fail"), where)
    try:
        match = re.compile(rule["match"])
    except (KeyError, TypeError, re.error) as error:
        raise ScriptError(f"{where}.match: a regular expression ({error})") from None
    answer, fail = rule.get("answer"), rule.get("fail")
    if answer is not None and not isinstance(answer, (str, dict)):
        raise ScriptError(f"{where}.answer: a string or an object of output fields")
    if fail is not None and fail not in FAILURES:
        raise ScriptError(f"{where}.fail: one of {', '.join(FAILURES)}, not {fail!r}")
    return match, answer, _delay(rule, where, delay_s), fail


def _text(message):
    content = message.get("content")
    if isinstance(content, list):  # the OpenAI form of several parts
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _compose(system, user, answer):
    """The reply text that DSPy's adapters parse, or plain text for a prompt that DSPy did not write."""
    _, found, listed = system.partition("Your output fields are:")
    outputs = _FIELD.findall(listed.split("All interactions will be structured")[0]) if found else []
    if not outputs:
        return answer if isinstance(answer, str) else "scripted: " + user[:200]
    inputs = dict(_VALUE.findall(user))
    values = {name: _value(name, dict(outputs), inputs) for name, _ in outputs}
    if isinstance(answer, str):
        texts = [name for name, kind in outputs if kind == "str" and name not in ("reasoning", "next_thought")]
        if texts:
            values[texts[0]] = answer
    elif answer:
        values.update((name, value) for name, value in answer.items() if name in values)
    if "Outputs will be a JSON object" in system:
        return json.dumps(values)
    marked = [f"[[ ## {name} ## ]]\n{value if isinstance(value, str) else json.dumps(value)}"
              for name, value in values.items()]
    return "\n\n".join([*marked, "[[ ## completed ## ]]"])


def _value(name, kinds, inputs):
    """A value for output `name` that depends on the inputs and nothing else; `kinds`: type per output."""
    kind = kinds[name]
    question = next((text for field, text in inputs.items() if field != "trajectory"), "")
    steps = _steps(inputs)
    if name == "reasoning":
        return "The script has one answer to this."
    if name == "next_thought":
        return "I know enough." if steps else "I may need a tool."
    if name == "next_tool_name":
        return _next_tool(kinds, question, steps)[0]
    if name == "next_tool_args":
        return _next_tool(kinds, question, steps)[1]
    if kind.startswith("Literal["):
        return ast.literal_eval(f"[{kind[len('Literal['):-1]}]")[0]
    simple = {"int": len(question), "float": len(question) / 2, "bool": len(question) % 2 == 1}
    if kind in simple:
        return simple[kind]
    if kind.startswith(("list", "List")):
        return []
    if kind.startswith(("dict", "Dict")):
        return {}
    if kind not in ("str", "Any"):
        return None  # Optional[T] in one of its spellings
    observed = [text for tool, text in steps if tool != "finish"]
    return observed[-1] if observed else f"{name} to: {question[:200]}"


def _steps(inputs):
    """(tool, observation) of each finished step of a ReAct program, in order. Its trajectory is one input
    whose text holds the same markers, so its parts stand among the inputs."""
    count = sum(1 for name in inputs if name.startswith("observation_"))
    return [(inputs.get(f"tool_name_{i}", ""), inputs.get(f"observation_{i}", "")) for i in range(count)]


def _next_tool(kinds, question, steps):
    """Sums go to a tool named `calculate` if there is one, once; everything else finishes."""
    sums = _ARITHMETIC.search(question)
    if sums and not steps and "'calculate'" in kinds.get("next_tool_name", ""):
        return "calculate", {"expression": sums.group(0).strip()}
    return "finish", {}
