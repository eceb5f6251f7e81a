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
_MOST_SHOWN = 80


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


class Chain:
    """Follows a log, line by line. ``seq`` and ``prev`` are number and hash of the last line that was right.

    Args:
        session: Whose events these have to be; None where that is not known.
    """

    def __init__(self, session: str | None = None) -> None:
        self.seq, self.prev = 0, GENESIS
        self._session = session

    def find_fault(self, line: bytes) -> str:
        """What is wrong with the next line; empty when it follows from the one before.

        Trust: it may have been edited by anyone.
        """
        try:
            event = parse_event(line)
        except ValueError as error:
            return str(error)
        if event.get("seq") != self.seq + 1:
            return f"sequence number {_cut(event.get('seq'))}, expected {self.seq + 1}"
        if event.get("prev") != self.prev:
            return "does not follow the line before it"
        claimed = event.pop("hash", None)
        actual = hashlib.sha256(_encode(event)).hexdigest()
        if claimed != actual:
            return "content does not match its hash"
        if self._session is not None and event.get("session") != self._session:
            return f"an event of session {_cut(event.get('session'))}"
        self.seq, self.prev = self.seq + 1, actual
        return ""


def parse_event(line: bytes) -> dict[str, Any]:
    """One line of a log, whatever is in it.

    Raises:
        ValueError: It is no event; the message says why.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not valid JSON") from None
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")
    return event


def find_break(lines: Iterable[bytes], session: str | None = None) -> Break | None:
    """Check a whole log; None when every line follows from the one before.

    Args:
        lines: All of them.
        session: Whose events these have to be; None where that is not known.

    Trust: the lines may have been edited by anyone.
    """
    chain = Chain(session)
    for number, line in enumerate(lines, 1):
        if fault := chain.find_fault(line):
            return Break(line=number, reason=fault)
    return None


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
