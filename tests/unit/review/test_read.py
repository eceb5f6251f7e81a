"""A branch read from a real repository: histories and merges."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from containai.review import read
from containai.review.changes import read_commits, read_history
from containai.review.model import Review
from containai.review.read import Judge, begin_review
from tests.support.git import commit, git, make_repository

pytestmark = pytest.mark.user


def review(repository: Path, base: str) -> Review:
    judge = Judge(key=b"key", tree=repository)
    git_dir, tip = repository / ".git", git(repository, "rev-parse", "HEAD")
    return begin_review(git_dir, branch="b", base=base, tip=tip, authors=frozenset(), judge=judge).finish()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "host")


def merge_with(repository: Path, base: str, tree: str) -> None:
    """A merge commit of HEAD and a side branch, with a tree of anybody's choice."""
    side = git(repository, "commit-tree", f"{base}^{{tree}}", "-p", base, "-m", "side")
    merged = git(repository, "commit-tree", tree, "-p", "HEAD", "-p", side, "-m", "merge")
    git(repository, "reset", "-q", "--hard", merged)


def test_what_only_a_merge_itself_brings_is_seen_when_it_is_taken_back(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, "harmless", x__txt="x\n")
    git(repository, "update-index", "--add", "--cacheinfo", "100755,"
        + git(repository, "hash-object", "-w", "--stdin", stdin=b"evil\n") + ",.husky/pre-push")  # fmt: skip
    merge_with(repository, base, git(repository, "write-tree"))
    git(repository, "rm", "-q", ".husky/pre-push")
    commit(repository, "gone", y__txt="y\n")
    found = review(repository, base)
    assert {(t.kind, t.path) for t in found.triggers} == {
        ("hook", ".husky/pre-push"),
        ("executable", ".husky/pre-push"),
    }


def test_a_merge_of_many_files_with_an_old_state_is_not_a_change_of_them_all(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, "many", **{f"f{n}__txt": f"{n}\n" for n in range(50)})
    for _ in range(5):
        merge_with(repository, base, git(repository, "rev-parse", "HEAD^{tree}"))
    changes = list(read_history(repository / ".git", base, git(repository, "rev-parse", "HEAD")))
    assert len(changes) == 50


def test_a_history_beyond_the_bound_is_one_trigger(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = git(repository, "rev-parse", "HEAD")
    for text in "abcdef":
        commit(repository, text, x__txt=f"{text}\n")
    assert review(repository, base).triggers == ()
    monkeypatch.setattr(read, "_MOST_PASSED", 3)
    assert [trigger.kind for trigger in review(repository, base).triggers] == ["huge"]


def test_contents_beyond_the_bound_are_triggers(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, "big", a__txt="x" * 500, b__txt="y" * 501)
    assert review(repository, base).triggers == ()
    monkeypatch.setattr(read, "_MOST_BYTES", 600)
    assert [(trigger.kind, trigger.path) for trigger in review(repository, base).triggers] == [("huge", "b.txt")]


def test_batches_do_not_change_what_is_found(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, "many", **{f"f{n}__txt": f"{n}\u202e\n" for n in range(20)})
    whole = review(repository, base)
    monkeypatch.setattr(read, "_BATCH_BYTES", 10)
    assert review(repository, base) == whole
    assert len(whole.triggers) == 20


def test_the_users_map_of_names_is_not_asked(repository: Path) -> None:
    """It decides nothing here, and a hostile one is read for ever."""
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, "one", x__txt="x\n")
    os.mkfifo(repository / "map")
    git(repository, "config", "mailmap.file", str(repository / "map"))
    assert [found.subject for found in review(repository, base).commits] == ["one"]


def test_endless_subjects_are_not_kept(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    said = "".join(
        f"commit refs/heads/x\ncommitter {'n' * 500_000} <a@b> {n} +0000\ndata 500000\n{'s' * 500_000}\n"
        + (f"from {base}\n" if n == 0 else "")
        for n in range(20)
    )
    git(repository, "fast-import", "--quiet", stdin=said.encode())
    tracemalloc.start()
    try:
        commits = read_commits(repository / ".git", base, "x")
        assert tracemalloc.get_traced_memory()[1] < 10 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert len(commits) == 20
    assert all(commit.subject.startswith("sss") and commit.author.startswith("nnn") for commit in commits)
