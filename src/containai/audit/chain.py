"""The hash chain of an event log. PURE.

Each line is canonical JSON. Its ``hash`` is the SHA-256 of the line without that field, and its
``prev`` is the ``hash`` of the line before, so that no line can be changed, removed or moved
without every later line disagreeing. The first line's ``prev`` is ``GENESIS``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from containai.record import dataclass

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first place where a log contradicts itself."""

    line: int
    reason: str


_to_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode  # made once: half the time of json.dumps


def _encode(body: Mapping[str, Any]) -> bytes:
    return _to_json(body).encode()


def link(body: Mapping[str, Any], prev: str) -> tuple[bytes, str]:
    """Return the log line (with its line feed) for ``body`` behind ``prev``, and its hash."""
    chained = {**body, "prev": prev}
    digest = hashlib.sha256(_encode(chained)).hexdigest()
    return _encode({**chained, "hash": digest}) + b"\n", digest


def find_break(lines: Iterable[bytes]) -> Break | None:
    """Check a whole log; None when every line follows from the one before.

    Trust: the lines may have been edited by anyone.
    """
    prev, seq = GENESIS, 0
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            return Break(line=number, reason="not valid JSON")
        if not isinstance(event, dict):
            return Break(line=number, reason="not a JSON object")
        seq += 1
        if event.get("seq") != seq:
            return Break(line=number, reason=f"sequence number {event.get('seq')!r}, expected {seq}")
        if event.get("prev") != prev:
            return Break(line=number, reason="does not follow the line before it")
        claimed = event.pop("hash", None)
        actual = hashlib.sha256(_encode(event)).hexdigest()
        if claimed != actual:
            return Break(line=number, reason="content does not match its hash")
        prev = actual
    return None
