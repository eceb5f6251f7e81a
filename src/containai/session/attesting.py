"""After work has come back: a signed statement about it. A failure here never costs work, only the statement."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from containai.audit.reading import read_events
from containai.audit.writer import EventLog, Kind
from containai.errors import ContainaiError, ProvenanceError
from containai.git_return.apply import Returned
from containai.plan.model import SessionPlan
from containai.provenance.notes import NOTES_REF


def attest_returned(plan: SessionPlan, returned: Returned, log: EventLog, config_dir: Path) -> tuple[str, ...]:
    """State which session the returned commits came from; sentences for the user when that failed.

    Raises:
        AuditError: The log cannot be written.
    """
    if not returned.commits:
        return ()
    log.sync()  # a statement never speaks of an event that a loss of power could take back
    try:
        from containai.provenance.attest import attest_session, session_facts  # not needed for a start

        # From the log, not from the plan: recover has made a plan of its own.
        config = _configuration(read_events(log.path))
        facts = session_facts(
            session=plan.session_id,
            agent=plan.agent,
            engine=plan.engine,
            branch=returned.branch,
            base_commit=plan.source.base_commit,
            config_sha256=config["config_sha256"],
            policy_sha256=config["policy_sha256"],
            checkpoint=log.checkpoint,
        )
        attested = attest_session(
            git_dir=plan.source.git_dir, config_dir=config_dir, commits=returned.commits, facts=facts
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the work is already home
        why = f"{error.summary} {error.details}".strip() if isinstance(error, ContainaiError) else repr(error)
        log.append(Kind.GIT, "not-attested", ref=NOTES_REF, verdict="failed", reason=why)
        return (f"no signed statement was made about the returned commits: {why}",)
    log.append(
        Kind.GIT,
        "attested",
        ref=NOTES_REF,
        new=attested.notes_commit,  # empty: all of it had been stated before
        verdict="allow",
        key_id=attested.key_id,
        commits=len(returned.commits),
    )
    return ()


def _configuration(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The ``session-config`` event: the first one of every session's log."""
    for event in islice(events, 1):
        if event.get("event") == "session-config":
            return event
    raise ProvenanceError(
        "the session's log does not begin with its configuration",
        code="provenance.no-config",
        remedy=["restore the log from a backup, where there is one"],
    )
