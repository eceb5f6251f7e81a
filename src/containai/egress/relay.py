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

MAX_CONNECTIONS = 200
_CHUNK = 1 << 16

Connect = Callable[[], socket.socket]
OnEnd = Callable[[int, int, str], None]


class Relay:
    """Serves one listening socket: each connection is joined to a fresh one from ``connect``.

    Args:
        listener: Descriptor of the listening socket; it is duplicated.
        connect: Opens the other side; a ``ContainaiError`` or ``OSError`` refuses the connection.
        on_end: Called with the bytes received and sent by the agent, and why the connection was refused.
    """

    def __init__(self, listener: int, connect: Connect, on_end: OnEnd) -> None:
        self._listener = socket.socket(fileno=os.dup(listener))
        self._connect = connect
        self._on_end = on_end
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
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
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            with self._guard:
                self._threads.add(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        received = sent = 0
        refused = ""
        try:
            with client:
                client.setblocking(True)
                try:
                    upstream = self._connect()
                except (ContainaiError, OSError) as error:
                    refused = str(error)
                else:
                    with upstream:
                        received, sent = _join(client, upstream, self._stop)
            self._on_end(received, sent, refused)
        finally:
            self._room.release()
            with self._guard:
                self._threads.discard(threading.current_thread())


def _join(client: socket.socket, upstream: socket.socket, stop: int) -> tuple[int, int]:
    """Copy both ways until both have ended or ``stop`` is readable; bytes to and from the client."""
    counts = {client.fileno(): 0, upstream.fileno(): 0}
    other = {client.fileno(): upstream, upstream.fileno(): client}
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    for fd in counts:
        poll.register(fd, select.POLLIN)
    open_sides = 2
    while open_sides:
        ready = dict(poll.poll())
        if stop in ready:
            break
        for fd in ready:
            target = other[fd]
            try:
                chunk = os.read(fd, _CHUNK)
                if chunk:
                    _send(target, chunk, stop)
                    counts[fd] += len(chunk)
                    continue
                target.shutdown(socket.SHUT_WR)
            except OSError:
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_RDWR)
            poll.unregister(fd)
            open_sides -= 1
    return counts[upstream.fileno()], counts[client.fileno()]


def _send(target: socket.socket, chunk: bytes, stop: int) -> None:
    """Send all of it, giving up when ``stop`` is readable."""
    view = memoryview(chunk)
    while view:
        _, writable, _ = select.select([stop], [target], [])
        if not writable:
            raise OSError("stopped")
        view = view[target.send(view, socket.MSG_DONTWAIT) :]
