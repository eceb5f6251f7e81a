"""Each check, with facts made by hand: what passes, what refuses, and with which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containai.host.cgroups import Delegation, Kind, NoDelegation
from containai.preflight.catalogue import ENGINE, HOST
from containai.preflight.checks import check
from containai.preflight.model import UNREADABLE, Facts, Finding, Platform, Probe, State, Tool, Verdict

pytestmark = pytest.mark.user

WORKED = Probe(worked=True, tmpfs=frozenset({"rw", "nosuid", "nodev"}), noexec=True)
GOOD = Facts(
    platform=Platform.DEBIAN,
    machine="x86_64",
    kernel="6.12.0-1-amd64",
    seccomp_actions=frozenset({"errno", "kill_process", "user_notif", "allow"}),
    landlock_abi=6,
    apparmor_enabled=True,
    apparmor_mode="enforce",
    ptrace_scope=1,
    userns_clone=1,
    userns_max=10_000,
    userns_apparmor=None,
    probe=WORKED,
    bwrap=Tool(path=Path("/usr/bin/bwrap"), version=(0, 8, 0)),
    squid=Tool(path=Path("/usr/sbin/squid"), version=(5, 7)),
    git=Tool(path=Path("/usr/bin/git"), version=(2, 39, 5)),
    delegation=Delegation(kind=Kind.V2, bases=(Path("/sys/fs/cgroup/containai"),)),
    state_problem="",
    state_free_bytes=1 << 30,
    native_missing=(),
    may_trace=False,
)
LANDLOCK_ONLY = {"apparmor_enabled": False, "apparmor_mode": None}


def with_(**changes: Any) -> Facts:
    return replace(GOOD, **changes)


def finding(facts: Facts, name: str, engine: str = "embedded") -> Finding:
    (found,) = [each for each in check(facts, engine) if each.id == name]
    return found


def refusals(facts: Facts, engine: str = "embedded") -> list[str]:
    return [each.id for each in check(facts, engine) if each.verdict is Verdict.REFUSE]


def test_a_good_host_is_ready_in_the_order_of_the_catalogue() -> None:
    findings = check(GOOD, "embedded")
    assert [each.id for each in findings] == [entry.id for entry in (*HOST, *ENGINE)]
    assert {each.verdict for each in findings} == {Verdict.PASS}
    assert {each.state for each in findings} == {State.ON}


BAD = [
    ("architecture", {"machine": "aarch64"}, "aarch64"),
    ("architecture", {"machine": "i686"}, "i686"),
    ("kernel", {"kernel": "5.18.99"}, "5.19 is needed"),
    ("kernel", {"kernel": "4.19.0-26-amd64"}, "5.19 is needed"),
    ("seccomp", {"seccomp_actions": frozenset({"errno", "kill_process", "allow"})}, "user_notif"),
    ("seccomp", {"seccomp_actions": frozenset()}, "errno"),
    ("apparmor", {"apparmor_mode": "absent"}, "not loaded"),
    ("apparmor", {"apparmor_mode": "complain"}, "complain"),
    ("apparmor", {"apparmor_mode": "unconfined"}, "unconfined"),
    ("apparmor", {"probe": replace(WORKED, confinement="bwrap//&unpriv_bwrap (enforce)")}, "unpriv_bwrap"),
    ("landlock", LANDLOCK_ONLY | {"landlock_abi": 3}, "ABI 4 is needed"),
    ("landlock", LANDLOCK_ONLY | {"landlock_abi": 0}, "ABI 4 is needed"),
    ("landlock", {"landlock_abi": 0}, "ABI 1 is needed"),
    ("ptrace_scope", {"ptrace_scope": 0}, "is 0"),
    ("tmpfs", {"probe": replace(WORKED, tmpfs=frozenset({"rw", "nodev"}))}, "nosuid"),
    ("tmpfs", {"probe": replace(WORKED, tmpfs=frozenset({"rw", "nosuid"}))}, "nodev"),
    ("tmpfs", {"probe": replace(WORKED, noexec=False)}, "noexec"),
    ("tmpfs", {"probe": replace(WORKED, tmpfs=frozenset())}, "nodev, nosuid"),
    ("cgroups", {"delegation": NoDelegation(reason="none of yours", remedy=("sudo mkdir x",))}, "none of yours"),
    ("bubblewrap", {"bwrap": Tool(path=Path("/usr/bin/bwrap"), version=(0, 7, 9))}, "too old"),
    ("squid", {"squid": Tool()}, "not installed"),
    ("squid", {"squid": Tool(path=Path("/usr/sbin/squid"), version=(4, 17))}, "too old"),
    ("git", {"git": Tool()}, "not installed"),
    ("git", {"git": Tool(path=Path("/usr/bin/git"), version=(2, 29, 3))}, "too old"),
    ("state", {"state_problem": "/var/x cannot be written"}, "cannot be written"),
    ("state", {"state_free_bytes": 63 << 20}, "63 MiB"),
    ("installation", {"native_missing": ("/x/containai-shim",)}, "/x/containai-shim"),
]


@pytest.mark.parametrize(("name", "changes", "said"), BAD)
def test_what_is_off_refuses_alone_and_is_mended_by_commands(name: str, changes: dict[str, Any], said: str) -> None:
    facts = with_(**changes)
    assert refusals(facts) == [name]
    found = finding(facts, name)
    assert found.state is State.OFF
    assert said in found.summary
    assert found.why
    assert found.remedy


UNKNOWN = [
    ("kernel", {"kernel": "strange"}),
    ("seccomp", {"seccomp_actions": None}),
    ("apparmor", {"apparmor_mode": None}),
    ("ptrace_scope", {"ptrace_scope": UNREADABLE}),
    ("bubblewrap", {"bwrap": Tool(path=Path("/usr/bin/bwrap"))}),
    ("squid", {"squid": Tool(path=Path("/usr/sbin/squid"))}),
    ("git", {"git": Tool(path=Path("/usr/bin/git"))}),
]


@pytest.mark.parametrize(("name", "changes"), UNKNOWN)
def test_what_cannot_be_known_refuses(name: str, changes: dict[str, Any]) -> None:
    """P5."""
    facts = with_(**changes)
    assert refusals(facts) == [name]
    assert finding(facts, name).state is State.UNKNOWN
    assert finding(facts, name).remedy


def test_apparmor_that_may_be_there_or_not_refuses_even_beside_landlock() -> None:
    assert "apparmor" in refusals(with_(apparmor_enabled=None, apparmor_mode=None))


def test_landlock_takes_the_place_of_apparmor_in_the_embedded_engine_only() -> None:
    """P6."""
    facts = with_(**LANDLOCK_ONLY, landlock_abi=4)
    assert refusals(facts) == []
    assert finding(facts, "apparmor").state is State.OFF
    assert "apparmor" in refusals(facts, "docker")


def test_an_early_landlock_is_enough_beside_apparmor() -> None:
    facts = with_(landlock_abi=2)
    assert refusals(facts) == []
    assert finding(facts, "landlock").verdict is Verdict.WARN
    assert "landlock" in refusals(with_(landlock_abi=2, apparmor_mode="complain"))


def test_a_profile_of_bubblewrap_that_confines_nothing_is_no_obstacle() -> None:
    for label in ("unconfined", "containai-bwrap (unconfined)"):
        assert refusals(with_(probe=replace(WORKED, confinement=label))) == []


def test_a_kernel_without_yama_is_known_and_said() -> None:
    facts = with_(ptrace_scope=None)
    assert refusals(facts) == []
    found = finding(facts, "ptrace_scope")
    assert found.verdict is Verdict.WARN
    assert "as always here" in found.why  # not what a 0 would mean, which this kernel has not
    assert found.remedy == ("# nothing to do for a session",)
    assert "ptrace_scope" in refusals(facts, "docker")


@pytest.mark.parametrize(
    ("value", "root", "passes"),
    [(1, False, True), (1, True, True), (2, False, False), (2, True, True), (3, True, False)],
)
def test_a_session_of_which_nobody_may_read_what_is_executed_is_refused(value: int, root: bool, passes: bool) -> None:
    """Beyond 1 the container's first process may read as little as the launcher."""
    facts = with_(ptrace_scope=value, may_trace=root)
    for engine in ("embedded", "docker"):
        found = finding(facts, "ptrace_scope", engine)
        assert (found.verdict is Verdict.PASS) is passes
        assert bool(found.remedy) is not passes


