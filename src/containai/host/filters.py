"""What seccomp filters take of the kernel's memory.

The kernel translates each filter to machine code, in memory that no control group counts, and of which the machine has
a bounded amount for all users but root. Source: Documentation/admin-guide/sysctl/net.rst, ``bpf_jit_limit``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from containai.host.holdings import status_number, tasks_beside

_COUNT = b"Seccomp_filters"


def mapped_kernel_bytes() -> int:
    """The kernel's mapped memory without stacks: the machine's filters are in it, and little that changes.

    Source: proc_meminfo(5), ``VmallocUsed`` and ``KernelStack``.
    """
    fields = dict(line.partition(":")[::2] for line in Path("/proc/meminfo").read_text().splitlines())
    return 1024 * (int(fields["VmallocUsed"].split()[0]) - int(fields["KernelStack"].split()[0]))


def count_filters(first: int, most: int) -> int:
    """Filters that a container's threads have beyond its first process's, counted until there are more than ``most``.

    Each that a thread inherited counts again; one that exists is some thread's.

    Raises:
        OSError: The container has ended.
    """
    given, total = status_number(first, _COUNT), 0
    for task in tasks_beside(first):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            total += max(0, status_number(task, _COUNT) - given)
        if total > most:
            break
    return total
