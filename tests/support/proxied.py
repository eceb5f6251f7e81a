"""An egress as a session has it, on the proxy side of a test's internet."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from containai.egress import squid as squid_module
from containai.egress.session import Egress, start_egress
from containai.plan.model import Identity
from containai.policy.model import LocalService, NetworkMode, NetworkPolicy
from containai.render.squid import render_squid_conf
from tests.support.internet import Internet

SQUID = Path("/usr/sbin/squid")
PROXY_UID = 0x70000000 + 4001
IDENTITY = Identity(agent_uid=PROXY_UID - 1, agent_gid=PROXY_UID - 1, proxy_uid=PROXY_UID, proxy_gid=PROXY_UID)
TETHER = (
    "setpriv", f"--reuid={PROXY_UID}", f"--regid={PROXY_UID}", "--clear-groups", "--pdeathsig=KILL", "--",
)  # fmt: skip


def squid_major() -> int:
    """The first number of this machine's Squid."""
    said = subprocess.run([SQUID, "-v"], capture_output=True, text=True, timeout=20, check=True).stdout
    found = re.search(r"Version (\d+)", said)
    assert found, said
    return int(found[1])


class Log:
    """Stands for the session's event log."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def append(self, _kind: Any, event: str, **fields: Any) -> None:
        self.events.append((event, fields))


class Proxied:
    """One egress, and a client of it as the agent would be."""

    def __init__(self, net: Internet, egress: Egress, listener: socket.socket, directory: Path) -> None:
        self.net = net
        self.local: list[socket.socket] = []
        self.egress = egress
        self.listener = listener
        self.directory = directory
        self.log: Log = egress._log  # type: ignore[assignment]

    @property
    def squid(self) -> squid_module.Squid:
        assert self.egress._squid is not None
        return self.egress._squid

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return self.log.events

    def dial(self) -> socket.socket:
        """A connection to the proxy's port, as the agent sees it."""
        return socket.create_connection(self.listener.getsockname(), timeout=10)

    def ask(self, raw: bytes, *, settle_s: float = 0.15) -> bytes:
        """Send bytes and return what comes back within ``settle_s`` of the last byte."""
        with self.dial() as agent:
            agent.sendall(raw)
            return receive(agent, settle_s)

    def connect(self, host: str, port: int = 443) -> bytes:
        """The status line of a CONNECT."""
        return self.ask(b"CONNECT %s:%d HTTP/1.1\r\n\r\n" % (host.encode("latin-1"), port)).split(b"\r\n")[0]

    def last(self) -> dict[str, Any]:
        """The fields of the next event to come, or the last one that came."""
        return self.wait_for(lambda: bool(self.events)) and self.events[-1][1]

    @staticmethod
    def wait_for(condition: Callable[[], bool], timeout_s: float = 5) -> Any:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.005)
        return True

    def stop(self) -> None:
        self.net.proxy_side.run(self.egress.stop)


def _unexpected(error: Exception) -> None:
    raise error


def receive(agent: socket.socket, settle_s: float) -> bytes:
    agent.settimeout(10)
    answer = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while chunk := agent.recv(65536):
            answer += chunk
            agent.settimeout(settle_s)
    return answer


@contextlib.contextmanager
def proxied(
    net: Internet,
    tmp_path: Path,
    *domains: str,
    edit: Callable[[str], str] | None = None,
    services: tuple[LocalService, ...] = (),
    squid: Path = SQUID,
) -> Iterator[Proxied]:
    """Start an egress for an allow-list; ``edit`` changes squid.conf on its way, to take a rule out."""
    directory = tmp_path / secrets.token_hex(6) / "egress"
    directory.mkdir(parents=True)
    directory.chmod(0o700)
    for parent in directory.parents:  # what a proxy user cannot walk to, it must not need to walk to
        if parent == tmp_path:
            break
        parent.chmod(0o711)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(1 + len(services))]
    net.seen.clear()
    net.queries.clear()
    with pytest.MonkeyPatch.context() as patch:
        if edit is not None:
            patch.setattr(squid_module, "render_squid_conf", lambda **given: edit(render_squid_conf(**given)))
        egress = net.proxy_side.run(
            lambda: start_egress(
                policy=NetworkPolicy(mode=NetworkMode.SQUID, domains=domains, local_services=services),
                listeners=[listener.fileno() for listener in listeners],
                directory=directory,
                identity=IDENTITY,
                squid=squid,
                tether=TETHER,
                log=Log(),  # type: ignore[arg-type]
                on_failure=_unexpected,
            )
        )
    running = Proxied(net, egress, listeners[0], directory)
    running.local = listeners[1:]
    try:
        yield running
    finally:
        running.stop()
        for listener in listeners:
            listener.close()


def without(*rules: str) -> Callable[[str], str]:
    """An ``edit`` that takes lines out of squid.conf; each must be there."""

    def edit(config: str) -> str:
        lines = config.split("\n")
        for rule in rules:
            assert rule in lines, rule
            lines.remove(rule)
        return "\n".join(lines)

    return edit


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))
