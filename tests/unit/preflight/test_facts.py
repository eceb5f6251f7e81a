"""What is read off the host, and how what it says is understood."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.host.process import Completed
from containai.plan.model import Identity
from containai.preflight import facts
from containai.preflight.model import UNREADABLE, Platform

pytestmark = pytest.mark.user

MOUNTS = b"""65 42 0:40 /newroot / ro,nosuid,nodev,relatime - tmpfs tmpfs rw
69 65 0:41 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
70 65 0:42 / /dev rw,nosuid,nodev,relatime shared:3 - tmpfs tmpfs rw
78 65 0:44 / /tmp rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=64k
"""


def test_a_trial_container_shows_its_mounts() -> None:
    probe = facts._judge(Completed(status=0, stdout=MOUNTS, stderr=b""))
    assert probe is not None
    assert probe.worked
    assert {"nosuid", "nodev"} <= probe.tmpfs
    assert probe.noexec
    assert probe.confinement == ""


def test_a_trial_container_shows_its_confinement() -> None:
    probe = facts._judge(Completed(status=0, stdout=MOUNTS + b"bwrap//&unpriv_bwrap (enforce)\n", stderr=b""))
    assert probe is not None
    assert probe.confinement == "bwrap//&unpriv_bwrap (enforce)"


def test_a_directory_of_the_host_is_no_tmpfs() -> None:
    stdout = MOUNTS.replace(b"/tmp rw,nosuid,nodev,relatime - tmpfs", b"/tmp rw,nosuid,nodev,relatime - ext4")
    probe = facts._judge(Completed(status=0, stdout=stdout, stderr=b""))
    assert probe is not None
    assert probe.tmpfs == frozenset()


@pytest.mark.parametrize(("status", "stdout"), [(1, MOUNTS), (0, b""), (1, b"")])
def test_a_container_that_failed_or_said_nothing_did_not_work(status: int, stdout: bytes) -> None:
    probe = facts._judge(Completed(status=status, stdout=stdout, stderr=b"bwrap: no\n"))
    assert probe is not None
    assert not probe.worked
    assert probe.said == "bwrap: no"


def test_without_bubblewrap_there_is_no_probe() -> None:
    assert facts._judge(None) is None


def test_bubblewrap_is_not_tried_out_for_another_engine() -> None:
    me = Identity(agent_uid=os.getuid(), agent_gid=os.getgid(), proxy_uid=os.getuid(), proxy_gid=os.getgid())
    said = facts.Trials(me, embedded=False).results()
    assert (said["probe"], said["bwrap"]) == (None, None)
    assert said["git"] is not None
    assert said["git"].stdout.startswith(b"git version")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (b"Squid Cache: Version 5.7\nService Name: squid\n", (5, 7)),
        (b"bubblewrap 0.8.0\n", (0, 8, 0)),
        (b"git version 2.39.5 (Apple Git)\n", (2, 39, 5)),
        (b"", ()),
        (b"no number\n", ()),
    ],
)
def test_versions(said: bytes, version: tuple[int, ...]) -> None:
    assert facts._version(Completed(status=0, stdout=said, stderr=b"")) == version


def test_programs_are_looked_for_in_fixed_places_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: nobody's PATH can put another bubblewrap, squid or git in their place."""
    (tmp_path / "containai-no-such-tool").write_text("#!/bin/sh\n")
    (tmp_path / "containai-no-such-tool").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    assert facts._find("containai-no-such-tool") is None
    assert facts._find("sh") == Path("/usr/bin/sh") or facts._find("sh") == Path("/bin/sh")


def test_a_switch_that_is_not_there_differs_from_one_that_cannot_be_read() -> None:
    assert facts._sysctl("kernel/no-such-switch") is None
    assert facts._sysctl("kernel") == UNREADABLE  # a directory
    assert facts._sysctl("kernel/ostype") == UNREADABLE  # "Linux"
    pid_max = facts._sysctl("kernel/pid_max")
    assert pid_max is not None
    assert pid_max > 0


def test_the_state_directory_need_not_exist(tmp_path: Path) -> None:
    problem, free_bytes = facts._look_at_state(tmp_path / "a/b/c")
    assert problem == ""
    assert free_bytes > 0
    assert not (tmp_path / "a").exists()


def test_a_state_directory_that_is_a_file_or_lies_below_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/state"):
        assert "not a directory" in facts._look_at_state(path)[0]
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert "not a directory" in facts._look_at_state(tmp_path / "nowhere")[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything; a read-only mount is in tests/integration")
def test_a_state_directory_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert "cannot be written" in facts._look_at_state(tmp_path / "x")[0]
    tmp_path.chmod(0o000)
    assert "cannot be written" in facts._look_at_state(tmp_path / "x/y")[0]
    tmp_path.chmod(0o755)
    assert facts._look_at_state(tmp_path / "x")[0] == ""


def test_the_platform_is_one_with_remedies() -> None:
    assert facts._platform() in Platform
