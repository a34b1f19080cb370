"""What a program is, as JSON: checked when it is created, so that it builds on any worker later.

A definition is data that callers send. Nothing in it is evaluated or imported: types come from a
closed list, tools are names. DSPy is not needed here.
"""

import ast
import hashlib
import json
import keyword

from keelback.apps.dspy import tools as toolbox

KINDS = ("predict", "chain_of_thought", "react")
FIELDS_MAX = 32
DEMOS_MAX = 32
TOOLS_MAX = 16
ITERATIONS_MAX = 20
DEFINITION_MAX = 64 * 1024  # bytes of JSON
_NAME_MAX = 64
_TYPE_MAX = 1000
_SCALARS = ("str", "int", "float", "bool", "Any")
_TAKEN = {
    "predict": (),
    "chain_of_thought": ("reasoning",),
    "react": ("reasoning", "trajectory", "next_thought", "next_tool_name", "next_tool_args", "max_iters"),
}


class BadDefinition(ValueError):
    """A program cannot be made of this; the message names the part that is wrong."""


def normalise(signature, kind="predict", instructions=None, tools=None, demos=None, max_iters=None):
    """The definition as a JSON object in canonical form. Raises BadDefinition.

    `signature` is a string, "question: str, context: list[str] -> answer", or an object
    {"inputs": [field…], "outputs": [field…]} whose fields are names or {"name", "type", "description"}.
    """
    if kind not in KINDS:
        raise BadDefinition(f"kind: one of {', '.join(KINDS)}, not {kind!r}")
    inputs, outputs = _fields(signature)
    for field in inputs + outputs:
        if field["name"] in _TAKEN[kind]:
            raise BadDefinition(f"signature: a {kind} program has a field {field['name']!r} of its own")
    if instructions is not None and not isinstance(instructions, str):
        raise BadDefinition("instructions: a string")
    definition = {
        "kind": kind, "inputs": inputs, "outputs": outputs, "instructions": instructions or None,
        "tools": _tool_names(kind, tools), "demos": _demos(demos, inputs, outputs),
        "max_iters": _max_iters(kind, max_iters),
    }
    try:
        size = len(json.dumps(definition, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise BadDefinition(f"not JSON: {error}") from None
    if size > DEFINITION_MAX:
        raise BadDefinition(f"the definition takes {size} bytes; {DEFINITION_MAX} is the most")
    return definition


def digest(definition):
    """Two definitions with one digest behave alike, whoever made them."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def signature_text(definition):
    """The signature in DSPy's string form, for people."""
    sides = [", ".join(f"{field['name']}: {field['type']}" for field in definition[side])
             for side in ("inputs", "outputs")]
    return " -> ".join(sides)


def _fields(signature):
    if isinstance(signature, str):
        sides = signature.split("->")
        if len(sides) != 2:
            raise BadDefinition(f"signature: 'inputs -> outputs' with one '->', not {signature!r}")
        inputs, outputs = [[_text_field(part) for part in _split(side)] for side in sides]
    elif isinstance(signature, dict) and set(signature) == {"inputs", "outputs"}:
        inputs, outputs = [[_object_field(part) for part in _listed(signature[side], side)]
                           for side in ("inputs", "outputs")]
    else:
        raise BadDefinition("signature: a string such as 'question -> answer', or {\"inputs\": […], \"outputs\": […]}")
    names = [field["name"] for field in inputs + outputs]
    if not inputs or not outputs or len(names) > FIELDS_MAX:
        raise BadDefinition(f"signature: at least one input and one output, at most {FIELDS_MAX} fields")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadDefinition(f"signature: {', '.join(twice)} stands there twice")
    return inputs, outputs


def _split(side):
    """Splits at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(side):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            parts.append(side[start:at])
            start = at + 1
    return [part for part in [*parts, side[start:]] if part.strip()]


def _listed(value, where):
    if not isinstance(value, list):
        raise BadDefinition(f"signature.{where}: a list")
    return value


def _text_field(text):
    name, _, kind = text.partition(":")
    return _field(name.strip(), kind.strip() or "str", "")


def _object_field(part):
    if isinstance(part, str):
        return _field(part, "str", "")
    if not isinstance(part, dict) or not set(part) <= {"name", "type", "description"}:
        raise BadDefinition(f"signature: a field is a name or {{name, type, description}}, not {part!r}")
    return _field(part.get("name"), part.get("type", "str"), part.get("description", ""))


def _field(name, kind, description):
    if (not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_")
            or len(name) > _NAME_MAX):
        raise BadDefinition(f"signature: {name!r} cannot name a field")
    if not isinstance(description, str):
        raise BadDefinition(f"signature: the description of {name!r} is not a string")
    return {"name": name, "type": _type(kind, name), "description": description}


def canonical_type(text):
    """The one spelling of a type from the closed list; None if `text` is not one."""
    if not isinstance(text, str) or len(text) > _TYPE_MAX:
        return None
    try:
        return ast.unparse(_checked(ast.parse(text, mode="eval").body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _type(text, field):
    canonical = canonical_type(text)
    if canonical is None:
        raise BadDefinition(
            f"signature: {field!r} has the type {text!r}; known are {', '.join(_SCALARS)}, list[T], dict[str, T], "
            "Optional[T] and Literal[...] of strings and whole numbers"
        )
    return canonical


def _checked(node):
    if isinstance(node, ast.Name) and node.id in _SCALARS + ("list", "dict"):
        return node
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        outer = node.value.id
        if outer == "Literal" and all(
                isinstance(a, ast.Constant) and type(a.value) in (str, int, bool) for a in arguments):
            return node
        if outer in ("list", "Optional") and len(arguments) == 1:
            _checked(arguments[0])
            return node
        if outer == "dict" and len(arguments) == 2 and getattr(arguments[0], "id", "") == "str":
            _checked(arguments[1])
            return node
    raise ValueError


def _tool_names(kind, tools):
    tools = [] if tools is None else tools
    if kind != "react":
        if tools:
            raise BadDefinition(f"tools: only react programs have tools, not {kind}")
        return []
    if not isinstance(tools, list) or len(tools) > TOOLS_MAX or len(set(map(str, tools))) != len(tools):
        raise BadDefinition(f"tools: a list of at most {TOOLS_MAX} different names")
    for name in tools:
        if not isinstance(name, str) or toolbox.find(name) is None:
            raise BadDefinition(f"tools: there is no {name!r}; there are {', '.join(toolbox.names())}")
    return list(tools)


def _demos(demos, inputs, outputs):
    demos = [] if demos is None else demos
    if not isinstance(demos, list) or len(demos) > DEMOS_MAX:
        raise BadDefinition(f"demos: a list of at most {DEMOS_MAX} examples")
    names = {field["name"] for field in inputs + outputs}
    for index, demo in enumerate(demos):
        if not isinstance(demo, dict) or set(demo) != names:
            raise BadDefinition(f"demos[{index}]: an object with exactly the fields {', '.join(sorted(names))}")
    return demos


def _max_iters(kind, max_iters):
    if max_iters is None:
        return 5 if kind == "react" else None
    if kind != "react" or isinstance(max_iters, bool) or not isinstance(max_iters, int) or not (
            1 <= max_iters <= ITERATIONS_MAX):
        raise BadDefinition(f"max_iters: from 1 to {ITERATIONS_MAX}, for react programs")
    return max_iters
