"""The guard of the kernel's memory: some of it a session can take, and the kernel does not count it as the session's.

Unread answers in netlink sockets and locks on files are in no control group's memory; on cgroup v1 what waits in TCP
and UDP sockets is neither, but counted where a limit is set (``host/cgroups/limits.py``). The machine code of seccomp
filters is not either (``host/filters.py``). All of it is asked for twice a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from containai.errors import ContainaiError, WorkspaceError
from containai.host.cgroups import sockets_usage_file, uncounted_sockets_bytes
from containai.host.clock import monotonic_s
from containai.host.filters import count_filters, mapped_kernel_bytes
from containai.host.holdings import locks_of_no_other, locks_of_the_machine, look, unread_netlink_bytes
from containai.session.lookout import Lookout

MOST_LOCKS = 50_000
"""Locks on files; each takes about 200 bytes of the kernel's memory, and of its time when it compares them."""
MOST_FILTERS = 512
"""Seccomp filters of its threads, some 100 KiB each at most; held against it once the machine's take more room."""

_FILTERS_BYTES = 64 * 1024 * 1024
_FEW_LOCKS = 1_000  # on the whole machine: then the session's own need no look
_INTERVAL_S = 0.5
_PAUSE_FACTOR = 10


class KernelMemoryGuard(Lookout):
    """Watches one container until it is stopped.

    Args:
        first: The container's first process.
        workspace: What the agent writes.
        memory_bytes: What the session may take of memory that is counted; a share of it may be beside it.
    """

    def __init__(
        self, first: int, workspace: Path, memory_bytes: int, on_failure: Callable[[ContainaiError], None]
    ) -> None:
        super().__init__("kernel-memory-guard", first, _INTERVAL_S, self._look_at_memory, on_failure, _blind)
        self._first, self._workspace = first, workspace
        self._most_bytes = uncounted_sockets_bytes(memory_bytes)
        self._usage: tuple[Path, ...] | None = None
        self._not_before = self._filters_not_before = 0.0
        self._least_mapped = mapped_kernel_bytes()

    def _look_at_memory(self) -> ContainaiError | None:
        waiting = unread_netlink_bytes(self._first, self._most_bytes)
        if self._usage is None:
            file = sockets_usage_file(self._first)
            self._usage = () if file is None else (file,)
        waiting += sum(int(file.read_text()) for file in self._usage)
        if waiting > self._most_bytes:
            return _too_much(f"{waiting:,} bytes wait in its sockets, {self._most_bytes:,} at most")
        if why := self._look_at_filters():
            return why
        if monotonic_s() < self._not_before or locks_of_the_machine(_FEW_LOCKS) <= _FEW_LOCKS:
            return None
        start = monotonic_s()
        why = self._look_at_locks()
        self._not_before = monotonic_s() + _PAUSE_FACTOR * (monotonic_s() - start)
        return why

    def _look_at_filters(self) -> ContainaiError | None:
        mapped = mapped_kernel_bytes()
        self._least_mapped = min(self._least_mapped, mapped)
        if mapped - self._least_mapped <= _FILTERS_BYTES or monotonic_s() < self._filters_not_before:
            return None
        start = monotonic_s()
        count = count_filters(self._first, MOST_FILTERS)
        self._filters_not_before = monotonic_s() + _PAUSE_FACTOR * (monotonic_s() - start)
        return _too_much(f"its threads have more than {MOST_FILTERS} seccomp filters") if count > MOST_FILTERS else None

    def _look_at_locks(self) -> ContainaiError | None:
        held = look(self._first, self._workspace, most_locks=MOST_LOCKS)
        if held.locks > MOST_LOCKS:
            return _too_much(f"it holds more than {MOST_LOCKS:,} locks on files")
        if held.whole or locks_of_the_machine(MOST_LOCKS) <= MOST_LOCKS:
            return None
        if locks_of_no_other(self._first, MOST_LOCKS) > MOST_LOCKS:
            return _too_much(f"more than {MOST_LOCKS:,} locks on files are no other's, and not all of its can be seen")
        return None


def _too_much(why: str) -> WorkspaceError:
    return WorkspaceError(
        "the agent took too much of the kernel's memory",
        code="workspace.kernel-memory",
        details=why,
        remedy=["containai log --kind exec   # which program it was"],
    )


def _blind(why: str) -> WorkspaceError:
    return WorkspaceError(
        "what the agent takes of the kernel's memory cannot be measured", code="workspace.unseen-memory", details=why
    )
