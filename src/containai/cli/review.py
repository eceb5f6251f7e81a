"""``containai review``: what waits, and everything about one session's work; triggers first, then the diff."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, print_table, printable
from containai.cli.pager import open_pager
from containai.errors import AuditError, ReviewError, UsageError
from containai.host.process import run_in_foreground
from containai.record import replace
from containai.review.model import Review, Trigger
from containai.review.patch import patch_lines, stat_lines, style_of
from containai.review.read import Draft
from containai.session.record import SessionRecord
from containai.session.subject import Subject, find_subject, find_waiting
from containai.session.timeline import find_problem

_STYLES = {
    "added": "\x1b[32m",
    "removed": "\x1b[31m",
    "place": "\x1b[36m",
    "head": "\x1b[1m",
    "warn": "\x1b[33m",
}
_END = "\x1b[0m"
_PAUSE = "pause"  # no line: what was written so far is to be seen now
_MOST_COMMITS = 20
_MOST_IDS = 10


def main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Show; 0 whether or not there are triggers, 1 when what waits cannot be told of every session, or of its log."""
    if args.session is None and args.web:
        # `--web SESSION`: a page of no session makes no sense, so that a word that stands alone is no file.
        args.session, args.web = args.web, ""
    if args.session is None:
        if args.web is not None or args.difftool:
            raise UsageError("which session?", remedy=["containai review", "containai review SESSION --web"])
        return _list_waiting(args, here, console)
    subject = find_subject(here.state_dir, args.session)
    log = _Log(subject)
    if args.difftool:
        status = _difftool(subject, here)
    else:
        status = 0
        draft = subject.begin_review(subject.judge_here(here.variables))
        if args.json:
            print_json({"session": subject.record.id, **log.noted(draft.finish()).as_json()})
        elif args.web is not None:
            print(_write_page(subject, log.noted(draft.finish()), args.web))
        else:
            _page(subject, draft, log, here)
    if log.problem is not None:
        sys.stdout.flush()
        raise log.problem
    return status


class _Log:
    """Whether the session's log is as it was written. Looked at once, when it is to be told."""

    def __init__(self, subject: Subject) -> None:
        self._directory = subject.directory

    @functools.cached_property
    def problem(self) -> AuditError | None:
        """What is wrong with it."""
        return find_problem(self._directory)

    def note(self) -> str:
        """The sentence that comes before everything else; empty where all is well."""
        return f"{self.problem.summary}: {self.problem.details}" if self.problem else ""

    def noted(self, review: Review) -> Review:
        """The review with that note."""
        return replace(review, notes=(note, *review.notes)) if (note := self.note()) else review


