"""The container's file system: an allow-list, from an empty root. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from containai.host.layout import HostLayout
from containai.plan.model import (
    AGENT_UID,
    AGENT_USER,
    HOME,
    WORKSPACE,
    FileOrigin,
    Mount,
    MountKind,
    StagedFile,
)

# Not secret, and needed by programs that come from the host: certificates, the loader's
# configuration, names of types and services. Never /etc itself (I8).
ETC_ALLOWED: tuple[str, ...] = (
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/chromium.d",  # without it Debian's wrapper of Chromium ends
    "/etc/debian_version",
    "/etc/dotnet",
    "/etc/fonts",
    "/etc/inputrc",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/lsb-release",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/mono/config",  # where its libraries are; machine.config, which may hold keys, is not shown
    "/etc/os-release",
    "/etc/perl",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/profile",
    "/etc/protocols",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/python3.12",
    "/etc/python3.13",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
)

# Source: the paths that Docker masks, as far as they are files; then what tells of the host's start, locks and load.
PROC_MASKED: tuple[str, ...] = (
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/locks",
    "/proc/modules",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/irq",
    "/proc/pressure/memory",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
)

_SMALL_TMPFS_BYTES = 64 * 1024 * 1024
_SHM_BYTES = 512 * 1024 * 1024

_PASSWD = f"""root:x:0:0:root:/nonexistent:/usr/sbin/nologin
{AGENT_USER}:x:{{uid}}:{{uid}}:ContainAI agent:{HOME}:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = f"root:x:0:\n{AGENT_USER}:x:{{uid}}:\nnogroup:x:65534:\n"
_HOSTS = "127.0.0.1 localhost containai\n"
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"
_RESOLV = "# Names are resolved by the session's proxy; there is no DNS here.\n"


def plan_mounts(
    layout: HostLayout, workspace: Path, programs: Iterable[Mount], writable: Iterable[str], tmpfs_bytes: int
) -> tuple[Mount, ...]:
    """Every mount of the container, in mounting order.

    Args:
        layout: What exists on the host.
        workspace: The session's copy of the repository, on the host.
        programs: Read-only mounts that the agent's program needs.
        writable: Directories below HOME that the agent finds made.
        tmpfs_bytes: Bound of HOME and of /tmp, each.
    """
    mounts = [_read_only(path) for path in layout.trees]
    mounts += [Mount(kind=MountKind.SYMLINK, target=PurePosixPath(path), source=to) for path, to in layout.links]
    mounts += [_read_only(path) for path in layout.etc]
    mounts.append(Mount(kind=MountKind.PROC, target=PurePosixPath("/proc")))
    mounts += [Mount(kind=MountKind.MASK, target=PurePosixPath(path)) for path in layout.masked]
    mounts.append(Mount(kind=MountKind.DEVICES, target=PurePosixPath("/dev")))
    mounts += [
        _tmpfs("/dev/shm", _SHM_BYTES, 0o1777),
        _tmpfs("/tmp", tmpfs_bytes, 0o1777),
        _tmpfs("/var/tmp", _SMALL_TMPFS_BYTES, 0o1777),
        _tmpfs("/run", _SMALL_TMPFS_BYTES, 0o755),
        _tmpfs(str(HOME), tmpfs_bytes, 0o700),
        Mount(kind=MountKind.SYMLINK, target=PurePosixPath("/var/run"), source="/run"),
    ]
    if layout.cpu_info:
        mounts.append(_read_only("/sys/devices/system/cpu"))
    mounts += programs
    mounts += [Mount(kind=MountKind.DIRECTORY, target=HOME / path, mode=0o700) for path in writable]
    mounts.append(Mount(kind=MountKind.WRITABLE, target=WORKSPACE, source=str(workspace)))
    return tuple(mounts)


def home_directories(files: Iterable[StagedFile], tmpfs_bytes: int) -> tuple[Mount, ...]:
    """A tmpfs of the agent's own for each directory below HOME that holds a read-only file.

    For an engine that would make these directories root's, so that the agent could write nothing beside the file.
    """
    parents = {
        parent
        for file in files
        if file.read_only
        for parent in file.target.parents
        if parent != HOME and parent.is_relative_to(HOME)
    }
    return tuple(_tmpfs(str(path), tmpfs_bytes, 0o700) for path in sorted(parents))


def account_files(uid: int = AGENT_UID) -> tuple[StagedFile, ...]:
    """The files of /etc that are written for the container, and say nothing about the host.

    Args:
        uid: What the agent's user is inside.
    """
    texts = {
        "/etc/passwd": _PASSWD.format(uid=uid),
        "/etc/group": _GROUP.format(uid=uid),
        "/etc/hosts": _HOSTS,
        "/etc/nsswitch.conf": _NSSWITCH,
        "/etc/resolv.conf": _RESOLV,
        "/etc/hostname": "containai\n",
    }
    return tuple(
        StagedFile(target=PurePosixPath(path), origin=FileOrigin.TEXT, content=text, mode=0o444)
        for path, text in texts.items()
    )


def _read_only(path: str) -> Mount:
    return Mount(kind=MountKind.READ_ONLY, target=PurePosixPath(path), source=path)


def _tmpfs(path: str, size_bytes: int, mode: int) -> Mount:
    return Mount(kind=MountKind.TMPFS, target=PurePosixPath(path), size_bytes=size_bytes, mode=mode)
