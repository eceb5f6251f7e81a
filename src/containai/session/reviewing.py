"""What a person decides about a session's work: look at it, merge it, drop it, remove what is left of the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from containai.audit.writer import EventLog, Kind
from containai.errors import ReviewError, StateError, WorkspaceError
from containai.host.clock import now_rfc3339
from containai.record import dataclass
from containai.review.merge import How, Made, find_target, land, make_commit, make_tree
from containai.review.model import Review, Trigger, name_all
from containai.review.read import review_result
from containai.session.record import Phase, SessionRecord, session_branch
from containai.session.state import SessionDir, SessionStore
from containai.session.subject import Subject, find_branch, find_subject
from containai.workspace.git import run_git
from containai.workspace.refs import list_branches, names_in_progress, update_refs

_MERGED, _DROPPED = "merged", "dropped"
_MOST_SUBJECTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What ``merge`` did: ``branch`` went from ``old`` to ``new``."""

    branch: str
    old: str
    new: str
    acknowledged: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"into": self.branch, "old": self.old, "new": self.new, "acknowledged": list(self.acknowledged)}


def merge_session(
    state_dir: Path,
    wanted: str,
    *,
    acknowledged: frozenset[str],
    how: How,
    into: str | None,
    user: Mapping[str, str],
    attest: Callable[[Subject, Merged], None] | None = None,
) -> Merged:
    """Merge a session's branch, once every trigger that it touches has been acknowledged.

    Args:
        acknowledged: Ids or digests of triggers, or their kinds.
        into: The branch that receives it; None takes the one checked out in the user's working tree.
        attest: Called with what was merged, before the session's record says so.

    Raises:
        ReviewError: It was refused, with the reason; nothing was changed.
    """
    subject = find_subject(state_dir, wanted)
    with _locked(subject):
        repository, git_dir = Path(subject.record.repository), subject.git_dir
        target = find_target(git_dir, repository, into)
        judge = subject.judge(target.commit, user)
        review = subject.begin_review(judge).finish()
        made: Made | ReviewError
        try:
            made = make_tree(git_dir, target, review.tip, how)
        except ReviewError as error:  # said only when there is nothing else: it sends the user to a merge by hand
            if error.code == "review.merged":
                raise
            made = error
        triggers = review.triggers
        if isinstance(made, Made):
            # Each kind on each path has been reviewed, wherever a merge joins it with what was there.
            known = {(trigger.kind, trigger.path) for trigger in triggers}
            result = review_result(git_dir, onto=target.commit, result=made.tree, tip=review.tip, judge=judge)
            triggers += tuple(trigger for trigger in result if (trigger.kind, trigger.path) not in known)
        _refuse_open(subject.record, triggers, acknowledged)
        if isinstance(made, ReviewError):
            raise made
        message = _message(subject.record, review, how)
        with _deciding(subject, _MERGED) as decide:
            commit = make_commit(git_dir, repository, target, made, how, message, user)
            land(git_dir, target, commit, user)
            given = name_all(triggers)
            merged = Merged(branch=target.branch, old=target.commit, new=commit, acknowledged=given)
            decide({"verdict": "allow", "ref": f"refs/heads/{target.branch}", "old": target.commit,
                    "new": commit, "acknowledged": list(given)})  # fmt: skip
        if attest is not None:
            attest(subject, merged)
    return merged


def drop_session(state_dir: Path, wanted: str) -> str:
    """Decide against a session's work: its branch is archived, never deleted (W5, W7). Returns the archive's name."""
    subject = find_subject(state_dir, wanted)
    if subject.record.verdict == _MERGED:
        raise ReviewError(
            f"session {subject.record.id} has been merged",
            code="review.merged",
            remedy=[f"containai remove {subject.record.id}", "git revert, if you want its changes out again"],
        )
    if subject.record.verdict == _DROPPED:
        raise ReviewError(
            f"session {subject.record.id} has been dropped; its work is on {subject.branch}",
            code="review.dropped",
            remedy=[f"git branch NAME {subject.branch}   # to have it back under another name"],
        )
    with _locked(subject), _deciding(subject, _DROPPED) as decide:
        archive = _archive(subject)
        decide({"verdict": "deny", "ref": f"refs/heads/{archive}", "new": subject.tip})
    return archive


def remove_session(state_dir: Path, wanted: str, *, force: bool) -> str:
    """Remove a session's record and log; its branch too, unless that holds work that is nowhere else.

    Args:
        force: Also when work is kept in the session's directory that was never returned.

    Returns:
        What became of the branch, as a sentence.

    Raises:
        StateError: It is in use, or its record is damaged and ``force`` does not say that all of it may go.
    """
    store = SessionStore(state_dir)
    directory = store.find_damaged(wanted) if force else None
    if directory is not None:
        return _remove_damaged(directory)
    directory = store.find(wanted)
    record = directory.read()
    if not directory.lock():
        raise StateError(
            f"session {record.id} is running", code="state.running", remedy=["containai log --follow   # until it ends"]
        )
    try:
        interrupted = record.phase not in (Phase.ENDED, Phase.UNRETURNED)
        if (interrupted or record.phase is Phase.UNRETURNED) and not force:
            raise ReviewError(
                f"session {record.id} holds work that was never returned",
                code="review.unreturned",
                details=str(directory.workspace),
                remedy=[f"containai recover {record.id}", f"containai remove {record.id} --force   # throws it away"],
            )
        try:
            said = _clear_branch(directory, record, [other for _, other in store.survey().whole])
        except WorkspaceError:
            if not force:
                raise
            said = f"{record.branch} stays: its repository could not be read"
        _remove(directory)
    finally:
        directory.unlock()
    return said


