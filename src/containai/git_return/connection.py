"""One client connection of the return server: bounded in time, interruptible, read to the byte."""

from __future__ import annotations

import contextlib
import select
import socket

from containai.git_return.wire import MAX_PACKET, WireError, parse_length
from containai.host.clock import monotonic_s

_DRAIN_S = 1.0
_DRAIN_BYTES = 8 * 1024 * 1024


class Connection:
    """A client.

    The socket stays in blocking mode, because git inherits it; waiting is done by ``poll``, together with
    ``wake_fd``, which becomes readable when the server stops.

    Trust: the other end is the container.
    """

    def __init__(self, client: socket.socket, wake_fd: int) -> None:
        self.socket = client
        self.wake_fd = wake_fd
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, count: int) -> bytes:
        """Up to ``count`` bytes that are there, acknowledged at once (``relay`` says why)."""
        data = self.socket.recv(count)
        # Source: tcp(7): the option does not last, so it is set each time; that also sends what was held back.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data

    def read(self, count: int, deadline_s: float) -> bytes:
        """Exactly ``count`` bytes, and not one more: what follows belongs to git.

        Raises:
            WireError: The client stopped sending, or the server is stopping.
        """
        data = b""
        while len(data) < count:
            self._wait(deadline_s)
            chunk = self.receive(count - len(data))
            if not chunk:
                raise WireError("the client went away")
            data += chunk
        return data

    def read_packet(self, deadline_s: float) -> bytes | None:
        """The payload of the next packet; None for a flush packet."""
        length = parse_length(self.read(4, deadline_s))
        return self.read(length, deadline_s) if length else None

    def refuse(self, answer: bytes) -> None:
        """Send a last word. Reads on for a moment: closing on unread bytes would make the kernel discard it."""
        deadline = monotonic_s() + _DRAIN_S
        with contextlib.suppress(OSError, WireError):
            self.socket.sendall(answer)
            self.socket.shutdown(socket.SHUT_WR)
            drained = 0
            while drained < _DRAIN_BYTES:
                self._wait(deadline)
                chunk = self.socket.recv(MAX_PACKET)
                if not chunk:
                    break
                drained += len(chunk)

    def _wait(self, deadline_s: float) -> None:
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        poller.register(self.wake_fd, select.POLLIN)
        ready = dict(poller.poll(max(0.0, deadline_s - monotonic_s()) * 1000))
        if self.wake_fd in ready:
            raise WireError("the session is ending")
        if not ready:
            raise WireError("the client took too long")
