"""The exact commands that mend what a check found, per platform (P3). PURE."""

from __future__ import annotations

from collections.abc import Mapping

from containai.preflight.model import Facts, Platform

KERNEL = ("install a kernel of version 6.7 or later with seccomp and Landlock", "uname -r")

PTRACE = (
    "sudo sysctl -w kernel.yama.ptrace_scope=1",
    "echo kernel.yama.ptrace_scope=1 | sudo tee /etc/sysctl.d/60-containai.conf",
)
USERNS_CLONE = (
    "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    "echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/60-containai-userns.conf",
)
USERNS_MAX = (
    "sudo sysctl -w user.max_user_namespaces=10000",
    "echo user.max_user_namespaces=10000 | sudo tee /etc/sysctl.d/60-containai-userns.conf",
)
_DATA = '"$(python3 -c \'import containai, os; print(os.path.dirname(containai.__file__))\')"/data/apparmor'
USERNS_APPARMOR = (
    f"sudo install -m 644 {_DATA}/containai-bwrap /etc/apparmor.d/containai-bwrap",
    "sudo apparmor_parser -r /etc/apparmor.d/containai-bwrap",
)
APPARMOR_PROFILE = (
    f"sudo install -m 644 {_DATA}/containai-agent /etc/apparmor.d/containai-agent",
    "sudo apparmor_parser -r /etc/apparmor.d/containai-agent",
)
NESTED = (
    "inside another container: allow user namespaces and an unmasked /proc there",
    "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev true",
)

_APPARMOR_ON: Mapping[Platform, tuple[str, ...]] = {
    Platform.DEBIAN: (
        "sudo apt-get install apparmor apparmor-utils",
        "add to GRUB_CMDLINE_LINUX in /etc/default/grub: apparmor=1 security=apparmor",
        "sudo update-grub && sudo reboot",
    ),
    Platform.FEDORA: ("Fedora's kernel has SELinux instead: use the embedded engine, which Landlock guards",),
    Platform.WSL: (
        "add to %UserProfile%\\.wslconfig under [wsl2]: kernelCommandLine = apparmor=1 security=apparmor",
        "wsl --shutdown",
    ),
    Platform.OTHER: ("boot with apparmor=1 security=apparmor, if the kernel has AppArmor",),
}
_PACKAGES: Mapping[Platform, tuple[str, ...]] = {
    Platform.DEBIAN: ("sudo apt-get install squid bubblewrap git",),
    Platform.WSL: ("sudo apt-get install squid bubblewrap git",),
    Platform.FEDORA: ("sudo dnf install squid bubblewrap git",),
    Platform.OTHER: ("install squid, bubblewrap and git",),
}


def apparmor_on(facts: Facts) -> tuple[str, ...]:
    """How AppArmor is switched on here."""
    return _APPARMOR_ON[facts.platform]


def packages(facts: Facts) -> tuple[str, ...]:
    """How the host programs are installed here."""
    return _PACKAGES[facts.platform]
