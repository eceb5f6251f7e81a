"""What the agent's copy leaves out, said to the user before he wonders.

Comparing a large working tree takes git a while, so it is started early and collected late:

    pending = start_left_out_notes(source)
    ...  # everything else that a launch does
    notes = pending.collect(deadline_s)
"""

from __future__ import annotations

import os
from pathlib import Path

from containai.host.clock import monotonic_s
from containai.plan.model import Source
from containai.record import dataclass
from containai.workspace.git import Argument, Child, await_exit, end_group, spawn_git

_STATUS: list[Argument] = [
    *("status", "--porcelain=v1", "-z", "--no-renames"),
    *("--untracked-files=normal", "--ignore-submodules=all"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A running git and the memory file with its answer."""

    child: Child
    answer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingNotes:
    """Questions that git is answering in the background."""

    changes: _Question | None
    submodules: _Question
    lfs: _Question
    given_submodules: int
    given_lfs: bool

    def collect(self, deadline_s: float) -> tuple[str, ...]:
        """The notes, as far as they are known at ``deadline_s`` (monotonic clock). Ends every child."""
        changes = b"" if self.changes is None else _collect(self.changes, deadline_s)
        submodules = _collect(self.submodules, deadline_s)
        lfs = _collect(self.lfs, deadline_s)
        about_lfs = () if self.given_lfs else _about_lfs(lfs)
        return (*_about_changes(changes), *_about_submodules(submodules, self.given_submodules), *about_lfs)


def left_out_notes(source: Source, timeout_s: float = 60.0) -> tuple[str, ...]:
    """What a copy of ``source`` leaves out, as sentences; empty when it is complete."""
    return start_left_out_notes(source).collect(monotonic_s() + timeout_s)


def start_left_out_notes(source: Source) -> PendingNotes:
    """Begin to find out what a copy of ``source`` leaves out. Costs the start of three processes.

    Trust: git reads the user's own repository as the user's own ``git status`` does; filters that he
    configured there may run.
    """
    git_dir = own_git_dir(source)
    base = source.base_commit
    return PendingNotes(
        changes=None if source.with_changes or source.url else _ask(_STATUS, git_dir, source.toplevel),
        submodules=_ask(
            ["config", "-z", f"--blob={base}:.gitmodules", "--get-regexp", r"^submodule\..*\.path$"], git_dir, None
        ),
        lfs=_ask(
            ["grep", "-z", "-l", "-I", "--threads=1", "-e", "filter=lfs", base, "--", ":(glob)**/.gitattributes"],
            git_dir,
            None,
        ),
        given_submodules=len(source.submodules),
        given_lfs=source.lfs,
    )


def own_git_dir(source: Source) -> Path:
    """The git directory with this working tree's index: a linked worktree has one of its own."""
    return git_dir_of(source.toplevel, source.git_dir)


def git_dir_of(tree: Path, git_dir: Path) -> Path:
    """The git directory of one working tree of the repository at ``git_dir``."""
    pointer = tree / ".git"
    if pointer.is_file():
        return tree / os.fsdecode(pointer.read_bytes().removeprefix(b"gitdir:").strip())
    return git_dir


def _ask(arguments: list[Argument], git_dir: Path, work_tree: Path | None) -> _Question:
    answer = os.memfd_create("containai-notes")
    null = os.open(os.devnull, os.O_RDWR)
    try:
        child = spawn_git(arguments, git_dir=git_dir, work_tree=work_tree, stdin=null, stdout=answer, stderr=null)
    except BaseException:
        os.close(answer)
        raise
    finally:
        os.close(null)
    return _Question(child=child, answer=answer)


def _collect(question: _Question, deadline_s: float) -> bytes | None:
    """What git answered; None when it had no time, or could not (a missing file, an empty match)."""
    try:
        status = await_exit(question.child, deadline_s)
        if status is None:
            end_group(question.child)
            await_exit(question.child, monotonic_s() + 5.0)
        return os.pread(question.answer, os.fstat(question.answer).st_size, 0) if status == 0 else None
    finally:
        os.close(question.answer)


def _about_changes(answer: bytes | None) -> tuple[str, ...]:
    if answer is None:
        return ("the working tree could not be compared in time: uncommitted changes, if any, are not in the copy",)
    entries = [entry for entry in answer.split(b"\0") if entry]
    untracked = sum(entry.startswith(b"??") for entry in entries)
    changed = len(entries) - untracked
    parts = [f"{changed} changed {_files(changed)}"] * bool(changed) + [f"{untracked} untracked"] * bool(untracked)
    return (f"not committed, so not in the copy: {' and '.join(parts)} (see --with-changes)",) if parts else ()


def _about_submodules(answer: bytes | None, given: int) -> tuple[str, ...]:
    count = (answer or b"").count(b"\0") - given
    if count <= 0:
        return ()
    hint = "" if given else " (see --submodules)"
    return (f"{count} {'submodule is' if count == 1 else 'submodules are'} left empty in the copy{hint}",)


def _about_lfs(answer: bytes | None) -> tuple[str, ...]:
    return (
        ("files kept by Git LFS are copied as their pointers, without their content (--lfs gives it)",)
        if answer
        else ()
    )


def _files(count: int) -> str:
    return "file" if count == 1 else "files"