def _remove_damaged(directory: SessionDir) -> str:
    """Remove a session of which nobody knows any more which branch it had. Its lock may be damaged, too."""
    try:
        free = directory.lock()
    except StateError:
        free = True
    if not free:
        raise StateError(
            f"session {directory.id} is in use", code="state.running", remedy=["wait until the other command has ended"]
        )
    try:
        _remove(directory)
    finally:
        directory.unlock()
    return "its record could not be read: its branch, if it had one, stays"


def _remove(directory: SessionDir) -> None:
    directory.remove()
    if os.path.lexists(directory.path):
        raise StateError(
            f"session {directory.id} could not be removed",
            code="state.unremovable",
            details=f"what is left of it: {directory.path}",
            remedy=[f"ls -ld {directory.path}", f"sudo rm -r {directory.path}"],
        )


def _clear_branch(directory: SessionDir, record: SessionRecord, sessions: Sequence[SessionRecord]) -> str:
    if _is_the_users(record):
        return f"{record.branch} is your own, and stays"
    branch = find_branch(record, sessions) if Path(record.git_dir).is_dir() else None
    if branch is None:
        return "no branch of it was left"
    subject = Subject(directory=directory, record=record, branch=branch.name, tip=branch.commit)
    if branch.checked_out or branch.name in names_in_progress(subject.git_dir):
        return f"{branch.name} stays: it is checked out"
    containing = run_git(
        ["for-each-ref", "--count=2", f"--contains={branch.commit}", "--format=%(refname)", "refs/heads"],
        git_dir=subject.git_dir,
    )
    if len(containing.stdout.split()) > 1:
        command = ("delete", f"refs/heads/{branch.name}", "", branch.commit)
        if update_refs(subject.git_dir, [command], "containai: session removed") is None:
            return f"{branch.name} is contained in another branch, and is deleted"
    archive = _archive(subject)
    kept = "it stays" if archive == branch.name else f"it is kept as {archive}"
    return f"{branch.name} has work that is in no other branch: {kept}"


def _refuse_open(record: SessionRecord, triggers: Sequence[Trigger], acknowledged: frozenset[str]) -> None:
    known = {t.id for t in triggers} | {t.digest for t in triggers} | {t.kind for t in triggers}
    unknown = sorted(acknowledged - known)
    if unknown:
        raise ReviewError(
            f"no trigger has this id, and none is of this kind: {', '.join(unknown)}",
            code="review.unknown-trigger",
            details="an id names path and content: it changes when the branch does",
            remedy=[f"containai review {record.id}"],
        )
    open_triggers = [t for t in triggers if not acknowledged & {t.id, t.digest, t.kind}]
    if open_triggers:
        ids = " ".join(trigger.id for trigger in open_triggers)
        raise ReviewError(
            f"{len(open_triggers)} of {len(triggers)} triggers have not been acknowledged",
            code="review.unacknowledged",
            details="\n".join(f"{t.id}  {t.kind:<10}  {t.path}: {t.why}" for t in open_triggers),
            remedy=[f"containai review {record.id}", f"containai merge {record.id} --acknowledge {ids}"],
        )


def _message(record: SessionRecord, review: Review, how: How) -> str:
    count = len(review.commits)
    if how is How.SQUASH:
        only = review.commits[0].subject if count == 1 else f"Work of {record.agent}: {count} commits"
        body = "" if count == 1 else "\n".join(f"* {c.subject}" for c in review.commits[:_MOST_SUBJECTS])
        more = f"\n* and {count - _MOST_SUBJECTS} more" if count > _MOST_SUBJECTS else ""
        text = f"{only}\n\n{body}{more}"
    else:
        text = f"Merge branch '{record.branch}'"
    return f"{text.strip()}\n\nContainai-Session: {record.id}\n"


def _archive(subject: Subject) -> str:
    """Give the branch the name of an archive, in one transaction."""
    name, git_dir = subject.branch, subject.git_dir
    if "-archived-" in name:
        return name
    branch = next((entry for entry in list_branches(git_dir, name) if entry.name == name), None)
    if branch is not None and (branch.checked_out or name in names_in_progress(git_dir)):
        raise ReviewError(
            f"{name} is checked out in a working tree",
            code="review.checked-out",
            remedy=["git worktree list", "switch that working tree to another branch"],
        )
    archive = f"{name}-archived-{now_rfc3339().replace('-', '').replace(':', '').replace('.', '')}"
    commands = [
        ("create", f"refs/heads/{archive}", subject.tip, ""),
        ("delete", f"refs/heads/{name}", "", subject.tip),
    ]
    refused = update_refs(git_dir, commands, "containai: archived")
    if refused is not None:
        raise refused.error
    return archive


@contextmanager
def _locked(subject: Subject) -> Iterator[None]:
    if not subject.directory.lock():
        raise StateError(
            f"session {subject.record.id} is in use",
            code="state.running",
            remedy=["wait until the other command has ended"],
        )
    try:
        yield
    finally:
        subject.directory.unlock()


@contextmanager
def _deciding(subject: Subject, verdict: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What writes a decision onto the session's log and its record; a log that takes none is refused before."""
    log = EventLog(subject.directory.events_path, subject.record.id)

    def decide(fields: Mapping[str, Any]) -> None:
        log.append(Kind.GIT, verdict, **fields)
        subject.directory.update(verdict=verdict)

    try:
        yield decide
    finally:
        log.close()


def _is_the_users(record: SessionRecord) -> bool:
    """Whether the branch is the user's own, and no session's to delete."""
    return record.in_place and record.branch == session_branch(record)
