"""Fill the session's workspace: the host packs the history, git inside a container checks the files out."""

from __future__ import annotations

import os

from containai.audit.writer import Kind
from containai.engine.protocol import Container, Engine
from containai.errors import WorkspaceError
from containai.git_return.base import find_obstacle
from containai.plan.model import SessionPlan
from containai.render.containers import render_housekeeping
from containai.session.filling import CheckoutGuard
from containai.session.housekeeping import Chore, Collector, WatchedPlaces, await_chore, run_chore
from containai.session.opened import OpenSession
from containai.session.signals import EndingSignals
from containai.workspace.scripts import commit_identity, prepare_command
from containai.workspace.seed import seed_workspace

PREPARE_TIMEOUT_S = 900.0


def checkout_command(plan: SessionPlan) -> tuple[str, ...]:
    """What checks the files out, inside."""
    return prepare_command(source=plan.source, branch=plan.branch, agent=plan.agent, author=plan.author)


def fill_workspace(session: OpenSession) -> tuple[str, ...]:
    """Bring the history of the session's branch, and what else was asked for, into its workspace: the host's part.

    Returns:
        Notes for the user.

    Raises:
        WorkspaceError: It could not be, or nothing could come home from it.
    """
    plan = session.plan
    notes = _check_way_home(session)
    owner = (plan.identity.agent_uid, plan.identity.agent_gid) if os.geteuid() == 0 else None
    seed_workspace(
        session.directory.workspace,
        quarantine=session.quarantine.path,
        source=plan.source,
        branch=plan.branch,
        agent=plan.agent,
        author=plan.author,
        owner=owner,
    )
    if plan.source.included:
        from containai.workspace.include import copy_included  # most launches need none of it

        notes += copy_included(plan.source, session.directory.workspace, owner)
    if plan.source.lfs:
        from containai.workspace.lfs import seed_lfs

        notes += seed_lfs(session.directory.workspace, plan.source, owner)
    if plan.source.submodules:
        from containai.workspace.submodules import seed_submodules

        name, email = commit_identity(plan.agent, plan.author)
        seed_submodules(
            session.directory.workspace,
            quarantine=session.quarantine.path,
            source=plan.source,
            agent=name,
            email=email,
            owner=owner,
        )
    return notes


def _check_way_home(session: OpenSession) -> tuple[str, ...]:
    plan = session.plan
    obstacle = find_obstacle(plan.source, session.quarantine)
    if not obstacle:
        return ()
    if not plan.push:
        return (f"no work that stands on this commit can come home: git refuses a file of it ({obstacle})",)
    file = ".gitmodules" if obstacle.startswith("gitmodules") else ".gitattributes"
    raise WorkspaceError(
        "no work that stands on this commit could come home",
        code="workspace.no-way-home",
        details=f"git refuses the {file} of the repository:\n{obstacle}",
        remedy=[
            f"correct {file} and commit it, then start again",
            "or, to keep the work in the session's directory: containai run --no-push ...",
        ],
    )


def check_out_apart(engine: Engine, session: OpenSession, signals: EndingSignals) -> None:
    """Check the files out in a container of its own.

    Raises:
        WorkspaceError: They could not be.
        Interrupted: The user ended the launch.
    """
    spec = render_housekeeping(session.plan, "prepare", checkout_command(session.plan))
    directory = session.directory
    watch = WatchedPlaces(folder=directory.path, workspace=directory.workspace)
    chore = run_chore(engine, spec, session.quarantine, session.log, PREPARE_TIMEOUT_S, signals, watch=watch)
    _ready(session, chore)


def check_out_inside(container: Container, session: OpenSession, signals: EndingSignals) -> None:
    """Check the files out in the agent's container, which has been verified and in which nothing has run.

    Raises:
        WorkspaceError: They could not be.
        Interrupted: The user ended the launch.
    """
    printed = Collector(os.dup(container.preparation_fd))
    directory, limits = session.directory, session.plan.policy.limits
    guard = CheckoutGuard(container, directory.path, directory.workspace, limits.workspace_bytes)
    guard.start()
    try:
        container.prepare()
        result = await_chore(container, "prepare", PREPARE_TIMEOUT_S, signals)
    finally:
        guard.stop()
    if guard.failure is not None:
        raise guard.failure
    _ready(session, Chore(status=result.status, output=b"", errors=printed.result()))


def _ready(session: OpenSession, chore: Chore) -> None:
    if chore.status != 0:
        raise WorkspaceError(
            "the workspace could not be cloned",
            code="workspace.clone",
            details=chore.errors.decode(errors="replace").strip()[-2000:],
            remedy=["git fsck in the repository", "df -h: is there room for a copy?"],
        )
    session.log.append(Kind.SESSION, "workspace-ready", head=session.plan.source.base_commit)
