"""From facts to findings. PURE: every check can be tried with facts made by hand.

The source calls these ``verify_host_security_prereqs`` (the host) and
``verify_container_security_support`` (the engine); both names are kept here.
"""

from __future__ import annotations

from collections.abc import Callable

from containai.host.cgroups import NoDelegation
from containai.preflight import remedies
from containai.preflight.model import Facts, Finding, State, Tool, Verdict

MACHINE = "x86_64"
MIN_LANDLOCK_ABI = 4  # Source: P6
MIN_BWRAP, MIN_SQUID, MIN_GIT = (0, 8), (5,), (2, 30)
MIN_FREE_BYTES = 64 * 1024 * 1024
_NEEDED_ACTIONS = frozenset({"errno", "user_notif", "kill_process"})
_ON, _OFF, _UNKNOWN = State.ON, State.OFF, State.UNKNOWN


def check(facts: Facts, engine: str) -> tuple[Finding, ...]:
    """Every finding for an engine, host first (P1)."""
    return (*verify_host_security_prereqs(facts, engine), *verify_container_security_support(facts, engine))


def verify_host_security_prereqs(facts: Facts, engine: str) -> tuple[Finding, ...]:
    """What the host's kernel must give (P2, P6)."""
    return (_machine(facts), _seccomp(facts), _apparmor(facts, engine), _landlock(facts, engine), _ptrace(facts, engine))


def verify_container_security_support(facts: Facts, engine: str) -> tuple[Finding, ...]:
    """What the engine needs beside it."""
    if engine == "docker":
        return (
            _finding(
                "engine",
                _OFF,
                "the docker engine is not part of this version",
                "an engine that was named is never replaced by another",
                ("containai run --engine embedded ...",),
            ),
        )
    checks: tuple[Callable[[Facts], Finding], ...] = (_userns, _cgroups, _bwrap, _squid, _git, _state, _native)
    return tuple(one(facts) for one in checks)


def _finding(
    name: str, state: State, summary: str, why: str, remedy: tuple[str, ...] = (), verdict: Verdict | None = None
) -> Finding:
    """``ON`` passes and everything else refuses, unless a check says otherwise."""
    fitting = Verdict.PASS if state is _ON else Verdict.REFUSE
    return Finding(id=name, state=state, verdict=verdict or fitting, summary=summary, why=why, remedy=remedy)


def _machine(facts: Facts) -> Finding:
    known = facts.machine == MACHINE
    why = "the seccomp profile names system calls by number; on another architecture it would let others through"
    return _finding("architecture", _ON if known else _OFF, f"{facts.machine}, Linux {facts.kernel}", why)


def _seccomp(facts: Facts) -> Finding:
    why = "the profile keeps system calls from the agent, and user notification lets a supervisor outside see each exec"
    if facts.seccomp_actions is None:
        return _finding("seccomp", _UNKNOWN, "the kernel does not say what seccomp can do", why, remedies.KERNEL)
    missing = sorted(_NEEDED_ACTIONS - facts.seccomp_actions)
    if missing:
        return _finding("seccomp", _OFF, f"seccomp cannot {', '.join(missing)}", why, remedies.KERNEL)
    return _finding("seccomp", _ON, "filters and user notification", why)


def _apparmor(facts: Facts, engine: str) -> Finding:
    why = "mandatory access control holds where another layer has a mistake; the profile denies writes to /proc and /sys"
    if facts.apparmor_enabled is None:
        return _finding("apparmor", _UNKNOWN, "whether AppArmor is on cannot be known", why, remedies.apparmor_on(facts))
    if not facts.apparmor_enabled:
        if engine == "embedded":
            summary = "not in this kernel; Landlock takes its place"
            return _finding("apparmor", _OFF, summary, why, remedies.apparmor_on(facts), Verdict.PASS)
        return _finding("apparmor", _OFF, "not in this kernel", why, remedies.apparmor_on(facts))
    match facts.apparmor_mode:
        case "enforce":
            return _finding("apparmor", _ON, "profile containai-agent is loaded, in enforce mode", why)
        case None:
            summary = "whether the profile containai-agent is loaded cannot be read"
            return _finding("apparmor", _UNKNOWN, summary, why, remedies.APPARMOR_PROFILE)
        case "absent":
            return _finding("apparmor", _OFF, "profile containai-agent is not loaded", why, remedies.APPARMOR_PROFILE)
        case mode:
            summary = f"profile containai-agent is in {mode} mode, not enforced"
            return _finding("apparmor", _OFF, summary, why, remedies.APPARMOR_PROFILE)


def _landlock(facts: Facts, engine: str) -> Finding:
    why = "Landlock says once more which files may be read, written and executed, and keeps ptrace and signals inside"
    summary = f"ABI {facts.landlock_abi}" if facts.landlock_abi else "not in this kernel"
    enough = facts.landlock_abi >= MIN_LANDLOCK_ABI
    if engine == "docker":
        return _finding("landlock", _ON if enough else _OFF, summary, why, verdict=Verdict.PASS)
    if not enough:
        summary += f"; {MIN_LANDLOCK_ABI} is needed"
    return _finding("landlock", _ON if enough else _OFF, summary, why, () if enough else remedies.KERNEL)


