"""The review of one branch: changes, commits, and every trigger that they touch.

1. entries    paths and modes of what differs in the end
2. content    old and new text of it: links, packages, lock files, hidden characters, secrets, binaries
3. history    what single commits touched and later ones took back: it stays in what is merged, and is pushed
   orders     what messages of commits say to a CI
4. base       what the branch stands on, where the branch that shall receive it does not have that yet
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from containai.record import dataclass, field, replace
from containai.review.changes import (
    read_blobs,
    read_changes,
    read_commits,
    read_history,
    read_sizes,
    read_start,
)
from containai.review.content import HUGE_BYTES, Finding, check_content, check_entry
from containai.review.model import ABSENT, SUBMODULE, Change, Commit, Review, Trigger, build_trigger, shown
from containai.review.reach import Reach, read_reach
from containai.review.rules import find_rules
from containai.workspace.refs import is_ancestor

_ORDER = (
    *("base", "hook", "ci", "agent", "editor", "shell", "git", "submodule", "symlink", "secret", "unicode"),
    *("name", "modeline", "lock", "package", "build", "container", "owners", "executable", "binary", "huge"),
)
_GONE = "only in an earlier commit of the branch"
_BELOW = "in commits from before the session"
_MOST_AUTHORS = 5
_MOST_PASSED = 200_000  # contents that were on the branch for a while
_BATCH_BYTES = 32 * 1024 * 1024
_MOST_BYTES = 1024 * 1024 * 1024  # looked into, of one branch


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Who looks, and from where.

    Attributes:
        key: The session's own, for the ids of triggers.
        onto: The commit of the branch that shall receive the work; empty when it is not known.
        tree: The user's working tree, whose settings may reach into the branch; None where there is none.
        user: The launcher's environment.
    """

    key: bytes
    onto: str = ""
    tree: Path | None = None
    user: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A review of which step 1 is done: it takes milliseconds, and already fills a screen."""

    git_dir: Path
    branch: str
    base: str
    tip: str
    foundation: str
    commits: tuple[Commit, ...]
    files: tuple[Change, ...]
    triggers: tuple[Trigger, ...]
    authors: frozenset[str]
    returned: frozenset[str]
    judge: Judge

    def finish(self) -> Review:
        """The other steps.

        Raises:
            ReviewError: The branch cannot be read.
        """
        judge = self.judge
        added = [change.path for change in self.files if change.old_mode == ABSENT]
        trees = (judge.onto, self.tip) if judge.onto else (self.tip,)
        reach = read_reach(self.git_dir, trees, judge.tree, judge.user, added)
        found = _triggers(self.git_dir, judge.key, reach, self.files)
        found += _of_history(self.git_dir, judge.key, reach, self.base, self.tip, self.files)
        found += self._orders()
        found += self._below()
        return Review(
            branch=self.branch,
            base=self.base,
            tip=self.tip,
            commits=self.commits,
            files=self.files,
            triggers=_ordered(found),
            notes=(*_whose(self.commits, self.authors, self.returned), *_twins(self.files)),
        )

    def _orders(self) -> Iterator[Trigger]:
        """What messages say to a CI: no diff shows one, and at the tip of a push it keeps every check from running."""
        for commit in self.commits:
            if commit.skips_ci:
                itself = Change(path=b"", old_mode=ABSENT, new_mode=ABSENT, old=commit.hash, new=commit.hash)
                order = build_trigger(self.judge.key, "ci", itself, "a message that tells your CI not to run")
                yield replace(order, path=f"commit {commit.hash[:12]}", detail=commit.skips_ci)

    def _below(self) -> Iterator[Trigger]:
        """Step 4. A merge brings these commits too, and no session's review has shown them with this one."""
        onto = self.judge.onto
        if not onto or is_ancestor(self.git_dir, self.foundation, onto):
            return
        start = read_start(self.git_dir, onto, self.foundation)
        below = begin_review(
            self.git_dir,
            branch=self.branch,
            base=start,
            tip=self.foundation,
            authors=self.authors,
            judge=replace(self.judge, onto=""),
        ).finish()
        count = len(read_commits(self.git_dir, onto, self.foundation))
        whole = Change(path=b"", old_mode=ABSENT, new_mode=ABSENT, old=start, new=self.foundation)
        yield replace(
            build_trigger(self.judge.key, "base", whole, "a merge brings commits that were there before the session"),
            path=f"{onto[:12]}..{self.foundation[:12]}",
            detail=f"{count} commit{'s' * (count != 1)}, not in the branch that receives them",
        )
        for trigger in below.triggers:
            yield replace(trigger, detail=", ".join(filter(None, (trigger.detail, _BELOW))))


