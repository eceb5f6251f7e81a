"""Look at the host. The only I/O of preflight; no environment variable can change what is found (P5)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from containai.errors import ContainaiError
from containai.host import cgroups, process
from containai.plan.model import AGENT_UID, Identity
from containai.preflight.model import PROFILE, READING_PROFILE, UNREADABLE, DockerFacts, Facts, Platform, Probe, Tool

_PLACES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")
_PROBE_TIMEOUT_S = 15.0
_CAP_SYS_PTRACE = 19  # Source: linux/capability.h
# Source: Docker, Podman, and systemd's CONTAINER_INTERFACE.md. They choose the words of a remedy, and no verdict.
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
_PLATFORMS = {  # Ubuntu is like Debian, and named first
    "ubuntu": Platform.UBUNTU,
    "debian": Platform.DEBIAN,
    "fedora": Platform.FEDORA,
    "rhel": Platform.FEDORA,
}
_VERSION = re.compile(rb"(\d+(?:\.\d+)+)")
_LANDLOCK_CREATE_RULESET, _LANDLOCK_VERSION = 444, 1

# What every container of a session needs, in small: all namespaces, and mounts that work inside them.
_PROBE_ARGUMENTS = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup"),
    *("--disable-userns", "--uid", str(AGENT_UID), "--gid", str(AGENT_UID), "--new-session"),
    *("--as-pid-1", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
    *("--size", "65536", "--tmpfs", "/tmp"),
    *("--remount-ro", "/", "--"),
)


class Trials:
    """Programs that are being tried out, side by side, while the launcher does something else.

    Args:
        identity: Whose rights to try with: the session's own user.
        embedded: Whether the embedded engine may be asked for; bubblewrap is not tried out for another.
    """

    def __init__(self, identity: Identity, *, embedded: bool = True) -> None:
        self.bwrap, self.squid, self.git = _find("bwrap"), _find("squid"), _find("git")
        self.apparmor_enabled = _apparmor_enabled()
        probe = (*_PROBE_ARGUMENTS, *_probe_program(apparmor=self.apparmor_enabled))
        self._children = {
            "probe": _start(self.bwrap, probe, identity) if embedded else None,
            "bwrap": _start(self.bwrap, ("--version",)) if embedded else None,
            "squid": _start(self.squid, ("-v",)),
            "git": _start(self.git, ("--version",)),
        }

    def results(self) -> dict[str, process.Completed | None]:
        """What each said; waits for them."""
        return {name: _finish(child) for name, child in self._children.items()}


def collect_facts(
    trials: Trials,
    *,
    state_dir: Path,
    native: Sequence[Path] = (),
    with_proxy: bool = True,
    docker: DockerFacts | None = None,
) -> Facts:
    """Collect every fact.

    Args:
        trials: Started earlier.
        state_dir: Where sessions will be kept.
        native: Files that must have been built.
        with_proxy: Whether the session needs Squid.
        docker: What Docker's daemon said, where it was asked.
    """
    bwrap, squid, git = trials.bwrap, trials.squid, trials.git
    enabled = trials.apparmor_enabled
    state_problem, free_bytes = _look_at_state(state_dir)
    delegation = cgroups.find_delegation()
    said = trials.results()
    return Facts(
        platform=_platform(),
        machine=os.uname().machine,
        kernel=os.uname().release,
        seccomp_actions=_seccomp_actions(),
        landlock_abi=max(0, ctypes.CDLL(None).syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)),
        apparmor_enabled=enabled,
        apparmor_mode=_apparmor_mode(PROFILE) if enabled else None,
        apparmor_reading_mode=_apparmor_mode(READING_PROFILE) if enabled else None,
        ptrace_scope=_sysctl("kernel/yama/ptrace_scope"),
        userns_clone=_sysctl("kernel/unprivileged_userns_clone"),
        userns_max=_sysctl("user/max_user_namespaces"),
        userns_apparmor=_sysctl("kernel/apparmor_restrict_unprivileged_userns"),
        probe=_judge(said["probe"]),
        bwrap=Tool(path=bwrap, version=_version(said["bwrap"])),
        squid=Tool(path=squid, version=_version(said["squid"])),
        git=Tool(path=git, version=_version(said["git"])),
        delegation=delegation,
        state_problem=state_problem,
        state_free_bytes=free_bytes,
        native_missing=tuple(str(path) for path in native if not path.is_file()),
        may_trace=_may_trace(),
        with_proxy=with_proxy,
        profiles=Path(__file__).resolve().parent.parent / "data/apparmor",
        contained=any(os.path.lexists(mark) for mark in _CONTAINER_MARKS),
        docker=docker,
    )


def _may_trace() -> bool:
    """Whether Yama lets this process read any other's memory: by the Linux capability CAP_SYS_PTRACE.

    Source: proc_pid_status(5), CapEff; linux/capability.h.
    """
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_PTRACE & 1)


def _find(name: str) -> Path | None:
    return next((path for place in _PLACES if os.access(path := Path(place, name), os.X_OK)), None)


def _start(program: Path | None, arguments: Sequence[str], identity: Identity | None = None) -> process.Child | None:
    if program is None:
        return None
    user: tuple[str, ...] = ()
    if identity is not None and os.geteuid() == 0:
        user = ("setpriv", f"--reuid={identity.agent_uid}", f"--regid={identity.agent_gid}", "--clear-groups", "--")
    with contextlib.suppress(ContainaiError):
        return process.spawn([*user, program, *arguments], stdout=process.PIPE, stderr=process.PIPE)
    return None


def _finish(child: process.Child | None) -> process.Completed | None:
    if child is None:
        return None
    try:
        stdout, stderr = child.communicate(timeout=_PROBE_TIMEOUT_S)
    except process.TimeoutExpired:
        child.kill()
        stdout, stderr = child.communicate()
    return process.Completed(status=child.returncode, stdout=stdout, stderr=stderr)


def _probe_program(*, apparmor: bool | None) -> tuple[str, ...]:
    """What the trial container runs: it shows its mounts, and its confinement where there is one."""
    return ("/bin/cat", "/proc/self/mountinfo", *(("/proc/self/attr/current",) if apparmor else ()))


def _judge(done: process.Completed | None) -> Probe | None:
    """Read what the trial container showed of itself.

    ``noexec`` is a flag of mounts and not of file systems, so that its being kept on /proc proves it for
    a tmpfs too; bubblewrap has no option to set it there.
    """
    if done is None:
        return None
    options: dict[bytes, frozenset[str]] = {}
    last = b""
    for line in done.stdout.splitlines():
        fields = line.split(b" ")
        if b"-" in fields[6:]:  # Source: proc_pid_mountinfo(5)
            kind = fields[fields.index(b"-", 6) + 1]
            options[fields[4] + b" " + kind] = frozenset(fields[5].decode().split(","))
        else:
            last = line
    return Probe(
        worked=done.status == 0 and bool(options),
        said=done.said,
        tmpfs=options.get(b"/tmp tmpfs", frozenset()),
        noexec="noexec" in options.get(b"/proc proc", frozenset()),
        confinement=last.decode(errors="replace").strip("\0 "),
    )


def _version(done: process.Completed | None) -> tuple[int, ...]:
    match = _VERSION.search(done.stdout) if done else None
    return tuple(int(part) for part in match[1].split(b".")) if match else ()


def _sysctl(name: str) -> int | None:
    """The value of a switch; None where the kernel has none of this name."""
    try:
        return int(Path("/proc/sys", name).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return UNREADABLE


def _seccomp_actions() -> frozenset[str] | None:
    try:
        return frozenset(Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split())
    except OSError:
        return None


def _apparmor_enabled() -> bool | None:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except FileNotFoundError:
        return False
    except OSError:
        return None


def _apparmor_mode(profile: str) -> str | None:
    """How the kernel holds a profile. Only root can read the list; a profile's own entry says the same."""
    try:
        for line in Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines():
            name, _, mode = line.rpartition(" ")
            if name == profile:
                return mode.strip("()")
    except OSError:
        return _apparmor_mode_by_entry(profile)
    return "absent"


