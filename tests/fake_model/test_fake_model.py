"""The stand-in model plays its script in every wire format, and shows a credential that is missing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake_model.scenario import sample
from tests.fake_model.server import FakeModel

KEY = "a-key"
SCRIPT: dict[str, list[dict[str, Any]]] = {
    "the marker": [{"text": "Now.", "shell": "echo hi"}, {"write": {"path": "a.txt", "content": "x\n"}}],
    "flaky": [{"fail": 529, "times": 2}, {"text": "At last."}],
}
COMMAND = {
    "type": "object",
    "properties": {"command": {"type": "string"}, "why": {"type": "string"}},
    "required": ["why"],
}


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with FakeModel(SCRIPT, key=KEY) as running:
        yield running


def post(model: FakeModel, path: str, body: dict[str, Any], *, key: str = KEY) -> tuple[int, str]:
    request = urllib.request.Request(model.url + path, json.dumps(body).encode(), {"x-api-key": key})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def messages(*said: tuple[str, str], tools: bool = True) -> dict[str, Any]:
    return {
        "messages": [{"role": role, "content": text} for role, text in said],
        "tools": [{"name": "Bash", "input_schema": COMMAND}] if tools else [],
    }


def test_anthropic_s_shell_tool_is_called_with_its_own_arguments(model: FakeModel) -> None:
    status, text = post(model, "/v1/messages", messages(("user", "here is the marker")))
    call = json.loads(text)["content"][1]
    assert status == 200
    assert (call["name"], call["input"]) == ("Bash", {"command": "echo hi", "why": "scripted"})


def test_the_turn_is_the_number_of_answers_so_far(model: FakeModel) -> None:
    said = [("user", "the marker"), ("assistant", "one"), ("user", "two"), ("assistant", "three"), ("user", "four")]
    _, text = post(model, "/v1/messages", messages(*said))
    assert json.loads(text)["content"] == [{"type": "text", "text": "Done."}]


def test_another_prompt_plays_nothing(model: FakeModel) -> None:
    _, text = post(model, "/v1/messages", messages(("user", "hello")))
    assert json.loads(text)["stop_reason"] == "end_turn"


def test_a_request_without_tools_plays_no_turn(model: FakeModel) -> None:
    _, text = post(model, "/v1/messages", messages(("user", "the marker"), tools=False))
    assert json.loads(text)["content"] == [{"type": "text", "text": "Scripted"}]


def test_a_stream_says_the_same(model: FakeModel) -> None:
    _, text = post(model, "/v1/messages", {**messages(("user", "the marker")), "stream": True})
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events][:1] == ["message_start"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert json.loads(deltas[1]["partial_json"])["command"] == "echo hi"


def test_chat_completions(model: FakeModel) -> None:
    tool = {"type": "function", "function": {"name": "bash", "parameters": COMMAND}}
    body = {"messages": [{"role": "user", "content": "the marker"}], "tools": [tool]}
    call = json.loads(post(model, "/v1/chat/completions", body)[1])["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"])["command"] == "echo hi"


def test_responses_in_code_mode_call_from_javascript(model: FakeModel) -> None:
    described = "declare const tools: { exec_command(args: {\n  cmd: string;\n}) }"
    tool = {"type": "custom", "name": "exec", "description": described}
    body = {"input": [{"role": "user", "content": "the marker"}], "tools": [tool]}
    item = json.loads(post(model, "/v1/responses", body)[1])["output"][1]
    assert item["name"] == "exec"
    assert '"exec_command"' in item["input"]
    assert '{"cmd": "echo hi"}' in item["input"]


def test_gemini_writes_below_the_directory_that_it_names(model: FakeModel) -> None:
    write = {"name": "write_file", "parametersJsonSchema": {"properties": {"file_path": {}, "content": {}}}}
    said = [
        {"role": "user", "parts": [{"text": "the marker\nCurrent working directory: /workspace\n"}]},
        {"role": "model", "parts": [{"text": "one"}]},
    ]
    body = {"contents": said, "tools": [{"functionDeclarations": [write]}]}
    parts = json.loads(post(model, "/v1beta/models/m:generateContent", body)[1])["candidates"][0]["content"]["parts"]
    assert parts[0]["functionCall"]["args"] == {"file_path": "/workspace/a.txt", "content": "x\n"}


def test_a_scripted_failure_happens_as_often_as_it_says(model: FakeModel) -> None:
    said = messages(("user", "flaky"))
    assert [post(model, "/v1/messages", said)[0] for _ in range(3)] == [529, 529, 200]


def test_a_wrong_key_is_refused_and_never_remembered(model: FakeModel) -> None:
    assert post(model, "/v1/messages", messages(("user", "the marker")), key="wrong-key")[0] == 401
    seen = model.requests[-1]
    assert (seen.status, seen.credential_header) == (401, "x-api-key")
    assert "wrong-key" not in repr(model.requests)


def test_an_unknown_path_is_not_found(model: FakeModel) -> None:
    assert post(model, "/v1/surprise", {})[0] == 404


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ({"anyOf": [{"enum": ["x", "y"]}]}, "x"),
        ({"type": ["boolean", "null"]}, False),
        ({"const": 3}, 3),
        (None, ""),
    ],
)
def test_a_sample_fits_its_schema(schema: Any, value: Any) -> None:
    assert sample(schema) == value
