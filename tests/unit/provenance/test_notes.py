"""The notes ref: appended to, never overwritten; two writers, many commits."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containai.errors import ProvenanceError
from containai.provenance import notes
from containai.provenance.attest import attest_session
from containai.provenance.notes import NOTES_REF, read_notes, write_notes
from containai.workspace.git import run_git
from tests.support.git import commit, fingerprint, git
from tests.unit.provenance.test_verify import SESSION, Host, make_host

pytestmark = pytest.mark.user


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return make_host(tmp_path)


def attest(host: Host, session: str, commits: list[str]) -> str:
    facts = replace(host.facts, session=session)
    return attest_session(git_dir=host.git_dir, config_dir=host.config_dir, commits=commits, facts=facts).notes_commit


def many_commits(host: Host, count: int) -> list[str]:
    stream = ["commit refs/heads/many\ncommitter T <t@example.org> 1 +0000\ndata 1\nx\nfrom refs/heads/main^0\n"]
    stream += ["commit refs/heads/many\ncommitter T <t@example.org> 1 +0000\ndata 1\nx\n"] * (count - 1)
    git(host.repository, "fast-import", "--quiet", stdin="".join(stream).encode())
    return git(host.repository, "rev-list", "--reverse", "main..many").split()


def test_a_foreign_note_is_kept(host: Host) -> None:
    new = commit(host.repository, "another", e__txt="five\n")
    git(host.repository, "notes", f"--ref={NOTES_REF}", "add", "-m", "reviewed by hand", new)
    git(host.repository, "notes", f"--ref={NOTES_REF}", "append", "-m", '{"also": "foreign"}', new)
    foreign = read_notes(host.git_dir, [new]).texts[new]
    attest(host, "a" * 12, [new])
    note = read_notes(host.git_dir, [new]).texts[new]
    assert note.startswith(foreign)
    assert git(host.repository, "notes", f"--ref={NOTES_REF}", "show", new).startswith("reviewed by hand")
    # The log of that session is not here.
    assert host.verdict(new).problem is None
    assert host.verdict().problem is None, "the first statement still stands"


def test_a_note_without_a_line_feed_is_kept(host: Host) -> None:
    new = commit(host.repository, "another", e__txt="five\n")
    write_notes(host.git_dir, git(host.repository, "rev-parse", NOTES_REF), {new: b"no line feed"}, "x")
    attest(host, "a" * 12, [new])
    assert read_notes(host.git_dir, [new]).texts[new].startswith(b"no line feed\n{")
    assert host.verdict(new).problem is None


def test_stated_once(host: Host) -> None:
    before, note = git(host.repository, "rev-parse", NOTES_REF), host.note
    assert attest(host, SESSION, [host.commit]) == ""
    assert git(host.repository, "rev-parse", NOTES_REF) == before
    assert attest(host, "b" * 12, [host.commit]) != ""
    assert host.note.startswith(note)
    assert host.note.count(b"\n") == 2


def test_what_a_stranger_stated_does_not_keep_us_from_stating_it(host: Host, tmp_path: Path) -> None:
    stranger = replace(host, config_dir=tmp_path / "stranger")
    git(host.repository, "update-ref", "-d", NOTES_REF)
    attest(stranger, SESSION, [host.commit])
    assert host.code() == "provenance.untrusted-key"
    assert attest(host, SESSION, [host.commit]) != ""
    assert host.verdict().problem is None
    assert host.note.count(b"\n") == 2
    assert host.verdict().passed_over == 1


def test_nothing_else_in_the_repository_is_touched(host: Host) -> None:
    new = commit(host.repository, "another", e__txt="five\n")
    own = ("objects", "refs/notes", "logs/refs/notes")
    before = fingerprint(host.git_dir, without=own)
    tree = fingerprint(host.repository, without=(".git",))
    attest(host, "a" * 12, [new])
    assert fingerprint(host.git_dir, without=own) == before
    assert fingerprint(host.repository, without=(".git",)) == tree
    git(host.repository, "fsck", "--strict", "--no-dangling")


def test_returns_at_the_same_time_lose_nothing(host: Host) -> None:
    commits = [commit(host.repository, f"number {n}", e__txt=f"{n}\n") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        tips = list(pool.map(lambda n: attest(host, f"{n:012x}", commits), range(8)))
    assert all(tips)
    for one in commits:
        verdict = host.verdict(one)
        assert verdict.problem is None
        assert {proven.statement.facts.session for proven in verdict.proven} == {f"{n:012x}" for n in range(8)}


def test_an_older_tip_writes_nothing(host: Host) -> None:
    old = git(host.repository, "rev-parse", NOTES_REF)
    assert write_notes(host.git_dir, old, {host.commit: b"one\n"}, "x")
    now = git(host.repository, "rev-parse", NOTES_REF)
    assert not write_notes(host.git_dir, old, {host.commit: b"two\n"}, "x")
    assert not write_notes(host.git_dir, "", {host.commit: b"two\n"}, "x")
    assert git(host.repository, "rev-parse", NOTES_REF) == now
    assert host.note == b"one\n"


def test_ten_thousand_commits(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(words: Any, **more: Any) -> Any:
        calls.append(str(words))
        return run_git(words, **more)

    monkeypatch.setattr(notes, "run_git", counted)
    commits = many_commits(host, 10_000)
    assert attest(host, "a" * 12, commits)
    assert sum("fast-import" in call for call in calls) == 1
    assert len(calls) < 8, "processes do not grow with the commits"
    from containai.provenance.keys import trusted_keys
    from containai.provenance.verify import Verifier

    verdicts = Verifier(host.git_dir, trusted_keys(host.config_dir, []), host.sessions).verify(commits)
    assert [verdict.commit for verdict in verdicts] == commits
    assert not [verdict for verdict in verdicts if verdict.problem or len(verdict.proven) != 1]
    assert attest(host, "a" * 12, commits) == ""


def test_a_statement_is_held_once_for_all_its_commits(host: Host) -> None:
    commits = many_commits(host, 2000)
    tracemalloc.start()
    try:
        assert attest(host, "a" * 12, commits)
        assert tracemalloc.get_traced_memory()[1] < 20 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert all(len(note.splitlines()) == 1 for note in read_notes(host.git_dir, commits).texts.values())


def test_a_symbolic_notes_ref_is_not_written_through(host: Host) -> None:
    git(host.repository, "update-ref", "-d", NOTES_REF)
    main = git(host.repository, "rev-parse", "main")
    git(host.repository, "symbolic-ref", NOTES_REF, "refs/heads/main")
    with pytest.raises(ProvenanceError) as refused:
        attest(host, "a" * 12, [host.commit])
    assert refused.value.code == "provenance.notes-unreadable"
    assert git(host.repository, "rev-parse", "main") == main


def test_a_note_that_cannot_be_written_is_an_error(host: Host) -> None:
    (host.git_dir / NOTES_REF).unlink()
    (host.git_dir / NOTES_REF).mkdir()
    (host.git_dir / NOTES_REF / "x").write_text(host.commit + "\n")
    with pytest.raises(ProvenanceError):
        attest(host, "a" * 12, [host.commit])


def test_a_note_whose_object_is_gone_is_an_error(host: Host) -> None:
    new = commit(host.repository, "another", e__txt="five\n")
    tree = git(host.repository, "mktree", "--missing", stdin=f"100644 blob {'1' * 40}\t{new}\n".encode())
    git(host.repository, "update-ref", NOTES_REF, git(host.repository, "commit-tree", "-m", "x", tree))
    with pytest.raises(ProvenanceError, match="cannot be read") as caught:
        read_notes(host.git_dir, [new])
    assert (caught.value.code, "1" * 40 in caught.value.details) == ("provenance.notes-unreadable", True)


def test_a_broken_notes_ref_is_not_taken_for_none(host: Host) -> None:
    (host.git_dir / NOTES_REF).write_text("rubbish\n")
    with pytest.raises(ProvenanceError, match="cannot be read") as caught:
        read_notes(host.git_dir, [git(host.repository, "rev-parse", "main")])
    assert caught.value.code == "provenance.notes-unreadable"
