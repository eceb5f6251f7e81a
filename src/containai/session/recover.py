"""Finish what an interruption left: return the work of dead sessions, remove their traces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from containai.audit.writer import EventLog, Kind
from containai.egress.squid import remove_shared_memory, service_name
from containai.errors import ContainaiError, StateError
from containai.git_return.quarantine import create_quarantine, open_quarantine
from containai.host import cgroups
from containai.host.layout import layout_of_image, read_layout
from containai.plan.filesystem import ETC_ALLOWED, PROC_MASKED, account_files, plan_mounts
from containai.plan.model import Identity, SessionPlan, Source
from containai.policy.model import Author, Limits, Policy
from containai.preflight.facts import Trials
from containai.preflight.report import refuse_if_needed
from containai.record import as_dict, dataclass, replace
from containai.session.engines import ask_docker, look_at_host, make_engine, remove_docker_leftovers
from containai.session.record import Phase, SessionRecord, session_branch
from containai.session.reserve import release_reserve
from containai.session.returning import bring_home, settle
from containai.session.state import SessionDir, SessionStore
from containai.supervise.spool import has_spools, recover_spools
from containai.workspace.branch import claim_branch, release_branch

_NOT_NEEDED = frozenset({"state"})
"""A full disk: a session that exists has its directory, and its reserve; what then fails keeps the work where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What became of one interrupted session."""

    session: str
    branch: str
    commits: tuple[str, ...] = ()
    problem: str = ""
    code: str = ""  # of the problem, where it has one
    remedy: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return as_dict(self)


def recover_all(state_dir: Path, wanted: str | None, *, config_dir: Path) -> Iterator[Recovered]:
    """Recover one named session, or every session that needs it.

    A session whose work was kept on purpose (``--no-push``) is returned only when it is named.

    Raises:
        StateError: The named session still runs.
    """
    store = SessionStore(state_dir)
    if wanted is not None:
        directory = store.find(wanted)
        sessions = [(directory, directory.read())]
    else:
        store.remove_unborn()
        survey = store.survey()
        sessions = list(survey.whole)
        for damaged, why in survey.damaged:
            yield _failed(damaged.id, "", why)
    for directory, record in sessions:
        on_purpose = record.phase is Phase.UNRETURNED and not record.push
        taken = True
        try:
            if record.phase is Phase.ENDED and directory.has_leftovers and directory.lock():
                directory.remove_workspace()
                directory.unlock()
            if record.phase is Phase.ENDED and has_spools(directory.path) and directory.lock():
                yield _recover_records(directory, record)
            if record.phase is Phase.ENDED or (on_purpose and wanted is None):
                continue
            taken = directory.lock()
            if taken:
                yield _recover(directory, record, state_dir, config_dir)
        except Exception as error:  # noqa: BLE001 - whatever one session's work does, the others are recovered
            yield _failed(record.id, record.branch, error)
        finally:
            directory.unlock()
        if not taken and wanted is not None:
            raise StateError(
                f"session {record.id} is running",
                code="state.running",
                remedy=["containai log --follow   # until it ends"],
            )


def _failed(session_id: str, branch: str, error: Exception) -> Recovered:
    code, remedy = (error.code, error.remedy) if isinstance(error, ContainaiError) else ("internal.error", ())
    return Recovered(session=session_id, branch=branch, problem=_told(error), code=code, remedy=remedy)


def _recover_records(directory: SessionDir, record: SessionRecord) -> Recovered:
    """Bring the records of a session that has ended, and could not write them all, into its log."""
    try:
        log = EventLog(directory.events_path, record.id)
        with contextlib.closing(log):
            recover_spools(directory.path, log)
            log.append(Kind.SESSION, "recovered", phase=record.phase.value)
    except (ContainaiError, OSError) as error:
        return _failed(record.id, record.branch, error)
    finally:
        directory.unlock()
    return Recovered(session=record.id, branch=record.branch, notes=("exec records moved into the log",))


def _told(error: Exception) -> str:
    if isinstance(error, ContainaiError):
        return " ".join(filter(None, (error.summary, error.details)))
    return repr(error)


def _recover(directory: SessionDir, record: SessionRecord, state_dir: Path, config_dir: Path) -> Recovered:
    for group in cgroups.find_leftovers({record.id}):
        group.kill()
        group.destroy()
    remove_shared_memory(service_name(record.id))
    release_reserve(directory.path)
    if record.engine == "docker":
        remove_docker_leftovers(record.id)
    source = Source(
        toplevel=Path(record.repository),
        git_dir=Path(record.git_dir),
        base_commit=record.base_commit,
        described=session_branch(record),
    )
    if record.phase is Phase.CREATING:  # the agent never ran
        if not record.in_place:
            claim_branch(source, record.branch)
            release_branch(source, record.branch, record.base_commit)
        directory.remove()
        return Recovered(session=record.id, branch=record.branch)
    identity = Identity(
        agent_uid=record.agent_uid, agent_gid=record.agent_gid, proxy_uid=record.agent_uid, proxy_gid=record.agent_gid
    )
    trials = Trials(identity)
    docker = ask_docker(record.engine, "", (record.image,), apparmor=trials.apparmor_enabled)
    facts = look_at_host(trials, state_dir, with_proxy=False, docker=docker)
    refuse_if_needed(facts, record.engine, apart=_NOT_NEEDED)
    plan = _housekeeping_plan(directory, record, source, identity)
    branch = session_branch(record)
    with contextlib.ExitStack() as held:
        log = EventLog(directory.events_path, record.id)
        held.callback(log.close)
        plan = replace(plan, denied_files=recover_spools(directory.path, log))
        log.append(Kind.SESSION, "recovered", phase=record.phase.value)
        quarantine = (
            open_quarantine(directory.quarantine, branch, record.base_commit)
            if directory.quarantine.exists()
            else create_quarantine(directory.quarantine, source, branch)
        )
        claim_branch(source, branch)
        engine = make_engine(record.engine, facts)
        held.callback(engine.settle)
        brought = bring_home(engine, directory, plan, quarantine, log, config_dir=config_dir)
        log.append(Kind.SESSION, "session-end", status=record.exit_code)
        settle(directory, brought, record.exit_code)
    return Recovered(
        session=record.id, branch=brought.branch, commits=brought.commits, problem=brought.problem, notes=brought.notes
    )


def _housekeeping_plan(directory: SessionDir, record: SessionRecord, source: Source, identity: Identity) -> SessionPlan:
    limits = Limits()
    layout = read_layout(ETC_ALLOWED, PROC_MASKED)
    in_image = record.engine == "docker"
    return SessionPlan(
        session_id=record.id,
        name=record.name,
        agent=record.agent,
        engine=record.engine,
        source=source,
        branch=session_branch(record),
        in_place=record.in_place,
        command=(),
        environment=(),
        passed_variables=(),
        mounts=plan_mounts(
            layout_of_image(layout) if in_image else layout, directory.workspace, (), (), limits.tmpfs_bytes
        ),
        files=account_files(identity.agent_uid) if in_image else account_files(),
        image=record.image,
        identity=identity,
        policy=Policy(limits=limits),
        author=Author(name=record.author[0], email=record.author[1]) if record.author else None,
    )
