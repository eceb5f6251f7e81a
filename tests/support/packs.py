"""Git objects, packs and packets made by hand, correct ones and others: what no git client would send."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
OFS_DELTA, REF_DELTA = 6, 7


@dataclass(frozen=True)
class Made:
    """An object: its name, its entry of a pack, and its kind and content."""

    name: str
    entry: bytes
    kind: str
    body: bytes


def made(kind: str, body: bytes) -> Made:
    """Any content as an object of this kind."""
    name = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(body)) + body).hexdigest()
    return Made(name, head(KINDS[kind], len(body)) + zlib.compress(body), kind, body)


def head(number: int, size: int) -> bytes:
    """How an entry of a pack begins."""
    parts, size = [number << 4 | size & 15], size >> 4
    while size:
        parts[-1] |= 128
        parts.append(size & 127)
        size >>= 7
    return bytes(parts)


def blob(body: bytes) -> Made:
    """A file's content."""
    return made("blob", body)


def tree(*rows: tuple[bytes, bytes, str]) -> Made:
    """A tree of (mode, name, object), in the order given."""
    return made("tree", b"".join(b"%s %s\0%s" % (mode, name, bytes.fromhex(sha)) for mode, name, sha in rows))


def commit(tree: str, *parents: str, who: bytes = b"A <a@example.org> 1 +0000", extra: bytes = b"") -> Made:
    """A commit; ``extra`` stands between its headers and its message."""
    lines = [b"tree " + tree.encode(), *(b"parent " + parent.encode() for parent in parents)]
    return made("commit", b"\n".join([*lines, b"author " + who, b"committer " + who, extra + b"\nby hand\n"]))


def delta_on(base: str, instructions: bytes) -> bytes:
    """An entry that changes the object of this name."""
    return head(REF_DELTA, len(instructions)) + bytes.fromhex(base) + zlib.compress(instructions)


def delta_before(distance: int, instructions: bytes) -> bytes:
    """An entry that changes what lies ``distance`` bytes (below 128) before it."""
    return head(OFS_DELTA, len(instructions)) + bytes([distance & 127]) + zlib.compress(instructions)


def pack(*entries: bytes, announced: int | None = None, version: int = 2) -> bytes:
    """A pack; ``announced`` objects if that is to be a lie."""
    count = len(entries) if announced is None else announced
    data = b"PACK" + struct.pack(">II", version, count) + b"".join(entries)
    return data + hashlib.sha1(data).digest()


def line(payload: bytes) -> bytes:
    """One packet."""
    return b"%04x" % (len(payload) + 4) + payload
