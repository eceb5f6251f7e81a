"""One push into the quarantine.

    1. advertise    the one ref, in our own words
    2. read         the command list: which refs the client wants to move (logged, whatever becomes of it)
    3. bound        objects announced, bytes left, memory, processor time
    4. hand over    to ``git receive-pack``, which checks every object (fsck) and moves the ref, or refuses
    5. check        that the result stands on its own (``closure``); else the ref goes back and the objects go away

A push may rewrite the branch (the agent amended): nothing is decided here but what the branch *in the quarantine* is.
Source: W6.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass

from containai.errors import ContainaiError
from containai.git_return.closure import find_leak
from containai.git_return.connection import Connection
from containai.git_return.quarantine import MAX_OBJECTS, MAX_PACK_BYTES, MAX_PACKS, MAX_TOTAL_BYTES, Quarantine
from containai.git_return.wire import (
    PACK_HEADER_BYTES,
    Command,
    WireError,
    advertisement,
    error_packet,
    packet,
    parse_command,
    parse_pack_header,
)
from containai.host.clock import monotonic_s
from containai.workspace.git import Child, await_exit, run_git, spawn_git

IDLE_S = 60.0
TOTAL_S = 900.0
MAX_COMMANDS = 64
_MAX_COMMAND_BYTES = 1024 * 1024
_MEMORY_BYTES = 2 * 1024**3
_CPU_S = 600
_CHUNK = 256 * 1024
_DYING_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PushList:
    """What a client wants to push, and the bytes in which it said so."""

    commands: tuple[Command, ...]
    sideband: bool
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one command of a push. ``reason`` is empty when it was allowed."""

    command: Command
    reason: str = ""


def read_commands(client: Connection, quarantine: Quarantine) -> PushList:
    """Steps 1 and 2.

    Raises:
        WireError: The client does not follow the protocol.
    """
    client.socket.sendall(advertisement(quarantine.tip(), quarantine.ref))
    commands: list[Command] = []
    capabilities: frozenset[bytes] = frozenset()
    raw = bytearray()
    deadline = monotonic_s() + IDLE_S
    while (payload := client.read_packet(deadline)) is not None:
        raw += packet(payload)
        line = parse_command(payload)
        if line.command is not None:
            commands.append(line.command)
        capabilities |= line.capabilities
        if len(commands) > MAX_COMMANDS or len(raw) > _MAX_COMMAND_BYTES:
            client.refuse(error_packet("too many refs in one push", sideband=b"side-band-64k" in capabilities))
            raise WireError(f"more than {MAX_COMMANDS} refs in one push")
    return PushList(commands=tuple(commands), sideband=b"side-band-64k" in capabilities, raw=bytes(raw) + b"0000")


def receive(client: Connection, quarantine: Quarantine, push: PushList, *, deep: Callable[[], bool]) -> list[Outcome]:
    """Steps 3 to 5.

    Args:
        deep: Asked when the closure check would have to walk the whole history.

    Preconditions: no other push or fetch of this quarantine is under way.
    """
    before, packs = quarantine.tip(), quarantine.packs()
    announced, head = 0, b""
    refusal = _over_limit(packs)
    if refusal is None and not all(command.deletes for command in push.commands):
        head = client.read(PACK_HEADER_BYTES, monotonic_s() + IDLE_S)
        announced = parse_pack_header(head)
        if announced > MAX_OBJECTS:
            refusal = f"{announced} objects in one push, {MAX_OBJECTS} at most"
    if refusal is not None:
        client.refuse(error_packet(refusal, sideband=push.sideband))
        return [Outcome(command=command, reason=refusal) for command in push.commands]
    try:
        _hand_over(client, quarantine, push.raw + head, min(MAX_PACK_BYTES, MAX_TOTAL_BYTES - sum(packs.values())))
    finally:
        # Whatever ended the transfer, what it left is checked.
        leak = _settle(quarantine, before, packs, announced, deep)
    after = quarantine.tip()
    return [Outcome(command=command, reason=_reason(command, quarantine, after, leak)) for command in push.commands]


def _over_limit(packs: dict[str, int]) -> str | None:
    if len(packs) >= MAX_PACKS:
        return f"{MAX_PACKS} pushes in one session are the most"
    if sum(packs.values()) >= MAX_TOTAL_BYTES:
        return f"this session has pushed its {MAX_TOTAL_BYTES} bytes"
    return None


def _hand_over(client: Connection, quarantine: Quarantine, beginning: bytes, max_bytes: int) -> None:
    """Let ``git receive-pack`` do the push. Its answers go to the client directly; we pass on what the client sends."""
    readable, writable = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        child = spawn_git(
            # --stateless-rpc: git does not advertise, because we have.
            ["-c", f"receive.maxInputSize={max_bytes}", "receive-pack", "--stateless-rpc", quarantine.path],
            git_dir=quarantine.path,
            stdin=readable,
            stdout=client.socket.fileno(),
            stderr=null,
        )
    except BaseException:
        os.close(writable)
        raise
    finally:
        os.close(readable)
        os.close(null)
    try:
        # Before the first byte reaches it: git starts nothing until it has read the commands.
        for limit, value in (
            (resource.RLIMIT_DATA, _MEMORY_BYTES),
            (resource.RLIMIT_CPU, _CPU_S),
            (resource.RLIMIT_FSIZE, 2 * max_bytes),
        ):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(child.pid, limit, (value, value))
        _relay(client, child, writable, beginning)
    finally:
        os.close(writable)
        end(child, client.wake_fd)


def _relay(client: Connection, child: Child, pipe: int, beginning: bytes) -> None:
    """Pass bytes from the client to git until git ends."""
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
            chunk = client.socket.recv(_CHUNK)
            if not chunk:
                return
            pending = memoryview(chunk)
    except (BrokenPipeError, ConnectionError):
        return
    finally:
        os.close(exited)


def end(child: Child, wake_fd: int) -> int | None:
    """Wait for git to end after its input has ended; make it end when it does not, or when the server stops."""
    status = await_exit(child, monotonic_s() + IDLE_S, wake_fd)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if status is not None:
            break
        # SIGTERM first: git then removes its temporary objects. Its children are in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        status = await_exit(child, monotonic_s() + _DYING_S)
    return status


def _settle(
    quarantine: Quarantine, before: str, packs: dict[str, int], announced: int, deep: Callable[[], bool]
) -> str | None:
    """Step 5. Leaves the quarantine either with a push that stands on its own, or as it was."""
    after, fresh = quarantine.tip(), set(quarantine.packs().keys() - packs.keys())
    leak: str | None = None
    if after != before:
        try:
            leak = find_leak(quarantine, before, after, fresh=fresh, announced=announced, deep=deep)
        except (ContainaiError, OSError) as error:
            leak = f"it could not be checked: {error}"
        if leak is None:
            return None
        run_git(["update-ref", "--no-deref", quarantine.ref, before, after], git_dir=quarantine.path)
    for name in fresh:
        for suffix in (".idx", ".pack", ".rev", ".keep"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(quarantine.path / "objects" / "pack" / (name + suffix))
    return leak


def _reason(command: Command, quarantine: Quarantine, after: str, leak: str | None) -> str:
    if command.ref != quarantine.ref:
        return f"only {quarantine.ref} can be pushed"
    if command.deletes:
        return "the branch cannot be deleted"
    if command.new != after:
        return leak or "git refused it"
    return ""
