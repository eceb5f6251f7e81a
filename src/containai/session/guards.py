"""The guards of a running agent, all of them outside its container: supervisor, return server, egress."""

from __future__ import annotations

import contextlib
from pathlib import Path

from containai.engine.embedded.engine import EmbeddedEngine
from containai.engine.protocol import Container
from containai.errors import ContainaiError
from containai.git_return.server import ReturnServer
from containai.session.opened import OpenSession
from containai.supervise.loop import ExecSupervisor


class Guards:
    """What watches one agent. A guard that can no longer do its work ends the agent (A4)."""

    def __init__(self, container: Container, session: OpenSession) -> None:
        self._container = container
        self._failure = ""
        self._server = ReturnServer(container.listeners[0], session.quarantine, session.log)
        self.supervisor = ExecSupervisor(container.notify_fd, session.log, self._fail)

    @classmethod
    def start(cls, container: Container, session: OpenSession, always: contextlib.ExitStack) -> Guards:
        """Start what the agent's first instruction needs, and the return server."""
        guards = cls(container, session)
        always.callback(guards._server.stop)
        guards._server.start()
        always.callback(guards.supervisor.stop)
        guards.supervisor.start()
        return guards

    def open_network(
        self,
        engine: EmbeddedEngine,
        container: Container,
        session: OpenSession,
        squid: Path | None,
        always: contextlib.ExitStack,
    ) -> None:
        """Serve the ports through which the agent may leave; until then its connections wait, and reach nothing."""
        from containai.egress.session import start_egress  # while the agent already runs

        identity = session.plan.identity
        try:
            egress = start_egress(
                policy=session.plan.policy.network,
                listeners=container.listeners[1:],
                directory=session.directory.egress,
                identity=identity,
                squid=squid,
                tether=engine.tether((), None, uid=identity.proxy_uid, gid=identity.proxy_gid),
                log=session.log,
                on_failure=self._fail,
            )
        except ContainaiError as error:
            self._fail(error)
        else:
            always.callback(egress.stop)

    def _fail(self, error: ContainaiError) -> None:
        self._failure = " ".join(filter(None, (error.summary, error.details)))
        self._container.kill()

    def check(self) -> str:
        """Why a guard ended the session, if one did."""
        failure = self._server.failure
        return self._failure or ("" if failure is None else failure.summary)
