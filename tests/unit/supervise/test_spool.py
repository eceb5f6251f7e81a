"""The spool between the supervisor's loop and the log: whole records only, each once."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containai.audit.chain import find_break
from containai.audit.reading import read_events
from containai.audit.writer import EventLog, Kind
from containai.errors import AuditError
from containai.supervise.spool import Denials, move_records, read_records, recover_spools

pytestmark = pytest.mark.user


def record(
    number: int,
    path: str = "/bin/true",
    cwd: str = "/w",
    resolved: str = "",
    *words: str,
    flags: int = 0,
    thread: int = 0,
    interpreters: tuple[str, ...] = (),
) -> bytes:
    lists = (b"".join(os.fsencode(word) + b"\0" for word in words) for words in (interpreters, words))
    texts = [path.encode(), cwd.encode(), resolved.encode(), *lists]
    size = 40 + sum(map(len, texts))
    moment = 1_700_000_000_000_000_000 + number * 1000
    head = struct.pack("=IIQiii6H", size, flags, moment, number, thread, 1, *map(len, texts), 0x5845)
    return head + b"".join(texts)


def test_a_record_is_read_field_by_field() -> None:
    (event,), used = read_records(record(7, "./x", "/tmp", "/tmp/x", "x", "", "a b", flags=1))
    assert used == len(record(7, "./x", "/tmp", "/tmp/x", "x", "", "a b"))
    assert event == {
        "ts": "2023-11-14T22:13:20.000007Z", "pid": 7, "parent": 1, "path": "./x", "cwd": "/tmp", "resolved": "/tmp/x",
        "argv": ["x", "", "a b"], "truncated": True, "verdict": "allow",
    }  # fmt: skip


def test_what_was_looked_for_and_not_found_is_absent() -> None:
    assert [read_records(record(1, flags=flags))[0][0].get("absent") for flags in (0, 4, 6)] == [None, True, None]


@pytest.mark.parametrize(
    ("flags", "resolved", "enforced", "said"),
    [
        (6, "/bin/a", True, {}),
        (6, "/bin/denied", True, {"denied_by": "kernel", "guard": "landlock"}),
        (6, "/bin/denied", False, {"would_deny": "deny"}),
        (6 | 8, "/run/x", False, {"denied_by": "kernel", "guard": "noexec"}),
        (6 | 16 | 2 << 16, "/bin/a", True, {"denied_by": "supervisor", "rule": "second"}),
        (6 | 2 << 16, "/bin/a", False, {"would_deny": "second"}),
        (6 | 16 | 9 << 16, "/bin/a", True, {"denied_by": "supervisor", "rule": ""}),
        (4 | 8, "", True, {"absent": True}),
    ],
)
def test_a_record_says_who_fails_the_exec(flags: int, resolved: str, enforced: bool, said: dict[str, object]) -> None:
    denials = Denials(files=frozenset({"/bin/denied"}), rules=("first", "second"), enforced=enforced)
    ((event,), _) = read_records(record(1, "a", "/", resolved, flags=flags), denials)
    wanted = {"verdict": "deny" if "denied_by" in said else "allow", **said}
    assert {
        key: event[key]
        for key in event
        if key not in ("ts", "pid", "parent", "path", "cwd", "resolved", "argv", "truncated")
    } == wanted


def test_a_script_is_denied_with_its_interpreter_and_a_thread_is_named() -> None:
    denials = Denials(files=frozenset({"/bin/denied"}))
    script = record(1, "/tmp/s", "/", "/tmp/s", flags=6, thread=9, interpreters=("/tmp/t", "/bin/denied"))
    ((event,), _) = read_records(script, denials)
    assert (event["pid"], event["thread"], event["interpreters"]) == (1, 9, ["/tmp/t", "/bin/denied"])
    assert (event["verdict"], event["denied_by"], event["guard"]) == ("deny", "kernel", "landlock")


@pytest.mark.parametrize(("flag", "what"), [(32, ["path"]), (64, ["argv"]), (96, ["path", "argv"])])
def test_what_could_not_be_read_is_said_and_never_called_absent(flag: int, what: list[str]) -> None:
    ((event,), _) = read_records(record(1, flags=flag | 4))
    assert event["unreadable"] == what
    assert (event["verdict"], event["denied_by"], event["guard"]) == ("deny", "supervisor", "unreadable")
    assert "absent" not in event


@pytest.mark.parametrize("letter", ["\udcff", "\x01", "\u20ac", "\U0001f600", "a"])
def test_no_text_takes_more_of_the_log_than_its_bound(tmp_path: Path, letter: str) -> None:
    log = EventLog(tmp_path / "events.jsonl", "0" * 12)
    words = [letter * (1000 // len(os.fsencode(letter)))] * 4
    move_records(record(1, "/p", "/w", "/r", *words) + record(2, "/p", "/w", "/r", "short", letter), log)
    lines = log.path.read_bytes().splitlines()
    assert len(lines[0]) < 4096 + 500
    whole, short = (json.loads(line) for line in lines)
    assert whole["truncated"] is (letter != "a")
    asked = [os.fsencode(word).decode("utf-8", "backslashreplace") for word in words]
    assert len(whole["argv"]) == 4
    assert all(all_.startswith(kept) for all_, kept in zip(asked, whole["argv"], strict=True))
    taken = sum(len(json.dumps(kept)) - 2 for kept in whole["argv"])
    assert taken > 4096 - 12 or not whole["truncated"], "no more is cut than has to be"
    assert (len(short["argv"]), short["truncated"]) == (2, False)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    records, used = read_records(data)
    assert 0 <= used <= len(data)
    assert used >= 40 * len(records)


@given(st.integers(0, 300))
def test_a_record_that_is_cut_short_waits_for_its_rest(at: int) -> None:
    whole = record(1, "/bin/a", "/w", "/bin/a", "a") + record(2, "/bin/b", "/w", "/bin/b", "b" * 100)
    records, used = read_records(whole[:at])
    rest, more = read_records(whole[used:])
    assert [event["pid"] for event in records + rest] == [1, 2]
    assert used + more == len(whole)


def test_a_spool_that_cannot_be_read_is_kept_and_named(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", "0" * 12)
    (tmp_path / "execs.spool").write_bytes(record(1) + b"\0" * 100_000 + record(2))
    recover_spools(tmp_path, log)
    log.close()
    events = list(read_events(log.path))
    assert [event.get("pid") for event in events] == [1, None]
    assert events[-1]["unread_bytes"] == 100_000 + len(record(2))
    assert (tmp_path / "execs.damaged").exists()


def test_a_spool_of_another_form_is_kept_and_not_read(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", "0" * 12)
    texts = b"/bin/true/w/bin/truetrue\0"
    old = struct.pack("=IIQii4H", 32 + len(texts), 6, 1, 7, 1, 9, 2, 9, 5) + texts
    (tmp_path / "execs.spool").write_bytes(old * 3)
    recover_spools(tmp_path, log)
    log.close()
    assert [event["event"] for event in read_events(log.path)] == ["spool-damaged"]
    assert (tmp_path / "execs.damaged").read_bytes() == old * 3


def test_what_recover_finds_is_judged_as_the_session_was_configured(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", "0" * 12)
    log.append(Kind.SESSION, "session-config", denied=["/usr/bin/uname"])
    (tmp_path / "execs.spool").write_bytes(record(1, "uname", "/", "/usr/bin/uname") + record(2))
    recover_spools(tmp_path, log)
    log.close()
    assert [event["verdict"] for event in read_events(log.path) if "verdict" in event] == ["deny", "allow"]


def test_a_drained_record_is_in_the_log_once_and_recover_brings_the_rest(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", "0" * 12)
    spool = tmp_path / "execs.spool"
    spool.write_bytes(record(1) + record(2))
    at = move_records(spool.read_bytes(), log)
    with spool.open("ab") as file:
        file.write(record(3) + record(4)[:20])  # the launcher is killed here, in the middle of a record
    (tmp_path / "execs-1.spool").write_bytes(record(5))
    recover_spools(tmp_path, log)
    log.close()
    assert at == len(record(1) + record(2))
    assert [event["pid"] for event in read_events(log.path)] == [1, 2, 5, 3]
    assert find_break(log.path.read_bytes().splitlines(keepends=True)) is None
    assert list(tmp_path.glob("*.spool")) == []


def test_the_records_of_another_container_say_whose_they_are(tmp_path: Path) -> None:
    """Those that a killed launcher left, too, with the rule of that container in the place of the agent's."""
    (tmp_path / "execs.spool").write_bytes(record(1, flags=6 | 16 | 1 << 16))
    (tmp_path / "execs-1.spool").write_bytes(record(2, "/bin/denied", "/", "/bin/denied", flags=6))
    (tmp_path / "execs-finish.spool").write_bytes(record(3, flags=6 | 16 | 1 << 16))
    log = EventLog(tmp_path / "events.jsonl", "s")
    log.append(Kind.SESSION, "session-config", denied=["/bin/denied"], exec_rules=["users"], exec_policy="enforce")
    assert recover_spools(tmp_path, log) == ("/bin/denied",)
    log.close()
    found = {event["pid"]: event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "exec"}
    assert [found[number].get("container") for number in (1, 2, 3)] == [None, None, "finish"]
    assert [found[number].get("rule") for number in (1, 2, 3)] == ["users", None, "housekeeping"]
    assert not list(tmp_path.glob("*.spool"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_spool_is_said_to_be_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    log = EventLog(tmp_path / "events.jsonl", "0" * 12)
    make(tmp_path / "execs.spool")
    with pytest.raises(AuditError, match="spool cannot be read") as caught:
        recover_spools(tmp_path, log)
    log.close()
    assert caught.value.details.endswith("execs.spool'")
