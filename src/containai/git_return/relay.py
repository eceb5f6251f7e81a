"""One git program serving one client: its answers go to the client directly, what the client sends passes through here.

That is what lets a connection be bounded in time and bytes and be ended at any moment. It also keeps it fast: git
sends small pieces, and the client's kernel holds back each one until the last is acknowledged, which ours would delay
40 ms (Nagle's algorithm against delayed acknowledgement). So each piece is acknowledged as it is read.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
from collections.abc import Sequence

from containai.git_return.connection import Connection
from containai.git_return.quarantine import Quarantine
from containai.host.clock import monotonic_s
from containai.policy.model import GIB, MIB
from containai.record import dataclass
from containai.workspace.git import Argument, Child, await_end, await_exit, end_group, spawn_git

IDLE_S = 60.0
TOTAL_S = 900.0
_CPU_S = 600
_CHUNK = 256 * 1024
_DYING_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the git program and its children may use, each of them."""

    memory_bytes: int = 4 * GIB
    file_bytes: int = 64 * MIB


def serve_git(
    client: Connection, quarantine: Quarantine, arguments: Sequence[Argument], *, beginning: bytes, bounds: Bounds
) -> int | None:
    """Run git for ``client`` until git ends, the client falls silent, or the server stops.

    Args:
        beginning: Bytes that the client has already sent.

    Returns:
        Git's exit status; None when it did not even die.
    """
    readable, writable = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        child = spawn_git(
            arguments, git_dir=quarantine.path, stdin=readable, stdout=client.socket.fileno(), stderr=null
        )
    except BaseException:
        os.close(writable)
        raise
    finally:
        os.close(readable)
        os.close(null)
    try:
        bound(child, bounds)  # before git gets a byte: it does nothing until it has read what it is to do
        _relay(client, child, writable, beginning)
    finally:
        os.close(writable)
        status = _end(child, client.wake_fd)
    return status


def bound(child: Child, bounds: Bounds) -> None:
    """Put the bounds on a git that has just been started."""
    limits = (
        (resource.RLIMIT_DATA, bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_CORE, 0),
    )
    for limit, value in limits:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(child.pid, limit, (value, value))


def _relay(client: Connection, child: Child, pipe: int, beginning: bytes) -> None:
    """Pass bytes from the client to git until git ends or the client has said all."""
    os.set_blocking(pipe, False)
    exited = os.pidfd_open(child.pid)
    pending = memoryview(beginning)
    started = monotonic_s()
    try:
        while True:
            poller = select.poll()
            poller.register(exited, select.POLLIN)
            poller.register(client.wake_fd, select.POLLIN)
            if pending:
                poller.register(pipe, select.POLLOUT)
            else:
                poller.register(client.socket, select.POLLIN)
            left_s = min(IDLE_S, started + TOTAL_S - monotonic_s())
            ready = dict(poller.poll(max(0.0, left_s) * 1000))
            if not ready or exited in ready or client.wake_fd in ready:
                return
            if pending:
                pending = pending[os.write(pipe, pending) :]
                continue
            chunk = client.receive(_CHUNK)
            if not chunk:
                return
            pending = memoryview(chunk)
    except (BrokenPipeError, ConnectionError):
        return
    finally:
        os.close(exited)


def _end(child: Child, wake_fd: int) -> int | None:
    """Wait for git to end now that its input has; make it end when it does not, or when the server stops."""
    if not await_end(child, monotonic_s() + IDLE_S, wake_fd):
        end_group(child, signal.SIGTERM)  # git then removes its temporary objects
        await_end(child, monotonic_s() + _DYING_S)
    end_group(child)  # what it started may have outlived it
    return await_exit(child, monotonic_s() + _DYING_S)
