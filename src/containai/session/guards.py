"""The guards of a running agent, all of them outside its container: supervisor, return server, egress."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from containai.engine.protocol import Container, Engine
from containai.errors import ContainaiError
from containai.git_return.server import ReturnServer
from containai.policy.model import ExecPolicy
from containai.session.disk import DiskGuard
from containai.session.engines import SUPERVISE_LIBRARY, native_file
from containai.session.kernel_memory import KernelMemoryGuard
from containai.session.opened import OpenSession
from containai.supervise.loop import ExecSupervisor
from containai.supervise.rules import RuleBook
from containai.supervise.spool import Denials

if TYPE_CHECKING:
    from containai.egress.session import Egress


class Guards:
    """What watches one agent. A guard that can no longer do its work ends the agent (A4)."""

    def __init__(self, container: Container, session: OpenSession) -> None:
        self._container = container
        self._failure = ""
        self._server = ReturnServer(container.listeners[0], session.quarantine, session.log)
        self._log = session.log
        self._visitors: list[tuple[ExecSupervisor, int]] = []
        self._made = 0
        self._over = False
        self._egress: Egress | None = None
        self._folder = session.directory.path
        policy = session.plan.policy
        enforced = policy.exec_policy is ExecPolicy.ENFORCE
        self._denials = Denials(
            files=frozenset(session.plan.denied_files),
            rules=tuple(rule.name for rule in policy.exec_rules),
            enforced=enforced,
        )
        self._rules = RuleBook(policy.exec_rules, enforced=enforced) if policy.exec_rules else None
        self.supervisor = self._make_supervisor(container.notify_fd, container.memory_fd)

    @classmethod
    def start(cls, container: Container, session: OpenSession, always: contextlib.ExitStack) -> Guards:
        """Start what the agent's first instruction needs, and the return server."""
        guards = cls(container, session)
        always.callback(guards._server.stop)
        guards._server.start()
        always.callback(guards.supervisor.stop)
        guards.supervisor.start()
        always.callback(guards._leave)
        container.welcome(guards._supervise_visitor)
        directory, limits = session.directory, session.plan.policy.limits
        for watch in (
            DiskGuard(
                directory.path,
                directory.workspace,
                container.pid,
                limits.workspace_bytes,
                guards._fail,
                freezer=container.find_freezer(),
            ),
            KernelMemoryGuard(container.pid, directory.workspace, limits.memory_bytes, guards._fail),
        ):
            always.callback(watch.stop)
            watch.start()
        return guards

    def _make_supervisor(self, notify_fd: int, memory_fd: int = -1) -> ExecSupervisor:
        number = self._made
        return ExecSupervisor(
            notify_fd,
            self._log,
            self._fail,
            library=native_file(SUPERVISE_LIBRARY),
            denials=self._denials,
            rules=self._rules,
            spool=self._folder / f"execs{f'-{number}' if number else ''}.spool",
            memory_fd=memory_fd,
        )

    def _supervise_visitor(self, notify_fd: int) -> None:
        """A program that the engine starts in the container (``docker exec``) is supervised as the agent is.

        The container's first process reads its own descendants and not a visitor's: where the launcher may not read
        that memory either, a visitor's execs are recorded as unreadable, and fail.
        """
        if self._over:
            os.close(notify_fd)
            return
        self._made += 1
        visitor = self._make_supervisor(notify_fd)
        self._visitors.append((visitor, notify_fd))
        visitor.start()

    def _leave(self) -> None:
        self._over = True
        for visitor, notify_fd in self._visitors:
            visitor.stop()
            os.close(notify_fd)

    def open_network(
        self,
        engine: Engine,
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
                tether=engine.tether(uid=identity.proxy_uid, gid=identity.proxy_gid),
                log=session.log,
                on_failure=self._fail,
            )
        except ContainaiError as error:
            self._fail(error)
        else:
            self._egress = egress
            always.callback(egress.stop)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a guard that has stopped leaves to do."""
        supervisors = (self.supervisor, *(visitor for visitor, _ in self._visitors))
        left = sum(supervisor.unmoved_bytes for supervisor in supervisors)
        if not left:
            return ()
        return (f"{left} bytes of exec records are not in the log yet; containai recover moves them",)

    @property
    def refused_hosts(self) -> tuple[str, ...]:
        """Hosts that the proxy refused."""
        return () if self._egress is None else tuple(self._egress.refused)

    def _fail(self, error: ContainaiError) -> None:
        self._failure = self._failure or " ".join(filter(None, (error.summary, error.details)))
        self._container.kill()

    def check(self) -> str:
        """Why a guard ended the session, if one did."""
        failure = self._server.failure
        return self._failure or ("" if failure is None else failure.summary)
