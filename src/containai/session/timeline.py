"""The event log of a session, read and judged: whether it is as it was written, and whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from containai.audit.chain import Break, Chain, parse_event
from containai.audit.reading import broken_log, open_log, read_lines
from containai.errors import AuditError
from containai.session.record import Phase
from containai.session.state import SessionDir

_POLL_S = 0.2


class LogReader:
    """Reads the log of a session. ``problem``: the first thing in it that is not as it was written."""

    def __init__(self, session: SessionDir) -> None:
        self.problem: AuditError | None = None
        self._session = session
        self._chain = Chain(session.id)
        self._number = 0
        self._ended = False

    def events(self, follow: bool) -> Iterator[dict[str, Any]]:
        """The events. What follows on a fault is shown too, and proves nothing."""
        with open_log(self._session.events_path) as log:
            pending = b""
            while True:
                live = follow and self._session.is_live  # asked first: what it wrote before its end is then read
                for line in read_lines(log):
                    pending += line
                    if pending.endswith(b"\n"):
                        yield from self._event(pending)
                        pending = b""
                if not live:
                    break
                time.sleep(_POLL_S)
        self._end(pending)

    def _event(self, line: bytes) -> Iterator[dict[str, Any]]:
        self._number += 1
        if self.problem is None and (fault := self._chain.find_fault(line)):
            self._complain(fault)
        try:
            event = parse_event(line)
        except ValueError:
            return
        self._ended = self._ended or event.get("event") == "session-end"
        if self._number == 1 and event.get("event") != "session-config":
            self._complain("a log begins with the session's configuration")
        yield event

    def _end(self, pending: bytes) -> None:
        """A session that has ended has said so last; what recover has not seen yet may break off anywhere."""
        if self._session.read().phase is Phase.ENDED and not self._ended:
            self._number += 1
            self._complain("cut short" if pending else "the log breaks off here, before the session's end")

    def _complain(self, reason: str) -> None:
        if self.problem is None:
            self.problem = broken_log(self._session.events_path, Break(line=self._number, reason=reason))


def find_problem(session: SessionDir) -> AuditError | None:
    """What is wrong with a session's log; None where every line of it is as it was written. Reads all of it."""
    reader = LogReader(session)
    try:
        for _ in reader.events(follow=False):
            pass
    except AuditError as error:
        return error
    except OSError as error:
        path = session.events_path
        return AuditError("the event log cannot be read", details=f"{path}: {error}", remedy=[f"ls -ld {path}"])
    return reader.problem
