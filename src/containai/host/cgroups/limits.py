"""Writing limits into groups, and reading them back from the kernel."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from containai.host.cgroups.layout import Layout, read_layout
from containai.host.cgroups.model import CONTROLLERS, UNLIMITED, EffectiveLimits
from containai.policy.model import Limits

CPU_PERIOD_US = 100_000
_V1_UNLIMITED_BYTES = 1 << 62  # v1 says "no limit" with the largest number of whole pages

V2_SWAP = "memory.swap.max"
V1_SWAP = "memory.memsw.limit_in_bytes"
V1_SOCKETS, V1_SOCKETS_USED = "memory.kmem.tcp.limit_in_bytes", "memory.kmem.tcp.usage_in_bytes"
_LEAST_SOCKETS_BYTES, _MOST_SOCKETS_BYTES = 64 * 1024 * 1024, 512 * 1024 * 1024


def write_v2(group: Path, limits: Limits) -> None:
    """Limit a v2 group.

    Raises:
        OSError: The kernel refused one of the values.
    """
    _write(group / "pids.max", limits.pids_max)
    _write(group / "memory.max", limits.memory_bytes)
    if (group / V2_SWAP).exists() or has_swap():
        _write(group / V2_SWAP, 0)
    _write(group / "cpu.max", f"{_quota_us(limits)} {CPU_PERIOD_US}")


def write_v1(groups: Mapping[str, Path], limits: Limits) -> None:
    """Limit v1 groups, one for each controller.

    Raises:
        OSError: The kernel refused one of the values.
    """
    _write(groups["pids"] / "pids.max", limits.pids_max)
    _write(groups["memory"] / "memory.limit_in_bytes", limits.memory_bytes)
    if (groups["memory"] / V1_SWAP).exists() or has_swap():
        _write(groups["memory"] / V1_SWAP, limits.memory_bytes)  # memory and swap together
    if (groups["memory"] / V1_SOCKETS).exists():  # with a limit the kernel counts; it holds little back
        _write(groups["memory"] / V1_SOCKETS, uncounted_sockets_bytes(limits.memory_bytes))
    cpu = groups["cpu"]
    _write(cpu / "cpu.cfs_period_us", CPU_PERIOD_US)
    try:
        _write(cpu / "cpu.cfs_quota_us", _quota_us(limits))
    except OSError as error:
        # v1 refuses a quota above that of a group further up; that one holds for us too.
        above = _v1_cpus_above(cpu)
        if error.errno != errno.EINVAL or not 0 < above < limits.cpus:
            raise
        _write(cpu / "cpu.cfs_quota_us", int(above * CPU_PERIOD_US))


def effective_limits(pid: int) -> EffectiveLimits:
    """What the kernel limits process ``pid`` to, read from the groups that it is in.

    Raises:
        OSError: The process or one of its groups is gone.
        ValueError: The kernel answered something unknown.
    """
    return limits_of(read_layout(pid))


def limits_of(layout: Layout) -> EffectiveLimits:
    """The limits of the groups of a layout."""
    v1 = {name: found[1] for name in CONTROLLERS if (found := layout.of(name))}
    unified = layout.unified()
    v2 = unified[1] if unified else None
    return EffectiveLimits(
        pids_max=_number(_pick(v1, v2, "pids", "pids.max", "pids.max")),
        memory_bytes=_number(_pick(v1, v2, "memory", "memory.limit_in_bytes", "memory.max")),
        swap_bytes=_v1_swap(v1["memory"]) if "memory" in v1 else _v2_swap(v2),
        cpus=_v1_cpus(v1["cpu"]) if "cpu" in v1 else _v2_cpus(v2),
    )


def uncounted_sockets_bytes(memory_bytes: int) -> int:
    """What may wait in sockets beside so much memory, where it does not count as memory."""
    return min(_MOST_SOCKETS_BYTES, max(_LEAST_SOCKETS_BYTES, memory_bytes // 2))


def sockets_usage_file(pid: int) -> Path | None:
    """Where v1 says what waits in the TCP and UDP sockets of a process's group; v2 counts it as memory.

    Raises:
        OSError: The process is gone.
    """
    found = read_layout(pid).of("memory")
    file = found[1] / V1_SOCKETS_USED if found else None
    return file if file is not None and file.exists() else None


def memory_kills_file(pid: int) -> Path | None:
    """Where the kernel counts the processes of a process's group that it killed for lack of memory.

    Raises:
        OSError: The process is gone.
    """
    layout = read_layout(pid)
    if found := layout.of("memory"):
        return found[1] / "memory.oom_control"
    unified = layout.unified()
    return unified[1] / "memory.events" if unified else None


def read_memory_kills(file: Path) -> int:
    """The count in such a file. Source: cgroup-v2.rst, memory.events; cgroup-v1/memory.rst, oom_kill.

    Raises:
        OSError: The group is gone.
    """
    fields = dict(line.partition(" ")[::2] for line in file.read_text().splitlines())
    return int(fields.get("oom_kill", 0))


def has_swap() -> bool:
    """Whether this machine swaps at all. Where it does not, the kernel may offer no limit of it."""
    try:
        with open("/proc/swaps", "rb") as swaps:
            return len(swaps.readlines()) > 1
    except FileNotFoundError:  # a kernel without swap
        return False


def _pick(v1: Mapping[str, Path], v2: Path | None, controller: str, v1_file: str, v2_file: str) -> Path | None:
    if controller in v1:
        return v1[controller] / v1_file
    return v2 / v2_file if v2 else None


def _number(file: Path | None) -> int:
    if file is None:
        return UNLIMITED
    try:
        text = file.read_text().strip()
    except FileNotFoundError:  # the root group has no limits
        return UNLIMITED
    return UNLIMITED if text == "max" or int(text) >= _V1_UNLIMITED_BYTES else int(text)


def _v1_swap(group: Path) -> int:
    if not (group / V1_SWAP).exists():
        return UNLIMITED if has_swap() else 0
    memory, both = _number(group / "memory.limit_in_bytes"), _number(group / V1_SWAP)
    return UNLIMITED if both == UNLIMITED else both - memory


def _v2_swap(group: Path | None) -> int:
    if group is None or not (group / V2_SWAP).exists():
        return UNLIMITED if has_swap() else 0
    return _number(group / V2_SWAP)


def _v1_cpus(group: Path) -> float:
    quota_us = _number(group / "cpu.cfs_quota_us")
    return UNLIMITED if quota_us < 0 else quota_us / _number(group / "cpu.cfs_period_us")


def _v2_cpus(group: Path | None) -> float:
    if group is None or not (group / "cpu.max").exists():
        return UNLIMITED
    quota, period_us = (group / "cpu.max").read_text().split()
    return UNLIMITED if quota == "max" else int(quota) / int(period_us)


def _v1_cpus_above(group: Path) -> float:
    found = []
    for above in group.parents:
        if not (above / "cpu.cfs_quota_us").exists():
            break
        found.append(_v1_cpus(above))
    return min((cpus for cpus in found if cpus > 0), default=UNLIMITED)


def _quota_us(limits: Limits) -> int:
    return round(limits.cpus * CPU_PERIOD_US)


def _write(file: Path, value: str | int) -> None:
    # Not created when it is missing: a missing file is a missing controller.
    with open(file, "r+b", buffering=0) as opened:
        opened.write(str(value).encode())
