"""The exact commands that mend what a check found, per platform (P3). PURE.

A line is a command for a shell, or begins with ``#`` and says what the commands cannot.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from containai.preflight.model import Facts, Platform

_GRUB = "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{words} /' /etc/default/grub"
_NOT_BUILT = "# where that is not enough, this kernel is too old, or was built without it:"
_LSM = "lsm=landlock,lockdown,yama,integrity,apparmor,bpf"

_KERNEL: Mapping[Platform, tuple[str, ...]] = {
    Platform.DEBIAN: (
        "# with Debian's backports among apt's sources:",
        'sudo apt-get install -t "$(. /etc/os-release; echo $VERSION_CODENAME)-backports" linux-image-amd64',
        "sudo reboot",
    ),
    Platform.UBUNTU: (
        "sudo apt-get install linux-generic-hwe-$(. /etc/os-release; echo $VERSION_ID)",
        "sudo reboot",
    ),
    Platform.FEDORA: ("sudo dnf upgrade --refresh kernel", "sudo reboot"),
    Platform.WSL: ("# in Windows:", "wsl --update", "wsl --shutdown"),
    Platform.OTHER: ("# install Linux 6.7 or later, with seccomp and Landlock",),
}

_LSM_ON: Mapping[Platform, tuple[str, ...]] = {
    Platform.DEBIAN: (_GRUB.format(words=_LSM), "sudo update-grub", "sudo reboot"),
    Platform.UBUNTU: (_GRUB.format(words=_LSM), "sudo update-grub", "sudo reboot"),
    Platform.FEDORA: (
        "sudo grubby --update-kernel=ALL --args=lsm=landlock,lockdown,yama,integrity,selinux,bpf",
        "sudo reboot",
    ),
    Platform.WSL: (
        "# in Windows, in the file %UserProfile%\\.wslconfig:",
        "# [wsl2]",
        f"# kernelCommandLine = {_LSM}",
        "wsl --shutdown",
    ),
    Platform.OTHER: (f"# add {_LSM} to the kernel's command line, and reboot",),
}

_PACKAGES: Mapping[Platform, str] = {
    Platform.DEBIAN: "sudo apt-get install {name}",
    Platform.UBUNTU: "sudo apt-get install {name}",
    Platform.WSL: "sudo apt-get install {name}",
    Platform.FEDORA: "sudo dnf install {name}",
    Platform.OTHER: "# install {name}",
}

PTRACE = (
    "sudo sysctl -w kernel.yama.ptrace_scope=1",
    "echo kernel.yama.ptrace_scope=1 | sudo tee /etc/sysctl.d/60-containai.conf",
)
PTRACE_LOCKED = (
    "grep -rs ptrace_scope /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d   # make it 1; 3 cannot be lowered",
    "sudo reboot",
)
USERNS_CLONE = (
    "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    "echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/60-containai-userns.conf",
)
USERNS_MAX = (
    "sudo sysctl -w user.max_user_namespaces=10000",
    "echo user.max_user_namespaces=10000 | sudo tee /etc/sysctl.d/60-containai-userns.conf",
)
TRY_BWRAP = ("bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp true",)
NESTED = (
    "# this host is itself a container: allow user namespaces and an unmasked /proc there, for example",
    "docker run --privileged --cgroupns=private IMAGE",
)
CHROOT = (
    "# in a chroot: leave it, or let its directory be the root of a mount namespace, as pivot_root(8) does:",
    (
        "sudo unshare --mount sh -c 'mount --rbind DIRECTORY DIRECTORY && cd DIRECTORY && mkdir -p old &&"
        " pivot_root . old && umount --lazy old && exec bash'"
    ),
)
ANOTHER_MACHINE = ("# use a machine with an x86_64 processor",)
EMBEDDED = ("containai run --engine embedded",)
BUILD = (
    "# in a checkout:",
    "./bootstrap install",
    "# else install the package again:",
    "pipx reinstall containai",
)
SHARED_MEMORY = ("sudo mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm",)
DOCKER_INFO = ("docker info",)
DOCKER_HOST = (
    "unset DOCKER_HOST",
    "# or let a session run without Docker:",
    "containai run --engine embedded",
)
DOCKER_GROUP = (
    "# who may ask Docker may become root; that is yours to decide:",
    'sudo usermod -aG docker "$USER"',
    "# then log in again; or let a session run as root, or without Docker:",
    'sudo env PATH="$PATH" containai run --engine docker ...',
    "containai run --engine embedded ...",
)
PODMAN_ROOT = (
    "# Podman's socket is root's alone: as root, or without Podman",
    'sudo env PATH="$PATH" containai run --engine docker ...',
    "containai run --engine embedded ...",
)
DOCKER_DAEMON_JSON = (
    "# use root's daemon without userns-remap (see /etc/docker/daemon.json), or no Docker at all:",
    "containai run --engine embedded",
)
STATE = ('# set XDG_STATE_HOME to a directory that you can write: export XDG_STATE_HOME="$HOME/.local/state"',)
DISK = ("df -h", "containai list")


def kernel(facts: Facts) -> tuple[str, ...]:
    """A newer kernel."""
    return _KERNEL[facts.platform]


def landlock(facts: Facts) -> tuple[str, ...]:
    """Landlock: switched on where the kernel has it, else with a newer kernel."""
    return (*_LSM_ON[facts.platform], _NOT_BUILT, *kernel(facts))


def apparmor_on(facts: Facts) -> tuple[str, ...]:
    """AppArmor itself."""
    if facts.platform is Platform.FEDORA:
        return ("# Fedora's kernel has SELinux instead: use the embedded engine, which Landlock guards", *EMBEDDED)
    return (package(facts, "apparmor"), *_LSM_ON[facts.platform], _NOT_BUILT, *kernel(facts))


def apparmor_profile(facts: Facts) -> tuple[str, ...]:
    """Our profile, from the files of this installation."""
    return (package(facts, "apparmor"), *_install_profile(facts, "containai-agent"))


def bwrap_profile(facts: Facts) -> tuple[str, ...]:
    """A profile that lets bubblewrap make user namespaces. Source: Ubuntu 24.04's release notes."""
    return _install_profile(facts, "containai-bwrap")


