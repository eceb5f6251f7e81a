"""What this machine has, by name, for ``@pytest.mark.needs("name", ...)``.

A probe looks at the world, never at a variable, so that nobody can switch tests off. It is asked once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _runs(*argv: str, timeout_s: float = 20) -> bool:
    if shutil.which(argv[0]) is None:
        return False
    try:
        return subprocess.run(argv, capture_output=True, timeout=timeout_s, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _apparmor() -> bool:
    return _read("/sys/module/apparmor/parameters/enabled") == "Y"


def _landlock() -> bool:
    # The kernel's own answer: landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION).
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(444, None, 0, 1)) >= 4


def _i386() -> bool:
    # The kernel has a vsyscall page for 32-bit programs only where it runs them.
    return Path("/proc/sys/abi/vsyscall32").exists()


def _docker_version() -> int:
    """The daemon's major version; 0 where none answers, or one that is not Docker's."""
    if _podman():
        return 0
    try:
        asked = ["docker", "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        return int(done.stdout.partition(".")[0] or 0)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def _podman() -> bool:
    """Whether it is Podman that answers where Docker is asked."""
    try:
        asked = ["docker", "version", "--format", "{{range .Server.Components}}{{.Name}};{{end}}"]
        return "Podman Engine" in subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False


def _throw_away() -> bool:
    # A word that only tests/vm/run gives to the kernel of a machine that is gone afterwards: nobody sets it by mistake.
    return os.geteuid() == 0 and "containai.throw-away" in _read("/proc/cmdline").split()


def _loop() -> bool:
    # A free device, and the right to use it: nothing is mounted for the question.
    return os.geteuid() == 0 and _runs("losetup", "--find") and _runs("mkfs.ext4", "-V")


def _open_checkout() -> bool:
    # Another user has to be able to import what is here. Below root's HOME he is not.
    checkout = Path(__file__).resolve().parents[2]
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (checkout, *checkout.parents))


PROBES: dict[str, Callable[[], bool]] = {
    "apparmor": _apparmor,
    "apparmor-off": lambda: _read("/sys/module/apparmor/parameters/enabled") == "N",
    "bubblewrap": lambda: shutil.which("bwrap") is not None,
    "cc": lambda: shutil.which("cc") is not None,
    "cgroup-v1": lambda: (CGROUP / "pids").is_dir() and (CGROUP / "memory").is_dir(),
    "cgroup-v2": lambda: "pids" in _read(str(CGROUP / "cgroup.controllers")),
    "containai-claude-image": lambda: _runs("docker", "image", "inspect", "containai-claude:latest"),
    "docker-before-25": lambda: _docker_version() not in (0, *range(25, 100)),
    "docker-bench-security": lambda: shutil.which("docker-bench-security.sh") is not None,
    "docker": lambda: _runs("docker", "info"),
    "docker-engine": lambda: _apparmor() and os.geteuid() == 0 and _runs("docker", "info"),
    "i386": _i386,
    "landlock": _landlock,
    "legacy-tiocsti": lambda: _read("/proc/sys/dev/tty/legacy_tiocsti") in {"1", ""},
    "loop": _loop,
    "node": lambda: _runs("node", "--version"),
    "open-checkout": _open_checkout,
    "podman-engine": lambda: _apparmor() and os.geteuid() == 0 and _podman(),
    "npm-registry": lambda: _runs("npm", "ping", timeout_s=30),
    "root": lambda: os.geteuid() == 0,
    "squid": lambda: any(Path(p).exists() for p in ("/usr/sbin/squid", "/usr/bin/squid")),
    "strace": lambda: _runs("strace", "-f", "-e", "trace=fsync", "true"),
    "systemd": lambda: Path("/run/systemd/system").is_dir(),
    "throw-away-machine": _throw_away,
    "user-namespaces": lambda: _runs(
        "unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "t", "/mnt"
    ),
    "yama": lambda: _read("/proc/sys/kernel/yama/ptrace_scope") != "",
}


@cache
def has(feature: str) -> bool:
    """Whether this machine has a feature.

    Raises:
        KeyError: No feature has this name.
    """
    return PROBES[feature]()


def missing(features: tuple[str, ...]) -> list[str]:
    """The features among these that this machine has not."""
    return [feature for feature in features if not has(feature)]
