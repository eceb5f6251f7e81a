"""Fill the session's workspace: cloned by git inside a container, where a hostile tree can do nothing."""

from __future__ import annotations

from containai.audit.writer import Kind
from containai.engine.embedded.engine import EmbeddedEngine
from containai.errors import WorkspaceError
from containai.render.containers import render_housekeeping
from containai.session.housekeeping import run_chore
from containai.session.opened import OpenSession
from containai.session.signals import EndingSignals
from containai.workspace.scripts import prepare_command

PREPARE_TIMEOUT_S = 900.0


def prepare_workspace(engine: EmbeddedEngine, session: OpenSession, signals: EndingSignals) -> None:
    """Clone the session's branch into its workspace.

    Raises:
        WorkspaceError: It could not be cloned.
        Interrupted: The user ended the launch.
    """
    plan = session.plan
    command = prepare_command(source=plan.source, branch=plan.branch, agent=plan.agent)
    spec = render_housekeeping(plan, "prepare", command)
    chore = run_chore(engine, spec, session.quarantine, session.log, PREPARE_TIMEOUT_S, signals)
    if chore.status != 0:
        raise WorkspaceError(
            "the workspace could not be cloned",
            code="workspace.clone",
            details=chore.output.decode(errors="replace").strip()[-2000:],
            remedy=["git fsck in the repository", "df -h: is there room for a copy?"],
        )
    session.log.append(Kind.SESSION, "workspace-ready", head=plan.source.base_commit)
