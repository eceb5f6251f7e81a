"""One question to a daemon behind a Unix socket, and its whole answer: HTTP/1.0, whose answers end with the connection.

Docker's own client and the standard library's can do more, and cost every launch the time to load them.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

_CHUNK = 65536
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")


class Answer(NamedTuple):
    """What the daemon said; ``body`` is whole where its length was told."""

    status: int
    body: bytes


def ask(path: str, method: str, target: str, body: bytes = b"", *, timeout_s: float) -> Answer:
    """Ask, and wait for the whole answer.

    Args:
        path: The socket.
        target: Path and query, quoted.
        body: JSON, or nothing.
        timeout_s: How long the daemon may say nothing.

    Raises:
        OSError: It cannot be asked, does not answer in time, or says something that is no whole answer.
    """
    head = [f"{method} {target} HTTP/1.0", "Host: localhost", "User-Agent: containai", f"Content-Length: {len(body)}"]
    if body:
        head.append("Content-Type: application/json")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        connection.sendall("\r\n".join((*head, "", "")).encode() + body)
        return parse_answer(b"".join(iter(lambda: connection.recv(_CHUNK), b"")))


def parse_answer(received: bytes) -> Answer:
    """The answer in all that came until the connection's end.

    Raises:
        ConnectionError: It is none, or has been cut off.
    """
    head, ended, body = received.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    version, _, status = first.partition(b" ")
    number = status[:3]
    if version not in _VERSIONS or len(number) < 3 or not number.isdigit() or not ended:
        raise ConnectionError("no answer in HTTP")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if b"transfer-encoding" in fields:
        raise ConnectionError("an answer in pieces, which was not asked for")
    length = fields.get(b"content-length")
    if length is not None and length != b"%d" % len(body):
        raise ConnectionError("the answer was cut off")
    return Answer(int(number), body)
