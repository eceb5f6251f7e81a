"""What the judge makes of a session's log that an attack has written to."""

from __future__ import annotations

import json
from pathlib import Path

from containai.selftest.judge import Session


def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path) -> None:
    event = {"kind": "session", "event": "started"}
    log = tmp_path / "events.jsonl"
    log.write_text(f'{{}}\n{json.dumps(event)}\nnot JSON\n["kind", "event"]\n\n')
    session = Session(result={"event_log": str(log)}, said={})
    assert session.events() == [event]
    assert len(session.lines()) == 5
