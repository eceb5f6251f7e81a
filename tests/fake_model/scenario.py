"""From a scripted scenario to the reply for a request.

A scenario is a list of turns, or an object that maps a piece of the user's prompt to such a list ("" is the list for
any other prompt). A turn has one of these, and may have "text" and "delay" (seconds) beside it:

    {"text": "All done."}                         say this; alone, it ends the run
    {"shell": "make test"}                        the agent's own shell tool
    {"write": {"path": "a.txt", "content": "x"}}  the agent's own file-writing tool
    {"tool": "echo", "input": {"message": "x"}}   any tool by its name, or by the end of it (MCP tools)
    {"fail": 529, "times": 2}                     first answer with this HTTP status so often

After the last turn the answer is "Done.", which ends the run. A request that offers no tools (a title, a summary)
is answered aside and plays no turn.
"""

from __future__ import annotations

import base64
import json
import shlex
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fake_model.asks import Ask, Schema

Turn = Mapping[str, Any]
Script = Sequence[Turn] | Mapping[str, Sequence[Turn]]

SHELL_TOOLS = ("Bash", "bash", "exec_command", "shell_command", "shell", "local_shell", "run_shell_command")
WRITE_TOOLS = ("Write", "write", "create", "write_file", "apply_patch")
_COMMAND_KEYS = ("command", "cmd")
_PATH_KEYS = ("file_path", "filePath", "path")
_CONTENT_KEYS = ("content", "file_text", "contents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer: a text, a tool call, or both. Free-form tools take a string as arguments."""

    text: str = ""
    tool: str | None = None
    arguments: dict[str, Any] | str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:20])

    @property
    def json(self) -> str:
        """The arguments as JSON."""
        return json.dumps(self.arguments)


class Scenario:
    """A script, and how often its failures have been played. Threads share it."""

    def __init__(self, script: Script) -> None:
        self._scripts = script if isinstance(script, Mapping) else {"": script}
        self._failed: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()

    def play(self, ask: Ask) -> Reply | int:
        """The reply for this request, or an HTTP status to fail with."""
        if not ask.tools:
            return Reply(text=json.dumps(sample(ask.answer_schema)) if ask.answer_schema else "Scripted")
        key = next((key for key in self._scripts if key and key in ask.prompt), "")
        turns = self._scripts.get(key, ())
        speaking = [index for index, turn in enumerate(turns) if "fail" not in turn]
        if ask.turn >= len(speaking):
            return Reply(text="Done.")
        now = speaking[ask.turn]
        before = speaking[ask.turn - 1] + 1 if ask.turn else 0
        for index in range(before, now):
            if self._fails(key, index, turns[index].get("times", 1)):
                return int(turns[index]["fail"])
        time.sleep(turns[now].get("delay", 0))
        return reply_to(turns[now], ask)

    def _fails(self, key: str, index: int, times: int) -> bool:
        with self._lock:
            self._failed[key, index] = self._failed.get((key, index), 0) + 1
            return self._failed[key, index] <= times


def reply_to(turn: Turn, ask: Ask) -> Reply:
    """One turn in the words of the agent that asks."""
    if "shell" in turn:
        reply = _shell_call(ask, turn["shell"])
    elif "write" in turn:
        reply = _write_call(ask, turn["write"]["path"], turn["write"]["content"])
    elif "tool" in turn:
        reply = _tool_call(ask, turn["tool"], turn.get("input", {}))
    else:
        reply = Reply()
    reply = replace(reply, text=turn.get("text", reply.text))
    if ask.nested and reply.tool and (reply.tool in ask.nested or reply.tool not in ask.tools):
        return _from_javascript(reply)
    return reply


def sample(schema: Any) -> Any:
    """Some value that a JSON schema accepts."""
    if not isinstance(schema, dict):
        return ""
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return sample(schema[key][0])
    kind = schema.get("type", "string")
    kind = str(kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        properties = schema.get("properties", {})
        return {key: sample(properties.get(key)) for key in schema.get("required", [])}
    plain = {"array": [], "integer": 1, "number": 1, "boolean": False, "null": None}
    return plain.get(kind, "scripted")


def _filled(schema: Schema, *pairs: tuple[tuple[str, ...], Any]) -> dict[str, Any]:
    """Arguments for a tool: the given ones, under the names that it has, and samples for all others required."""
    arguments: dict[str, Any] = sample({**schema, "type": "object"})
    properties = schema.get("properties", {})
    for keys, value in pairs:
        key = next((key for key in keys if key in properties), keys[0])
        as_list = key == "command" and properties.get(key, {}).get("type") == "array"
        arguments[key] = ["sh", "-c", value] if as_list else value
    return arguments


def _shell_call(ask: Ask, command: str) -> Reply:
    name = next((name for name in SHELL_TOOLS if name in ask.tools), None)
    if name is None:
        return Reply(text="This agent offers no shell tool; it offers: " + ", ".join(sorted(ask.tools)))
    return Reply(tool=name, arguments=_filled(ask.tools[name] or {}, (_COMMAND_KEYS, command)))


def _write_call(ask: Ask, path: str, content: str) -> Reply:
    if ask.working_directory and not path.startswith("/"):
        path = f"{ask.working_directory.rstrip('/')}/{path}"
    name = next((name for name in WRITE_TOOLS if name in ask.tools), None)
    if name is None:  # as Codex without its patch tool: write from the shell
        data = base64.b64encode(content.encode()).decode()
        return _shell_call(ask, f"printf %s {data} | base64 -d > {shlex.quote(path)}")
    schema = ask.tools[name]
    if name != "apply_patch":
        return Reply(tool=name, arguments=_filled(schema or {}, (_PATH_KEYS, path), (_CONTENT_KEYS, content)))
    lines = "".join(f"+{line}\n" for line in content.splitlines())
    patch = f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"
    return Reply(tool=name, arguments=patch if schema is None else _filled(schema, (("input", "patch"), patch)))


def _tool_call(ask: Ask, wanted: str, arguments: dict[str, Any]) -> Reply:
    names = sorted(ask.tools, key=lambda name: (name != wanted, len(name)))
    name = next((name for name in names if name.endswith(wanted)), wanted)
    return Reply(tool=name, arguments=arguments)


def _from_javascript(reply: Reply) -> Reply:
    """The same call made in Codex's code mode, where "exec" runs JavaScript."""
    code = (
        f"const name = {json.dumps(reply.tool)};\n"
        "const tool = ALL_TOOLS.find(t => t.name === name) ??\n"
        "  ALL_TOOLS.find(t => t.name.endsWith(name));\n"
        f"text(await tools[tool.name]({reply.json}));"
    )
    return Reply(text=reply.text, tool="exec", arguments=code)
