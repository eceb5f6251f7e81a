"""Read a container's effective configuration from the kernel: /proc of its first process."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from containai.engine.protocol import EffectiveConfig, MountPoint
from containai.engine.verify import NAMESPACES
from containai.errors import EngineError
from containai.host.cgroups import effective_limits

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def read_effective_config(pid: int) -> EffectiveConfig:
    """What the kernel says about process ``pid``.

    Trust: the process has run nothing of the agent's yet; the kernel is the only source.

    Raises:
        EngineError: The process is gone, or cannot be looked at.
    """
    proc = Path("/proc") / str(pid)
    try:
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
        limits = effective_limits(pid)
        return EffectiveConfig(
            uid=_numbers(status["Uid"]),
            gid=_numbers(status["Gid"]),
            groups=_numbers(status["Groups"]),
            capabilities=tuple(int(status[name], 16) for name in _CAPABILITY_SETS),
            no_new_privs=status["NoNewPrivs"].strip() == "1",
            seccomp_mode=int(status["Seccomp"]),
            seccomp_filters=int(status.get("Seccomp_filters", "1")),
            namespaces_shared_with_host=tuple(_shared_namespaces(proc)),
            mounts=tuple(_mounts(proc / "mountinfo")),
            interfaces=tuple(_interfaces(proc / "net/dev")),
            routes=_routes(proc),
            apparmor=_apparmor(proc),
            pids_max=limits.pids_max,
            memory_bytes=limits.memory_bytes,
            swap_bytes=limits.swap_bytes,
            cpus=limits.cpus,
            core_limit=_core_limit(proc / "limits"),
            devices=tuple(_devices(proc / "root/dev")),
        )
    except (OSError, KeyError, ValueError) as error:
        raise EngineError(
            "the container cannot be inspected", code="engine.inspect", details=f"process {pid}: {error}"
        ) from error


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split())


def _shared_namespaces(proc: Path) -> Iterator[str]:
    for name in NAMESPACES:
        if os.readlink(proc / "ns" / name) == os.readlink(f"/proc/self/ns/{name}"):
            yield name


def _mounts(mountinfo: Path) -> Iterator[MountPoint]:
    """Source: proc(5): fields 4 to 6 are root, mount point and options; after "-", type and super options."""
    for line in os.fsdecode(mountinfo.read_bytes()).splitlines():
        before, _, after = line.partition(" - ")
        fields, behind = before.split(" "), after.split(" ")
        options = set(fields[5].split(","))
        yield MountPoint(
            target=_ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4]),
            read_only="ro" in options or "ro" in behind[2].split(","),
            fstype=behind[0],
            nosuid="nosuid" in options,
            nodev="nodev" in options,
            root=fields[3],
        )


def _interfaces(net_dev: Path) -> Iterator[str]:
    for line in net_dev.read_text().splitlines()[2:]:
        yield line.partition(":")[0].strip()


def _routes(proc: Path) -> int:
    """Routes that lead anywhere but to the loopback interface."""
    routes = (proc / "net/route").read_text().splitlines()[1:]
    ipv6 = proc / "net/ipv6_route"
    routes6 = ipv6.read_text().splitlines() if ipv6.exists() else []
    return sum(not line.startswith("lo\t") for line in routes) + sum(line.split()[-1] != "lo" for line in routes6)


def _apparmor(proc: Path) -> str:
    for path in (proc / "attr/apparmor/current", proc / "attr/current"):
        try:
            return path.read_text().strip("\0\n")
        except OSError:
            continue
    return ""


def _devices(folder: Path) -> Iterator[str]:
    """Names of the devices that a program inside finds there."""
    for entry in sorted(folder.iterdir()):
        mode = entry.lstat().st_mode
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
            yield entry.name


def _core_limit(limits: Path) -> int:
    for line in limits.read_text().splitlines():
        if line.startswith("Max core file size"):
            hard = line.split()[5]
            return -1 if hard == "unlimited" else int(hard)
    raise ValueError("no core limit listed")
