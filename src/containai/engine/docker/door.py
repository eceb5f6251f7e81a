"""The way into a container that Docker's seccomp profile guards: each program that enters asks here first.

runc connects before a program's first exec, from outside of the container, and hands over a listener of that
program's notifications (``listenerPath`` of the profile): for the first process, and for each ``docker exec``. Who
finds nobody here cannot enter: runc ends with an error. Source: OCI runtime-spec, config-linux.md, "seccomp".
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from containai.errors import EngineError
from containai.host.clock import monotonic_s

_MAX_STATE_BYTES = 64 * 1024
_STATE_TIMEOUT_S = 5.0


class Door:
    """Where runc knocks.

    Args:
        path: The socket; its directory is the launcher's alone, so that only root and he can connect.
        token: What the profile says to runc and nobody else; a visitor that does not say it is turned away.
    """

    def __init__(self, path: Path, token: str) -> None:
        self._token = token
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(8)
        self._stop_read, self._stop_write = os.pipe()
        self._thread: threading.Thread | None = None
        self._visitor: Callable[[int], None] | None = None

    def first(self, deadline_s: float) -> int:
        """The listener of the container's first process.

        Raises:
            EngineError: None came in time.
        """
        self._socket.settimeout(max(0.0, deadline_s - monotonic_s()))
        try:
            listener = self._admit()
        except OSError as error:
            raise EngineError(
                "the container did not ask for entry", code="engine.create", details=str(error)
            ) from error
        finally:
            self._socket.settimeout(None)
        if listener is None:
            raise EngineError("somebody else asked for entry", code="engine.create")
        return listener

    def open_to(self, visitor: Callable[[int], None] | None) -> None:
        """Answer from now on: ``visitor`` takes each listener over; with None everybody is turned away."""
        self._visitor = visitor
        if self._thread is None:
            self._thread = threading.Thread(target=self._answer, name="docker-door", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Let nobody in any more. Idempotent."""
        if self._stop_write >= 0:
            os.close(self._stop_write)
            self._stop_write = -1
            if self._thread is not None:
                self._thread.join()
            os.close(self._stop_read)
            self._socket.close()

    def _answer(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        while self._stop_read not in {fd for fd, _ in poll.poll()}:
            with contextlib.suppress(OSError):
                listener = self._admit()
                if listener is not None and self._visitor is not None:
                    self._visitor(listener)
                elif listener is not None:
                    os.close(listener)  # its exec fails: nobody is there to ask

    def _admit(self) -> int | None:
        """Take one visitor's listener; None where he is not ours."""
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(_STATE_TIMEOUT_S)
            message, fds, _, _ = socket.recv_fds(connection, _MAX_STATE_BYTES, 8)
            if len(fds) == 1 and _metadata(message) == self._token:
                os.set_inheritable(fds[0], False)
                return fds[0]
            for fd in fds:
                os.close(fd)
            return None


def _metadata(message: bytes) -> str:
    try:
        return str(json.loads(message)["metadata"])
    except (KeyError, TypeError, ValueError):
        return ""
