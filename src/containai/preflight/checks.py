"""From facts to findings. PURE: every check can be tried with facts made by hand.

The source calls these ``verify_host_security_prereqs`` (the host) and
``verify_container_security_support`` (the engine); both names are kept here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from containai.host.cgroups import NoDelegation
from containai.preflight import remedies
from containai.preflight.catalogue import WHY
from containai.preflight.model import UNREADABLE, Facts, Finding, State, Tool, Verdict
from containai.record import replace

MACHINE = "x86_64"
MIN_KERNEL = (5, 19)  # Source: seccomp(2), SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
MIN_LANDLOCK_ABI = 4  # Source: P6
MIN_LANDLOCK_ABI_BESIDE_APPARMOR = 1
MIN_BWRAP, MIN_SQUID, MIN_GIT = (0, 8), (5,), (2, 30)
_NOBODY_TRACES = 3  # Source: Linux, Documentation/admin-guide/LSM/Yama.rst
MIN_FREE_BYTES = 64 * 1024 * 1024
_NO_NAMESPACE = "No permissions to create"  # bubblewrap's words for EPERM; user_namespaces(7) says when
_NEEDED_ACTIONS = frozenset({"errno", "user_notif", "kill_process"})
_ON, _OFF, _UNKNOWN = State.ON, State.OFF, State.UNKNOWN


def check(facts: Facts, engine: str) -> tuple[Finding, ...]:
    """Every finding for an engine, host first (P1)."""
    return (*verify_host_security_prereqs(facts, engine), *verify_container_security_support(facts, engine))


def verify_host_security_prereqs(facts: Facts, engine: str) -> tuple[Finding, ...]:
    """What the host's kernel must give (P2, P6)."""
    return (
        _machine(facts),
        _kernel(facts),
        _seccomp(facts),
        _apparmor(facts, engine),
        _landlock(facts),
        _ptrace(facts, engine),
        _tmpfs(facts, engine),
    )


def verify_container_security_support(facts: Facts, engine: str) -> tuple[Finding, ...]:
    """What the engine needs beside it."""
    if engine == "docker":
        from containai.preflight.docker_checks import check_docker

        return (*check_docker(facts), *(one(facts) for one in (_squid, _git, _state, _native)))
    if engine != "embedded":
        summary = f"the {engine} engine is not part of this version"
        return (_finding("engine", _OFF, summary, remedies.EMBEDDED),)
    checks: tuple[Callable[[Facts], Finding], ...] = (_userns, _cgroups, _bwrap, _squid, _git, _state, _native)
    return tuple(one(facts) for one in checks)


def _finding(
    name: str, state: State, summary: str, remedy: tuple[str, ...] = (), verdict: Verdict | None = None
) -> Finding:
    """``ON`` passes and everything else refuses, unless a check says otherwise."""
    fitting = Verdict.PASS if state is _ON else Verdict.REFUSE
    return Finding(id=name, state=state, verdict=verdict or fitting, summary=summary, why=WHY[name], remedy=remedy)


def _machine(facts: Facts) -> Finding:
    if facts.machine == MACHINE:
        return _finding("architecture", _ON, facts.machine)
    return _finding("architecture", _OFF, f"{facts.machine}; {MACHINE} is needed", remedies.ANOTHER_MACHINE)


def _kernel(facts: Facts) -> Finding:
    found = re.match(r"(\d+)\.(\d+)", facts.kernel)
    if found is None:
        return _finding("kernel", _UNKNOWN, f"the release {facts.kernel!r} is not understood", remedies.kernel(facts))
    if (int(found[1]), int(found[2])) < MIN_KERNEL:
        wanted = ".".join(map(str, MIN_KERNEL))
        return _finding("kernel", _OFF, f"Linux {facts.kernel}; {wanted} is needed", remedies.kernel(facts))
    return _finding("kernel", _ON, f"Linux {facts.kernel}")


def _seccomp(facts: Facts) -> Finding:
    if facts.seccomp_actions is None:
        return _finding("seccomp", _UNKNOWN, "the kernel does not say what seccomp can do", remedies.kernel(facts))
    missing = sorted(_NEEDED_ACTIONS - facts.seccomp_actions)
    if missing:
        return _finding("seccomp", _OFF, f"seccomp cannot {', '.join(missing)}", remedies.kernel(facts))
    return _finding("seccomp", _ON, "filters and user notification")


