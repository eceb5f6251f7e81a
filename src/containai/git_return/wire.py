"""The beginning of git's wire protocol, as far as the host speaks it itself. PURE.

The host reads what a client asks for, and what a push wants to do to which ref, before any git process exists for it.
Everything after that is git's own work.

Source: gitprotocol-common(5), gitprotocol-pack(5), gitprotocol-capabilities(5).
Trust: every byte comes from the container.
"""

from __future__ import annotations

import re
from enum import Enum

from containai.record import dataclass

REPOSITORY = b"/return.git"
"""The only path that exists, for a client."""

FLUSH = b"0000"
MAX_PACKET = 65520
PACK_HEADER_BYTES = 12

_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
_COMMAND = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) ([^\0\n ]+)(?:\0([^\n]*))?\n?")
_SHALLOW = re.compile(rb"shallow (?:[0-9a-f]{40}|[0-9a-f]{64})\n?")


class WireError(Exception):
    """The client does not speak the protocol, or asks for more than there is."""


class Service(Enum):
    """What a client can ask for."""

    FETCH = b"git-upload-pack"
    PUSH = b"git-receive-pack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a push wants: ``ref`` to go from ``old`` to ``new``."""

    ref: str
    old: str
    new: str

    @property
    def deletes(self) -> bool:
        """Whether the ref is to disappear."""
        return not self.new.strip("0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """One packet of a push's command list; ``command`` is None for a line about shallow history."""

    command: Command | None
    capabilities: frozenset[bytes] = frozenset()


def packet(payload: bytes) -> bytes:
    """``payload`` as one packet."""
    return b"%04x" % (len(payload) + 4) + payload


def parse_length(head: bytes) -> int:
    """Bytes of payload that follow the four bytes ``head``; 0 for a flush packet.

    Raises:
        WireError: It is no packet.
    """
    if not _LENGTH.fullmatch(head):
        raise WireError("not a packet")
    length = int(head, 16)
    if length == 0:
        return 0
    if not 5 <= length <= MAX_PACKET:
        raise WireError("impossible packet length")
    return length - 4


def parse_request(payload: bytes) -> Service:
    """What the first packet of a connection asks for.

    The path must be ours, letter by letter: it is compared, never used. A request for protocol version 2 is answered in
    version 0, on purpose: in version 2 a client may ask for any object by its name, in version 0 only for the
    tips that it was shown.

    Raises:
        WireError: It asks for another service or another repository.
    """
    wanted = payload.partition(b"\0")[0].removesuffix(b"\n")
    for service in Service:
        if wanted == service.value + b" " + REPOSITORY:
            return service
    raise WireError("no such service or repository")


def advertisement(commit: str, ref: str) -> bytes:
    """What a push is told: one ref, and what this end understands.

    ``no-thin`` makes the client send whole objects. A pack that leans on objects of the receiving side would be
    completed with objects of the host repository that the container may never have seen (``closure``).
    """
    object_format = b"sha1" if len(commit) == 40 else b"sha256"
    capabilities = b"report-status delete-refs side-band-64k quiet ofs-delta no-thin object-format=" + object_format
    return packet(commit.encode() + b" " + ref.encode() + b"\0" + capabilities + b"\n") + FLUSH


def parse_command(payload: bytes) -> CommandLine:
    """One line of a push's command list.

    Raises:
        WireError: It is neither a command nor a ``shallow`` line.
    """
    if _SHALLOW.fullmatch(payload):
        return CommandLine(command=None)
    found = _COMMAND.fullmatch(payload)
    if found is None:
        raise WireError("not a push command")
    old, new, ref, capabilities = found.groups()
    command = Command(ref=ref.decode(errors="replace"), old=old.decode(), new=new.decode())
    return CommandLine(command=command, capabilities=frozenset((capabilities or b"").split()))


def parse_pack_header(header: bytes) -> int:
    """Number of objects that a pack announces.

    Raises:
        WireError: It is no pack.
    """
    if len(header) != PACK_HEADER_BYTES or header[:4] != b"PACK" or int.from_bytes(header[4:8], "big") not in (2, 3):
        raise WireError("not a pack")
    return int.from_bytes(header[8:], "big")


def error_packet(reason: str, *, sideband: bool) -> bytes:
    """``reason`` as git shows it to its user: on the error band of a push, or as an ERR packet."""
    text = reason.encode()
    return packet(b"\x03" + text + b"\n") + FLUSH if sideband else packet(b"ERR " + text)
