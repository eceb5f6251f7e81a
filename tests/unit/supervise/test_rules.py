"""Rules about execs: what matches, and that what cannot be looked at matches too."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containai.policy.model import ExecRule
from containai.supervise import rules
from containai.supervise.rules import DENY, RuleBook

pytestmark = pytest.mark.user


def event(*argv: str, path: str = "git", resolved: str = "/usr/bin/git", **more: Any) -> dict[str, Any]:
    return {"pid": os.getpid(), "path": path, "resolved": resolved, "argv": argv, "truncated": False, **more}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "prog").write_bytes(b"\x7fELF content")
    fd = os.open(tmp_path / "prog", os.O_PATH)
    yield fd
    os.close(fd)


FORCE = ExecRule(name="no-force", program="git", arguments=("push", "-f*"))


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        (event("git", "push", "-f"), True),
        (event("git", "-c", "x=y", "push", "origin", "-force"), True),
        (event("git", "push"), False),
        (event("git", "status", "-f"), False),
        (event("push", "-f"), False),  # the program's own name is no argument
        (event("g", "push", "-f", path="/tmp/link"), True),  # where the path leads counts
        (event("g", "push", "-f", path="/tmp/git", resolved="/tmp/other"), True),  # what was asked for, too
        (event("hit", "push", "-f", path="./hit", resolved="/tmp/hit"), False),
        (event("git", "push", "-f", path="./hit", resolved="/tmp/hit"), True),  # and what it calls itself
        (event("git-push", "-f"), True),
        (event("hit", "push", "-f", path="/tmp/hit", resolved=""), True),  # where the path leads is not known
        (event("hit", "status", "-f", path="/tmp/hit", resolved=""), False),
        (event("ld", "/bin/git", "push", "-f", path="/lib64/l", resolved="/usr/lib/ld-linux-x86-64.so.2"), True),
        (event("ld", "/bin/git", "status", path="/lib64/l", resolved="/usr/lib/ld-linux-x86-64.so.2"), False),
        (event("git", "push", "-f", path="/proc/self/root/usr/bin/git", resolved=""), True),
        (event("git", "status", truncated=True), True),  # the words that were not read may be the ones
        (event("ls", "x", path="ls", resolved="/usr/bin/ls", truncated=True), False),
        (event("git", "push", "-f", absent=True), False),
    ],
)
def test_program_and_arguments(asked: dict[str, Any], matches: bool) -> None:
    assert RuleBook((FORCE,), enforced=True).decide(asked, -1) == (1 | DENY if matches else 0)
    assert RuleBook((FORCE,), enforced=False).decide(asked, -1) == (1 if matches else 0)


def test_an_absolute_program_matches_what_it_is_a_link_to() -> None:
    rule = ExecRule(name="r", program="/bin/sh", arguments=("-c",))
    book = RuleBook((rule,), enforced=True)
    real = os.path.realpath("/bin/sh")
    assert book.decide(event("sh", "-c", path="sh", resolved=real), -1)
    assert book.decide(event("sh", "-c", path="/bin/sh", resolved=""), -1)
    assert not book.decide(event("sh", "-c", path="sh", resolved="/tmp/sh"), -1)


def test_the_first_rule_that_matches_is_named() -> None:
    other = ExecRule(name="other", program="git", arguments=("push",))
    assert RuleBook((FORCE, other), enforced=False).decide(event("git", "push"), -1) == 2


def test_a_digest_is_of_the_file_and_made_anew_when_that_changed(tmp_path: Path, program: int) -> None:
    wanted = hashlib.sha256(b"\x7fELF content").hexdigest()
    book = RuleBook((ExecRule(name="d", sha256=wanted),), enforced=True)
    assert book.decide(event("x"), program)
    (tmp_path / "prog").write_bytes(b"\x7fELF other c")
    assert not book.decide(event("x"), program)
    (tmp_path / "prog").write_bytes(b"\x7fELF content")
    assert book.decide(event("x"), program)


def test_a_digest_that_cannot_be_made_counts_as_the_one(program: int, monkeypatch: pytest.MonkeyPatch) -> None:
    book = RuleBook((ExecRule(name="d", sha256="0" * 64),), enforced=True)
    assert not book.decide(event("x"), program)
    assert book.decide(event("x", resolved=""), -1)
    monkeypatch.setattr(rules, "_LARGEST_HASHED", 3)
    assert book.decide(event("x"), program)


@pytest.mark.timeout(30)
def test_a_file_that_grows_while_it_is_hashed_is_not_read_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor answers nobody meanwhile, and the end of the session waits for it."""
    path = tmp_path / "grows"
    path.write_bytes(b"small")
    fd = os.open(path, os.O_PATH)
    look = os.fstat

    def looked_at(asked: int) -> os.stat_result:
        found = look(asked)
        os.truncate(path, 1 << 42)  # as the agent does, a moment later
        return found

    monkeypatch.setattr(os, "fstat", looked_at)
    book = RuleBook((ExecRule(name="d", sha256="0" * 64),), enforced=True)
    try:
        assert book.decide(event("x"), fd) == 1 | DENY
    finally:
        os.close(fd)


def test_a_file_that_changes_without_a_new_time_is_hashed_again(tmp_path: Path) -> None:
    (tmp_path / "prog").write_bytes(b"\x7fELF innocent")
    book = RuleBook((ExecRule(name="d", sha256=hashlib.sha256(b"\x7fELF INNOCENT").hexdigest()),), enforced=True)
    with open(tmp_path / "prog", "r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    fd = os.open(tmp_path / "prog", os.O_PATH)
    shared[4:] = b" innocent"  # the page is dirty: what follows changes no time
    assert not book.decide(event("x"), fd)
    times = os.fstat(fd).st_mtime_ns, os.fstat(fd).st_ctime_ns
    shared[4:] = b" INNOCENT"
    assert (os.fstat(fd).st_mtime_ns, os.fstat(fd).st_ctime_ns) == times
    assert book.decide(event("x"), fd)
    os.close(fd)


def test_what_is_no_file_is_left_to_the_kernel_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    fd = os.open(tmp_path / "pipe", os.O_PATH)
    assert RuleBook((ExecRule(name="d", sha256="0" * 64),), enforced=True).decide(event("x"), fd) == 0
    os.close(fd)
