"""Finding a place where this process may enforce limits.

v2, root:           ``containai`` at the top of the real hierarchy; in a container, as for a user
v2, ordinary user:  a group that was delegated to him and that he is in; else the user's own systemd
v1:                 below the own group of each controller; an ordinary user: below his own group,
                    or below ``containai/user-UID``, which the administrator made for him

What is found has been tried: a group was made, limited, read back and removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from containai.errors import EngineError
from containai.host.cgroups import remedies
from containai.host.cgroups.group import create
from containai.host.cgroups.layout import Layout, read_layout
from containai.host.cgroups.limits import V1_SWAP, has_swap
from containai.host.cgroups.model import (
    CONTROLLERS,
    GROUP_PREFIX,
    LAUNCHER_LEAF,
    TOP_LEVEL,
    Delegation,
    Kind,
    NoDelegation,
)
from containai.policy.model import GIB, Limits
from containai.record import dataclass

_PROBE = "probe-"
_PROBE_LIMITS = Limits(cpus=0.5, memory_bytes=GIB, pids_max=64)
_ENV = "/usr/bin/env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the search depends on beside the cgroup file systems.

    Attributes:
        uid: The user who wants to set limits.
        systemd: Whether systemd manages this machine, so that groups have an owner beside their user.
        systemd_run: The program, where there is one.
        runtime_dir: The user's runtime directory, where his systemd listens.
        swap: Whether the machine swaps.
    """

    uid: int
    systemd: bool
    systemd_run: Path | None
    runtime_dir: Path
    swap: bool


def read_host() -> Host:
    """Look at this machine."""
    program = Path("/usr/bin/systemd-run")
    return Host(
        uid=os.geteuid(),
        systemd=Path("/run/systemd/system").is_dir(),
        systemd_run=program if program.exists() else None,
        runtime_dir=Path(f"/run/user/{os.geteuid()}"),
        swap=has_swap(),
    )


def find_delegation() -> Delegation | NoDelegation:
    """Find where this process may enforce limits, and prove it by a group that is removed at once."""
    try:
        layout = read_layout()
    except (OSError, ValueError) as error:
        return NoDelegation(reason=f"the cgroups of this process cannot be read: {error}", remedy=())
    found = search(layout, read_host())
    return _prove(found) if isinstance(found, Delegation) else found


def search(layout: Layout, host: Host) -> Delegation | NoDelegation:
    """Find a place that looks right; without effect on the machine."""
    if not layout.hierarchies:
        return remedies.no_cgroups()
    unified = layout.unified()
    if unified and _has_controllers(unified[0].mount_point):
        return _search_v2(layout, host)
    if all(layout.of(controller) for controller in CONTROLLERS):
        return _search_v1(layout, host)
    missing = [name for name in CONTROLLERS if not layout.of(name)]
    return remedies.no_controllers(missing)


def _prove(found: Delegation) -> Delegation | NoDelegation:
    if found.kind is Kind.SYSTEMD:
        return found  # a scope takes longer than all else here; the drift check reads its limits back
    _remove_dead_probes(found)
    try:
        group = create(found, f"{_PROBE}{secrets.token_hex(3)}-{os.getpid()}", _PROBE_LIMITS)
        assert group is not None
        limits = group.read_limits()
        group.destroy()
    except EngineError as error:
        return NoDelegation(reason=f"limits cannot be set: {error.details or error.summary}", remedy=remedies.LOOK)
    if (limits.pids_max, limits.memory_bytes, limits.swap_bytes) != (64, GIB, 0) or not 0 < limits.cpus <= 0.5:
        return NoDelegation(reason=f"the kernel does not keep the limits that were set: {limits}", remedy=remedies.LOOK)
    return found


def _remove_dead_probes(found: Delegation) -> None:
    """What a launcher left that was killed while it tried; an empty group, so removing it harms nobody."""
    for base in found.bases:
        for group in base.glob(f"{GROUP_PREFIX}{_PROBE}*"):
            if not Path("/proc", group.name.rpartition("-")[2]).exists():
                with contextlib.suppress(OSError):
                    group.rmdir()


def _search_v2(layout: Layout, host: Host) -> Delegation | NoDelegation:
    unified = layout.unified()
    assert unified is not None
    hierarchy, own = unified
    top = hierarchy.mount_point
    if hierarchy.read_only:
        return remedies.read_only(top)
    # Source: cgroup-v2.rst: cgroup.type "exists on non-root cgroups"; a container's top is no real root.
    if host.uid == 0 and not (top / "cgroup.type").exists():
        return Delegation(kind=Kind.V2, bases=(top / TOP_LEVEL,), parent=top)
    for candidate in _own_groups(own, top, host):
        return candidate
    if host.uid == 0:
        return remedies.no_own_group(own)
    return _search_systemd(top, host)


