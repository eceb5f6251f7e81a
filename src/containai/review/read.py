"""The review of one branch: changes, commits, and every trigger that they touch.

1. entries    paths and modes of what differs in the end
2. content    old and new text of it: links, packages, lock files, hidden characters, secrets, binaries
3. history    what single commits touched and later ones took back: it stays in what is merged, and is pushed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from containai.review.changes import (
    read_blobs,
    read_changes,
    read_commits,
    read_history,
    read_sizes,
    read_start,
)
from containai.review.content import HUGE_BYTES, Finding, check_content, check_entry
from containai.review.model import ABSENT, SUBMODULE, Change, Commit, Review, Trigger, build_trigger
from containai.review.rules import find_rules

_ORDER = (
    *("hook", "ci", "agent", "editor", "shell", "git", "submodule", "symlink", "secret", "unicode", "name", "lock"),
    *("package", "build", "container", "owners", "executable", "binary", "huge"),
)
_GONE = "only in an earlier commit of the branch"
_MOST_AUTHORS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A review of which step 1 is done: it takes milliseconds, and already fills a screen."""

    git_dir: Path
    branch: str
    base: str
    tip: str
    commits: tuple[Commit, ...]
    files: tuple[Change, ...]
    triggers: tuple[Trigger, ...]
    authors: frozenset[str]

    def finish(self) -> Review:
        """Steps 2 and 3.

        Raises:
            ReviewError: The branch cannot be read.
        """
        found = [*_triggers(self.git_dir, self.files), *_of_history(self.git_dir, self.base, self.tip, self.files)]
        return Review(
            branch=self.branch,
            base=self.base,
            tip=self.tip,
            commits=self.commits,
            files=self.files,
            triggers=_ordered(found),
            notes=(*_foreign_authors(self.commits, self.authors), *_twins(self.files)),
        )


def begin_review(git_dir: Path, *, branch: str, base: str, tip: str, authors: frozenset[str]) -> Draft:
    """Begin to review what ``tip`` adds to ``base``: step 1.

    Args:
        authors: Addresses under which the agent's own commits are expected.

    Raises:
        ReviewError: The branch cannot be read.

    Trust: everything in the branch is the agent's making; it is read by plumbing and never checked out.
    """
    start = read_start(git_dir, base, tip)
    changes = read_changes(git_dir, start, tip)
    return Draft(
        git_dir=git_dir,
        branch=branch,
        base=start,
        tip=tip,
        commits=read_commits(git_dir, start, tip),
        files=changes,
        triggers=_ordered(build_trigger(f.kind, c, f.why, f.detail) for c in changes for f in _by_entry(c)),
        authors=authors,
    )


def _by_entry(change: Change) -> Iterator[Finding]:
    for rule in find_rules(change.path):
        yield Finding(kind=rule.kind, why=rule.why, detail=_how(change))
    yield from check_entry(change)


def _ordered(triggers: Iterable[Trigger]) -> tuple[Trigger, ...]:
    return tuple(sorted(_unique(triggers), key=lambda trigger: (_ORDER.index(trigger.kind), trigger.path)))


def _triggers(git_dir: Path, changes: Sequence[Change], suffix: str = "") -> list[Trigger]:
    wanted = {
        name: None
        for change in changes
        for mode, name in ((change.new_mode, change.new), (change.old_mode, change.old))
        if mode not in (ABSENT, SUBMODULE)
    }
    sizes = read_sizes(git_dir, list(wanted))
    # A link's target is its content. Blobs that do not exist here (a partial clone) have no size, and are huge.
    contents = dict(read_blobs(git_dir, {name: size for name, size in sizes.items() if size <= HUGE_BYTES}))
    found = []
    for change in changes:
        findings = list(_by_entry(change))
        if change.new_mode not in (ABSENT, SUBMODULE) and change.old != change.new:
            if change.new not in contents:
                size = sizes.get(change.new)
                detail = "its content is not here" if size is None else f"{size:,} bytes"
                findings.append(Finding(kind="huge", why="too large to be looked into", detail=detail))
            findings += check_content(change, contents.get(change.old), contents.get(change.new))
        for finding in findings:
            detail = ", ".join(filter(None, (finding.detail, suffix)))
            found.append(build_trigger(finding.kind, change, finding.why, detail))
    return found


def _how(change: Change) -> str:
    return {"added": "new", "removed": "removed", "mode": "mode changed"}.get(change.status, "")


def _of_history(git_dir: Path, base: str, tip: str, final: Sequence[Change]) -> list[Trigger]:
    """Triggers of contents that were on the branch for a while."""
    at_end = {(change.path, change.new_mode, change.new) for change in final}
    passed: dict[tuple[bytes, str, str], Change] = {}
    for change in read_history(git_dir, base, tip):
        key = (change.path, change.new_mode, change.new)
        if change.new_mode != ABSENT and key not in at_end:
            passed[key] = change
    return _triggers(git_dir, list(passed.values()), _GONE)


def _unique(triggers: Iterable[Trigger]) -> list[Trigger]:
    """One trigger for a change: the details of its findings together. Ids are short: two changes may share one."""
    merged: dict[tuple[str, str, str], Trigger] = {}
    for trigger in triggers:
        key = (trigger.id, trigger.kind, trigger.path)
        first = merged.get(key)
        if first is None or (trigger.detail and not first.detail):
            merged[key] = trigger
    return list(merged.values())


def _foreign_authors(commits: Sequence[Commit], expected: frozenset[str]) -> tuple[str, ...]:
    """Anyone can write any name into a commit: said, where it is not the agent's."""
    others = sorted({c.author for c in commits if not any(f"<{address}>" in c.author for address in expected)})
    if not others:
        return ()
    listed = "; ".join(others[:_MOST_AUTHORS]) + ("; ..." if len(others) > _MOST_AUTHORS else "")
    return (f"made inside the session, although the commit names somebody else: {listed}",)


def _twins(changes: Sequence[Change]) -> tuple[str, ...]:
    """New names that are one file on a host whose file system does not tell cases apart."""
    seen: dict[str, str] = {}
    notes = []
    for change in changes:
        if change.new_mode == ABSENT:
            continue
        folded = change.name.casefold()
        if folded in seen:
            notes.append(f"one file on some hosts: {seen[folded]} and {change.name}")
        seen[folded] = change.name
    return tuple(notes[:_MOST_AUTHORS])
