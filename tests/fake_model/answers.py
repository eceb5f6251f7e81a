"""A reply in each API's wire format: one object, or the events of a stream."""

from __future__ import annotations

import time
from typing import Any

from tests.fake_model.asks import Ask
from tests.fake_model.scenario import Reply

Event = dict[str, Any] | str
Answer = dict[str, Any] | list[Event]

_INPUT_TOKENS, _OUTPUT_TOKENS = 100, 20  # reported for every answer


def answer_messages(ask: Ask, reply: Reply, *, stream: bool) -> Answer:
    """Anthropic Messages."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    if reply.tool:
        blocks.append({"type": "tool_use", "id": f"toolu_{reply.id}", "name": reply.tool, "input": reply.arguments})
    stop = "tool_use" if reply.tool else "end_turn"
    message = {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": blocks,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": _INPUT_TOKENS, "output_tokens": _OUTPUT_TOKENS},
    }
    if not stream:
        return message
    events: list[Event] = [{"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            start, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": reply.json}
        events += [
            {"type": "content_block_start", "index": index, "content_block": start},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    delta = {"stop_reason": stop, "stop_sequence": None}
    usage = {"output_tokens": _OUTPUT_TOKENS}
    return [*events, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def answer_chat(ask: Ask, reply: Reply, *, stream: bool) -> Answer:
    """OpenAI Chat Completions."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tool:
        function = {"name": reply.tool, "arguments": reply.json}
        message["tool_calls"] = [{"id": f"call_{reply.id}", "type": "function", "index": 0, "function": function}]
    stop = "tool_calls" if reply.tool else "stop"
    usage = {
        "prompt_tokens": _INPUT_TOKENS,
        "completion_tokens": _OUTPUT_TOKENS,
        "total_tokens": _INPUT_TOKENS + _OUTPUT_TOKENS,
    }
    base = {"id": f"chatcmpl-{reply.id}", "model": ask.model, "created": int(time.time())}
    if not stream:
        choices = [{"index": 0, "message": message, "finish_reason": stop}]
        return {**base, "object": "chat.completion", "usage": usage, "choices": choices}
    chunk = {**base, "object": "chat.completion.chunk"}
    return [
        {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": stop}]},
        {**chunk, "choices": [], "usage": usage},
        "[DONE]",
    ]


def answer_responses(ask: Ask, reply: Reply, *, stream: bool) -> Answer:
    """OpenAI Responses."""
    items = _response_items(ask, reply)
    response: dict[str, Any] = {
        "id": f"resp_{reply.id}",
        "object": "response",
        "model": ask.model,
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "output": items,
        "usage": {
            "input_tokens": _INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": _OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": _INPUT_TOKENS + _OUTPUT_TOKENS,
        },
    }
    if not stream:
        return response
    opening = {**response, "status": "in_progress", "output": [], "usage": None}
    events = [
        {"type": "response.created", "response": opening},
        {"type": "response.in_progress", "response": opening},
    ]
    for index, item in enumerate(items):
        events += _response_events(index, item)
    events.append({"type": "response.completed", "response": response})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _response_items(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.text:
        content = [{"type": "output_text", "text": reply.text, "annotations": []}]
        said = {"type": "message", "id": f"msg_{reply.id}", "role": "assistant", "status": "completed"}
        items.append({**said, "content": content})
    if reply.tool:
        call = {"call_id": f"call_{reply.id}", "name": reply.tool, "status": "completed"}
        if reply.tool in ask.spaces:
            call["namespace"] = ask.spaces[reply.tool]
        if isinstance(reply.arguments, str):
            items.append({"type": "custom_tool_call", "id": f"ctc_{reply.id}", "input": reply.arguments, **call})
        else:
            items.append({"type": "function_call", "id": f"fc_{reply.id}", "arguments": reply.json, **call})
    return items


def _response_events(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    at: dict[str, Any] = {"item_id": item["id"], "output_index": index}
    start = {**item, "status": "in_progress"}
    if item["type"] == "message":
        start["content"] = []
        part = item["content"][0]
        at["content_index"] = 0
        inner = [
            {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
            {"type": "response.output_text.delta", **at, "delta": part["text"]},
            {"type": "response.output_text.done", **at, "text": part["text"]},
            {"type": "response.content_part.done", **at, "part": part},
        ]
    else:
        key, kind = "arguments", "function_call_arguments"
        if "input" in item:
            key, kind = "input", "custom_tool_call_input"
        start[key] = ""
        inner = [
            {"type": f"response.{kind}.delta", **at, "delta": item[key]},
            {"type": f"response.{kind}.done", **at, key: item[key]},
        ]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": start},
        *inner,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def answer_gemini(ask: Ask, reply: Reply, *, stream: bool) -> Answer:
    """Gemini's generateContent: a stream of one chunk."""
    parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    if reply.tool:
        parts.append({"functionCall": {"name": reply.tool, "args": reply.arguments}})
    chunk = {
        "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": parts}}],
        "usageMetadata": {
            "promptTokenCount": _INPUT_TOKENS,
            "candidatesTokenCount": _OUTPUT_TOKENS,
            "totalTokenCount": _INPUT_TOKENS + _OUTPUT_TOKENS,
        },
        "modelVersion": ask.model,
        "responseId": reply.id,
    }
    return [chunk] if stream else chunk
