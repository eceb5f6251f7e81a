"""The host's end of the container's git remote.

It accepts on a socket that listens inside the container's network namespace (``git://127.0.0.1:9418/return.git``) and
lets git's own programs serve the quarantine, one at a time. The request line is read here, the path in it is
compared and never used, so there is no other repository, service or option to ask for.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time

from containai.audit.writer import EventLog, Kind
from containai.errors import AuditError, ContainaiError
from containai.git_return.connection import Connection
from containai.git_return.push import Outcome, read_commands, receive
from containai.git_return.quarantine import Quarantine
from containai.git_return.relay import IDLE_S, Bounds, serve_git
from containai.git_return.wire import Service, WireError, error_packet, parse_request
from containai.host.clock import monotonic_s
from containai.workspace.git import Argument

_MAX_CLIENTS = 16
_REQUEST_S = 10.0
_DEEP_CHECKS = 3
_SHOWN_REF = 200


_BREATH_S = 0.05


class ReturnServer:
    """Serves one quarantine to one container, in threads of this process.

    Args:
        listener: Listening socket, or its descriptor; the caller keeps and closes his own.
        quarantine: What is served.
        log: Gets an event for each fetch and each ref that a push named.

    Attributes:
        failure: Set when the log could not be written: the session must end (A4). Nothing is served from then on.
    """

    def __init__(self, listener: int | socket.socket, quarantine: Quarantine, log: EventLog) -> None:
        fd = listener if isinstance(listener, int) else listener.fileno()
        self._listener = socket.socket(fileno=os.dup(fd))
        self._listener.setblocking(False)
        self._quarantine = quarantine
        self._log = log
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._clients: set[threading.Thread] = set()
        self._acceptor = threading.Thread(target=self._accept, name="git-return", daemon=True)
        self._deep_left = _DEEP_CHECKS
        self._stopped = False
        self.failure: AuditError | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def stop(self) -> None:
        """End every connection and every git of this server, and wait for that. Idempotent.

        Postconditions: the quarantine no longer changes, and every event is in the log.
        """
        if self._stopped:
            return
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        if self._acceptor.is_alive():
            self._acceptor.join()
        with self._guard:
            clients = list(self._clients)
        for thread in clients:
            thread.join()
        self._listener.close()
        os.close(self._wake)

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while self._wake not in dict(poller.poll()):
            try:
                client = self._listener.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    time.sleep(_BREATH_S)  # a flood: it passes
                    continue
                return  # the container's network namespace is gone
            with self._guard:
                if self.failure is not None or len(self._clients) >= _MAX_CLIENTS:
                    client.close()
                    continue
                thread = threading.Thread(target=self._serve, args=(client,), name="git-client", daemon=True)
                self._clients.add(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        connection = Connection(client, self._wake)
        try:
            with client:
                try:
                    self._answer(connection)
                except (OSError, WireError, ContainaiError) as error:
                    if isinstance(error, AuditError):
                        raise
                    self._log.append(Kind.GIT, "connection", verdict="deny", reason=str(error)[:_SHOWN_REF])
        except AuditError as error:
            self.failure = error
        finally:
            with self._guard:
                self._clients.discard(threading.current_thread())

    def _answer(self, client: Connection) -> None:
        try:
            request = client.read_packet(monotonic_s() + _REQUEST_S)
            service = parse_request(request or b"")
        except WireError as error:
            client.refuse(error_packet(str(error), sideband=False))
            raise
        if service is Service.FETCH:
            self._fetch(client)
        else:
            self._push(client)

    def _fetch(self, client: Connection) -> None:
        # One at a time: a fetch must not see a push that has not been checked (``push``, step 5).
        with self._turn:
            tip = self._quarantine.tip()
            command: list[Argument] = ["upload-pack", "--strict", f"--timeout={int(IDLE_S)}", self._quarantine.path]
            status = serve_git(client, self._quarantine, command, beginning=b"", bounds=Bounds())
        verdict = "allow" if status == 0 else "deny"
        self._log.append(Kind.GIT, "fetch", ref=self._quarantine.ref, old=tip, new=tip, verdict=verdict)

    def _push(self, client: Connection) -> None:
        push = read_commands(client, self._quarantine)
        if not push.commands:  # everything up to date
            return
        with self._turn:
            try:
                outcomes = receive(client, self._quarantine, push, deep=self._may_walk)
                self._quarantine.sync_ref()
            except (OSError, WireError, ContainaiError) as error:
                outcomes = [Outcome(command=command, reason=str(error)) for command in push.commands]
                client.refuse(error_packet(str(error), sideband=push.sideband))
        for outcome in outcomes:
            self._report(outcome)

    def _report(self, outcome: Outcome) -> None:
        fields = {"reason": outcome.reason[:_SHOWN_REF]} if outcome.reason else {}
        self._log.append(
            Kind.GIT,
            "push",
            ref=outcome.command.ref[:_SHOWN_REF],
            old=outcome.command.old,
            new=outcome.command.new,
            verdict="deny" if outcome.reason else "allow",
            **fields,
        )

    def _may_walk(self) -> bool:
        self._deep_left -= 1
        return self._deep_left >= 0
