"""What agents ask of a model API, read from its four wire formats into one form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
Schema = dict[str, Any]

# Where an agent tells the model which directory it works in.
_WORKING_DIRECTORY = re.compile(
    r"(?:[Ww]orking directory:|<cwd>|working in the directory:|Workspace Directories:\*\*\n\s+-|"
    r"Current working directory:)[\s`*]*(/[^\s<\"`\\]*)"
)
# Codex's "code mode" describes the tools that its JavaScript may call in TypeScript.
_NESTED_TOOL = re.compile(r"declare const tools: \{ (\w+)\((?:input: string|args: \{(.*?)\n\})\)", re.DOTALL)
_NESTED_ARGUMENT = re.compile(r"^  (\w+)\??:", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Ask:
    """One request for the next step of a conversation.

    Attributes:
        tools: Offered tools, as name to JSON schema; None for one that takes free text.
        prompt: Every text of the user's side, joined.
        turn: Turns that the assistant has had so far.
        spaces: Tools whose call must name a namespace (Codex).
        nested: Tools to be called from JavaScript (Codex's code mode).
        answer_schema: JSON schema of the answer, where one is asked for.
    """

    tools: dict[str, Schema | None]
    prompt: str
    turn: int
    model: str
    working_directory: str | None
    spaces: dict[str, str] = field(default_factory=dict)
    nested: dict[str, Schema | None] = field(default_factory=dict)
    answer_schema: Schema | None = None


def flatten(node: Any) -> str:
    """Every string in a JSON value, joined by line ends."""
    if isinstance(node, str):
        return node
    if isinstance(node, dict):
        return flatten(list(node.values()))
    if isinstance(node, list):
        return "\n".join(filter(None, map(flatten, node)))
    return ""


def read_messages(body: Body) -> Ask:
    """Anthropic Messages."""
    said = body.get("messages", [])
    tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools") or [] if "input_schema" in tool}
    return _ask(body, tools, said, _count(said, "assistant"), _at(body, "output_config", "format", "schema"))


def read_chat(body: Body) -> Ask:
    """OpenAI Chat Completions."""
    said = body.get("messages", [])
    tools = {
        tool["function"]["name"]: tool["function"].get("parameters", {})
        for tool in body.get("tools") or []
        if "function" in tool
    }
    return _ask(body, tools, said, _count(said, "assistant"), _at(body, "response_format", "json_schema", "schema"))


def read_gemini(body: Body) -> Ask:
    """Gemini's generateContent."""
    said = body.get("contents") or []
    tools = {
        function["name"]: function.get("parametersJsonSchema") or function.get("parameters") or {}
        for tool in body.get("tools") or []
        for function in tool.get("functionDeclarations") or []
    }
    options = body.get("generationConfig") or {}
    schema = options.get("responseJsonSchema") or options.get("responseSchema")
    return _ask(body, tools, said, _count(said, "model"), schema)


def read_responses(body: Body) -> Ask:
    """OpenAI Responses, with Codex's namespaces and code mode."""
    items = body.get("input") or []
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    offered = list(body.get("tools") or [])
    for item in items:
        if item.get("type") == "additional_tools":
            offered += item["tools"]
    tools: dict[str, Schema | None] = {}
    nested: dict[str, Schema | None] = {}
    spaces: dict[str, str] = {}
    for space, tool in _each_tool(offered):
        if space not in ("", "functions"):
            spaces[tool["name"]] = space
        if tool["type"] == "function":
            tools[tool["name"]] = tool.get("parameters") or {}
        elif tool["type"] == "custom":
            tools[tool["name"]] = None
            nested |= _nested_tools(tool["description"])
    schema = _at(body, "text", "format", "schema")
    ask = _ask(body, {**nested, **tools}, items, _responses_turn(items), schema)
    ask.nested, ask.spaces = nested, spaces
    return ask


def _ask(body: Body, tools: dict[str, Schema | None], said: Iterable[Body], turn: int, schema: Schema | None) -> Ask:
    found = _WORKING_DIRECTORY.findall(flatten(body))
    return Ask(
        tools=tools,
        prompt="\n".join(
            flatten(message.get("content") or message.get("parts") or "")
            for message in said
            if message.get("role") == "user"
        ),
        turn=turn,
        model=body.get("model", "fake-model"),
        working_directory=found[-1] if found else None,
        answer_schema=schema,
    )


def _count(said: Iterable[Body], role: str) -> int:
    return sum(message.get("role") == role for message in said)


def _at(body: Body, *keys: str) -> Any:
    node: Any = body
    for key in keys:
        node = (node or {}).get(key)
    return node


def _each_tool(offered: Iterable[Body]) -> Iterable[tuple[str, Body]]:
    for tool in offered:
        if tool["type"] == "namespace":
            yield from ((tool["name"], inner) for inner in tool["tools"])
        else:
            yield "", tool


def _nested_tools(description: str) -> dict[str, Schema | None]:
    return {
        name: {"properties": {key: {} for key in _NESTED_ARGUMENT.findall(arguments)}} if arguments else None
        for name, arguments in _NESTED_TOOL.findall(description)
    }


def _responses_turn(items: Iterable[Body]) -> int:
    """Turns so far: a call, with any text said before it, or a text that the user answered."""
    turn, spoke = 0, False
    for item in items:
        if item.get("type", "").endswith("_call"):
            turn, spoke = turn + 1, False
        elif item.get("role") == "assistant":
            spoke = True
        elif item.get("role") == "user":
            turn, spoke = turn + spoke, False
    return turn + spoke
