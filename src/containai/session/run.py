"""One session, from the request to the returned work. The stages in order; no decision of its own.

request -> decide (preflight, policy) -> open (branch, plan, log, quarantine) -> create -> prepare
        -> verify -> guard -> attend -> return -> settle
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from containai.audit.writer import Kind
from containai.engine.protocol import Container, Engine
from containai.errors import AuditError
from containai.host.clock import monotonic_s, since_process_start_s
from containai.host.descriptors import allow_many
from containai.plan.request import RunRequest
from containai.record import replace
from containai.render.containers import render_agent
from containai.session.ahead import FinishAhead
from containai.session.attend import Attended, attend
from containai.session.decide import Host, decide
from containai.session.engines import make_engine
from containai.session.guards import Guards
from containai.session.housekeeping import verified
from containai.session.opened import OpenSession, open_session
from containai.session.outcome import Outcome
from containai.session.record import Phase
from containai.session.report import Reporter
from containai.session.reserve import release_reserve, take_reserve
from containai.session.signals import EndingSignals
from containai.session.stdio import PipedStreams, TerminalStreams, open_streams
from containai.session.workspace import check_out_apart, check_out_inside, checkout_command, fill_workspace
from containai.workspace.notes import start_left_out_notes

GUARD_FAILED_STATUS = 125
_NOTES_GRACE_S = 0.25


class _Running(NamedTuple):
    """What the stages after the agent's start work with."""

    engine: Engine
    session: OpenSession
    signals: EndingSignals
    ahead: FinishAhead
    squid: Path | None
    config_dir: Path


def run_session(request: RunRequest, host: Host, passed: Mapping[str, str], say: Reporter) -> Outcome:
    """Run one session.

    Args:
        request: What the user asked for.
        host: Where the user's things are.
        passed: Values of ``request.passed_variables``; secret.
        say: Where progress and notes go.

    Raises:
        ContainaiError: The launch was refused or failed; nothing is left behind. Once the agent has
            started nothing is raised for its work: what cannot be returned is kept, and the outcome says so.
    """
    signals = EndingSignals()
    allow_many()
    decided = decide(request, host)
    with contextlib.ExitStack() as always, contextlib.ExitStack() as undo:
        session = open_session(request, decided, host, always, undo)
        engine = make_engine(decided.engine, decided.facts)
        always.callback(engine.settle)
        streams = open_streams(
            session.plan.identity.agent_uid, quiet_stdout=say.wants_stdout, unattended=request.prompt is not None
        )
        inside = engine.prepares_inside
        spec = render_agent(session.plan, passed, preparation=checkout_command(session.plan) if inside else ())
        # Made while the workspace is cloned; it waits, guarded and without an instruction of the agent's, for start.
        pending = engine.begin(spec, streams.stdio)
        undo.callback(pending.abandon)
        streams.given()
        left_out = start_left_out_notes(decided.source)  # git answers while the workspace is cloned
        with contextlib.ExitStack() as asked:
            asked.callback(left_out.collect, 0.0)
            told = fill_workspace(session)
            if not inside:
                check_out_apart(engine, session, signals)
            signals.stop_if_raised()
            container = verified(engine, spec, pending.complete())
            undo.callback(container.destroy)
            if inside:
                check_out_inside(container, session, signals)
            asked.pop_all()
        notes = (*decided.notes, *session.notes, *told, *left_out.collect(monotonic_s() + _NOTES_GRACE_S))
        ahead = FinishAhead(engine, session)
        always.callback(ahead.abandon)
        now = _Running(engine, session, signals, ahead, decided.facts.squid.path, host.config_file.parent)
        ended, guards = _attend(now, container, streams, notes, say, undo)
        say.progress("bringing the work home")
        return _conclude(now, ended, guards)


def _attend(
    now: _Running,
    container: Container,
    streams: PipedStreams | TerminalStreams,
    notes: tuple[str, ...],
    say: Reporter,
    undo: contextlib.ExitStack,
) -> tuple[Attended, Guards]:
    """Guard, start and attend the agent; every trace of its container is gone afterwards."""
    session, signals, plan = now.session, now.signals, now.session.plan
    with contextlib.ExitStack() as running:
        running.callback(container.destroy)
        take_reserve(session.directory.path)
        guards = Guards.start(container, session, running)
        say.starting(plan, notes)
        session.log.append(Kind.SESSION, "started", pid=container.pid)
        session.directory.update(phase=Phase.RUNNING)
        signals.stop_if_raised()
        streams.pump(container.terminal_fd)
        running.callback(streams.drain)
        container.start()
        undo.pop_all()  # from here on work may exist: nothing is thrown away
        gc.enable()
        guards.open_network(now.engine, container, session, now.squid, running)  # a first connection waits for it
        session.directory.make_durable()  # while the agent already runs
        now.ahead.begin(guards.supervisor.await_first_exec)
        ended = attend(container, signals, plan.timeout_s)
        container.kill()
        container.await_end()
        release_reserve(session.directory.path)  # for the log, which still gets lines
    while signals.take() is not None:  # the end that was asked for again has come: it does not cost the work
        pass
    failure = guards.check()
    ended = replace(ended, not_run=container.why_not_run())
    if failure:
        ended = Attended(status=GUARD_FAILED_STATUS, reason="guard")
    return ended, guards


def _conclude(now: _Running, ended: Attended, guards: Guards) -> Outcome:
    """Bring the work home and close the record; a log that takes no line leaves both to ``recover``."""
    from containai.session.returning import bring_home, keep_all, settle  # not needed for a start

    session = now.session
    detail = guards.check() or ended.not_run
    try:
        session.log.append(Kind.SESSION, "agent-ended", status=ended.status, reason=ended.reason, detail=detail)
        brought = bring_home(
            now.engine,
            session.directory,
            session.plan,
            session.quarantine,
            session.log,
            now.signals,
            config_dir=now.config_dir,
            ahead=now.ahead.pending,
        )
        session.log.append(Kind.SESSION, "session-end", status=ended.status)
        settle(session.directory, brought, ended.status)
    except AuditError as error:
        ended = replace(ended, status=GUARD_FAILED_STATUS, reason="guard")
        brought = keep_all(session.plan, error)
        session.directory.update(exit_code=ended.status)
    left = now.engine.settle()
    return Outcome(
        plan=session.plan,
        exit_code=ended.status,
        reason=ended.reason,
        branch=brought.branch,
        commits=brought.commits,
        pushed=brought.pushed,
        event_log=session.directory.events_path,
        startup_s=guards.supervisor.first_exec_s,
        duration_s=since_process_start_s(),
        not_run=ended.not_run,
        memory_kills=ended.memory_kills,
        refused_hosts=guards.refused_hosts,
        guard=guards.check(),
        problem=brought.problem,
        kept=session.directory.path if brought.kept else None,
        notes=(*brought.notes, *left, *guards.notes),
    )
