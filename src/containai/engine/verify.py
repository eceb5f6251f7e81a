"""Compare the container that was asked for with the one that exists (I11). PURE."""

from __future__ import annotations

from containai.engine.protocol import ContainerSpec, EffectiveConfig, Expectation, MountPoint
from containai.plan.model import MountKind

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
SECCOMP_FILTER_MODE = 2  # Source: prctl(2), SECCOMP_MODE_FILTER

# What bubblewrap adds by itself: its /dev, and read-only covers over writable parts of /proc.
_DEVICES = frozenset({"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"})
_DEVICE_NODES = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts"))
_PROC_COVERS = frozenset({"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"})
_NO_MOUNTS = frozenset({MountKind.SYMLINK, MountKind.DIRECTORY})
_MUST_BE_READ_ONLY = frozenset({MountKind.READ_ONLY, MountKind.DATA, MountKind.MASK})


def find_drift(spec: ContainerSpec, actual: EffectiveConfig, expected: Expectation) -> tuple[str, ...]:
    """Every difference, in words; empty when the container is the planned one."""
    return (
        *_identity(spec, actual, expected),
        *_process(actual, expected),
        *_mounts(spec, actual, expected),
        *_limits(spec, actual),
    )


def _identity(spec: ContainerSpec, actual: EffectiveConfig, expected: Expectation) -> list[str]:
    identity = spec.identity
    drift = []
    if set(actual.uid) != {identity.agent_uid} or identity.agent_uid == 0:
        drift.append(f"user ids are {actual.uid}, planned {identity.agent_uid}")
    if set(actual.gid) != {identity.agent_gid} or identity.agent_gid == 0:
        drift.append(f"group ids are {actual.gid}, planned {identity.agent_gid}")
    groups = set(actual.groups) - {identity.agent_gid} - expected.groups
    if groups:
        drift.append(f"further groups are held: {', '.join(map(str, sorted(groups)))}")
    if any(actual.capabilities):
        drift.append(f"Linux capabilities are held: {actual.capabilities}")
    return drift


def _process(actual: EffectiveConfig, expected: Expectation) -> list[str]:
    drift = []
    if not actual.no_new_privs:
        drift.append("no_new_privs is not set")
    if actual.seccomp_mode != SECCOMP_FILTER_MODE or actual.seccomp_filters < 1:
        drift.append(f"seccomp mode is {actual.seccomp_mode} with {actual.seccomp_filters} filters")
    shared = [name for name in actual.namespaces_shared_with_host if name not in expected.shared_namespaces]
    if shared:
        drift.append(f"namespaces shared with the host: {', '.join(shared)}")
    if actual.interfaces != ("lo",):
        drift.append(f"network interfaces are {', '.join(actual.interfaces) or 'none'}, planned lo")
    if actual.routes:
        drift.append(f"{actual.routes} network routes exist, planned none")
    devices = set(actual.devices) - _DEVICES
    if devices:
        drift.append(f"devices in /dev that were not planned: {', '.join(sorted(devices))}")
    if actual.core_limit != 0:
        drift.append("core dumps are possible")
    if expected.apparmor_profile and actual.apparmor != f"{expected.apparmor_profile} (enforce)":
        drift.append(f"AppArmor confinement is {actual.apparmor!r}, planned {expected.apparmor_profile} (enforce)")
    return drift


def _mounts(spec: ContainerSpec, actual: EffectiveConfig, expected: Expectation) -> list[str]:
    planned = {str(m.target): m.kind for m in spec.mounts if m.kind not in _NO_MOUNTS}
    planned |= {str(file.target): MountKind.DATA for file in spec.files if file.read_only}
    planned |= dict.fromkeys(expected.engine_files, MountKind.DATA)
    drift = []
    seen = {mount.target for mount in actual.mounts}
    for mount in actual.mounts:
        kind = planned.get(mount.target)
        if mount.target in _DEVICE_NODES or expected.writable.get(mount.target) == mount.fstype:
            continue
        if mount.target in expected.covers:
            if not _is_cover(mount):
                drift.append(f"{mount.target} is not covered")
            continue
        if (
            mount.target in expected.read_only
            or mount.target in ("/", "/dev")
            or mount.target in _PROC_COVERS
            or kind in _MUST_BE_READ_ONLY
        ):
            if not mount.read_only:
                drift.append(f"{mount.target} is writable")
        elif kind is None and not _is_below(mount.target, planned):
            drift.append(f"{mount.target} is mounted, and was not planned")
        elif kind is None and not mount.read_only:
            drift.append(f"{mount.target} is mounted writable, and was not planned")
        if kind is MountKind.TMPFS and mount.fstype != "tmpfs":
            drift.append(f"{mount.target} is {mount.fstype}, planned tmpfs")
        if kind is MountKind.PROC and mount.fstype != "proc":
            drift.append(f"{mount.target} is {mount.fstype}, planned proc")
        if not (mount.nosuid or mount.target == "/dev/pts" or expected.setuid_is_ignored):
            drift.append(f"{mount.target} honours setuid files")
    drift += [f"{target} was planned, and is not mounted" for target in planned if target not in seen]
    drift += [f"{target} is not covered" for target in sorted(expected.must_be_covered - seen)]
    drift += [f"{target} is not mounted read-only" for target in sorted(expected.must_be_read_only - seen)]
    return drift


def _is_cover(mount: MountPoint) -> bool:
    """Whether nothing of what stands below is seen: the null device over a file, an empty tmpfs over a directory."""
    return mount.fstype in ("tmpfs", "devtmpfs") and (mount.root == "/null" or mount.read_only)


def _is_below(target: str, planned: dict[str, MountKind]) -> bool:
    """Whether a mount came along with a planned read-only tree (a file system below /usr, say)."""
    return any(kind is MountKind.READ_ONLY and target.startswith(f"{path}/") for path, kind in planned.items())


def _limits(spec: ContainerSpec, actual: EffectiveConfig) -> list[str]:
    limits = spec.limits
    drift = []
    if not 0 < actual.pids_max <= limits.pids_max:
        drift.append(f"pids.max is {actual.pids_max}, planned {limits.pids_max}")
    if not 0 < actual.memory_bytes <= limits.memory_bytes:
        drift.append(f"the memory limit is {actual.memory_bytes}, planned {limits.memory_bytes}")
    if actual.swap_bytes != 0:
        drift.append(f"{actual.swap_bytes} bytes of swap may be used beyond memory")
    if not 0 < actual.cpus <= limits.cpus + 0.01:
        drift.append(f"the CPU limit is {actual.cpus:g}, planned {limits.cpus:g}")
    return drift
