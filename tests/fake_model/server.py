"""A small stand-in for the model APIs that AI coding agents talk to, on loopback.

    POST /v1/messages                            Anthropic Messages
    POST /v1/responses                           OpenAI Responses
    POST /v1/chat/completions                    OpenAI Chat Completions
    POST /v1beta/models/M:streamGenerateContent  Gemini (and :generateContent)

It plays a scenario (``scenario.py``); the agent then runs its tools for real. The server keeps no conversation: the
turn to play is the number of assistant turns in the history that the agent sends, so any number of agents may use
one server at the same time. Limits: one tool call a turn, no WebSocket, no zstd, no token counting.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

from tests.fake_model import answers, asks
from tests.fake_model.scenario import Scenario, Script

_ROUTES: tuple[tuple[re.Pattern[str], Callable[[asks.Body], asks.Ask], Callable[..., answers.Answer]], ...] = (
    (re.compile(r"/messages$"), asks.read_messages, answers.answer_messages),
    (re.compile(r"/chat/completions$"), asks.read_chat, answers.answer_chat),
    (re.compile(r"/responses$"), asks.read_responses, answers.answer_responses),
    (re.compile(r":(stream)?[gG]enerateContent$"), asks.read_gemini, answers.answer_gemini),
)
_CREDENTIAL_HEADERS = ("x-api-key", "authorization", "x-goog-api-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the server remembers of a request: never the credential, only the header it came in."""

    method: str
    path: str
    status: int
    credential_header: str | None
    agent: str | None
    turn: int | None = None
    tool: str | None = None
    working_directory: str | None = None
    error: str = ""


class FakeModel:
    """A running server; a context manager.

    Args:
        script: What to play.
        key: Where given, a request without this key or token is answered 401.
    """

    def __init__(self, script: Script, *, key: str | None = None, port: int = 0) -> None:
        self.scenario = Scenario(script)
        self.key = key
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.model = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The server's base URL, without ``/v1``."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    model: FakeModel


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake-model"

    @property
    def _model(self) -> FakeModel:
        return cast("_Server", self.server).model

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class calls it so
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._note(200)
        self._send(200, {})

    def do_GET(self) -> None:
        if "upgrade" in self.headers:  # no WebSocket here: Codex then posts instead
            self._fail(426, "no websocket")
        elif not self._allowed():
            self._fail(401, "wrong or missing key")
        elif self.path.partition("?")[0].endswith("/models"):
            self._note(200)
            self._send(200, _models())
        else:
            self._fail(404, "not here")

    def do_POST(self) -> None:
        try:
            body = self._body()
        except ValueError as error:
            self.close_connection = True
            self._fail(415, str(error))
            return
        path = self.path.partition("?")[0]
        route = next((route for route in _ROUTES if route[0].search(path)), None)
        if not self._allowed():
            self._fail(401, "wrong or missing key")
        elif path.endswith(("/count_tokens", ":countTokens")):
            self._note(200)
            self._send(200, {"input_tokens": 100, "totalTokens": 100})
        elif route is None:
            self._fail(404, "not here")
        else:
            self._play(body, route[1], route[2])

    def _play(
        self, body: asks.Body, read: Callable[[asks.Body], asks.Ask], answer: Callable[..., answers.Answer]
    ) -> None:
        ask = read(body)
        reply = self._model.scenario.play(ask)
        if isinstance(reply, int):
            self._fail(reply, "scripted failure")
            return
        stream = bool(body.get("stream")) or ":stream" in self.path
        result = answer(ask, reply, stream=stream)
        self._note(200, turn=ask.turn, tool=reply.tool, working_directory=ask.working_directory)
        if isinstance(result, list):
            self._send(200, "".join(map(_event, result)), "text/event-stream")
        else:
            self._send(200, result)

    def _allowed(self) -> bool:
        if self._model.key is None:
            return True
        sent = {self.headers.get(name, "").removeprefix("Bearer ") for name in _CREDENTIAL_HEADERS}
        return self._model.key in sent

    def _body(self) -> asks.Body:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
        encoding = self.headers.get("content-encoding", "identity")
        if encoding == "gzip":
            data = gzip.decompress(data)
        elif encoding != "identity":
            raise ValueError(f"content-encoding {encoding} is not supported")
        return cast("asks.Body", json.loads(data or b"{}"))

    def _note(self, status: int, **more: Any) -> None:
        self._model.requests.append(
            Request(
                method=self.command,
                path=self.path.partition("?")[0],
                status=status,
                credential_header=next((name for name in _CREDENTIAL_HEADERS if name in self.headers), None),
                agent=self.headers.get("user-agent"),
                **more,
            )
        )

    def _send(self, status: int, body: dict[str, Any] | str, kind: str = "application/json") -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _fail(self, status: int, message: str) -> None:
        self._note(status, error=message)
        error = {"type": "api_error", "code": status, "message": message}
        self._send(status, {"type": "error", "error": error})


def _event(event: answers.Event) -> str:
    if isinstance(event, str):
        return f"data: {event}\n\n"
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n"


def _models() -> dict[str, Any]:
    data = [
        {"id": name, "name": name, "display_name": name, "object": "model", "type": "model", "created": 0}
        for name in ("fake-model", "gpt-5.4")
    ]
    return {"object": "list", "has_more": False, "models": [], "data": data}
