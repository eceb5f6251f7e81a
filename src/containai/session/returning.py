"""The end of every session: commit what is left, bring it home, clean up. Used by ``run`` and ``recover``.

Whatever happens here, work is either in the host repository or still in the session's directory.
"""

from __future__ import annotations

from dataclasses import dataclass

from containai.audit.writer import EventLog, Kind
from containai.engine.embedded.engine import EmbeddedEngine
from containai.errors import ContainaiError, ReturnFailed
from containai.git_return.apply import apply_return
from containai.git_return.quarantine import Quarantine
from containai.plan.model import SessionPlan
from containai.render.containers import render_housekeeping
from containai.session.housekeeping import run_chore
from containai.session.signals import EndingSignals
from containai.session.state import Phase, SessionDir
from containai.workspace.branch import release_branch
from containai.workspace.scripts import FinishReport, finish_command, parse_finish_output

FINISH_TIMEOUT_S = 900.0
_LEAVES_WORK = ("not returned:", "left out:")  # how data/finish.sh begins a note about work that stays in the workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What came home."""

    branch: str
    commits: tuple[str, ...] = ()
    pushed: bool = False
    notes: tuple[str, ...] = ()
    problem: str = ""
    kept: bool = False


def bring_home(
    engine: EmbeddedEngine,
    directory: SessionDir,
    plan: SessionPlan,
    quarantine: Quarantine,
    log: EventLog,
    signals: EndingSignals | None = None,
) -> Brought:
    """Finish the workspace in a container of its own, then apply the one returned ref.

    Idempotent: after an interruption it can simply be called again. A first request to end is let pass,
    a second one keeps the work in the session.
    """
    directory.update(phase=Phase.RETURNING)
    try:
        finished = _finish(engine, plan, quarantine, log, signals)
        brought = _apply(plan, quarantine, log, finished) if plan.push else _keep(plan, finished)
    except ContainaiError as error:
        brought = Brought(
            branch=plan.branch,
            problem=f"[{error.code}] {' '.join(filter(None, (error.summary, error.details)))}",
            kept=True,
        )
    log.append(
        Kind.SESSION,
        "returned",
        branch=brought.branch,
        commits=list(brought.commits),
        pushed=brought.pushed,
        problem=brought.problem,
    )
    return brought


def _finish(
    engine: EmbeddedEngine, plan: SessionPlan, quarantine: Quarantine, log: EventLog, signals: EndingSignals | None
) -> FinishReport:
    command = finish_command(source=plan.source, branch=plan.branch, agent=plan.agent, session_id=plan.session_id)
    spec = render_housekeeping(plan, "finish", command)
    chore = run_chore(engine, spec, quarantine, log, FINISH_TIMEOUT_S, signals, patience=1)
    report = parse_finish_output(chore.output)
    if chore.status != 0 or report.failed or not report.result:
        raise ReturnFailed(
            "the remaining work could not be committed and pushed",
            code="return.finish",
            details=report.failed or f"the finish step ended with status {chore.status}",
        )
    return report


def _apply(plan: SessionPlan, quarantine: Quarantine, log: EventLog, finished: FinishReport) -> Brought:
    returned = apply_return(plan.source, quarantine, plan.branch, plan.source.base_commit)
    log.append(
        Kind.GIT,
        "git-return",
        ref=f"refs/heads/{returned.branch}",
        old=returned.old,
        new=returned.new,
        verdict="allow",
    )
    if not returned.commits:
        release_branch(plan.source, plan.branch, plan.source.base_commit)
    return Brought(
        branch=returned.branch,
        commits=returned.commits,
        pushed=bool(returned.commits),
        notes=(*finished.notes, *returned.notes),
        kept=any(note.startswith(_LEAVES_WORK) for note in finished.notes),
    )


def _keep(plan: SessionPlan, finished: FinishReport) -> Brought:
    return Brought(branch=plan.branch, notes=finished.notes, kept=True)


def settle(directory: SessionDir, brought: Brought, exit_code: int | None) -> None:
    """Write the last record, and delete the workspace once nothing in it is needed."""
    directory.update(
        phase=Phase.UNRETURNED if brought.kept else Phase.ENDED,
        exit_code=exit_code,
        commits=brought.commits,
        branch=brought.branch,
        note=brought.problem,
    )
    if not brought.kept:
        directory.remove_workspace()
