"""What the processes of a container hold that no path shows: files without a name, and locks.

Read from ``/proc``, thread by thread: a thread may have a table of descriptors of its own. The rest, what is on its way
through a unix socket, mapped by an ordinary user, or held by a process that does not let itself be looked at, has no
size that can be read; ``Holdings.whole`` says that there is some of it.

Trust: the agent chose every descriptor, mapping and lock. Nothing is opened through ``/proc/PID/fd``, only looked at.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from containai.host.cgroups.layout import read_layout
from containai.host.clock import monotonic_s

_BLOCK_BYTES = 512  # Source: stat(2), st_blocks
_LOOK_S = 3.0
_CHUNK = 1 << 16  # each read of /proc/locks stops, for a moment, all who lock
_MAPPING = re.compile(rb"^(\S+) \S+ \S+ (\S+) (\d+) .* \(deleted\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What was found.

    Attributes:
        unlinked_bytes: Disk space of open or mapped files that have no name any more.
        locks: Locks on files that are open.
        whole: Whether nothing was hidden, and the time was enough.
    """

    unlinked_bytes: int
    locks: int
    whole: bool


@dataclass(slots=True)
class _Look:
    device: int
    mapped_device: bytes
    most_locks: int
    blocks: dict[int, int] = field(default_factory=dict)  # by inode
    locks: int = 0
    whole: bool = True


def tasks_beside(pid: int) -> tuple[int, ...]:
    """Every thread in the control group of a process.

    Raises:
        OSError: The process has ended.
    """
    layout = read_layout(pid)
    if found := layout.of("pids"):
        file = found[1] / "tasks"
    elif unified := layout.unified():
        file = unified[1] / "cgroup.threads"
    else:
        raise FileNotFoundError(f"process {pid} is in no control group")
    return tuple(map(int, file.read_text().split()))


def look(first: int, place: Path, *, most_locks: int = -1) -> Holdings:
    """Look at the processes of the container whose first process is ``first``; that one is ours, and left out.

    Args:
        place: On the file system whose files count.
        most_locks: Count locks, which takes longer, until there are more than so many; -1 to count none.

    Raises:
        OSError: The container has ended, or nothing can be read.
    """
    found = _Look(os.stat(place).st_dev, _device_in_maps(place), most_locks)
    deadline = monotonic_s() + _LOOK_S
    seen: set[int] = set()
    for task in tasks_beside(first):
        if monotonic_s() > deadline:
            found.whole = False
            break
        if found.locks > most_locks >= 0:
            break
        if task == first:
            continue
        try:
            _look_at_descriptors(found, task)
            _look_at_memory(found, task, seen)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        except PermissionError:
            found.whole = found.whole and not _is_inside(task)
    return Holdings(unlinked_bytes=sum(found.blocks.values()) * _BLOCK_BYTES, locks=found.locks, whole=found.whole)


def _look_at_descriptors(found: _Look, task: int) -> None:
    with os.scandir(f"/proc/{task}/fd") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                held = os.stat(entry.path)
                _count(found, held)
                if found.most_locks >= found.locks or stat.S_ISSOCK(held.st_mode):
                    info = Path(f"/proc/{task}/fdinfo/{entry.name}").read_bytes()
                    found.locks += info.count(b"\nlock:")
                    # Source: net/unix/af_unix.c: descriptors that wait in it, those of sockets in it not counted.
                    if (at := info.find(b"\nscm_fds:")) >= 0 and int(info[at + 9 :].split(None, 1)[0]):
                        found.whole = False


def _look_at_memory(found: _Look, task: int, seen: set[int]) -> None:
    """Files that are only mapped, or run."""
    status = Path(f"/proc/{task}/status").read_bytes()
    process = int(status.partition(b"\nTgid:")[2].split(None, 1)[0])
    if process in seen or b"\nVmSize:" not in status:
        return  # a thread of one that was looked at; one that has no memory any more
    seen.add(process)
    with suppress(FileNotFoundError):
        _count(found, os.stat(f"/proc/{task}/exe"))
    for span, device, inode in _MAPPING.findall(Path(f"/proc/{task}/maps").read_bytes()):
        if device != found.mapped_device or int(inode) in found.blocks:
            continue
        try:
            _count(found, os.stat(f"/proc/{task}/map_files/{span.decode()}"))
        except FileNotFoundError:
            continue
        except PermissionError:  # only root is told what is mapped
            found.whole = False


def _count(found: _Look, held: os.stat_result) -> None:
    if held.st_nlink == 0 and held.st_dev == found.device and stat.S_ISREG(held.st_mode):
        found.blocks[held.st_ino] = held.st_blocks


def _is_inside(task: int) -> bool:
    """Whether a thread is in a PID namespace of its own; bubblewrap's process outside may be in the same group."""
    with suppress(OSError):
        status = Path(f"/proc/{task}/status").read_bytes()
        return len(status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()) > 1
    return False


def _device_in_maps(place: Path) -> bytes:
    """The device of a file system as ``/proc/PID/maps`` writes it; on btrfs that is not what stat(2) says."""
    fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_bytes()
        mount = info.partition(b"\nmnt_id:")[2].split(None, 1)[0]
    finally:
        os.close(fd)
    for line in _lines(Path("/proc/self/mountinfo")):
        fields = line.split(None, 3)
        if fields[0] == mount:
            major, _, minor = fields[2].partition(b":")
            return b"%02x:%02x" % (int(major), int(minor))
    return b""


def locks_of_the_machine(most: int) -> int:
    """How many locks on files there are, counted up to ``most`` and one more."""
    count = 0
    for _ in _lines(Path("/proc/locks")):
        count += 1
        if count > most:
            break
    return count


def unread_netlink_bytes(pid: int, most: int) -> int:
    """What waits in the netlink sockets of a process's network, counted until it is more than ``most``.

    Source: netlink_native_seq_show, net/netlink/af_netlink.c: the fifth and sixth fields, in bytes of memory.
    """
    total = 0
    lines = _lines(Path(f"/proc/{pid}/net/netlink"))
    next(lines, None)
    for line in lines:
        fields = line.split(None, 6)
        total += int(fields[4]) + int(fields[5])
        if total > most:
            break
    return total


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb", buffering=_CHUNK) as opened:
        yield from opened
