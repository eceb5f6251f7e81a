"""The AppArmor profiles in a kernel that has AppArmor (I4, P2): loaded, found, and denying.

Where this machine has none, make test-vm runs it in a virtual machine (tests/vm).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PROFILES = SOURCE / "containai/data/apparmor"
SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
# Lets bubblewrap do everything, and what it starts nothing but that: the essence of bwrap-userns-restrict.
CONFINING = """
abi <abi/4.0>,
profile test-bwrap /usr/bin/bwrap flags=(attach_disconnected,mediate_deleted) {
  file, network, unix, capability, mount, umount, pivot_root, signal, ptrace, userns, mqueue, io_uring,
}
"""

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("apparmor", "root", "bubblewrap", "yama")]


def parser(*arguments: str | Path, text: str | None = None) -> None:
    subprocess.run(["apparmor_parser", *arguments], input=text, text=True, check=True, timeout=60)


@pytest.fixture
def yama() -> Iterator[None]:
    before = SCOPE.read_text()
    SCOPE.write_text("1")
    yield
    SCOPE.write_text(before)


def is_loaded() -> bool:
    return "containai-agent (" in Path("/sys/kernel/security/apparmor/profiles").read_text()


@pytest.fixture
def unloaded(yama: None) -> Iterator[None]:
    """No profile of ours; afterwards as before: ./bootstrap may have loaded it."""
    before = is_loaded()
    if before:
        parser("-R", PROFILES / "containai-agent")
    yield
    if before:
        parser("-r", PROFILES / "containai-agent")


@pytest.fixture
def loaded(unloaded: None) -> Iterator[None]:
    parser("-r", PROFILES / "containai-agent")
    yield
    parser("-R", PROFILES / "containai-agent")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q", "."], check=True, timeout=60)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "init"], check=True, timeout=60)
    return tmp_path


def containai(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "containai", *arguments],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "HOME": str(place), "XDG_STATE_HOME": "/var/lib"},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def apparmor_finding(place: Path) -> dict[str, Any]:
    said = json.loads(containai(place, "doctor", "--json").stdout)
    (finding,) = [each for each in said["findings"] if each["id"] == "apparmor"]
    return dict(finding)


def test_without_the_profile_doctor_and_run_refuse(unloaded: None, repository: Path) -> None:
    assert apparmor_finding(repository)["verdict"] == "refuse"
    done = containai(repository, "run", "--network-proxy", "none", "--", "true")
    assert done.returncode == 125
    assert "error[preflight.apparmor]" in done.stderr


def test_a_profile_that_only_complains_is_refused(yama: None, repository: Path) -> None:
    parser("-r", "-C", PROFILES / "containai-agent")
    try:
        finding = apparmor_finding(repository)
        assert (finding["verdict"], finding["state"]) == ("refuse", "off")
        assert "complain" in finding["summary"]
    finally:
        parser("-R", PROFILES / "containai-agent")


def test_an_ordinary_user_sees_both_profiles_too(loaded: None, tmp_path: Path) -> None:
    script = """from containai.preflight.facts import _apparmor_mode as mode
print(mode("containai-agent"), mode("containai-agent-reading"), mode("containai"))"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(SOURCE)}, user=65534, group=65534, extra_groups=[],
        capture_output=True, text=True, timeout=60, check=True, cwd="/",
    )  # fmt: skip
    assert done.stdout.split() == ["enforce", "enforce", "absent"]


def test_an_agent_is_confined_and_cannot_change_that(loaded: None, repository: Path) -> None:
    script = """
    cat /proc/self/attr/current
    for target in oom_score_adj comm attr/current attr/exec
    do (echo 0 > /proc/self/$target) 2>/dev/null && echo wrote $target; done
    for source in kallsyms kcore timer_list sysrq-trigger; do cat /proc/$source 2>/dev/null | head -c 1; done
    echo work > made; (cd / && ls /proc/self/fd >/dev/null) && python3 -c 'print("runs")'
    """
    done = containai(repository, "run", "--network-proxy", "none", "--", "sh", "-c", script)
    assert done.stdout.splitlines() == ["containai-agent (enforce)", "runs"], done.stderr
    assert done.returncode == 0
    made = subprocess.run(
        ["git", "-C", repository, "show", "shell/session-1:made"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert made.stdout == "work\n"


def test_a_profile_of_bubblewrap_that_holds_what_it_starts_is_found_and_mended(loaded: None, repository: Path) -> None:
    parser("-r", text=CONFINING)
    try:
        finding = apparmor_finding(repository)
        assert finding["verdict"] == "refuse"
        assert "test-bwrap (enforce)" in finding["summary"]
        done = containai(repository, "run", "--network-proxy", "none", "--", "true")
        assert "error[preflight.apparmor]" in done.stderr
    finally:
        parser("-R", text=CONFINING)
    assert apparmor_finding(repository)["verdict"] == "pass"


def test_the_profile_for_bubblewrap_leaves_it_free(loaded: None, repository: Path) -> None:
    parser("-r", PROFILES / "containai-bwrap")
    try:
        assert apparmor_finding(repository)["verdict"] == "pass"
        done = containai(repository, "run", "--network-proxy", "none", "--", "cat", "/proc/self/attr/current")
        assert done.stdout == "containai-agent (enforce)\n", done.stderr
    finally:
        parser("-R", PROFILES / "containai-bwrap")
