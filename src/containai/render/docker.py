"""What Docker is asked for: the body of its ``create`` call, each setting with its reason in docs/docker.md. PURE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from containai.engine.protocol import ContainerSpec
from containai.plan.model import Mount, MountKind, StagedFile

SHIM_INSIDE = PurePosixPath("/run/containai-shim")
CONTROL_INSIDE = PurePosixPath("/run/containai-control")

# Programs and libraries of an image; what Landlock lets an agent read and run.
IMAGE_TREES: tuple[str, ...] = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/var", "/srv", "/home"),
)

# Source: moby, oci/defaults.go; then what the embedded engine masks too.
MASKED: tuple[str, ...] = (
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"),
    *("/proc/config.gz", "/proc/interrupts", "/proc/kallsyms", "/proc/kmsg", "/proc/modules"),
    *("/proc/cmdline", "/proc/iomem", "/proc/ioports", "/proc/locks"),
    *(f"/proc/pressure/{what}" for what in ("cpu", "io", "irq", "memory")),
)
READ_ONLY: tuple[str, ...] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_NO_PROGRAMS = frozenset({"/run"})  # nothing is run from there but the shim, which is a mount of its own
_CPU_PERIOD_US = 100_000
_BOUND = {MountKind.READ_ONLY: True, MountKind.WRITABLE: False}


def render_docker(
    spec: ContainerSpec,
    *,
    files: Mapping[StagedFile, str],
    shim: str,
    control: str,
    seccomp: Mapping[str, Any],
    apparmor_profile: str,
) -> dict[str, Any]:
    """The body of ``POST /containers/create``.

    Neither the agent's command nor its environment is in it: everybody who may ask Docker could read them (C2). The
    first process gets both over its control socket.

    Args:
        files: Where on the host the read-only staged files lie.
        shim: The host's containai-shim.
        control: The socket that the first process joins.
        seccomp: The profile, in Docker's format.
    """
    user = f"{spec.identity.agent_uid}:{spec.identity.agent_gid}"
    return {
        "Image": spec.image,
        "Hostname": spec.hostname,
        "User": user,
        "Entrypoint": [str(SHIM_INSIDE)],
        "Cmd": ["join", str(CONTROL_INSIDE)],
        "Env": [],
        "WorkingDir": str(spec.working_directory),
        "Labels": dict(spec.labels),
        "NetworkDisabled": True,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "OpenStdin": False,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGKILL",
        "HostConfig": {
            **_ISOLATION,
            **_limits(spec),
            "SecurityOpt": [
                "no-new-privileges:true",
                f"apparmor={apparmor_profile}",
                f"seccomp={json.dumps(seccomp, separators=(',', ':'))}",
            ],
            "Tmpfs": {str(m.target): _tmpfs(m, user) for m in spec.mounts if m.kind is MountKind.TMPFS and not _shm(m)},
            "Mounts": [
                *(_bind(m.source, m.target, _BOUND[m.kind]) for m in spec.mounts if m.kind in _BOUND),
                *(_bind(source, file.target, True) for file, source in files.items()),
                _bind(shim, SHIM_INSIDE, True),
                _bind(control, CONTROL_INSIDE, True),
            ],
        },
    }


_ISOLATION: Mapping[str, Any] = {
    "Privileged": False,
    "CapAdd": [],
    "CapDrop": ["ALL"],
    "ReadonlyRootfs": True,
    "NetworkMode": "none",
    "IpcMode": "private",
    "PidMode": "",
    "UTSMode": "",
    "CgroupnsMode": "private",
    "MaskedPaths": list(MASKED),
    "ReadonlyPaths": list(READ_ONLY),
    "Devices": [],
    "DeviceRequests": [],
    "GroupAdd": [],
    "Binds": [],
    "VolumesFrom": [],
    "PublishAllPorts": False,
    "PortBindings": {},
    "RestartPolicy": {"Name": "no"},
    "AutoRemove": True,
    "LogConfig": {"Type": "none"},
    "Init": False,
    "OomScoreAdj": 500,
}


def _limits(spec: ContainerSpec) -> dict[str, Any]:
    limits = spec.limits
    shm = [mount.size_bytes for mount in spec.mounts if _shm(mount)]
    return {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # of both together: no swap
        "CpuPeriod": _CPU_PERIOD_US,  # NanoCpus would be refused where the host has fewer processors than allowed
        "CpuQuota": round(limits.cpus * _CPU_PERIOD_US),
        "PidsLimit": limits.pids_max,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],  # the first process lowers that of open files
        **({"ShmSize": shm[0]} if shm else {}),
    }


def _shm(mount: Mount) -> bool:
    """Docker makes this one itself, from ``ShmSize``."""
    return mount.kind is MountKind.TMPFS and str(mount.target) == "/dev/shm"


def _tmpfs(mount: Mount, user: str) -> str:
    uid, _, gid = user.partition(":")
    run = "noexec" if str(mount.target) in _NO_PROGRAMS else "exec"
    return f"rw,nosuid,nodev,{run},size={mount.size_bytes},mode={mount.mode:o},uid={uid},gid={gid}"


def _bind(source: str, target: PurePosixPath, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": str(target),
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate", "CreateMountpoint": False},
    }