def _apparmor(facts: Facts, engine: str) -> Finding:
    if facts.apparmor_enabled is None:
        return _finding("apparmor", _UNKNOWN, "whether AppArmor is on cannot be known", remedies.apparmor_on(facts))
    if not facts.apparmor_enabled:
        if engine == "embedded":  # P6
            return _finding("apparmor", _OFF, "not in this kernel; Landlock takes its place", (), Verdict.PASS)
        return _finding("apparmor", _OFF, "not in this kernel", remedies.apparmor_on(facts))
    load = remedies.apparmor_profile(facts)
    name, mode = facts.profile(engine)
    match mode:
        case "enforce" if engine == "embedded":
            return _apparmor_inside(facts)
        case "enforce":
            return _finding("apparmor", _ON, f"profile {name} is loaded, in enforce mode")
        case None:
            return _finding("apparmor", _UNKNOWN, f"whether the profile {name} is loaded cannot be read", load)
        case "absent":
            return _finding("apparmor", _OFF, f"profile {name} is not loaded", load)
        case _:
            return _finding("apparmor", _OFF, f"profile {name} is in {mode} mode, not enforced", load)


def _apparmor_inside(facts: Facts) -> Finding:
    """A profile of bubblewrap's own that confines what it starts lets nobody change to ours."""
    inside = facts.probe.confinement if facts.probe else ""
    if inside and inside != "unconfined" and not inside.endswith(" (unconfined)"):
        summary = f"what bubblewrap starts is confined by {inside}, which lets nothing change to containai-agent"
        return _finding("apparmor", _OFF, summary, remedies.bwrap_profile_instead(facts))
    return _finding("apparmor", _ON, "profile containai-agent is loaded, in enforce mode")


def _landlock(facts: Facts) -> Finding:
    """P6: the only mandatory access control where there is no AppArmor; beside it, a second one."""
    abi = facts.landlock_abi
    summary = f"ABI {abi}" if abi else "not in this kernel, or not switched on"
    state = _ON if abi >= MIN_LANDLOCK_ABI else _OFF
    enforced = bool(facts.apparmor_enabled) and facts.apparmor_mode == "enforce"
    if state is _ON:
        return _finding("landlock", state, summary)
    if enforced and abi >= MIN_LANDLOCK_ABI_BESIDE_APPARMOR:
        return _finding("landlock", state, f"{summary}, an early one, beside AppArmor", (), Verdict.WARN)
    least = MIN_LANDLOCK_ABI_BESIDE_APPARMOR if enforced else MIN_LANDLOCK_ABI
    return _finding("landlock", state, f"{summary}; ABI {least} is needed", remedies.landlock(facts))


def _ptrace(facts: Facts, engine: str) -> Finding:
    match facts.ptrace_scope:
        case None if engine == "embedded":
            summary = "no Yama in this kernel; Landlock and seccomp keep ptrace inside the container"
            why = "processes of yours outside of sessions can read each other's memory, as always here"
            finding = _finding("ptrace_scope", _OFF, summary, ("# nothing to do for a session",), Verdict.WARN)
            return replace(finding, why=why)
        case None:
            return _finding("ptrace_scope", _OFF, "no Yama in this kernel", remedies.landlock(facts))
        case value if value == UNREADABLE:
            return _finding("ptrace_scope", _UNKNOWN, "kernel.yama.ptrace_scope cannot be read", remedies.PTRACE)
        case 0:
            return _finding("ptrace_scope", _OFF, "kernel.yama.ptrace_scope is 0", remedies.PTRACE)
        case value if value >= _NOBODY_TRACES:
            summary = f"kernel.yama.ptrace_scope is {value}; no supervisor may read what is executed"
            return _finding("ptrace_scope", _OFF, summary, remedies.PTRACE_LOCKED)
        case value if value > 1 and not facts.may_trace:
            summary = f"kernel.yama.ptrace_scope is {value}; only root may read what its sessions execute"
            return _finding("ptrace_scope", _OFF, summary, remedies.PTRACE)
        case value:
            return _finding("ptrace_scope", _ON, f"kernel.yama.ptrace_scope is {value}")


def _tmpfs(facts: Facts, engine: str) -> Finding:
    if engine == "docker":
        return _shared_memory(facts)
    probe = facts.probe
    if probe is None or not probe.worked:
        return _finding("tmpfs", _UNKNOWN, "could not be tried: no container could be made", remedies.TRY_BWRAP)
    missing = sorted({"nosuid", "nodev"} - probe.tmpfs)
    if not probe.tmpfs or missing or not probe.noexec:
        lacking = ", ".join(missing) if missing else "noexec"
        return _finding("tmpfs", _OFF, f"a tmpfs inside a container has no {lacking}", remedies.TRY_BWRAP)
    return _finding("tmpfs", _ON, "nosuid, nodev and noexec hold inside a container")