def _list_waiting(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    rows, damaged = [], []
    for subject in find_waiting(here.state_dir):
        if not isinstance(subject, Subject):
            damaged.append(subject)
            continue
        record = subject.record
        if args.json:
            shown = {name: getattr(record, name) for name in ("agent", "repository", "created")}
            print_json({"session": record.id, "branch": subject.branch, "commits": len(record.commits), **shown})
        else:
            row = (
                record.id,
                record.agent,
                subject.branch,
                str(len(record.commits)),
                record.created[:16].replace("T", " "),
            )
            rows.append((*row, record.repository))
    if rows:
        header = ("SESSION", "AGENT", "BRANCH", "COMMITS", "BEGAN", "REPOSITORY")
        print_table(header, [tuple(map(printable, row)) for row in rows])
    elif not args.json and not damaged:
        console.progress("nothing waits for review")
    for session_id, error in damaged:
        console.damaged(session_id, error)
    return 1 if damaged else 0


def _page(subject: Subject, draft: Draft, log: _Log, here: Surroundings) -> None:
    colour = here.colour and sys.stdout.isatty()
    with open_pager(here, Path(subject.record.repository)) as output, contextlib.suppress(BrokenPipeError):
        for style, line in _document(subject, draft, log):
            if style == _PAUSE:
                output.flush()
                continue
            painted = f"{_STYLES[style]}{line}{_END}" if colour and style else line
            output.write(painted.encode("utf-8", "backslashreplace") + b"\n")


def _document(subject: Subject, draft: Draft, log: _Log) -> Iterator[tuple[str, str]]:
    """The whole review, as (style, line). What is known at once comes first: the rest may take a while."""
    yield from _title(subject.record, draft)
    yield _PAUSE, ""
    if note := log.note():
        yield "warn", f"Before you merge: {printable(note)}"
        yield "warn", "What the session did is not proven from there on"
        yield "", ""
    yield from _group("runs or obeys something by its place", "run or obey something by their place", draft.triggers)
    yield _PAUSE, ""
    review = draft.finish()
    known = {trigger.id for trigger in draft.triggers}
    by_content = [trigger for trigger in review.triggers if trigger.id not in known]
    yield from _group("says something by its content", "say something by their content", by_content)
    if draft.triggers and by_content:
        yield "warn", f"{len(review.triggers)} in all"
        yield "", ""
    if not review.triggers:
        yield "added", "Nothing in it runs, obeys or hides anything on its own, as far as paths and contents tell"
    for note in review.notes:
        yield "warn", f"note: {printable(note)}"
    if review.notes or not review.triggers:  # a group ends with an empty line of its own
        yield "", ""
    for line in stat_lines(subject.git_dir, draft.base, draft.tip):
        yield "", line
    yield "", ""
    yield "", _next_step(subject.record, review)
    yield "", ""
    for line in patch_lines(subject.git_dir, review.base, review.tip):
        yield style_of(line), line


def _title(record: SessionRecord, draft: Draft) -> Iterator[tuple[str, str]]:
    commits, files = len(draft.commits), len(draft.files)
    yield (
        "head",
        printable(
            f"{draft.branch}: {commits} commit{'s' * (commits != 1)}, {files} file{'s' * (files != 1)}, "
            f"by {record.agent} in session {record.id}"
        ),
    )
    for commit in draft.commits[:_MOST_COMMITS]:
        yield "", printable(f"  {commit.hash[:12]}  {commit.subject}")
    if commits > _MOST_COMMITS:
        yield "", f"  ... and {commits - _MOST_COMMITS} more commits"
    yield "", ""


def _group(one: str, many: str, triggers: Sequence[Trigger]) -> Iterator[tuple[str, str]]:
    if not triggers:
        return
    yield "warn", f"Before you merge, {len(triggers)} that {one if len(triggers) == 1 else many}"
    for (kind, why), group in itertools.groupby(triggers, key=lambda trigger: (trigger.kind, trigger.why)):
        yield "warn", f"  {kind}: {why}"
        for trigger in group:
            detail = f"  ({printable(trigger.detail)})" if trigger.detail else ""
            yield "", f"    {trigger.id}  {printable(trigger.path)}{detail}"
    yield "", ""


def _next_step(record: SessionRecord, review: Review) -> str:
    remove = f"containai remove {record.id}   # the session, when you no longer need it"
    if record.verdict == "merged":
        return f"This work has been merged.\n{remove}"
    if record.verdict == "dropped":
        return printable(f"This work has been dropped; it is kept as {review.branch}") + f"\n{remove}"
    ids = " ".join(trigger.id for trigger in review.triggers[:_MOST_IDS])
    more = " ..." if len(review.triggers) > _MOST_IDS else ""
    acknowledge = f" --acknowledge {ids}{more}" if ids else ""
    return f"containai merge {record.id}{acknowledge}\ncontainai drop {record.id}"


def _write_page(subject: Subject, review: Review, wanted: str) -> Path:
    from containai.review.page import render_page

    place = Path(wanted) if wanted else subject.directory.path / "review.html"
    patch = patch_lines(subject.git_dir, review.base, review.tip)
    text = render_page(subject.record.agent, subject.record.id, review, patch)
    try:
        if wanted:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        else:
            place.unlink(missing_ok=True)
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise ReviewError(
            "the page cannot be written",
            code="review.page",
            details=str(error),
            remedy=["containai review SESSION --web FILE   # a file that is not there yet, where you may write"],
        ) from error
    return place.resolve()


def _difftool(subject: Subject, here: Surroundings) -> int:
    """The user's own tool, as he has configured it for git, file by file."""
    review_base = subject.begin_review(subject.judge_here(here.variables)).base
    command = ["git", "-C", subject.record.repository, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    status = run_in_foreground([*command, "difftool", review_base, subject.tip, "--"], env=here.variables)
    return 0 if status == 0 else 1
