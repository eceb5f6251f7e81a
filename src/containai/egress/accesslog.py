"""Squid's access log, line by line, as events. PURE.

The format is ``render/squid.py``'s: ``LOG_FIELDS`` fields with one space between them, and inside a field no space,
line feed or quote can occur (Squid percent-encodes them), so no request can forge a field or a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from containai.record import dataclass
from containai.render.squid import LOG_FIELDS, PAGES, ProxyKey

MAX_LINE = 16 * 1024  # above the sum of the format's own limits
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", re.IGNORECASE)

# What Squid refuses by itself, in words. Source: squid's src/error/forward.h.
_SQUIDS_REASONS: Mapping[str, str] = {
    "ERR_ACCESS_DENIED": "the request is refused",
    "ERR_CONFLICT_HOST": "the Host field and the URL name different hosts",
    "ERR_TOO_BIG": "the request is too large",
    "ERR_CLIENT_GONE": "the request was not finished",
    "ERR_REQUEST_START_TIMEOUT": "the request was not finished",
    "ERR_REQUEST_PARSE_TIMEOUT": "the request was not finished",
}
# Failures of requests that were allowed. Every other request that did not leave this machine counts as refused.
_FAILURES = frozenset(
    {
        "ERR_DNS_FAIL", "ERR_CONNECT_FAIL", "ERR_CANNOT_FORWARD", "ERR_READ_TIMEOUT", "ERR_READ_ERROR",
        "ERR_WRITE_ERROR", "ERR_ZERO_SIZE_OBJECT", "ERR_INVALID_RESP", "ERR_LIFETIME_EXP", "ERR_SOCKET_FAILURE",
        "ERR_SHUTTING_DOWN",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One request.

    Attributes:
        connection: The relay's number of the connection; 0 for anybody else's.
        genuine: Whether it came with the session's key. Where not, another program of this machine tried the proxy.
        fields: Those of a ``network`` event.
    """

    connection: int
    genuine: bool
    fields: Mapping[str, Any]


def parse_access(line: bytes, key: ProxyKey) -> Access | None:
    """Read one line without its line feed; None where nothing was asked.

    ``bytes_in`` and ``bytes_out`` are seen from the agent: what it received and what it sent.

    Trust: host, method and URL are the client's words.

    Raises:
        ValueError: The line is not of our form.
    """
    raw = line.split(b" ")
    if len(raw) != LOG_FIELDS or len(line) > MAX_LINE:
        raise ValueError("not a line of the access log")
    source, number, destination, key_port, *request = (_text(field) for field in raw)
    method, host, port, url, status, sent, received, took, outcome, server, error = request
    genuine = (source, destination, key_port) == (key.source, key.destination, str(key.port))
    if not method and _number(received) == 0:
        return None  # a connection that was closed again
    verdict, why = _judge(genuine=genuine, outcome=outcome, error=error.rpartition(":")[2])  # 503:CONTAINAI_UNRESOLVED
    fields: dict[str, Any] = {
        "method": method,
        "host": host.strip("[]").lower(),
        "port": _number(port),
        "url": _USERINFO.sub(r"\1***@", url),  # credentials do not belong in a log (C2)
        "status": _number(status),
        "verdict": verdict,
        "bytes_in": _number(sent),
        "bytes_out": _number(received),
        "duration_ms": _number(took),
    }
    if why:
        fields["reason" if verdict == "deny" else "error"] = why
    if server:
        fields["address"] = server
    return Access(connection=_number(number) if genuine else 0, genuine=genuine, fields=fields)


def _judge(*, genuine: bool, outcome: str, error: str) -> tuple[str, str]:
    tag, _, route = outcome.partition("/")
    if not genuine:
        return "deny", "it did not come from the session's relay"
    if error in PAGES:
        return "deny", PAGES[error]
    if "DENIED" in tag or (route == "HIER_NONE" and error not in _FAILURES):
        return "deny", _SQUIDS_REASONS.get(error, "the request is not valid HTTP for a proxy")
    return "allow", error


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _text(field: bytes) -> str:
    """A field as it was sent; what is not printable text is shown escaped."""
    if field == b"-":
        return ""
    decoded = unquote_to_bytes(field).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in decoded)
