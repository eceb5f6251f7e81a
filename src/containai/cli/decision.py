"""``containai merge``, ``drop`` and ``remove``: the user's decision about a session."""

from __future__ import annotations

import argparse

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, printable
from containai.errors import ContainaiError
from containai.review.merge import How
from containai.session.reviewing import Merged, drop_session, merge_session, remove_session
from containai.session.subject import Subject


def merge_main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Merge a session's work."""
    merged = merge_session(
        here.state_dir,
        args.session,
        acknowledged=frozenset(word for words in args.acknowledge for word in words),
        how=How(args.how or "auto"),
        into=args.into,
        user=here.variables,
        attest=lambda subject, merged: _attest(subject, merged, here, console),
    )
    if args.json:
        print_json(merged.as_json())
    else:
        print(printable(f"{merged.branch}: {merged.old[:12]} -> {merged.new[:12]}"))
        console.progress("pushing it is yours to do; the branch of the session stays until you remove it")
    return 0


def _attest(subject: Subject, merged: Merged, here: Surroundings, console: Console) -> None:
    """Sign what was merged. A failure costs the statement, not the merge."""
    from containai.provenance.attest import attest_merge

    try:
        attest_merge(
            git_dir=subject.git_dir,
            config_dir=here.config_file.parent,
            merged=merged.new,
            returned=subject.tip,
            session=subject.record.id,
            acknowledged=merged.acknowledged,
        )
    except ContainaiError as error:
        console.note(printable(f"no signed statement was made about the merge: {error.summary} {error.details}"))


def drop_main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Archive a session's work."""
    archive = drop_session(here.state_dir, args.session)
    print(printable(archive))
    console.progress("archived; delete that branch when you are sure")
    return 0


def remove_main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Remove a session."""
    console.progress(printable(remove_session(here.state_dir, args.session, force=args.force)))
    return 0