def _shared_memory(facts: Facts) -> Finding:
    """Docker makes the container's own with these flags, and the drift check reads them back."""
    options = facts.docker.shared_memory if facts.docker else frozenset()
    missing = sorted({"nosuid", "nodev"} - options)
    if missing:
        summary = f"/dev/shm is no tmpfs, or has no {', '.join(missing)}"
        return _finding("tmpfs", _OFF, summary, remedies.SHARED_MEMORY)
    return _finding("tmpfs", _ON, "/dev/shm is a tmpfs with nosuid and nodev")


def _userns(facts: Facts) -> Finding:
    if facts.bwrap.path is None or facts.probe is None:
        install = (remedies.package(facts, "bubblewrap"),)
        return _finding("namespaces", _UNKNOWN, "could not be tried without bubblewrap", install)
    if facts.probe.worked:
        return _finding("namespaces", _ON, "a container with mounts inside was made")
    if facts.userns_clone == 0:
        return _finding("namespaces", _OFF, "kernel.unprivileged_userns_clone is 0", remedies.USERNS_CLONE)
    if facts.userns_max == 0:
        return _finding("namespaces", _OFF, "user.max_user_namespaces is 0", remedies.USERNS_MAX)
    said = facts.probe.said.splitlines()[-1] if facts.probe.said else "no reason was given"
    if facts.userns_apparmor not in (None, 0):
        summary = f"AppArmor lets a user namespace be made and then takes its rights away ({said})"
        return _finding("namespaces", _OFF, summary, remedies.bwrap_profile(facts))
    remedy = remedies.NESTED if facts.contained else remedies.TRY_BWRAP
    if _NO_NAMESPACE in said and not facts.contained:
        summary = f"the kernel makes no user namespace here, as in a chroot or below a filter that forbids it ({said})"
        return _finding("namespaces", _OFF, summary, remedies.CHROOT)
    return _finding("namespaces", _OFF, f"a trial container failed: {said}", remedy)


def _cgroups(facts: Facts) -> Finding:
    match facts.delegation:
        case NoDelegation(reason=reason, remedy=remedy):
            return _finding("cgroups", _OFF, reason, remedy)
        case found:
            return _finding("cgroups", _ON, f"limits can be set ({found.kind.value})")


def _tool(facts: Facts, name: str, tool: Tool, least: tuple[int, ...], *, needed: bool = True) -> Finding:
    refuse = Verdict.REFUSE if needed else Verdict.WARN
    wanted = ".".join(map(str, least))
    install = (remedies.package(facts, name),)
    if tool.path is None:
        return _finding(name, _OFF, "not installed", install, refuse)
    if not tool.version:
        return _finding(name, _UNKNOWN, f"{tool.path} does not tell its version; {wanted} is needed", install, refuse)
    version = ".".join(map(str, tool.version))
    if tool.version < least:
        return _finding(name, _OFF, f"{tool.path}: {version} is too old; {wanted} is needed", install, refuse)
    return _finding(name, _ON, f"{tool.path}, {version}")


def _bwrap(facts: Facts) -> Finding:
    return _tool(facts, "bubblewrap", facts.bwrap, MIN_BWRAP)


def _squid(facts: Facts) -> Finding:
    return _tool(facts, "squid", facts.squid, MIN_SQUID, needed=facts.with_proxy)


def _git(facts: Facts) -> Finding:
    return _tool(facts, "git", facts.git, MIN_GIT)


def _state(facts: Facts) -> Finding:
    if facts.state_problem:
        return _finding("state", _OFF, facts.state_problem, remedies.STATE)
    free_mib = facts.state_free_bytes // (1024 * 1024)
    if facts.state_free_bytes < MIN_FREE_BYTES:
        return _finding("state", _OFF, f"only {free_mib} MiB are free", remedies.DISK)
    return _finding("state", _ON, f"writable, {free_mib} MiB free")


def _native(facts: Facts) -> Finding:
    if facts.native_missing:
        return _finding("installation", _OFF, f"not built: {', '.join(facts.native_missing)}", remedies.BUILD)
    return _finding("installation", _ON, "shim and filters are built")
