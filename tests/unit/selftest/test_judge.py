"""What the judge makes of a session's log that an attack has written to."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from containai.selftest.judge import Session, _recorded
from containai.selftest.result import Verdict
from containai.selftest.stage import Stage


def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path) -> None:
    event = {"kind": "session", "event": "started"}
    log = tmp_path / "events.jsonl"
    log.write_text(f'{{}}\n{json.dumps(event)}\nnot JSON\n["kind", "event"]\n\n')
    session = Session(result={"event_log": str(log)}, said={})
    assert session.events() == [event]
    assert len(session.lines()) == 5


@pytest.mark.parametrize(
    ("said", "event", "verdict"),
    [
        ("started", {"argv": ["x", "t-link"], "resolved": "/usr/bin/true"}, Verdict.HELD),
        ("started", {"argv": ["x", "t-link"], "resolved": "/tmp/selftest-link"}, Verdict.BROKEN),
        ("started", {"argv": ["x", "t-link"], "resolved": "/proc/thread-self/root/bin/true"}, Verdict.BROKEN),
        ("started", {"argv": ["x"], "resolved": "/usr/bin/true"}, Verdict.BROKEN),
        ("EFAULT: it did not start", {"argv": ["x"], "guard": "unreadable"}, Verdict.HELD),
        ("EFAULT: it did not start", {"argv": ["x"]}, Verdict.BROKEN),
    ],
)
def test_a_record_has_to_be_there_and_to_be_true(
    tmp_path: Path, said: str, event: dict[str, Any], verdict: Verdict
) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(json.dumps({"kind": "exec", "event": "exec", **event}) + "\n")
    name = "evidence.exec-under-a-false-name"
    session = Session(result={"event_log": str(log)}, said={name: (Verdict.HELD, said)})
    assert dict(_recorded(cast("Stage", SimpleNamespace(token="t")), session))[name][0] is verdict
