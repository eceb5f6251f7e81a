"""A session that exists on disk and in the host repository: directory, branch, plan, log, quarantine."""

from __future__ import annotations

import contextlib
import os

from containai.audit.writer import EventLog, Kind
from containai.errors import WorkspaceError
from containai.git_return.quarantine import Quarantine, create_quarantine
from containai.host.clock import now_rfc3339
from containai.host.programs import find_programs
from containai.plan.build import build_plan
from containai.plan.model import Identity, MountKind, SessionPlan
from containai.plan.request import RunRequest
from containai.record import dataclass, replace
from containai.session.decide import Decided, Host
from containai.session.record import Phase, SessionRecord
from containai.session.state import SessionDir, SessionStore
from containai.workspace.branch import claim_current_branch, release_branch, reserve_branch

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """What every later stage works on; ``notes`` are for the user."""

    directory: SessionDir
    plan: SessionPlan
    log: EventLog
    quarantine: Quarantine
    notes: tuple[str, ...] = ()


def open_session(
    request: RunRequest, decided: Decided, host: Host, always: contextlib.ExitStack, undo: contextlib.ExitStack
) -> OpenSession:
    """Make the session.

    Args:
        always: Gets what must be closed however the session ends.
        undo: Gets what must be taken back when the agent does not come to run.
    """
    source, identity = decided.source, decided.identity
    directory = SessionStore(host.state_dir).create()
    always.callback(directory.unlock)
    undo.callback(directory.remove)
    _make_directories(directory, identity)
    if request.use_current_branch:
        branch = claim_current_branch(source)
    else:
        branch = reserve_branch(source, decided.adapter.name, request.branch, request.replace_branch)
    undo.callback(release_branch, source, branch, source.base_commit)
    plan = build_plan(
        request=request,
        adapter=decided.adapter,
        program=decided.program,
        files=decided.files,
        source=source,
        branch=branch,
        narrowed=decided.narrowed,
        layout=decided.layout,
        identity=identity,
        session_id=directory.id,
        workspace=directory.workspace,
        terminal_type=host.terminal_type,
        engine=decided.engine,
        engine_reason=decided.engine_reason,
        image=decided.image,
    )
    plan, missing = _with_denials(plan)
    directory.write(_record(plan))
    log = EventLog(directory.events_path, directory.id)
    always.callback(log.close)
    _log_configuration(log, plan)
    return OpenSession(
        directory=directory,
        plan=plan,
        log=log,
        quarantine=create_quarantine(directory.quarantine, source, branch),
        notes=_denial_notes(missing),
    )


def _make_directories(directory: SessionDir, identity: Identity) -> None:
    try:
        for path in (directory.workspace, directory.egress):
            path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(directory.workspace, identity.agent_uid, identity.agent_gid)
            directory.let_proxy_walk(identity.proxy_gid)
    except OSError as error:
        raise WorkspaceError(
            "the workspace cannot be made",
            code="workspace.make",
            details=str(error),
            remedy=["df -h: is there room where the state is kept?"],
        ) from error


def _with_denials(plan: SessionPlan) -> tuple[SessionPlan, tuple[str, ...]]:
    """Find the programs that the policy denies in the trees that the container has; and name those that are nowhere."""
    trees = [str(mount.target) for mount in plan.mounts if mount.kind is MountKind.READ_ONLY]
    search_path = dict(plan.environment).get("PATH", "")
    found = find_programs(plan.policy.denied_programs, search_path, trees)
    return replace(plan, denied_files=tuple(sorted(found.paths))), found.missing


def _denial_notes(missing: tuple[str, ...]) -> tuple[str, ...]:
    if not missing:
        return ()
    names = ", ".join(map(repr, missing[:_MOST_NAMED])) + (" ..." if len(missing) > _MOST_NAMED else "")
    kind, they = ("program", "it") if len(missing) == 1 else ("programs", "them")
    return (f"[exec] deny: the session has no {kind} {names}; nothing is denied by {they}",)


def _record(plan: SessionPlan) -> SessionRecord:
    return SessionRecord(
        id=plan.session_id,
        name=plan.name,
        agent=plan.agent,
        engine=plan.engine,
        image=plan.image,
        repository=os.fspath(plan.source.toplevel),
        git_dir=os.fspath(plan.source.git_dir),
        base_commit=plan.source.base_commit,
        branch=plan.branch,
        planned_branch=plan.branch,
        in_place=plan.in_place,
        with_commit=plan.source.changes_taken,
        created=now_rfc3339(),
        phase=Phase.CREATING,
        agent_uid=plan.identity.agent_uid,
        agent_gid=plan.identity.agent_gid,
        push=plan.push,
        config_sha256=plan.plan_sha256,
        author=(plan.author.name, plan.author.email) if plan.author else None,
    )


def _log_configuration(log: EventLog, plan: SessionPlan) -> None:
    """The ``session-config`` event (A2): what was planned, by name and digest, never a secret."""
    network = plan.policy.network
    log.append(
        Kind.SESSION,
        "session-config",
        name=plan.name,
        agent=plan.agent,
        engine=plan.engine,
        engine_reason=plan.engine_reason,
        image=plan.image,
        repository=os.fspath(plan.source.toplevel),
        head=plan.source.base_commit,
        branch=plan.branch,
        with_changes=plan.source.with_changes,
        included=list(plan.source.included),
        submodules=[submodule.path for submodule in plan.source.submodules],
        command=list(plan.command),
        passed_variables=list(plan.passed_variables),
        network=network.mode.value,
        domains=list(network.domains),
        local_services=[str(service) for service in network.local_services],
        config_sha256=plan.plan_sha256,
        policy_sha256=plan.policy_sha256,
        exec_policy=plan.policy.exec_policy.value,
        denied=list(plan.denied_files),
        exec_rules=[rule.name for rule in plan.policy.exec_rules],
    )
