"""What the host makes of what a container prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from containai.git_return.limits import MAX_BLOB_BYTES
from containai.plan.model import Source
from containai.workspace.scripts import FinishReport, finish_command, parse_finish_output, prepare_command, sanitised

pytestmark = pytest.mark.user

HASH = "0123456789" * 4


def test_a_report() -> None:
    output = (
        f"warning: noise\ncontainai-finish committed 3\ncontainai-finish note a stash\ncontainai-finish result {HASH}\n"
    )
    report = parse_finish_output(output.encode())
    assert report == FinishReport(result=HASH, committed=3, notes=("a stash",))


@pytest.mark.parametrize(
    "line",
    [
        "containai-finish",
        "containai-finish result",
        "containai-finish result HEAD",
        "containai-finish result " + "0" * 41,
        "containai-finish committed -1",
        "containai-finish committed \N{ARABIC-INDIC DIGIT THREE}",
        "containai-finish committed 99999999999",
        "containai-finish unknown key",
        "  containai-finish failed indented",
        "\x00\xff",
    ],
)
def test_what_is_not_of_the_form_is_passed_over(line: str) -> None:
    assert parse_finish_output(line.encode("latin-1", errors="replace")) == FinishReport()
    assert parse_finish_output(line.encode()) == FinishReport()


@pytest.mark.parametrize(
    "trick", ["\x1b]0;title\x07", "\r", "\x9b31m", "\N{RIGHT-TO-LEFT OVERRIDE}", "\u200b", "\ue000"]
)
def test_nothing_of_it_reaches_a_terminal_as_it_is(trick: str) -> None:
    for report in (
        parse_finish_output(f"containai-finish note x{trick}y\n".encode()),
        parse_finish_output(f"containai-finish failed x{trick}y\n".encode()),
    ):
        shown = report.failed + "".join(report.notes)
        assert shown
        assert trick not in shown
        assert shown.isprintable()


def test_it_is_bounded() -> None:
    report = parse_finish_output(b"containai-finish note " + b"x" * 5000 + b"\n" + b"containai-finish note y\n" * 500)
    assert len(report.notes) == 21
    assert report.notes[-1] == "and 481 more notes"
    assert max(map(len, report.notes)) == 200
    assert report.keeps, "nobody knows what a note that was dropped said"


def test_what_stays_is_known_and_said_first_whatever_else_is_said() -> None:
    noise = "containai-finish note x\n" * 20
    report = parse_finish_output(f"{noise}containai-finish kept\ncontainai-finish note not returned: y\n".encode())
    assert report.keeps
    assert report.notes[0] == "not returned: y"
    assert report.notes[-1] == "and 1 more note"
    assert not parse_finish_output(noise.encode()).keeps
    assert parse_finish_output(b"containai-finish kept\n").keeps


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x1e", "\r"])
def test_no_name_begins_a_line(end: str) -> None:
    report = parse_finish_output(f"containai-finish note x{end}containai-finish failed forged\n".encode())
    assert report.failed == ""
    assert len(report.notes) == 1


def test_undecodable_bytes_are_replaced() -> None:
    assert sanitised(b"a\xff".decode(errors="surrogateescape")) == "a\N{REPLACEMENT CHARACTER}"


def test_arguments_are_never_read_as_script() -> None:
    source = Source(toplevel=Path("/r"), git_dir=Path("/r/.git"), base_commit=HASH, described="main", depth=7)
    prepare = prepare_command(source=source, branch="claude/$(x)", agent="claude")
    finish = finish_command(source=source, branch="claude/$(x)", agent="claude", session_id="01", config_sha256="02")
    for command in (prepare, finish):
        assert command[:2] == ("/bin/sh", "-c")
        assert "claude/$(x)" not in command[2]
        assert command[4:6] == ("git://127.0.0.1:9418/return.git", "claude/$(x)")
        assert command[-1] == "/workspace"
    assert prepare[6] == "7"
    assert finish[6] == HASH


def test_the_last_commit_leaves_out_what_no_return_takes() -> None:
    """And nothing smaller."""
    source = Source(toplevel=Path("/r"), git_dir=Path("/r/.git"), base_commit="a" * 40, described="main")
    command = finish_command(source=source, branch="b", agent="claude", session_id="01", config_sha256="02")
    assert f"\nENDLESS_KIB={MAX_BLOB_BYTES // 1024} " in command[2]