@pytest.mark.parametrize(
    ("changes", "summary", "remedy"),
    [
        ({"userns_clone": 0}, "unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"userns_max": 0}, "max_user_namespaces is 0", "sysctl -w user.max_user_namespaces"),
        ({"userns_apparmor": 1}, "AppArmor lets a user namespace be made", "apparmor_parser -r /etc/apparmor.d/containai-bwrap"),
        ({"contained": True}, "a trial container failed: bwrap: No", "docker run --privileged"),
        ({}, "a trial container failed: bwrap: No", "bwrap --unshare-all"),
        ({"userns_apparmor": 0}, "a trial container failed", "bwrap --unshare-all"),
    ],
)  # fmt: skip
def test_a_failed_container_is_explained(changes: dict[str, Any], summary: str, remedy: str) -> None:
    facts = with_(probe=Probe(worked=False, said="warning\nbwrap: No"), **changes)
    found = finding(facts, "namespaces")
    assert refusals(facts) == ["tmpfs", "namespaces"]
    assert found.state is State.OFF
    assert summary in found.summary
    assert any(remedy in line for line in found.remedy)


def test_a_kernel_that_makes_no_namespace_without_a_switch_may_be_asked_from_a_chroot() -> None:
    """The words are those of bubblewrap 0.8 and 0.12. In a container the remedy is another."""
    for words in ("create new", "create a new"):
        probe = Probe(worked=False, said=f"bwrap: No permissions to {words} namespace, likely because ...")
        found = finding(with_(probe=probe), "namespaces")
        assert "as in a chroot" in found.summary
        assert any("pivot_root" in line for line in found.remedy)
        assert "as in a chroot" not in finding(with_(probe=probe, contained=True), "namespaces").summary
        assert "as in a chroot" not in finding(with_(probe=probe, userns_max=0), "namespaces").summary


def test_a_container_that_works_is_not_questioned_by_a_switch() -> None:
    """Ubuntu with our profile for bubblewrap: the restriction is on, and bubblewrap is excepted."""
    assert refusals(with_(userns_apparmor=1, userns_clone=0)) == []


def test_without_bubblewrap_what_it_would_show_is_unknown() -> None:
    facts = with_(bwrap=Tool(), probe=None)
    assert refusals(facts) == ["tmpfs", "namespaces", "bubblewrap"]
    assert finding(facts, "namespaces").state is State.UNKNOWN
    assert finding(facts, "tmpfs").state is State.UNKNOWN
    assert finding(facts, "bubblewrap").remedy == ("sudo apt-get install bubblewrap",)


def test_squid_is_shown_and_not_needed_without_a_network() -> None:
    facts = with_(squid=Tool(), with_proxy=False)
    assert refusals(facts) == []
    assert finding(facts, "squid").verdict is Verdict.WARN


@pytest.mark.parametrize("engine", ["kubernetes"])
def test_an_engine_that_this_version_has_not_is_refused(engine: str) -> None:
    assert refusals(GOOD, engine) == ["engine"]
    assert engine in finding(GOOD, "engine", engine).summary


@pytest.mark.parametrize("platform", Platform)
@pytest.mark.parametrize(("name", "changes"), [(name, changes) for name, changes, _ in BAD] + UNKNOWN)
def test_every_platform_has_a_remedy_of_commands_and_comments(
    platform: Platform, name: str, changes: dict[str, Any]
) -> None:
    """P3: a line is a command, or a comment for a shell; never prose that a shell would run."""
    remedy = finding(with_(platform=platform, **changes), name).remedy
    assert remedy
    known = (
        "sudo ",
        "# ",
        "df ",
        "containai ",
        "bwrap ",
        "./bootstrap ",
        "pipx ",
        ". /etc/",
        "list=",
        "echo ",
        "wsl ",
        "docker ",
    )
    for line in remedy:
        assert line.startswith(known), line
        assert "\n" not in line


def test_remedies_differ_per_platform() -> None:
    missing = {platform: finding(with_(platform=platform, git=Tool()), "git").remedy for platform in Platform}
    assert missing[Platform.DEBIAN] == missing[Platform.WSL] == ("sudo apt-get install git",)
    assert missing[Platform.FEDORA] == ("sudo dnf install git",)
    old = {platform: finding(with_(platform=platform, kernel="5.15.0"), "kernel").remedy for platform in Platform}
    assert len(set(old.values())) == len(Platform)


def test_a_remedy_names_the_profile_of_this_installation() -> None:
    facts = with_(apparmor_mode="absent", profiles=Path("/opt/a b/apparmor"))
    assert any("'/opt/a b/apparmor/containai-agent'" in line for line in finding(facts, "apparmor").remedy)