def begin_review(
    git_dir: Path,
    *,
    branch: str,
    base: str,
    tip: str,
    authors: frozenset[str],
    judge: Judge,
    foundation: str = "",
    returned: frozenset[str] = frozenset(),
) -> Draft:
    """Begin to review what ``tip`` adds to ``base``: step 1.

    Args:
        authors: Addresses under which the agent's own commits are expected.
        returned: The commits that came home; what else is on the branch was made on the host. Empty: not known.
        foundation: What the branch stands on, where that is not ``base``: then ``base`` holds the user's own,
            uncommitted work on top of it.

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
        foundation=foundation or start,
        commits=read_commits(git_dir, start, tip),
        files=changes,
        triggers=_ordered(
            build_trigger(judge.key, f.kind, c, f.why, f.detail) for c in changes for f in _by_entry(c, Reach())
        ),
        authors=authors,
        returned=returned,
        judge=judge,
    )


def review_result(git_dir: Path, *, onto: str, result: str, tip: str, judge: Judge) -> tuple[Trigger, ...]:
    """What a merge makes of a branch: triggers of the tree that ``onto`` would get.

    A merge can put a reviewed edit where nobody has seen it: into a file that was renamed meanwhile.
    """
    changes = read_changes(git_dir, onto, result)
    reach = read_reach(git_dir, (onto, tip), judge.tree, judge.user, ())
    return _ordered(_triggers(git_dir, judge.key, reach, changes, "as the merge would make it"))


def _by_entry(change: Change, reach: Reach) -> Iterator[Finding]:
    for rule in find_rules(change.path):
        yield Finding(kind=rule.kind, why=rule.why, detail=_how(change))
    for name in reach.names(change.path):
        for rule in find_rules(name):
            yield Finding(kind=rule.kind, why=rule.why, detail=f"reached as {shown(name)}")
    yield from reach.check(change)
    yield from check_entry(change)


def _ordered(triggers: Iterable[Trigger]) -> tuple[Trigger, ...]:
    return tuple(sorted(_unique(triggers), key=lambda trigger: (_ORDER.index(trigger.kind), trigger.path)))


def _triggers(git_dir: Path, key: bytes, reach: Reach, changes: Sequence[Change], suffix: str = "") -> list[Trigger]:
    names = {name: None for change in changes for name in _contents(change)}
    sizes = read_sizes(git_dir, list(names))
    found = []
    left = _MOST_BYTES
    for batch in _batches(changes, sizes):
        wanted = {name: sizes[name] for change in batch for name in _contents(change) if name in sizes}
        # A link's target is its content. Blobs that do not exist here (a partial clone) have no size, and are huge.
        contents = dict(read_blobs(git_dir, {name: size for name, size in wanted.items() if size <= HUGE_BYTES}))
        for change in batch:
            left -= sizes.get(change.new, 0)
            for finding in (*_by_entry(change, reach), *_by_content(change, reach, sizes, contents, left > 0)):
                detail = ", ".join(filter(None, (finding.detail, suffix)))
                found.append(build_trigger(key, finding.kind, change, finding.why, detail))
    return found


def _contents(change: Change) -> Iterator[str]:
    """Names of the blobs of a change."""
    for mode, name in ((change.new_mode, change.new), (change.old_mode, change.old)):
        if mode not in (ABSENT, SUBMODULE):
            yield name


def _batches(changes: Sequence[Change], sizes: Mapping[str, int]) -> Iterator[list[Change]]:
    """Changes whose contents fit into memory together."""
    batch: list[Change] = []
    total = 0
    for change in changes:
        batch.append(change)
        total += sum(size for size in (sizes.get(name, 0) for name in _contents(change)) if size <= HUGE_BYTES)
        if total >= _BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _by_content(
    change: Change, reach: Reach, sizes: Mapping[str, int], contents: Mapping[str, bytes], has_time: bool
) -> Iterator[Finding]:
    if change.new_mode in (ABSENT, SUBMODULE) or change.old == change.new:
        return
    size = sizes.get(change.new)
    if change.new not in contents:
        detail = "its content is not here" if size is None else f"{size:,} bytes"
        yield Finding(kind="huge", why="too large to be looked into", detail=detail)
    elif not has_time:
        yield Finding(kind="huge", why="the branch is too large to be looked into as a whole", detail=f"{size:,} bytes")
        return
    old, new = contents.get(change.old), contents.get(change.new)
    yield from check_content(change, old, new)
    for name in reach.names(change.path):
        for finding in check_content(replace(change, path=name), old, new):
            if finding.kind in ("package", "lock"):
                yield replace(finding, detail=f"{finding.detail}, reached as {shown(name)}")


def _how(change: Change) -> str:
    return {"added": "new", "removed": "removed", "mode": "mode changed"}.get(change.status, "")


def _of_history(git_dir: Path, key: bytes, reach: Reach, base: str, tip: str, final: Sequence[Change]) -> list[Trigger]:
    """Step 3. Triggers of contents that were on the branch for a while."""
    at_end = {(change.path, change.new_mode, change.new) for change in final}
    changes = (c for c in read_history(git_dir, base, tip) if c.new_mode != ABSENT)
    passed: dict[tuple[bytes, str, str], Change] = {}
    for change in changes:
        name = (change.path, change.new_mode, change.new)
        if name not in at_end:
            passed[name] = change
        if len(passed) > _MOST_PASSED:
            whole = Change(path=b"", old_mode=ABSENT, new_mode=ABSENT, old=base, new=tip)
            huge = build_trigger(key, "huge", whole, "the branch's history is too long to be looked into")
            return [replace(huge, path=f"{base[:12]}..{tip[:12]}", detail=f"more than {_MOST_PASSED:,} contents")]
    return _triggers(git_dir, key, reach, list(passed.values()), _GONE)


def _unique(triggers: Iterable[Trigger]) -> list[Trigger]:
    """One trigger for a change of one kind: of its findings the first that says something more."""
    merged: dict[str, Trigger] = {}
    for trigger in triggers:
        first = merged.get(trigger.digest)
        if first is None or (trigger.detail and not first.detail):
            merged[trigger.digest] = trigger
    return list(merged.values())


def _whose(commits: Sequence[Commit], expected: frozenset[str], returned: frozenset[str]) -> tuple[str, ...]:
    """Which commits came later, and which of the session's own have another's name: anyone can write any."""
    later = [commit for commit in commits if returned and commit.hash not in returned]
    if later:
        count = f"{len(later)} commit{'s' * (len(later) != 1)}"
        own = _foreign([commit for commit in commits if commit.hash in returned], expected)
        return (f"made on this host, after the session: {count}, the newest {later[-1].hash[:12]}", *own)
    return _foreign(commits, expected)


def _foreign(commits: Sequence[Commit], expected: frozenset[str]) -> tuple[str, ...]:
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
