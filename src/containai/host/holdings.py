"""What the processes of a container hold that no path shows: files without a name, and locks.

Read from ``/proc``, thread by thread: a thread may have a table of descriptors of its own. The rest, what is on its way
through a unix socket, mapped by an ordinary user, or held by a process that does not let itself be looked at, has no
size that can be read; ``Holdings.whole`` says that there is some of it.

Trust: the agent chose every descriptor, mapping and lock, how many there are, and how long the lines about them: all
is read in pieces, up to a bound. Nothing is opened through ``/proc/PID/fd``, only looked at.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from containai.host.cgroups.layout import read_layout
from containai.host.clock import monotonic_s
from containai.record import dataclass

_BLOCK_BYTES = 512  # Source: stat(2), st_blocks
_LOOK_S = 3.0
_MOST_READ_BYTES = 32 * 1024 * 1024  # about 300,000 mappings
_MOST_HELD = 200_000  # descriptors, and mappings of what was deleted
_PART_BYTES = 512  # what is kept of both ends of a long line
_CHUNK = 1 << 16  # each read of /proc/locks stops, for a moment, all who lock
_MAPPING = re.compile(rb"^(\S+) \S+ \S+ (\S+) (\d+) .* \(deleted\)$")
_HOLDER = re.compile(rb" (-?\d+) \S+:\d+ \S+ \S+$")
_BEFORE_LOCKS = (b"pos:", b"flags:", b"mnt_id:", b"ino:")
_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
_KCMP_FILES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What was found.

    Attributes:
        unlinked_bytes: Disk space of open or mapped files that have no name any more.
        locks: Locks on files that are open. More than were asked for are so many in truth; of fewer, some may be
            counted again at each descriptor that shows them.
        whole: Whether nothing was hidden, and all could be looked at within the bounds.
    """

    unlinked_bytes: int
    locks: int
    whole: bool


class _Look:
    def __init__(self, *, device: int, mapped_device: bytes, most_locks: int, deadline_s: float) -> None:
        self.device, self.mapped_device = device, mapped_device
        self.most_locks, self.deadline_s = most_locks, deadline_s
        self.blocks: dict[int, int] = {}  # by inode
        self.locks: dict[bytes, int] = {}  # how often each was seen
        self.left_bytes, self.left_held = _MOST_READ_BYTES, _MOST_HELD
        self.whole = True

    def may_go_on(self, *, read_bytes: int = 0, held: int = 0) -> bool:
        """Whether there is more to be looked at within the bounds; what is left out is told."""
        self.left_bytes -= read_bytes
        self.left_held -= held
        within = self.left_bytes >= 0 and self.left_held >= 0 and len(self.locks) <= max(0, self.most_locks)
        if within and monotonic_s() <= self.deadline_s:
            return True
        self.whole = False
        return False


def tasks_beside(pid: int) -> tuple[int, ...]:
    """Every thread in the control group of a process.

    Raises:
        OSError: The process has ended.
    """
    return _listed(pid, "tasks", "cgroup.threads")


def _listed(pid: int, divided: str, unified: str) -> tuple[int, ...]:
    layout = read_layout(pid)
    if found := layout.of("pids"):
        file = found[1] / divided
    elif place := layout.unified():
        file = place[1] / unified
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
    found = _Look(
        device=os.stat(place).st_dev,
        mapped_device=_device_in_maps(place),
        most_locks=most_locks,
        deadline_s=monotonic_s() + _LOOK_S,
    )
    tasks = tasks_beside(first)
    all_tasks, seen = set(tasks), set[int]()
    for task in tasks:
        if not found.may_go_on():
            break
        if task == first:
            continue
        try:
            process = status_number(task, b"Tgid")
            # A table that the threads of a process share is looked at once.
            if task == process or process not in all_tasks or not _share_descriptors(task, process):
                _look_at_descriptors(found, task)
            if process not in seen:
                _look_at_memory(found, task, process, seen)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        except PermissionError:
            found.whole = found.whole and not _is_inside(task)
    locks = _count_locks(found.locks, most_locks)
    return Holdings(unlinked_bytes=sum(found.blocks.values()) * _BLOCK_BYTES, locks=locks, whole=found.whole)


def status_number(task: int, name: bytes) -> int:
    """A number that the kernel tells of a thread. Source: proc_pid_status(5)."""
    status = Path(f"/proc/{task}/status").read_bytes()
    return int(status.partition(b"\n" + name + b":")[2].split(None, 1)[0])


def _share_descriptors(task: int, process: int) -> bool:
    """Whether a thread has the table of its process; False where the kernel does not say."""
    return _KCMP is not None and _libc().syscall(_KCMP, task, process, _KCMP_FILES, 0, 0) == 0


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _look_at_descriptors(found: _Look, task: int) -> None:
    with os.scandir(f"/proc/{task}/fd") as entries:
        for entry in entries:
            if not found.may_go_on(held=1):
                return
            with suppress(FileNotFoundError):
                held = os.stat(entry.path)
                _count(found, held)
                is_socket = stat.S_ISSOCK(held.st_mode)
                if found.most_locks >= 0 or is_socket:
                    _look_at_descriptor(found, Path(f"/proc/{task}/fdinfo/{entry.name}"), is_socket=is_socket)