def _apparmor_mode_by_entry(profile: str) -> str | None:
    entries = Path("/sys/kernel/security/apparmor/policy/profiles")
    try:
        found = [entry for entry in entries.iterdir() if (entry / "name").read_text().strip() == profile]
        return (found[0] / "mode").read_text().strip() if found else "absent"
    except OSError:
        return None


def _look_at_state(state_dir: Path) -> tuple[str, int]:
    """Why sessions cannot be kept there (or nothing), and the free bytes; the directory need not exist yet."""
    place = (state_dir / "sessions").absolute()  # session/state.py
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not os.path.isdir(place):
        return f"{place} is not a directory", 0
    if problem := _why_not_writable(place):
        return f"{place} cannot be written: {problem}", 0
    disk = os.statvfs(place)
    if disk.f_files and not disk.f_favail:
        return f"the file system of {place} has no room for another file", 0
    return "", disk.f_bavail * disk.f_frsize


def _why_not_writable(directory: Path) -> str:
    """Really make a file, without a name, so that nothing is left and nobody sees it."""
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return os.strerror(error.errno or 0)
        if not os.access(directory, os.W_OK | os.X_OK):  # a file system without such files
            return "no permission"
    return ""


def _platform() -> Platform:
    with contextlib.suppress(OSError):
        if "microsoft" in Path("/proc/version").read_text().lower():
            return Platform.WSL
    with contextlib.suppress(OSError):
        ids = re.findall(r'^ID(?:_LIKE)?="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE)
        words = " ".join(ids).split()
        for name, platform in _PLATFORMS.items():
            if name in words:
                return platform
    return Platform.OTHER
