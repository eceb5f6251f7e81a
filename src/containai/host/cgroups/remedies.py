"""Why no limit can be enforced, and the exact commands that mend it. PURE."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from containai.host.cgroups.model import CONTROLLERS, NoDelegation

LOOK = ("cat /proc/self/cgroup", "grep cgroup /proc/self/mountinfo")

_OUTER_CONTAINER = (
    "# in a container: start it with a cgroup file system that it may write, for example",
    "docker run --privileged --cgroupns=private IMAGE",
)
_MANAGER_DROP_IN = (
    "printf '[Service]\\nDelegate=cpu memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/containai.conf"
)


def no_cgroups() -> NoDelegation:
    """Nothing is mounted."""
    return NoDelegation(
        reason="no cgroup file system is mounted",
        remedy=("sudo mount -t cgroup2 none /sys/fs/cgroup", *_OUTER_CONTAINER),
    )


def no_controllers(missing: Sequence[str]) -> NoDelegation:
    """The kernel has them switched off, or spread over v1 and v2."""
    return NoDelegation(
        reason=f"no single cgroup hierarchy offers {', '.join(CONTROLLERS)}; not found: {', '.join(missing)}",
        remedy=(
            "# these are switched on by the kernel's command line",
            _add_to_grub("cgroup_enable=memory systemd.unified_cgroup_hierarchy=1"),
            "sudo update-grub || sudo grub2-mkconfig -o /boot/grub2/grub.cfg",
            "sudo reboot",
        ),
    )


def read_only(mount_point: Path) -> NoDelegation:
    """As in a container without privileges."""
    return NoDelegation(reason=f"{mount_point} is mounted read-only", remedy=_OUTER_CONTAINER)


def no_own_group(own: Path) -> NoDelegation:
    """Root, but the own group can be neither written nor emptied."""
    return NoDelegation(
        reason=f"the group of this process can be neither written nor divided: {own}",
        remedy=("# run containai on the host itself", *_OUTER_CONTAINER),
    )


def no_delegation_v1(uid: int, given: Sequence[Path]) -> NoDelegation:
    """An ordinary user on v1 has nothing of his own until he is given something."""
    paths = " ".join(shlex.quote(str(path)) for path in given)
    return NoDelegation(
        reason=f"user {uid} has no cgroup of his own (cgroup v1; what is made below lasts until the next boot)",
        remedy=(f"sudo mkdir -p {paths}", f"sudo chown {uid} {paths}"),
    )


def no_delegation_v2(uid: int, top: Path) -> NoDelegation:
    """An ordinary user on v2 where no systemd hands out groups."""
    own = shlex.quote(str(top / f"user-{uid}"))
    shell = f"{own}/shell"
    files = " ".join(f"{own}/{name}" for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"))
    controllers = " ".join(f"+{name}" for name in CONTROLLERS)
    return NoDelegation(
        reason=f"no cgroup is delegated to user {uid}, and no systemd could make one",
        remedy=(
            f"echo {controllers} | sudo tee {top}/cgroup.subtree_control",
            f"sudo mkdir -p {own}",
            f"echo {controllers} | sudo tee {own}/cgroup.subtree_control",
            f"sudo mkdir -p {shell}",
            f"sudo chown {uid} {own} {files} {shell} {shell}/cgroup.procs",
            f"echo $$ | sudo tee {shell}/cgroup.procs",
        ),
    )


def no_user_manager(uid: int) -> NoDelegation:
    """The user's systemd does not run: no login session, as under su or in cron."""
    return NoDelegation(
        reason=f"the systemd of user {uid} does not run",
        remedy=(f"sudo loginctl enable-linger {uid}", f"sudo systemctl start user@{uid}.service"),
    )


def not_delegated_to_manager(uid: int, missing: Sequence[str]) -> NoDelegation:
    """Some releases hand their users' systemd only some controllers (Ubuntu 22.04: no cpu)."""
    return NoDelegation(
        reason=f"the systemd of user {uid} may not limit {', '.join(missing)}",
        remedy=(
            "sudo mkdir -p /etc/systemd/system/user@.service.d",
            _MANAGER_DROP_IN,
            "sudo systemctl daemon-reload",
            f"sudo systemctl restart user@{uid}.service  # ends your programs: or log out and in",
        ),
    )


def no_swap_accounting() -> NoDelegation:
    """The machine swaps, and the kernel does not count whose swap it is."""
    return NoDelegation(
        reason="swap is on, and the kernel does not account for it, so that memory has no real limit",
        remedy=(
            "sudo swapoff -a",
            "# or let the kernel account for swap",
            _add_to_grub("swapaccount=1"),
            "sudo update-grub || sudo grub2-mkconfig -o /boot/grub2/grub.cfg",
            "sudo reboot",
        ),
    )


def _add_to_grub(words: str) -> str:
    return f"sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{words} /' /etc/default/grub"
