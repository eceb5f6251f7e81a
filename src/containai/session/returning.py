"""The end of every session: commit what is left, bring it home, clean up. Used by ``run`` and ``recover``.

Whatever happens here, work is either in the host repository or still in the session's directory.
"""

from __future__ import annotations

from pathlib import Path

from containai.audit.writer import EventLog, Kind
from containai.engine.protocol import ContainerSpec, Engine
from containai.errors import ContainaiError, ReturnFailed
from containai.git_return.apply import apply_return
from containai.git_return.quarantine import Quarantine
from containai.host.programs import find_programs
from containai.plan.model import MountKind, SessionPlan
from containai.record import dataclass, replace
from containai.render.containers import HOUSEKEEPING_PATH, render_housekeeping
from containai.session.attesting import attest_returned
from containai.session.housekeeping import PendingChore, WatchedPlaces, run_chore
from containai.session.in_place import land_in_place
from containai.session.record import Phase, session_branch
from containai.session.signals import EndingSignals
from containai.session.state import SessionDir
from containai.supervise.housekeeping import PROGRAMS
from containai.workspace.branch import release_branch
from containai.workspace.scripts import FinishReport, finish_command, parse_finish_output

FINISH_TIMEOUT_S = 900.0


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
    engine: Engine,
    directory: SessionDir,
    plan: SessionPlan,
    quarantine: Quarantine,
    log: EventLog,
    signals: EndingSignals | None = None,
    *,
    config_dir: Path,
    ahead: PendingChore | None = None,
) -> Brought:
    """Finish the workspace in a container of its own, then apply the one returned ref.

    Idempotent: after an interruption it can simply be called again. A first request to end is let pass,
    a second one keeps the work in the session.

    Args:
        ahead: That container, where it has been made from ``render_finish`` while the agent ran.
    """
    record = directory.update(phase=Phase.RETURNING)
    brought = Brought(branch=plan.branch)
    problems: list[str] = []
    try:
        # The record's digest, not the plan's: recover has made a plan of its own.
        spec = render_finish(plan, record.config_sha256)
        finished = _finish(engine, directory, spec, quarantine, log, signals, ahead)
    except ContainaiError as error:
        finished = FinishReport()
        problems.append(_told(error))
    try:  # what was pushed comes home, even where what was left does not
        brought = _apply(plan, quarantine, log, finished, config_dir) if plan.push else _keep(plan, finished)
    except ContainaiError as error:
        problems.append(_told(error))
    if problems:
        brought = replace(brought, problem=" ".join(problems), kept=True)
    log.append(
        Kind.SESSION,
        "returned",
        branch=brought.branch,
        commits=list(brought.commits),
        pushed=brought.pushed,
        problem=brought.problem,
    )
    log.sync()  # before it is announced, and before the workspace goes
    return brought


def _told(error: ContainaiError) -> str:
    return f"[{error.code}] {' '.join(filter(None, (error.summary, error.details)))}"


def render_finish(plan: SessionPlan, config_sha256: str) -> ContainerSpec:
    """The container that finishes a session. Nothing in it depends on what the agent does."""
    command = finish_command(
        source=plan.source,
        branch=plan.branch,
        agent=plan.agent,
        session_id=plan.session_id,
        config_sha256=config_sha256,
        author=plan.author,
    )
    return render_housekeeping(plan, "finish", command, supervised=True, needed=_needed(plan))


def _finish(
    engine: Engine,
    directory: SessionDir,
    spec: ContainerSpec,
    quarantine: Quarantine,
    log: EventLog,
    signals: EndingSignals | None,
    ahead: PendingChore | None,
) -> FinishReport:
    watch = WatchedPlaces(folder=directory.path, workspace=directory.workspace)
    chore = run_chore(engine, spec, quarantine, log, FINISH_TIMEOUT_S, signals, patience=1, watch=watch, ahead=ahead)
    report = parse_finish_output(chore.output)
    if chore.status != 0 or report.failed or not report.result:
        raise ReturnFailed(
            "the remaining work could not be committed and pushed",
            code="return.finish",
            details=report.failed or f"the finish step ended with status {chore.status}",
        )
    return report


def _needed(plan: SessionPlan) -> frozenset[str]:
    """The real paths of the programs of ``finish``, which it has although the policy may deny them to the agent."""
    if not plan.denied_files:
        return frozenset()
    trees = [str(mount.target) for mount in plan.mounts if mount.kind is MountKind.READ_ONLY]
    return find_programs(sorted({*PROGRAMS, "sh"}), HOUSEKEEPING_PATH, trees).paths


def _apply(
    plan: SessionPlan, quarantine: Quarantine, log: EventLog, finished: FinishReport, config_dir: Path
) -> Brought:
    in_place = land_in_place(plan) if plan.in_place else None
    returned = apply_return(plan.source, quarantine, plan.branch, plan.source.base_commit, in_place)
    log.append(
        Kind.GIT,
        "git-return",
        ref=f"refs/heads/{returned.branch}",
        old=returned.old,
        new=returned.new,
        verdict="allow",
    )
    attest_notes = attest_returned(plan, returned, log, config_dir)
    # An unfinished session keeps its branch: it may still need it. The user's own is never ours to delete.
    if not returned.commits and finished.result and not plan.in_place:
        release_branch(plan.source, plan.branch, plan.source.base_commit)
    return Brought(
        branch=returned.branch,
        commits=returned.commits,
        pushed=bool(returned.commits),
        notes=(*finished.notes, *returned.notes, *attest_notes),
        kept=finished.keeps,
    )


def _keep(plan: SessionPlan, finished: FinishReport) -> Brought:
    return Brought(branch=plan.branch, notes=finished.notes, kept=True)


def keep_all(plan: SessionPlan, error: ContainaiError) -> Brought:
    """Nothing came home for certain; ``recover`` does all of it again."""
    return Brought(branch=plan.branch, problem=_told(error), kept=True)


def settle(directory: SessionDir, brought: Brought, exit_code: int | None) -> None:
    """Write the last record, and delete the workspace once nothing in it is needed."""
    record = directory.read()
    landed = record.in_place and bool(brought.commits) and brought.branch == session_branch(record)
    directory.update(
        verdict="merged" if landed else record.verdict,
        phase=Phase.UNRETURNED if brought.kept else Phase.ENDED,
        exit_code=exit_code,
        commits=brought.commits,
        branch=brought.branch,
        note=brought.problem,
    )
    if not brought.kept:
        directory.remove_workspace()
