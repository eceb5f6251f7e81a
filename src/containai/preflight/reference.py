"""The reference part of docs/preflight.md: every check with what is said and what mends it. PURE.

Made by running the checks on a host that lacks one thing at a time, so that the page cannot say what
the program does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from containai.host.cgroups import Delegation, Kind, remedies
from containai.preflight.catalogue import DOCKER, ENGINE, HOST, Entry
from containai.preflight.checks import check
from containai.preflight.model import DockerFacts, Facts, Image, Platform, Probe, Tool
from containai.record import replace

_WORKED = Probe(worked=True, tmpfs=frozenset({"nosuid", "nodev"}), noexec=True)
_FAILED = Probe(worked=False, said="bwrap: Operation not permitted")
_USER = 1000
_TOP = Path("/sys/fs/cgroup")
_GIVEN = [_TOP / name / f"containai/user-{_USER}" for name in ("pids", "memory", "cpu")]

_IMAGE = Image(reference="containai:latest", id="sha256:...", platform="linux/amd64")
_DAEMON = DockerFacts(
    version=(26, 1, 5),
    security=frozenset({"seccomp", "apparmor"}),
    limits=frozenset({"MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit"}),
    shared_memory=frozenset({"nosuid", "nodev"}),
    wanted_images=("containai-claude:latest", "containai:latest"),
    image=_IMAGE,
)
_PODMAN = replace(_DAEMON, product="Podman", version=(5, 4, 2), socket="/run/podman/podman.sock")

COMPLETE = Facts(
    platform=Platform.DEBIAN,
    machine="x86_64",
    kernel="6.12.0",
    seccomp_actions=frozenset({"errno", "kill_process", "user_notif"}),
    landlock_abi=6,
    apparmor_enabled=True,
    apparmor_mode="enforce",
    apparmor_reading_mode="enforce",
    ptrace_scope=1,
    userns_clone=1,
    userns_max=10_000,
    userns_apparmor=0,
    probe=_WORKED,
    bwrap=Tool(path=Path("/usr/bin/bwrap"), version=(0, 11)),
    squid=Tool(path=Path("/usr/sbin/squid"), version=(6, 13)),
    git=Tool(path=Path("/usr/bin/git"), version=(2, 47)),
    delegation=Delegation(kind=Kind.V2),
    state_problem="",
    state_free_bytes=1 << 40,
    native_missing=(),
    may_trace=False,
    profiles=Path("/usr/lib/python3/dist-packages/containai/data/apparmor"),
    docker=_DAEMON,
)

# Source of the cases: what the checks tell apart.
_CASES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "architecture": ({"machine": "aarch64"},),
    "kernel": ({"kernel": "5.15.0"},),
    "seccomp": ({"seccomp_actions": frozenset({"errno", "kill_process"})},),
    "apparmor": (
        {"apparmor_mode": "absent"},
        {"probe": replace(_WORKED, confinement="bwrap//&unpriv_bwrap (enforce)")},
    ),
    "landlock": ({"apparmor_enabled": False, "apparmor_mode": None, "landlock_abi": 0},),
    "ptrace_scope": ({"ptrace_scope": 0}, {"ptrace_scope": 2}, {"ptrace_scope": 3}),
    "tmpfs": ({"probe": replace(_WORKED, tmpfs=frozenset({"nosuid"}))},),
    "namespaces": (
        {"probe": _FAILED, "userns_apparmor": 1},
        {"probe": _FAILED, "userns_clone": 0},
        {"probe": _FAILED, "userns_max": 0},
        {"probe": _FAILED, "contained": True},
        {"probe": replace(_FAILED, said="bwrap: No permissions to create a new namespace")},
    ),
    "cgroups": (
        {"delegation": remedies.no_delegation_v1(_USER, _GIVEN)},
        {"delegation": remedies.no_user_manager(_USER)},
        {"delegation": remedies.not_delegated_to_manager(_USER, ["cpu"])},
        {"delegation": remedies.no_delegation_v2(_USER, _TOP)},
        {"delegation": remedies.no_swap_accounting()},
        {"delegation": remedies.read_only(_TOP)},
    ),
    "bubblewrap": ({"bwrap": Tool(), "probe": None},),
    "squid": ({"squid": Tool()},),
    "git": ({"git": Tool(path=Path("/usr/bin/git"), version=(2, 20))},),
    "state": ({"state_problem": "/home/user/.local/state cannot be written: Permission denied"},),
    "docker": (
        {"docker": replace(_DAEMON, elsewhere="tcp://192.0.2.1:2376")},
        {"docker": replace(_DAEMON, problem="/var/run/docker.sock: No such file or directory")},
        {"docker": replace(_DAEMON, problem="/var/run/docker.sock: Permission denied", denied=True)},
        {"docker": replace(_PODMAN, problem="/run/podman/podman.sock: Connection refused")},
        {"docker": replace(_PODMAN, problem="/run/podman/podman.sock: Permission denied", denied=True)},
    ),
    "docker-version": (
        {"docker": replace(_DAEMON, version=(20, 10, 24))},
        {"docker": replace(_PODMAN, version=(4, 9, 3))},
    ),
    "docker-security": (
        {"docker": replace(_DAEMON, security=frozenset({"seccomp"}))},
        {"docker": replace(_DAEMON, security=frozenset({"seccomp", "apparmor", "userns"}))},
    ),
    "docker-limits": ({"docker": replace(_DAEMON, limits=_DAEMON.limits - {"SwapLimit"})},),
    "image": (
        {"docker": replace(_DAEMON, image=None)},
        {"docker": replace(_DAEMON, image=replace(_IMAGE, volumes=("/data",)))},
    ),
    "installation": ({"native_missing": ("containai-shim",)},),
}
_SHOWN = {
    Platform.DEBIAN: "Debian",
    Platform.UBUNTU: "Ubuntu",
    Platform.FEDORA: "Fedora",
    Platform.WSL: "WSL 2",
}


def render_reference() -> str:
    """Every check as a section of Markdown."""
    parts = []
    own = tuple(entry for entry in DOCKER if entry not in ENGINE)
    for title, entries, engine in (
        ("The host", HOST, "embedded"),
        ("The embedded engine", ENGINE, "embedded"),
        ("The Docker engine", own, "docker"),
    ):
        parts.append(f"## {title}\n")
        parts += [_section(entry, engine) for entry in entries]
    return "\n".join(parts)


def _section(entry: Entry, engine: str) -> str:
    lines = [f"### {entry.id}", "", f"Needed: {entry.what}.", "", f"Why: {entry.why}.", ""]
    for changes in _CASES[entry.id]:
        findings = {platform: _find(entry.id, platform, changes, engine) for platform in _SHOWN}
        summary = findings[Platform.DEBIAN][0]
        lines += [f"**{summary}**", ""]
        by_remedy: dict[tuple[str, ...], list[str]] = {}
        for platform, (_, remedy) in findings.items():
            by_remedy.setdefault(remedy, []).append(_SHOWN[platform])
        for remedy, platforms in by_remedy.items():
            if len(by_remedy) > 1:
                lines += [f"{', '.join(platforms)}:", ""]
            lines += ["```sh", *remedy, "```", ""]
    return "\n".join(lines)


def _find(name: str, platform: Platform, changes: dict[str, Any], engine: str) -> tuple[str, tuple[str, ...]]:
    (found,) = [each for each in check(replace(COMPLETE, platform=platform, **changes), engine) if each.id == name]
    return found.summary, found.remedy
