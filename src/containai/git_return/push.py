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
import shutil
from collections.abc import Callable

from containai.errors import ContainaiError
from containai.git_return.closure import find_leak
from containai.git_return.connection import Connection
from containai.git_return.quarantine import MAX_OBJECTS, MAX_PACK_BYTES, MAX_PACKS, MAX_TOTAL_BYTES, Quarantine
from containai.git_return.relay import IDLE_S, Bounds, serve_git
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
from containai.policy.model import GIB
from containai.record import dataclass
from containai.workspace.git import Argument, run_git

MAX_COMMANDS = 64
_MAX_COMMAND_BYTES = 1024 * 1024
_MEMORY_BYTES = 2 * GIB


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
        max_bytes = min(MAX_PACK_BYTES, MAX_TOTAL_BYTES - sum(packs.values()))
        # --stateless-rpc: git does not advertise, because we have.
        command: list[Argument] = [
            "-c",
            f"receive.maxInputSize={max_bytes}",
            "receive-pack",
            "--stateless-rpc",
            quarantine.path,
        ]
        bounds = Bounds(memory_bytes=_MEMORY_BYTES, file_bytes=2 * max_bytes)
        serve_git(client, quarantine, command, beginning=push.raw + head, bounds=bounds)
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


def _settle(
    quarantine: Quarantine, before: str, packs: dict[str, int], announced: int, deep: Callable[[], bool]
) -> str | None:
    """Step 5. Leaves the quarantine either with a push that stands on its own, or as it was."""
    for unfinished in (quarantine.path / "objects").glob("*incoming-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
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
