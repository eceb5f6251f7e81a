"""Copy connections from inside the container to where they may go.

The listening sockets were made inside the container's network and handed out; accepting happens here, on the host.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable

from containai.errors import ContainaiError
from containai.host.descriptors import allowed

MAX_CONNECTIONS = 200
_MAX_TOGETHER = 600  # over all relays of a session
_KEPT_DESCRIPTORS = 400  # for everything else that a launcher does
_EACH = 2  # descriptors of a connection
_CHUNK = 1 << 16

Connect = Callable[[], socket.socket]
OnEnd = Callable[[int, int, str], None]


def connections_together() -> int:
    """How many connections the relays of a session may hold together, by what this process may have open."""
    return max(1, min(_MAX_TOGETHER, (allowed() - _KEPT_DESCRIPTORS) // _EACH))


class Relay:
    """Serves one listening socket: each connection is joined to a fresh one from ``connect``.

    Args:
        listener: Descriptor of the listening socket; it is duplicated.
        connect: Opens the other side; a ``ContainaiError`` or ``OSError`` refuses the connection.
        on_end: Called with the bytes received and sent by the agent, and why the connection was refused.
        together: Room for connections that this relay shares with others.
    """

    def __init__(self, listener: int, connect: Connect, on_end: OnEnd, together: threading.Semaphore) -> None:
        self._listener = socket.socket(fileno=os.dup(listener))
        self._connect = connect
        self._on_end = on_end
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._together = together
        self._guard = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._acceptor = threading.Thread(target=self._accept, name="relay", daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Close every connection; returns when the last event has been given. Idempotent."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        self._acceptor.join()
        with self._guard:
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        self._listener.close()
        os.close(self._stop)
        self._stop = -1

    def _accept(self) -> None:
        self._listener.setblocking(False)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while self._stop not in (ready := dict(poll.poll())):
            if ready.get(self._listener.fileno(), 0) & ~select.POLLIN:
                return  # the container's network is gone
            try:
                client = self._listener.accept()[0]
            except OSError:
                continue
            if not self._room.acquire(blocking=False):
                client.close()
                continue
            if not self._together.acquire(blocking=False):
                self._room.release()
                client.close()
                continue
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            with self._guard:
                self._threads.add(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        received = sent = 0
        refused = ""
        try:
            with client:
                try:
                    upstream = self._connect()
                except (ContainaiError, OSError) as error:
                    refused = str(error)
                else:
                    with upstream:
                        received, sent = _join(client, upstream, self._stop)
            self._on_end(received, sent, refused)
        finally:
            self._together.release()
            self._room.release()
            with self._guard:
                self._threads.discard(threading.current_thread())


class _Flow:
    """One direction of a connection. At most one chunk is held; while it is, nothing more is read."""

    __slots__ = ("count", "ended", "held", "source", "target")

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.held = memoryview(b"")
        self.count = 0
        self.ended = False

    def advance(self) -> None:
        """Move what can be moved now."""
        try:
            if not self.held:
                chunk = self.source.recv(_CHUNK)
                if not chunk:
                    self.end()
                    return
                self.held = memoryview(chunk)
            written = self.target.send(self.held)
            self.held = self.held[written:]
            self.count += written
        except BlockingIOError:
            pass
        except OSError:
            self.end()

    def end(self) -> None:
        """No more will come: say so to the target."""
        self.ended = True
        with contextlib.suppress(OSError):
            self.target.shutdown(socket.SHUT_WR)

    def waits_for(self) -> tuple[int, int]:
        """The descriptor and the event that let it go on."""
        if self.held:
            return self.target.fileno(), select.POLLOUT
        return self.source.fileno(), select.POLLIN


def _join(client: socket.socket, upstream: socket.socket, stop: int) -> tuple[int, int]:
    """Copy both ways until both have ended or ``stop`` is readable; bytes to and from the client.

    Neither direction waits for the other: a server that answers while it is being sent to would stop both.
    """
    client.setblocking(False)
    upstream.setblocking(False)
    outward, inward = _Flow(client, upstream), _Flow(upstream, client)
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    registered: dict[int, int] = {}
    while not (outward.ended and inward.ended):
        wanted: dict[int, int] = {}
        for flow in (outward, inward):
            if not flow.ended:
                fd, event = flow.waits_for()
                wanted[fd] = wanted.get(fd, 0) | event
        if wanted != registered:
            for fd in registered.keys() - wanted.keys():  # it would report a hang-up for ever
                poll.unregister(fd)
            for fd, events in wanted.items():
                poll.register(fd, events)
            registered = wanted
        ready = dict(poll.poll())
        if stop in ready:
            break
        for flow in (outward, inward):
            if not flow.ended and flow.waits_for()[0] in ready:
                flow.advance()
    return inward.count, outward.count
