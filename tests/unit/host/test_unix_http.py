"""Questions to a daemon behind a Unix socket: what goes over it, and which answers count."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containai.host.unix_http import Answer, ask, parse_answer

pytestmark = [pytest.mark.user, pytest.mark.timeout(30)]


class Daemon:
    """Says one thing to whoever asks, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.says = b""
        self.stays = False
        self.heard: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(10)
            heard = b""
            while b"\r\n\r\n" not in heard or not heard.endswith((b"\r\n\r\n", b"}")):
                heard += connection.recv(65536)
            self.heard.append(heard)
            connection.sendall(self.says)
            if self.stays:
                self._over.wait(20)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "daemon.sock")
    yield made
    made.close()


def test_a_question_goes_whole_and_its_answer_comes_whole(daemon: Daemon) -> None:
    body = b'{"A":"' + b"a" * 200_000 + b'"}'
    daemon.says = b"HTTP/1.0 201 Created\r\nContent-Type: application/json\r\n\r\n" + body
    assert ask(daemon.path, "POST", "/v1.44/make?name=x", body, timeout_s=10) == Answer(201, body)
    head, _, content = daemon.heard[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1.44/make?name=x HTTP/1.0"  # whose answers end with the connection
    assert b"Content-Length: %d" % len(body) in lines
    assert content == body


def test_a_daemon_that_says_nothing_is_not_waited_for_without_end(daemon: Daemon) -> None:
    daemon.says, daemon.stays = b"HTTP/1.0 200 OK\r\n", True
    with pytest.raises(TimeoutError):
        ask(daemon.path, "GET", "/", timeout_s=0.2)


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(str(tmp_path / "no.sock"), "GET", "/", timeout_s=1)


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n{}", Answer(200, b"{}")),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Answer(204, b"")),
        (b"HTTP/1.1 304\r\n\r\n", Answer(304, b"")),
        (b"HTTP/1.0 200 OK\r\ncontent-LENGTH : 7\r\n\r\n{\r\n\r\n}\n", Answer(200, b"{\r\n\r\n}\n")),
    ],
)
def test_answers(received: bytes, answer: Answer) -> None:
    assert parse_answer(received) == answer


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n{}",
        b"HTTP/1.0 20 OK\r\n\r\n{}",
        b"HTTP/1.0 \xb2\xb2\xb2 OK\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
)
def test_what_is_no_whole_answer(received: bytes) -> None:
    with pytest.raises(ConnectionError):
        parse_answer(received)