def bwrap_profile_instead(facts: Facts) -> tuple[str, ...]:
    """The same in place of the distribution's, which lets no container have a profile of its own."""
    theirs = "/etc/apparmor.d/bwrap-userns-restrict"
    return (
        "sudo mkdir -p /etc/apparmor.d/disable",
        f"sudo ln -sf {theirs} /etc/apparmor.d/disable/",
        f"sudo apparmor_parser -R {theirs}",
        *bwrap_profile(facts),
    )


def package(facts: Facts, name: str) -> str:
    """How a package is installed here; its name is the same everywhere."""
    return _PACKAGES[facts.platform].format(name=name)


def _install_profile(facts: Facts, name: str) -> tuple[str, ...]:
    source = shlex.quote(str(facts.profiles / name))
    return (
        f"sudo install -m 644 {source} /etc/apparmor.d/{name}",
        f"sudo apparmor_parser -r /etc/apparmor.d/{name}",
    )


def docker(facts: Facts) -> tuple[str, ...]:
    """Docker itself."""
    return (*newer_docker(facts), "sudo systemctl enable --now docker")


def newer_docker(facts: Facts) -> tuple[str, ...]:
    """Docker 25.0.5 or later. Source: the distributions' packages, and docs.docker.com/engine/install."""
    if facts.platform is Platform.FEDORA:
        return ("sudo dnf install moby-engine",)
    if facts.platform is Platform.OTHER:
        return ("# install Docker 25.0.5 or later: https://docs.docker.com/engine/install/",)
    return (
        "# Debian 13, Ubuntu 24.04 and later; for older ones see https://docs.docker.com/engine/install/",
        "sudo apt-get install docker.io",
    )


def podman(facts: Facts) -> tuple[str, ...]:
    """Podman itself, behind its socket. Source: podman-system-service(1)."""
    return (package(facts, "podman"), "sudo systemctl enable --now podman.socket")


def newer_podman(facts: Facts) -> tuple[str, ...]:
    """Podman 5.4.2 or later, or what needs none."""
    if facts.platform is Platform.FEDORA:
        return ("sudo dnf upgrade --refresh podman",)
    if facts.platform is Platform.OTHER:
        return ("# install Podman 5.4.2 or later, or Docker in its place, or let a session run without:", *EMBEDDED)
    return (
        "# Debian 13 and later have it; on an older one take Docker in its place, or let a session run without:",
        "sudo apt-get install podman",
        *EMBEDDED,
    )


def docker_security(facts: Facts) -> tuple[str, ...]:
    """A daemon that uses the kernel's AppArmor and seccomp."""
    return (package(facts, "apparmor"), "sudo systemctl restart docker", *DOCKER_INFO)


def docker_limits(facts: Facts) -> tuple[str, ...]:
    """Limits of memory and swap. Source: Docker's docs, "Your kernel does not support cgroup swap limit"."""
    if facts.platform is Platform.FEDORA:
        return ("sudo grubby --update-kernel=ALL --args='cgroup_enable=memory swapaccount=1'", "sudo reboot")
    if facts.platform in (Platform.DEBIAN, Platform.UBUNTU):
        return (_GRUB.format(words="cgroup_enable=memory swapaccount=1"), "sudo update-grub", "sudo reboot")
    return ("# add cgroup_enable=memory swapaccount=1 to the kernel's command line, and reboot",)


def image(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The image that a session needs."""
    name = (wanted or ("containai",))[0].partition(":")[0]
    return (f"containai image build {name}",)
