"""Squid's access log, line by line, as events. PURE.

The format is ``render/squid.py``'s: ``LOG_FIELDS`` fields with one space between them, and inside a field no space,
line feed or quote can occur (Squid percent-encodes them), so no request can forge a field or a line.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from containai.render.squid import LOG_FIELDS, PAGES

_MAX_TEXT = 2048
_DENIED_MARKS = ("TCP_DENIED", "NONE_ABORTED", "TCP_REFUSED")


def parse_access(line: str) -> dict[str, Any] | None:
    """The fields of a ``network`` event; None for a line that is not of our form.

    ``bytes_in`` and ``bytes_out`` are seen from the agent: what it received and what it sent.

    Trust: host, method and URL are the agent's words.
    """
    fields = line.rstrip("\n").split(" ")
    if len(fields) != LOG_FIELDS:
        return None
    _, _, _, _, method, host, port, url, status, sent, received, _, outcome, server, error = fields
    error = unquote(error).rpartition(":")[2]  # deny_info may put a status in front
    if method == "-" and url.startswith("error:transaction-end"):
        return None  # a connection on which nothing was asked
    denied = outcome.startswith(_DENIED_MARKS) or error in PAGES or error == "ERR_ACCESS_DENIED"
    event: dict[str, Any] = {
        "method": _text(method),
        "host": _text(host).strip("[]").lower(),
        "port": _number(port),
        "url": _text(url),
        "status": _number(status),
        "verdict": "deny" if denied else "allow",
        "bytes_in": _number(sent),
        "bytes_out": _number(received),
    }
    if error not in ("", "-"):
        event["reason"] = PAGES.get(error, error)
    if server not in ("", "-"):
        event["address"] = _text(server)
    return event


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _text(field: str) -> str:
    """A field as it was sent; what is not text stays encoded."""
    if field == "-":
        return ""
    try:
        decoded = unquote(field, errors="strict")
    except UnicodeDecodeError:
        decoded = field
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in decoded)
    return shown[:_MAX_TEXT]
