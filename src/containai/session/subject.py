"""A session whose work can be judged: which branch holds it now, and what waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from containai.errors import ContainaiError, ReviewError
from containai.record import dataclass
from containai.review.merge import find_target
from containai.review.read import Draft, Judge, begin_review
from containai.session.record import Phase, SessionRecord
from containai.session.state import SessionDir, SessionStore
from containai.workspace.git import run_git
from containai.workspace.refs import Branch, is_ancestor, list_branches
from containai.workspace.scripts import agent_email


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A session whose work can be judged, and where its branch stands now.

    Attributes:
        branch: The branch that holds the work: the record's, or the archive that it was given.
    """

    directory: SessionDir
    record: SessionRecord
    branch: str
    tip: str

    @property
    def git_dir(self) -> Path:
        """The host repository."""
        return Path(self.record.git_dir)

    def judge(self, onto: str, user: Mapping[str, str]) -> Judge:
        """How its user looks at it: from where it shall go, with the settings of his repository."""
        return Judge(key=self.directory.review_key(), onto=onto, tree=Path(self.record.repository), user=user)

    def judge_here(self, user: Mapping[str, str]) -> Judge:
        """The same, from the branch that is checked out."""
        with suppress(ReviewError):
            return self.judge(find_target(self.git_dir, Path(self.record.repository), None).commit, user)
        return self.judge("", user)

    def begin_review(self, judge: Judge) -> Draft:
        """Read what is there at once; the rest takes a moment in a large change."""
        base = self.record.base_commit
        below = ""
        if self.record.with_commit:
            found = run_git(["rev-parse", "--verify", "--quiet", f"{base}^"], git_dir=self.git_dir)
            below = found.stdout.decode().strip()
        return begin_review(
            self.git_dir,
            branch=self.branch,
            base=base,
            tip=self.tip,
            authors=frozenset({agent_email(self.record.agent)}),
            judge=judge,
            foundation=below,
            returned=frozenset(self.record.commits),
        )


def find_subject(state_dir: Path, wanted: str) -> Subject:
    """The session named, with its branch.

    Raises:
        ReviewError: There is nothing of it to judge.
    """
    store = SessionStore(state_dir)
    directory = store.find(wanted)
    record = directory.read()
    if record.phase in (Phase.CREATING, Phase.RUNNING, Phase.RETURNING):
        live = directory.is_live
        raise ReviewError(
            f"session {record.id} {'still works' if live else 'was interrupted'}",
            code="review.not-ended",
            remedy=["containai log --follow"] if live else [f"containai recover {record.id}"],
        )
    if not record.commits:
        kept = record.phase is Phase.UNRETURNED
        raise ReviewError(
            f"session {record.id} has {'not returned its work yet' if kept else 'returned no commit'}",
            code="review.nothing",
            remedy=[f"containai recover {record.id}"] if kept else [],
        )
    if not Path(record.git_dir).is_dir():
        raise ReviewError(
            f"the repository of session {record.id} is gone",
            code="review.no-repository",
            details=record.git_dir,
            remedy=["put it back there", f"containai remove {record.id}   # the session, when you no longer need it"],
        )
    branch = find_branch(record, [other for _, other in store.survey().whole])
    if branch is None:
        verdict = f"; the session was {record.verdict}" if record.verdict else ""
        raise ReviewError(
            f"the branch {record.branch} is gone, or another session's{verdict}",
            code="review.no-branch",
            details=f"its last commit was {record.commits[-1]}",
            remedy=[f"git branch NAME {record.commits[-1][:12]}   # as long as git still has it"],
        )
    landed = record.in_place and record.verdict and is_ancestor(Path(record.git_dir), record.commits[-1], branch.commit)
    # The user's own branch goes on without the session: its work ends where it came home.
    tip = record.commits[-1] if landed else branch.commit
    return Subject(directory=directory, record=record, branch=branch.name, tip=tip)


def find_waiting(state_dir: Path) -> Iterator[Subject | tuple[str, ContainaiError]]:
    """Sessions whose work nobody has judged yet, oldest first; of those that cannot be told, the id and why."""
    survey = SessionStore(state_dir).survey()
    for directory, record in survey.whole:
        try:
            yield from _waiting(directory, record, [other for _, other in survey.whole])
        except ContainaiError as error:
            yield record.id, error
    for directory, why in survey.damaged:
        yield directory.id, why


def _waiting(directory: SessionDir, record: SessionRecord, others: Sequence[SessionRecord]) -> Iterator[Subject]:
    """The session, if it waits."""
    if record.phase in (Phase.ENDED, Phase.UNRETURNED) and record.commits and not record.verdict:
        if not Path(record.git_dir).is_dir():
            return
        branch = find_branch(record, others)
        # In HEAD: the user has merged it himself.
        if branch is not None and not is_ancestor(Path(record.git_dir), branch.commit, "HEAD"):
            yield Subject(directory=directory, record=record, branch=branch.name, tip=branch.commit)


def find_branch(record: SessionRecord, sessions: Sequence[SessionRecord]) -> Branch | None:
    """The branch that holds a session's work: by its commits, since a name can be given again (``-b NAME -y``).

    Args:
        sessions: All of them.
    """
    git_dir, name = Path(record.git_dir), record.branch
    named = next((branch for branch in list_branches(git_dir, name) if branch.name == name), None)
    if record.in_place and record.verdict:
        return named  # the user's own: nobody takes it
    if named is not None and not any(_took(other, record) for other in sessions):
        return named  # even where somebody on the host has rewritten it: his branch, his work
    if not record.commits:
        return None
    last = record.commits[-1]
    if named is not None and named.commit == last:
        return named
    archives = list_branches(git_dir, f"{name}-archived-*")
    return next((branch for branch in archives if is_ancestor(git_dir, last, branch.commit)), None)


def _took(other: SessionRecord, record: SessionRecord) -> bool:
    """Whether ``other`` is a later session that was given the branch of ``record``."""
    same = (other.git_dir, other.branch) == (record.git_dir, record.branch)
    return same and (other.created, other.id) > (record.created, record.id)
