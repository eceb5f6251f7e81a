"""The timeline for people: the session's own execs are counted, everything that somebody should look at is shown."""

from __future__ import annotations

from typing import Any

import pytest

from containai.cli.log import _lines

pytestmark = pytest.mark.user


def program(path: str, **more: Any) -> dict[str, Any]:
    said = {"ts": "2026-11-30T01:45:29.317000Z", "kind": "exec", "event": "exec", "pid": 7, "path": path}
    return {**said, "argv": [path], "verdict": "allow", **more}


PUSH = {"ts": "2026-11-30T01:45:29.400000Z", "kind": "git", "event": "push", "ref": "r", "verdict": "allow"}
OURS = {"container": "finish"}


def test_what_the_last_commit_executes_is_counted_where_it_stands() -> None:
    events = [program("/a"), program("/b", **OURS), program("/c", absent=True, **OURS), PUSH, program("/d", **OURS)]
    assert list(_lines(iter(events), whole=False)) == [
        "01:45:29.317  exec     allow  [7] /a",
        "01:45:29.317  exec     allow  2 programs of the last commit (--kind exec for all)",
        "01:45:29.400  git      allow  push r",
        "01:45:29.317  exec     allow  1 program of the last commit (--kind exec for all)",
    ]


def test_what_was_denied_there_is_shown() -> None:
    denied = program("/evil", verdict="deny", denied_by="supervisor", rule="finish", **OURS)
    shown = list(_lines(iter([program("/b", **OURS), denied]), whole=False))
    assert shown[-1].endswith("deny   [7] /evil  (by the supervisor: finish)  (finish)")


def test_a_search_that_found_its_program_is_one_line() -> None:
    sought = [program(f"/{place}/sh", argv=["sh", "-c", "x"], absent=True) for place in ("a", "b", "c")]
    found = program("/d/sh", argv=["sh", "-c", "x"])
    assert list(_lines(iter([*sought, found, PUSH]), whole=False)) == [
        "01:45:29.317  exec     allow  [7] /d/sh -c x  (not in 3 places before)",
        "01:45:29.400  git      allow  push r",
    ]


@pytest.mark.parametrize("after", [PUSH, program("/d/sh", argv=["sh"], pid=8), program("/d/ls", argv=["ls"]), None])
def test_a_search_that_found_nothing_is_shown(after: dict[str, Any] | None) -> None:
    """Also one of another process, or for another program: nothing may hide behind what comes next."""
    sought = [program(f"/{place}/sh", argv=["sh"], absent=True) for place in ("a", "b")]
    shown = list(_lines(iter([*sought, *([after] if after else [])]), whole=False))
    assert [line[14:] for line in shown[:2]] == ["exec     absent [7] /a/sh", "exec     absent [7] /b/sh"]
    assert len(shown) == 2 + bool(after)
    assert "places" not in shown[-1]


def test_who_asks_for_execs_gets_each() -> None:
    shown = list(_lines(iter([program("/b", **OURS), program("/c", **OURS)]), whole=True))
    assert [line.partition("] ")[2] for line in shown] == ["/b  (finish)", "/c  (finish)"]


def test_an_event_of_no_known_kind_does_not_stop_the_others() -> None:
    odd = {"kind": "exec", "container": ["finish"], "verdict": "allow"}
    assert len(list(_lines(iter([odd, program("/a")]), whole=False))) == 2
