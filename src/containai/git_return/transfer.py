"""Objects from the quarantine into the host repository: all of them or none, checked, on the disk when this returns.

Not ``git fetch``: two processes instead of five, and nothing that fetch writes besides objects. The pack is made in a
directory of its own beside the others, named after the session, and moved when it is whole: what a refusal or a kill
leaves behind is in that directory and nowhere else, so it can be removed without a look at another git's files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from containai.errors import ReturnFailed
from containai.git_return.limits import too_much
from containai.git_return.quarantine import Quarantine, quoted
from containai.host.clock import monotonic_s
from containai.plan.model import Source
from containai.workspace.git import Argument, Child, await_exit, end_group, spawn_git
from containai.workspace.refs import sync_directory

# What git writes at a return is on the disk before git goes on. Source: git-config(1), core.fsync.
_DURABLE = ("-c", "core.fsync=objects,derived-metadata", "-c", "core.fsyncMethod=fsync")

_UNWRITABLE = ("Permission denied", "not permitted", "unable to create", "No space left", "Read-only", "quota")


def transfer(source: Source, quarantine: Quarantine, tip: str, base: str, *, max_bytes: int, deadline_s: float) -> None:
    """Bring what ``tip`` adds to ``base`` into the host repository.

    Raises:
        ReturnFailed: Git refused an object, or the repository cannot be written. Nothing was added.
    """
    objects = source.git_dir / "objects"
    # Source: git-prune(1) removes old "tmp_objdir-*" itself, should this session never come back.
    prefix = f"tmp_objdir-containai-{quarantine.path.parent.name}-"
    lock = -1
    incoming: Path | None = None
    try:
        _remove_abandoned(objects, prefix)
        owner = objects.stat()
        incoming, lock = _own_directory(objects, prefix)
        (incoming / "pack").mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(incoming, owner.st_uid, owner.st_gid)
            os.chown(incoming / "pack", owner.st_uid, owner.st_gid)
        _index(source, quarantine, incoming, f"{tip}\n^{base}\n".encode(), max_bytes, deadline_s)
        _move_in(incoming / "pack", objects / "pack")
    except OSError as error:
        raise _unwritable(source, str(error)) from error
    finally:
        if incoming is not None:
            shutil.rmtree(incoming, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def _own_directory(objects: Path, prefix: str) -> tuple[Path, int]:
    """A new directory, locked. One that another transfer took for abandoned before it was locked is no use."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=objects))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink and path.exists():
                return path, lock
            os.close(lock)


def _remove_abandoned(objects: Path, prefix: str) -> None:
    """What a killed transfer of this session has left: nobody holds its lock."""
    for folder in objects.glob(prefix + "*"):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # another transfer was faster
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def _move_in(fresh: Path, packs: Path) -> None:
    # The index last: a pack exists for git once it has one.
    for file in sorted(fresh.iterdir(), key=lambda path: path.suffix == ".idx"):
        os.rename(file, packs / file.name)
    sync_directory(packs)


def _index(
    source: Source, quarantine: Quarantine, incoming: Path, revisions: bytes, max_bytes: int, deadline_s: float
) -> None:
    wanted, said = os.memfd_create("containai-wanted"), os.memfd_create("containai-said")
    null = os.open(os.devnull, os.O_RDWR)
    readable, writable = os.pipe()
    children: list[Child] = []
    try:
        os.pwrite(wanted, revisions, 0)
        pack = ["pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset"]
        children.append(spawn_git(pack, git_dir=quarantine.path, stdin=wanted, stdout=writable, stderr=null))
        os.close(writable)
        writable = -1
        # Source: git-index-pack(1): --strict dies on broken objects and links, and on names that are twins of .git
        # on other file systems (fsck's warnings count as errors here). A large file is checked piece by piece.
        index: list[Argument] = [*_DURABLE, "-c", "core.bigFileThreshold=32m"]
        index += ["index-pack", "--stdin", "--strict", f"--max-input-size={max_bytes}"]
        environment = {
            "GIT_OBJECT_DIRECTORY": str(incoming),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": quoted(source.git_dir / "objects").decode(),
        }
        children.append(
            spawn_git(index, git_dir=source.git_dir, stdin=readable, stdout=null, stderr=said, more=environment)
        )
        os.close(readable)
        readable = -1
        statuses = [await_exit(child, deadline_s) for child in children]
        if statuses != [0, 0]:
            raise _failed(source, statuses, os.pread(said, 4096, 0).decode(errors="replace").strip())
    finally:
        for child in children:
            if child.poll() is None:
                end_group(child)
                await_exit(child, monotonic_s() + 5.0)
        for fd in (wanted, said, null, readable, writable):
            if fd >= 0:
                os.close(fd)


def _failed(source: Source, statuses: Sequence[int | None], said: str) -> ReturnFailed:
    if None in statuses:
        return ReturnFailed("the returned objects took too long to check", code="return.timeout")
    if any(sign in said for sign in _UNWRITABLE):
        return _unwritable(source, said)
    if "exceeds maximum allowed size" in said:
        return too_much(said)
    return ReturnFailed(
        "git refused the returned objects",
        code="return.fsck",
        details=said or "the quarantine could not be read",
        remedy=["the work is kept in the session"],
    )


def _unwritable(source: Source, details: str) -> ReturnFailed:
    return ReturnFailed(
        "the host repository cannot be written",
        code="return.unwritable",
        details=details,
        remedy=[f"make {source.git_dir} writable, with space left", "containai recover"],
    )
