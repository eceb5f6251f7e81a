"""The event log when the kernel takes less than a whole line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from containai.audit.chain import find_break
from containai.audit.writer import EventLog, Kind
from containai.errors import AuditError

pytestmark = pytest.mark.user


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    made = EventLog(tmp_path / "events.jsonl", "0123456789ab")
    made.append(Kind.SESSION, "first")
    return made


def test_a_write_that_is_cut_short_goes_on(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says why it took a part only when it is asked for the rest: want of memory, for one, passes."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:50]))
    log.append(Kind.SESSION, "second")
    lines = log.path.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["first", "second"]
    with log.path.open("rb") as file:
        assert find_break(file) is None


@pytest.mark.parametrize("full", [True, False])
def test_nothing_is_left_of_a_line_that_was_not_taken(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    before, write, calls = log.path.read_bytes(), os.write, [0]

    def short(fd: int, data: bytes) -> int:
        calls[0] += 1
        if calls[0] == 1:
            return write(fd, bytes(data)[:50])
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return 0

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(AuditError, match="cannot be written") as refused:
        log.append(Kind.SESSION, "second")
    assert "space" in refused.value.details
    assert log.path.read_bytes() == before
    monkeypatch.setattr(os, "write", write)
    log.append(Kind.SESSION, "third")
    with log.path.open("rb") as file:
        assert find_break(file) is None
