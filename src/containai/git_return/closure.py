"""Whether what was pushed stands on its own: on the base commit's history and on what the client itself sent.

The quarantine borrows *all* objects of the host repository. Without this check a container that knows the name of an
object it was never given (a commit on somebody's private branch, quoted in a commit message) could push a commit
that refers to it, and git would find it present; fetching its own branch back would then deliver it.

Two rules close that. A pack must hold exactly the objects that its sender announced: one that was completed with
host objects ("thin") is thrown away. And every object that a new tip brings in must be in such a pack, or else
be reachable from the base commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from containai.errors import ReturnFailed, WorkspaceError
from containai.git_return.quarantine import MAX_OBJECTS, Quarantine
from containai.host.clock import monotonic_s
from containai.workspace.stream import stream_git

_IDX_MAGIC = b"\xfftOc\x00\x00\x00\x02"  # Source: gitformat-pack(5), version 2 pack-*.idx
_FANOUT_END = len(_IDX_MAGIC) + 256 * 4
_WALK_S = 120.0
_MOST_MISSING = 2 * MAX_OBJECTS


def objects_of(idx: Path, hash_bytes: int) -> frozenset[bytes]:
    """Names of the objects in a pack, from its index (which host git wrote)."""
    data = idx.read_bytes()
    if not data.startswith(_IDX_MAGIC):
        raise ReturnFailed("a pack index has an unknown format", code="return.index", details=str(idx))
    count = int.from_bytes(data[_FANOUT_END - 4 : _FANOUT_END], "big")
    names = data[_FANOUT_END : _FANOUT_END + count * hash_bytes]
    return frozenset(names[at : at + hash_bytes] for at in range(0, len(names), hash_bytes))


def find_leak(
    quarantine: Quarantine, old: str, new: str, *, fresh: set[str], announced: int, deep: Callable[[], bool]
) -> str | None:
    """Why a push must not stand; None when it may.

    Args:
        old: The tip before the push; it has been checked.
        new: The tip after it.
        fresh: Names of the packs that the push left.
        announced: Objects that the client said it would send.
        deep: Asked, should it be needed, whether the whole history may be walked; that can take long.
    """
    hash_bytes = len(new) // 2
    folder = quarantine.path / "objects" / "pack"
    sent = [objects_of(folder / f"{name}.idx", hash_bytes) for name in fresh]
    if sum(map(len, sent)) > announced:
        return "the pack leans on objects that it does not hold (push with --no-thin)"
    missing: set[bytes] = set()
    for name in _reachable(quarantine, [new, f"^{old}", f"^{quarantine.base}"]):
        if not any(name in pack for pack in sent):
            missing.add(name)
            # Of earlier pushes, all of which it may refer to: what is more than that, no return takes.
            if len(missing) > _MOST_MISSING:
                return f"it refers to more than {_MOST_MISSING} objects that it does not bring"
    del sent
    for pack in quarantine.packs().keys() - fresh:
        if not missing:
            break
        missing -= objects_of(folder / f"{pack}.idx", hash_bytes)
    if missing and deep():
        # Legitimate but rare: old content came back, and the client knew that this end has it.
        for name in _reachable(quarantine, [quarantine.base]):
            missing.discard(name)
            if not missing:
                break
    return f"it refers to {len(missing)} objects that the session was not given" if missing else None


def _reachable(quarantine: Quarantine, revisions: list[str]) -> Iterator[bytes]:
    """Names of objects, as git finds them: the host's whole history may be millions."""
    command = ["rev-list", "--objects", "--no-object-names", *revisions]
    try:
        lines = stream_git(command, git_dir=quarantine.path, separator=b"\n", deadline_s=monotonic_s() + _WALK_S)
        for line in lines:
            yield bytes.fromhex(line.decode())
    except WorkspaceError as error:
        raise ReturnFailed(
            "what was pushed cannot be walked", code="return.incomplete", details=error.details or error.summary
        ) from error