def _own_groups(own: Path, top: Path, host: Host) -> Iterator[Delegation]:
    """The group of this process when it can be emptied, then the one above when it is empty."""
    if _is_delegated(own, host) and _has_controllers(own) and _holds_only(own, host.uid):
        yield Delegation(kind=Kind.V2, bases=(own,), leaf=own / LAUNCHER_LEAF)
    above = own.parent
    if own == top or not _is_delegated(above, host) or not _has_controllers(above):
        return
    # Moving a process needs the right to write cgroup.procs of the common ancestor, which _is_delegated checked.
    enabled = set((above / "cgroup.subtree_control").read_text().split())
    if enabled.issuperset(CONTROLLERS) or not (above / "cgroup.procs").read_text().split():
        yield Delegation(kind=Kind.V2, bases=(above,))


def _is_delegated(group: Path, host: Host) -> bool:
    """Whether the group is ours to divide, and not just writable.

    Where systemd manages the groups, it takes controllers away again from those that it has not
    given away, and the limits with them. Source: systemd's CGROUP_DELEGATION.md; systemd marks what
    it delegates. The group of a user's manager is that manager's own.
    """
    if not all(os.access(path, os.W_OK) for path in (group, group / "cgroup.procs", group / "cgroup.subtree_control")):
        return False
    if not host.systemd:
        return True
    if group.name.startswith("user@"):
        return False
    for attribute in ("user.delegate", "trusted.delegate"):
        try:
            return os.getxattr(group, attribute) == b"1"
        except OSError:
            continue
    return False


def _holds_only(group: Path, uid: int) -> bool:
    """Whether every process of the group is this user's, so that moving it aside disturbs nobody."""
    for pid in (group / "cgroup.procs").read_text().split():
        try:
            if pid == "0" or Path("/proc", pid).stat().st_uid != uid:  # 0: a process that we cannot see
                return False
        except FileNotFoundError:
            continue
    return True


def _search_systemd(top: Path, host: Host) -> Delegation | NoDelegation:
    if not host.systemd or host.systemd_run is None:
        return remedies.no_delegation_v2(host.uid, top)
    if not _is_socket(host.runtime_dir / "systemd/private"):
        return remedies.no_user_manager(host.uid)
    manager = top / f"user.slice/user-{host.uid}.slice/user@{host.uid}.service"
    try:
        offered = (manager / "cgroup.controllers").read_text().split()
    except OSError:
        offered = []
    if missing := [name for name in CONTROLLERS if name not in offered]:
        return remedies.not_delegated_to_manager(host.uid, missing)
    starter = (
        _ENV,
        f"XDG_RUNTIME_DIR={host.runtime_dir}",
        str(host.systemd_run),
        "--user",
        "--scope",
        "--quiet",
        "--collect",
    )
    return Delegation(kind=Kind.SYSTEMD, starter=starter)


def _search_v1(layout: Layout, host: Host) -> Delegation | NoDelegation:
    bases: list[Path] = []
    own_groups: list[Path] = []
    given: list[Path] = []
    for controller in CONTROLLERS:
        found = layout.of(controller)
        assert found is not None
        hierarchy, own = found
        if hierarchy.read_only:
            return remedies.read_only(hierarchy.mount_point)
        own_groups.append(own)
        given.append(hierarchy.mount_point / TOP_LEVEL / f"user-{host.uid}")
        base = next((path for path in (own, given[-1]) if _is_writable_v1(path, host.uid)), None)
        if base is not None:
            bases.append(base)
    if len(bases) != len(CONTROLLERS):
        return remedies.no_own_group(own_groups[0]) if host.uid == 0 else remedies.no_delegation_v1(host.uid, given)
    if host.swap and not (bases[1] / V1_SWAP).exists():
        return remedies.no_swap_accounting()
    return Delegation(kind=Kind.V1, bases=(*bases, *_beside_v1(layout, host)))


def _beside_v1(layout: Layout, host: Host) -> tuple[Path, ...]:
    """Where v2 without controllers is mounted too: its groups can be stopped and killed as a whole."""
    found = layout.unified()
    if found is None or found[0].read_only or not os.access(found[1] / "cgroup.procs", os.W_OK):
        return ()
    return (found[1],) if _is_writable_v1(found[1], host.uid) else ()


def _is_writable_v1(group: Path, uid: int) -> bool:
    try:
        return (uid == 0 or group.stat().st_uid == uid) and os.access(group, os.W_OK | os.X_OK)
    except OSError:
        return False


def _has_controllers(group: Path) -> bool:
    try:
        return set((group / "cgroup.controllers").read_text().split()).issuperset(CONTROLLERS)
    except OSError:
        return False


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
