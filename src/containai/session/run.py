"""One session, from the request to the returned work. The stages in order; no decision of its own.

request -> decide (preflight, policy) -> open (branch, plan, log, quarantine) -> prepare
        -> create -> verify -> guard -> attend -> return -> settle
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from containai.audit.writer import Kind
from containai.engine.embedded.engine import EmbeddedEngine
from containai.host.clock import monotonic_s, since_process_start_s
from containai.plan.request import RunRequest
from containai.preflight.model import Facts
from containai.render.containers import render_agent
from containai.session.attend import Attended, attend
from containai.session.decide import Host, decide, embedded_tools
from containai.session.guards import Guards, start_guards
from containai.session.housekeeping import create_verified
from containai.session.opened import OpenSession, open_session
from containai.session.outcome import Outcome
from containai.session.report import Reporter
from containai.session.returning import Brought, bring_home, settle
from containai.session.signals import EndingSignals
from containai.session.state import Phase
from containai.session.stdio import open_streams
from containai.session.workspace import prepare_workspace
from containai.workspace.notes import start_left_out_notes

GUARD_FAILED_STATUS = 125
_NOTES_GRACE_S = 0.25


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
    decided = decide(request, host)
    with contextlib.ExitStack() as always, contextlib.ExitStack() as undo:
        session = open_session(request, decided, host, always, undo)
        engine = EmbeddedEngine(embedded_tools(decided.facts))
        left_out = start_left_out_notes(decided.source)
        try:
            prepare_workspace(engine, session)
        finally:
            notes = (*decided.notes, *left_out.collect(monotonic_s() + _NOTES_GRACE_S))
        signals.stop_if_raised()
        ended, guards = _run_agent(engine, session, decided.facts, notes, passed, signals, say, undo)
        say.progress("bringing the work home")
        brought = bring_home(engine, session.directory, session.plan, session.quarantine, session.log)
        return _settle(session, ended, guards, brought)


def _run_agent(
    engine: EmbeddedEngine,
    session: OpenSession,
    facts: Facts,
    notes: tuple[str, ...],
    passed: Mapping[str, str],
    signals: EndingSignals,
    say: Reporter,
    undo: contextlib.ExitStack,
) -> tuple[Attended, Guards]:
    """Create, verify, guard, start and attend; every trace of the container is gone afterwards."""
    plan = session.plan
    with contextlib.ExitStack() as running:
        streams = open_streams(plan.identity.agent_uid, quiet_stdout=say.wants_stdout)
        container = create_verified(engine, render_agent(plan, passed), streams.stdio)
        running.callback(container.destroy)
        streams.given()
        guards = start_guards(engine, container, session, facts.squid.path, running)
        say.starting(plan, notes)
        session.log.append(Kind.SESSION, "started", pid=container.pid)
        session.directory.update(phase=Phase.RUNNING)
        signals.stop_if_raised()
        streams.pump(container.terminal_fd)
        running.callback(streams.drain)
        container.start()
        undo.pop_all()  # from here on work may exist: nothing is thrown away
        ended = attend(container, signals, plan.timeout_s)
        container.kill()
    failure = guards.check()
    ended = replace(ended, not_run=container.why_not_run())
    if failure:
        ended = Attended(status=GUARD_FAILED_STATUS, reason="guard")
    session.log.append(
        Kind.SESSION, "agent-ended", status=ended.status, reason=ended.reason, detail=failure or ended.not_run
    )
    return ended, guards


def _settle(session: OpenSession, ended: Attended, guards: Guards, brought: Brought) -> Outcome:
    session.log.append(Kind.SESSION, "session-end", status=ended.status)
    settle(session.directory, brought, ended.status)
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
        problem=guards.check() or brought.problem,
        kept=session.directory.path if brought.kept else None,
        notes=brought.notes,
    )