def _look_at_descriptor(found: _Look, file: Path, *, is_socket: bool) -> None:
    for line in _bounded_lines(found, file):
        if line.startswith(b"lock:"):
            if found.most_locks >= 0:
                lock = _without_number(line)
                found.locks[lock] = found.locks.get(lock, 0) + 1
        # Source: net/unix/af_unix.c: descriptors that wait in it, those of sockets in it not counted.
        elif line.startswith(b"scm_fds:"):
            found.whole = found.whole and not int(line[8:])
        elif not (is_socket or line.startswith(_BEFORE_LOCKS)):
            return  # a list without an end, as of what an epoll watches


def _look_at_memory(found: _Look, task: int, process: int, seen: set[int]) -> None:
    """Files that are only mapped, or run."""
    if b"\nVmSize:" not in Path(f"/proc/{task}/status").read_bytes():
        return  # it has no memory any more; another thread may have
    seen.add(process)
    with suppress(FileNotFoundError):
        _count(found, os.stat(f"/proc/{task}/exe"))
    for line in _bounded_lines(found, Path(f"/proc/{task}/maps")):
        mapping = _MAPPING.match(line)
        if mapping is None:
            continue
        span, device, inode = mapping.groups()
        if device != found.mapped_device or int(inode) in found.blocks:
            continue
        if not found.may_go_on(held=1):
            return
        try:
            _count(found, os.stat(f"/proc/{task}/map_files/{span.decode()}"))
        except FileNotFoundError:
            continue
        except PermissionError:  # only root is told what is mapped
            found.whole = False


def _bounded_lines(found: _Look, file: Path) -> Iterator[bytes]:
    """The lines of a file, as far as the bounds let it be read; of a long one, its two ends."""
    rest = b""
    with file.open("rb", buffering=0) as opened:
        while chunk := opened.read(_CHUNK):
            if not found.may_go_on(read_bytes=len(chunk)):
                return
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
            if len(rest) > 2 * _PART_BYTES:
                rest = rest[:_PART_BYTES] + rest[-_PART_BYTES:]


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
    for line in lines_of(Path("/proc/self/mountinfo")):
        fields = line.split(None, 3)
        if fields[0] == mount:
            major, _, minor = fields[2].partition(b":")
            return b"%02x:%02x" % (int(major), int(minor))
    return b""


def locks_of_the_machine(most: int) -> int:
    """How many locks on files there are, counted up to ``most`` and one more."""
    count = 0
    for _ in lines_of(Path("/proc/locks")):
        count += 1
        if count > most:
            break
    return count


def locks_of_no_other(first: int, most: int) -> int:
    """How many locks no living process outside of a container has taken, counted until it is more than ``most``.

    Of an open file description's lock the kernel does not say who has; who has taken another may have passed it on, and
    ended.

    Raises:
        OSError: The container has ended.
    """
    taken: dict[int, int] = {}
    for line in lines_of(Path("/proc/locks")):
        holder = _HOLDER.search(line)
        pid = int(holder[1]) if holder else -1
        taken[pid] = taken.get(pid, 0) + 1
        if taken.get(-1, 0) > most:
            break
    # After the locks: who took one in the container is listed, or has ended.
    inside = set(_listed(first, "cgroup.procs", "cgroup.procs"))
    return sum(count for pid, count in taken.items() if pid in inside or pid <= 0 or not os.path.exists(f"/proc/{pid}"))


def _count_locks(seen: dict[bytes, int], most: int) -> int:
    """How many there are of the locks that were seen, where it matters: several descriptors may show one.

    The kernel's list is long, and takes its time: it is read only where nothing else tells.
    """
    total = sum(seen.values())
    if len(seen) > most or total <= most:
        return total
    count = 0
    for line in lines_of(Path("/proc/locks")):
        lock = _without_number(line.rstrip())
        if left := seen.get(lock, 0):
            seen[lock] = left - 1
            count += 1
            if count > most:
                break
    return count


def _without_number(line: bytes) -> bytes:
    return line.partition(b": ")[2]


def unread_netlink_bytes(pid: int, most: int) -> int:
    """What waits in the netlink sockets of a process's network, counted until it is more than ``most``.

    Source: netlink_native_seq_show, net/netlink/af_netlink.c: the fifth and sixth fields, in bytes of memory.
    """
    total = 0
    lines = lines_of(Path(f"/proc/{pid}/net/netlink"))
    next(lines, None)
    for line in lines:
        fields = line.split(None, 6)
        total += int(fields[4]) + int(fields[5])
        if total > most:
            break
    return total


def lines_of(file: Path) -> Iterator[bytes]:
    """The lines of a file of the kernel's, in pieces that hold nobody up."""
    with file.open("rb", buffering=_CHUNK) as opened:
        yield from opened