def _ptrace(facts: Facts, engine: str) -> Finding:
    why = "without it a process may read the memory, and so the secrets, of any other process of the same user"
    match facts.ptrace_scope:
        case None if engine == "embedded":
            summary = "no Yama in this kernel; Landlock and seccomp keep ptrace inside the container"
            return _finding("ptrace_scope", _OFF, summary, why, verdict=Verdict.WARN)
        case None:
            return _finding("ptrace_scope", _OFF, "no Yama in this kernel", why, remedies.KERNEL)
        case 0:
            return _finding("ptrace_scope", _OFF, "kernel.yama.ptrace_scope is 0", why, remedies.PTRACE)
        case value:
            return _finding("ptrace_scope", _ON, f"kernel.yama.ptrace_scope is {value}", why)


def _userns(facts: Facts) -> Finding:
    why = "the container's namespaces and mounts are made without privileges, in a user namespace"
    if facts.probe is None:
        return _finding("namespaces", _UNKNOWN, "could not be tried without bubblewrap", why, remedies.packages(facts))
    if facts.probe.worked:
        return _finding("namespaces", _ON, "a container with mounts and a tmpfs (nosuid, nodev) was made", why)
    if facts.userns_clone == 0:
        return _finding("namespaces", _OFF, "kernel.unprivileged_userns_clone is 0", why, remedies.USERNS_CLONE)
    if facts.userns_max == 0:
        return _finding("namespaces", _OFF, "user.max_user_namespaces is 0", why, remedies.USERNS_MAX)
    if facts.userns_apparmor:
        summary = "AppArmor lets user namespaces be made and takes their rights away"
        return _finding("namespaces", _OFF, summary, why, remedies.USERNS_APPARMOR)
    said = facts.probe.said.splitlines()[-1] if facts.probe.said else "no reason was given"
    return _finding("namespaces", _OFF, f"a trial container failed: {said}", why, remedies.NESTED)


def _cgroups(facts: Facts) -> Finding:
    why = "processes, memory and CPU of a session are bounded by the kernel, or a session could take the host down"
    match facts.delegation:
        case NoDelegation(reason=reason, remedy=remedy):
            return _finding("cgroups", _OFF, reason, why, remedy)
        case found:
            return _finding("cgroups", _ON, f"limits can be set ({found.kind.value})", why)


def _tool(facts: Facts, name: str, tool: Tool, least: tuple[int, ...], why: str, *, needed: bool = True) -> Finding:
    refuse = Verdict.REFUSE if needed else Verdict.WARN
    wanted = ".".join(map(str, least))
    if tool.path is None:
        return _finding(name, _OFF, "not installed", why, remedies.packages(facts), refuse)
    if not tool.version:
        summary = f"{tool.path} does not tell its version; {wanted} is needed"
        return _finding(name, _UNKNOWN, summary, why, remedies.packages(facts), refuse)
    version = ".".join(map(str, tool.version))
    if tool.version < least:
        summary = f"{version} is too old; {wanted} is needed"
        return _finding(name, _OFF, summary, why, remedies.packages(facts), refuse)
    return _finding(name, _ON, f"{tool.path}, {version}", why)


def _bwrap(facts: Facts) -> Finding:
    return _tool(facts, "bubblewrap", facts.bwrap, MIN_BWRAP, "it makes the container's namespaces and mounts")


def _squid(facts: Facts) -> Finding:
    why = "it decides where the agent may connect; without it only --network-proxy none is possible"
    return _tool(facts, "squid", facts.squid, MIN_SQUID, why, needed=facts.with_proxy)


def _git(facts: Facts) -> Finding:
    return _tool(facts, "git", facts.git, MIN_GIT, "the agent works on a clone, and its commits come back through git")


def _state(facts: Facts) -> Finding:
    why = "a session's record, log and workspace are kept there"
    if facts.state_problem:
        remedy = ("set XDG_STATE_HOME to a directory that you can write",)
        return _finding("state", _OFF, facts.state_problem, why, remedy)
    free_mib = facts.state_free_bytes // (1024 * 1024)
    if facts.state_free_bytes < MIN_FREE_BYTES:
        return _finding("state", _OFF, f"only {free_mib} MiB are free", why, ("df -h", "containai list"))
    return _finding("state", _ON, f"writable, {free_mib} MiB free", why)


def _native(facts: Facts) -> Finding:
    why = "the static shim and the compiled seccomp filters put the guards on inside the container"
    if facts.native_missing:
        summary = f"not built: {', '.join(facts.native_missing)}"
        return _finding("installation", _OFF, summary, why, ("./bootstrap install",))
    return _finding("installation", _ON, "shim and filters are built", why)
