"""Everything of a session that leaves the container's network: the proxy, and granted local services."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from containai.audit.writer import EventLog, Kind
from containai.egress.relay import Relay, connections_together
from containai.egress.squid import Squid
from containai.errors import AuditError, EgressError
from containai.plan.model import PROXY_PORT, Identity
from containai.policy.model import LocalService, NetworkMode, NetworkPolicy

_CONNECT_TIMEOUT_S = 10.0
MOST_REFUSED = 100  # the agent chooses the names: they must not grow without bound


class Egress:
    """The running parts; ``stop`` ends them and returns after the last event.

    Attributes:
        refused: Hosts that were refused, in the order of the first request; the first ``MOST_REFUSED`` of them.
    """

    def __init__(self, log: EventLog, on_failure: Callable[[AuditError], None]) -> None:
        self.refused: dict[str, None] = {}
        self._log = log
        self._on_failure = on_failure
        self._relays: list[Relay] = []
        self._together = threading.BoundedSemaphore(connections_together())
        self._squid: Squid | None = None

    def add_proxy(self, listener: int, squid: Squid) -> None:
        """Serve the proxy's port."""
        self._squid = squid
        self._relays.append(Relay(listener, squid.connect, self._proxy_ended, self._together))

    def add_local(self, listener: int, service: LocalService) -> None:
        """Serve one granted service."""

        def connect() -> socket.socket:
            upstream = socket.create_connection((service.host, service.port), timeout=_CONNECT_TIMEOUT_S)
            upstream.settimeout(None)
            return upstream

        def ended(received: int, sent: int, refused: str) -> None:
            reason = {"reason": refused} if refused else {}
            self.record(
                "local-service",
                host=service.host,
                port=service.port,
                method="TCP",
                url="",
                status=0,
                verdict="allow",
                bytes_in=received,
                bytes_out=sent,
                **reason,
            )

        self._relays.append(Relay(listener, connect, ended, self._together))

    def _proxy_ended(self, _received: int, _sent: int, refused: str) -> None:
        if refused:  # what Squid served or refused, Squid has logged
            self.record("proxy-unavailable", host="", port=PROXY_PORT, verdict="deny", reason=refused)

    def record(self, event: str, **fields: Any) -> None:
        """Write one network event; a log that fails ends the session (A4)."""
        if event == "request" and fields["verdict"] == "deny" and fields["host"] and len(self.refused) < MOST_REFUSED:
            self.refused[fields["host"]] = None
        try:
            self._log.append(Kind.NETWORK, event, **fields)
        except AuditError as error:
            self._on_failure(error)

    def stop(self) -> None:
        """End relays, then Squid, whose last lines still come. Idempotent."""
        for relay in self._relays:
            relay.stop()
        if self._squid is not None:
            self._squid.stop()


def start_egress(
    *,
    policy: NetworkPolicy,
    listeners: Sequence[int],
    directory: Path,
    identity: Identity,
    squid: Path | None,
    tether: Sequence[str],
    log: EventLog,
    on_failure: Callable[[AuditError], None],
) -> Egress:
    """Start what the policy asks for; does not wait for Squid to be ready.

    Args:
        listeners: Listening sockets inside the container: the proxy's port unless the mode is ``none``,
            then one for each of ``policy.local_services``.

    Raises:
        EgressError: The proxy is needed and cannot be started.
    """
    egress = Egress(log, on_failure)
    waiting = list(listeners)
    try:
        if policy.mode is not NetworkMode.NONE:
            if squid is None:
                raise EgressError("Squid is not installed", code="egress.missing", remedy=["containai doctor"])
            proxy = Squid(
                policy=policy,
                directory=directory,
                identity=identity,
                program=squid,
                tether=tether,
                on_event=lambda event, fields: egress.record(event, **fields),
            )
            egress.add_proxy(waiting.pop(0), proxy)
        for service in policy.local_services:
            egress.add_local(waiting.pop(0), service)
    except BaseException:
        egress.stop()
        raise
    return egress
