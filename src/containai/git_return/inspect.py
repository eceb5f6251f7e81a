"""What the returned commits would do to a checkout: sizes, links, submodules, names that other systems confuse.

    1. sizes    of every added object, from git's own headers, before a byte of it enters the host repository
    2. changes  of every commit: links and submodules are counted
    3. names    of what the tip adds to the base: a note for each kind that another file system would confuse

Names that are ``.git`` to another file system never come this far: fsck refuses them at the push. Those of step 3 are
legal on Linux, and a repository may hold such a pair on purpose, so they are told and not refused.

Trust: every object is the agent's making. Only plumbing that reads no attributes and starts no program is used.
Source: W6.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from containai.git_return.limits import (
    MAX_BLOB_BYTES,
    MAX_CHANGED_BYTES,
    MAX_CHANGES,
    MAX_COMMIT_BYTES,
    MAX_COMPARED,
    MAX_GITLINKS,
    MAX_LINK_BYTES,
    MAX_SYMLINKS,
    check_path,
    read_records,
    too_much,
)
from containai.git_return.quarantine import Quarantine

_LINK, _GITLINK = b"120000", b"160000"
# Source: Microsoft, "Naming Files, Paths, and Namespaces": device names, with any extension; no dot or space last.
_WINDOWS = re.compile(
    rb"(?:^|/)(?:(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.[^/]*)?|[^/]*[ .])(?:/|$)|[<>:\"|?*\\\x01-\x1f]",
    re.IGNORECASE,
)


def check_sizes(quarantine: Quarantine, objects: int, deadline_s: float) -> None:
    """Step 1.

    Args:
        objects: Descriptor with one object name a line.

    Raises:
        ReturnFailed: An object is too large.
    """
    limits = {b"commit": MAX_COMMIT_BYTES, b"blob": MAX_BLOB_BYTES}
    listing = ["cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectname)", "--buffer"]
    for record in _listed(quarantine, listing, b"\n", deadline_s, objects):
        kind, size, name = record.split(b" ")
        if int(size) > limits.get(kind, MAX_BLOB_BYTES):
            raise too_much(f"{kind.decode()} {name.decode()[:12]} has {size.decode()} bytes, {limits[kind]} at most")


def check_changes(quarantine: Quarantine, commits: Sequence[str], deadline_s: float) -> None:
    """Step 2: each commit against its parents; a merge only for what differs from all of them.

    Raises:
        ReturnFailed: Too many links, submodules or changed paths, or the target of a link is too long.
    """
    command = [
        "diff-tree",
        "--stdin",
        "--root",
        "-c",
        "-r",
        "-z",
        "--raw",
        "--no-renames",
        "--no-commit-id",
        "--full-index",
    ]
    links: set[bytes] = set()
    gitlinks = changes = length = 0
    with _memory("\n".join([*commits, ""]).encode()) as names:
        for number, record in enumerate(_listed(quarantine, command, b"\0", deadline_s, names.fileno())):
            if number % 2:  # the path of the record before, which the walk has measured; it may begin with a colon
                length += len(record)
                if length > MAX_CHANGED_BYTES:
                    raise too_much(f"changed paths of more than {MAX_CHANGED_BYTES} bytes")
                continue
            changes += 1
            fields = record.split(b" ")
            parents = len(fields[0]) - len(fields[0].lstrip(b":"))
            mode, name = fields[parents], fields[2 * parents + 1]
            if mode == _LINK:
                links.add(name)
            gitlinks += mode == _GITLINK
            if len(links) > MAX_SYMLINKS:
                raise too_much(f"more than {MAX_SYMLINKS} symbolic links")
            if gitlinks > MAX_GITLINKS:
                raise too_much(f"more than {MAX_GITLINKS} submodules")
            if changes > MAX_CHANGES:
                raise too_much(f"more than {MAX_CHANGES} changed paths")
    with _memory(b"".join(name + b"\n" for name in links)) as targets:
        sizes = ["cat-file", "--batch-check=%(objectsize)", "--buffer"]
        for record in _listed(quarantine, sizes, b"\n", deadline_s, targets.fileno()):
            if int(record) > MAX_LINK_BYTES:
                raise too_much(f"the target of a symbolic link has {int(record)} bytes, {MAX_LINK_BYTES} at most")


def name_notes(quarantine: Quarantine, base: str, tip: str, deadline_s: float) -> tuple[str, ...]:
    """Step 3. Counts only: the names are the agent's words, and ``review`` shows them."""
    command = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=A", base, tip]
    # Of each name its digest: a few kilobytes of trees can describe names of gigabytes.
    added: dict[bytes, bytes] = {}
    twins: set[bytes] = set()
    windows = 0
    is_full = False
    for path, places in _with_places(_listed(quarantine, command, b"\0", deadline_s, -1)):
        check_path(path)
        windows += _WINDOWS.search(path) is not None
        for place in places:
            folded, exact = _digest(_folded(place)), _digest(place)
            if added.setdefault(folded, exact) != exact:
                twins.add(folded)
        if len(added) > MAX_COMPARED:
            is_full = True
            break
    if added:
        listing = ["ls-tree", "-r", "-z", "--name-only", base]
        for _, places in _with_places(_listed(quarantine, listing, b"\0", deadline_s, -1)):
            for place in places:
                if added.get(folded := _digest(_folded(place)), exact := _digest(place)) != exact:
                    twins.add(folded)
    return tuple(_name_notes(len(twins), windows, is_full=is_full))


def _name_notes(twins: int, windows: int, *, is_full: bool) -> Iterator[str]:
    if twins:
        yield f"{twins} added names differ from another only in case or Unicode form: one file on macOS or Windows"
    if windows:
        yield f"{windows} added names cannot be checked out on Windows"
    if is_full:
        yield f"so many names were added that only the first {MAX_COMPARED} were compared with others"


def _listed(
    quarantine: Quarantine, command: Sequence[str], separator: bytes, deadline_s: float, stdin: int
) -> Iterator[bytes]:
    if stdin >= 0:
        os.lseek(stdin, 0, os.SEEK_SET)
    # attr.tree: newer git reads attributes from HEAD's tree in a bare repository. Source: git-config(1).
    arguments = ["-c", "attr.tree=", *command]
    return read_records(arguments, git_dir=quarantine.path, separator=separator, deadline_s=deadline_s, stdin=stdin)


def _memory(content: bytes) -> BinaryIO:
    file = os.fdopen(os.memfd_create("containai-names"), "w+b")
    file.write(content)
    file.flush()
    return file


def _with_places(paths: Iterable[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each path of git's sorted list, with itself and the directories on the way to it that the last one had not."""
    last = b""
    for path in paths:
        places, place = [path], path
        while at := place.rfind(b"/") + 1:
            if last.startswith(place[:at]):
                break
            place = place[: at - 1]
            places.append(place)
        yield path, places
        last = path


def _digest(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=16).digest()


def _folded(path: bytes) -> bytes:
    if path.isascii():
        return path.lower()
    text = unicodedata.normalize("NFD", path.decode(errors="surrogateescape")).casefold()
    return unicodedata.normalize("NFC", text).encode(errors="surrogateescape")
