"""A record is read field by field: what was edited is refused where it is read, and not where it is used."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from containai.errors import StateError
from containai.session.record import Phase, SessionRecord, parse_record
from containai.session.state import SessionDir, SessionStore

ID = "0123456789ab"
WHOLE: dict[str, Any] = {
    "id": ID,
    "name": "shell-repo-session-1",
    "agent": "shell",
    "engine": "embedded",
    "repository": "/home/you/caf\udce9",
    "git_dir": "/home/you/caf\udce9/.git",
    "base_commit": "a" * 40,
    "branch": "shell/session-1",
    "created": "2026-11-29T22:02:09.416919Z",
    "phase": "ended",
    "agent_uid": 0,
    "agent_gid": 2**32 - 2,
    "author": ["Ada", "ada@example.org"],
    "exit_code": 0,
    "commits": ["b" * 40, "c" * 64],
}


def _with(**changes: Any) -> bytes:
    return json.dumps(WHOLE | changes).encode()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    record = parse_record(_with(), ID)
    assert record.phase is Phase.ENDED
    assert (record.author, record.commits) == (("Ada", "ada@example.org"), ("b" * 40, "c" * 64))
    assert os.fsencode(record.repository) == b"/home/you/caf\xe9"
    session = SessionDir(tmp_path / ID)
    session.path.mkdir()
    session.write(record)
    assert session.read() == record


def test_every_field_has_a_rule() -> None:
    for name in SessionRecord.__dataclass_fields__:
        with pytest.raises(ValueError, match=f"{name} cannot be"):
            parse_record(_with(**{name: {"no": "field is an object"}}), ID)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 5},
        {"id": "ffffffffffff"},
        {"name": None},
        {"branch": "--all"},
        {"branch": "main"},
        {"branch": "a\0b"},
        {"branch": "a\x1bb"},
        {"branch": ""},
        {"branch": "\ud800"},
        {"repository": "../elsewhere"},
        {"git_dir": "/a\0b"},
        {"git_dir": None},
        {"base_commit": "--all"},
        {"base_commit": "a" * 41},
        {"commits": "abc"},
        {"commits": ["--all"]},
        {"commits": None},
        {"created": 5},
        {"created": "yesterday"},
        {"phase": "odd"},
        {"phase": []},
        {"agent_uid": -1},
        {"agent_uid": 2**32 - 1},
        {"agent_uid": True},
        {"exit_code": "0"},
        {"exit_code": float("nan")},
        {"author": ["one"]},
        {"author": [1, 2]},
        {"push": "no"},
        {"engine": "odd"},
        {"verdict": "odd"},
        {"more": 1},
    ],
    ids=repr,
)
def test_an_edited_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cannot be|is no field of it|is the record of session"):
        parse_record(_with(**changes), ID)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"\0" * 100,
        b"[" * 200_000,
        b"9" * 5000,
        _with().replace(b'"id"', b'"base_commit"', 1),
        _with()[:-1] + b', "branch": "main"}',
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_record_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it is no JSON|^it is nested|is missing$|cannot be"):
        parse_record(content, ID)


def test_a_session_that_lost_its_record_is_damaged_and_not_unborn(tmp_path: Path) -> None:
    store = SessionStore(tmp_path)
    lost, unborn = (store.create() for _ in range(2))
    lost.events_path.write_text("{}\n")
    for session in (lost, unborn):
        session.workspace.mkdir()
        session.unlock()
    store.remove_unborn()
    assert (lost.workspace.exists(), unborn.path.exists()) == (True, False)
    ((damaged, error),) = store.survey().damaged
    assert (damaged.id, error.code) == (lost.id, "state.record")


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "events.jsonl").write_text("precious\n")
    store = SessionStore(tmp_path)
    store.root.mkdir()
    (store.root / ID).symlink_to(elsewhere)
    with pytest.raises(StateError, match="cannot be read") as caught:
        store.find(ID)
    assert "is a link" in caught.value.details
    SessionDir(store.root / ID).remove()
    assert not (store.root / ID).is_symlink()
    assert (elsewhere / "events.jsonl").read_text() == "precious\n"
