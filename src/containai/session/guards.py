"""The guards of a running agent, all of them outside its container: supervisor, return server, egress."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from containai.egress.session import start_egress
from containai.engine.embedded.engine import EmbeddedEngine
from containai.engine.protocol import Container
from containai.errors import AuditError
from containai.git_return.server import ReturnServer
from containai.session.opened import OpenSession
from containai.supervise.loop import ExecSupervisor


@dataclass(kw_only=True)
class Guards:
    """What watches the agent. ``failure`` is set when a guard failed and ended the session."""

    supervisor: ExecSupervisor
    server: ReturnServer
    failure: str = ""

    def check(self) -> str:
        """Why a guard ended the session, if one did."""
        if self.server.failure is not None and not self.failure:
            self.failure = self.server.failure.summary
        return self.failure


def start_guards(
    engine: EmbeddedEngine, container: Container, session: OpenSession, squid: Path | None, always: contextlib.ExitStack
) -> Guards:
    """Start every guard; none is needed by the agent's first instruction but the supervisor.

    A guard that can no longer write the log ends the agent (A4).
    """
    return_listener, *others = container.listeners

    def end(error: AuditError) -> None:
        guards.failure = error.summary
        container.kill()

    egress = start_egress(
        policy=session.plan.policy.network,
        listeners=others,
        directory=session.directory.egress,
        identity=session.plan.identity,
        squid=squid,
        tether=engine.tether((), None, uid=session.plan.identity.proxy_uid, gid=session.plan.identity.proxy_gid),
        log=session.log,
        on_failure=end,
    )
    always.callback(egress.stop)
    guards = Guards(
        supervisor=ExecSupervisor(container.notify_fd, session.log, end),
        server=ReturnServer(return_listener, session.quarantine, session.log),
    )
    always.callback(guards.server.stop)
    guards.server.start()
    always.callback(guards.supervisor.stop)
    guards.supervisor.start()
    return guards
