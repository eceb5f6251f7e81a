"""The drift check: a container that is as planned passes, and any one difference is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from containai.engine.protocol import ContainerSpec, EffectiveConfig, Expectation, MountPoint
from containai.engine.verify import find_drift
from containai.plan.model import FileOrigin, Identity, Mount, MountKind, StagedFile
from containai.policy.model import Limits

UID = 0x70000000
EXPECTED = Expectation(engine_files=("/run/containai-shim",))

SPEC = ContainerSpec(
    label="agent",
    session_id="s",
    hostname="containai",
    command=("true",),
    environment={},
    working_directory=PurePosixPath("/workspace"),
    mounts=(
        Mount(kind=MountKind.READ_ONLY, target=PurePosixPath("/usr"), source="/usr"),
        Mount(kind=MountKind.SYMLINK, target=PurePosixPath("/bin"), source="usr/bin"),
        Mount(kind=MountKind.PROC, target=PurePosixPath("/proc")),
        Mount(kind=MountKind.MASK, target=PurePosixPath("/proc/keys")),
        Mount(kind=MountKind.DEVICES, target=PurePosixPath("/dev")),
        Mount(kind=MountKind.TMPFS, target=PurePosixPath("/tmp")),
        Mount(kind=MountKind.WRITABLE, target=PurePosixPath("/workspace"), source="/s/workspace"),
    ),
    files=(StagedFile(target=PurePosixPath("/etc/passwd"), origin=FileOrigin.TEXT, content="x"),),
    identity=Identity(agent_uid=UID, agent_gid=UID, proxy_uid=UID + 1, proxy_gid=UID + 1),
    limits=Limits(),
    listeners=(),
    supervised=True,
)


def mount(target: str, *, read_only: bool = True, fstype: str = "ext4", nodev: bool = True) -> MountPoint:
    return MountPoint(target=target, read_only=read_only, fstype=fstype, nosuid=True, nodev=nodev)


MOUNTS = (
    mount("/", fstype="tmpfs"),
    mount("/usr"),
    mount("/proc", read_only=False, fstype="proc"),
    mount("/proc/keys", fstype="devtmpfs"),
    mount("/dev", fstype="tmpfs"),
    mount("/dev/null", read_only=False, fstype="devtmpfs", nodev=False),
    mount("/tmp", read_only=False, fstype="tmpfs"),
    mount("/workspace", read_only=False),
    mount("/etc/passwd", fstype="tmpfs"),
    mount("/run/containai-shim", fstype="tmpfs"),
)

GOOD = EffectiveConfig(
    uid=(UID,) * 4,
    gid=(UID,) * 4,
    groups=(UID,),
    capabilities=(0, 0, 0, 0, 0),
    no_new_privs=True,
    seccomp_mode=2,
    seccomp_filters=1,
    namespaces_shared_with_host=(),
    mounts=MOUNTS,
    interfaces=("lo",),
    routes=0,
    apparmor="",
    pids_max=SPEC.limits.pids_max,
    memory_bytes=SPEC.limits.memory_bytes,
    swap_bytes=0,
    cpus=SPEC.limits.cpus,
    core_limit=0,
    devices=("null", "tty"),
)


def test_the_planned_container_has_no_drift() -> None:
    assert find_drift(SPEC, GOOD, EXPECTED) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uid", (UID, UID, 0, UID)),
        ("uid", (0, 0, 0, 0)),
        ("gid", (0,) * 4),
        ("groups", (UID, 0)),
        ("capabilities", (0, 0, 1 << 21, 0, 0)),
        ("capabilities", (0, 0, 0, 1 << 21, 0)),
        ("devices", ("null", "vda")),
        ("no_new_privs", False),
        ("seccomp_mode", 0),
        ("seccomp_filters", 0),
        ("namespaces_shared_with_host", ("net",)),
        ("interfaces", ("lo", "eth0")),
        ("interfaces", ()),
        ("routes", 1),
        ("pids_max", -1),
        ("pids_max", SPEC.limits.pids_max + 1),
        ("memory_bytes", -1),
        ("memory_bytes", SPEC.limits.memory_bytes * 2),
        ("swap_bytes", 4096),
        ("swap_bytes", -1),
        ("cpus", -1.0),
        ("cpus", SPEC.limits.cpus * 2),
        ("core_limit", -1),
    ],
)
def test_any_one_difference_of_the_process_is_found(field: str, value: Any) -> None:
    assert len(find_drift(SPEC, replace(GOOD, **{field: value}), EXPECTED)) == 1


@pytest.mark.parametrize("target", [m.target for m in MOUNTS if m.read_only])
def test_a_writable_mount_that_was_planned_read_only_is_found(target: str) -> None:
    mounts = tuple(replace(m, read_only=False) if m.target == target else m for m in MOUNTS)
    assert find_drift(SPEC, replace(GOOD, mounts=mounts), EXPECTED) == (f"{target} is writable",)


@pytest.mark.parametrize("target", ["/usr", "/proc", "/proc/keys", "/tmp", "/workspace", "/etc/passwd"])
def test_a_mount_that_is_missing_is_found(target: str) -> None:
    mounts = tuple(m for m in MOUNTS if m.target != target)
    assert find_drift(SPEC, replace(GOOD, mounts=mounts), EXPECTED) == (f"{target} was planned, and is not mounted",)


@pytest.mark.parametrize(
    "extra",
    [
        mount("/home"),
        mount("/var/run/docker.sock", fstype="tmpfs"),
        mount("/usr/share/writable", read_only=False),
        mount("/sys", fstype="sysfs"),
        mount("/tmp/planted"),
    ],
)
def test_a_mount_that_was_not_planned_is_found(extra: MountPoint) -> None:
    assert find_drift(SPEC, replace(GOOD, mounts=(*MOUNTS, extra)), EXPECTED) != ()


def test_a_tmpfs_that_is_none_and_a_mount_that_honours_setuid_are_found() -> None:
    ext4 = tuple(replace(m, fstype="ext4") if m.target == "/tmp" else m for m in MOUNTS)
    assert find_drift(SPEC, replace(GOOD, mounts=ext4), EXPECTED) == ("/tmp is ext4, planned tmpfs",)
    suid = tuple(replace(m, nosuid=False) if m.target == "/workspace" else m for m in MOUNTS)
    assert find_drift(SPEC, replace(GOOD, mounts=suid), EXPECTED) == ("/workspace honours setuid files",)


def test_groups_that_cannot_be_left_are_none_of_its_doing() -> None:
    found = replace(GOOD, groups=(UID, 999))
    assert find_drift(SPEC, found, EXPECTED) != ()
    assert find_drift(SPEC, found, replace(EXPECTED, groups=frozenset({999}))) == ()


def test_a_cover_that_the_engine_has_to_make_and_did_not_is_found() -> None:
    expected = replace(EXPECTED, read_only=frozenset({"/proc/sys"}), must_be_read_only=frozenset({"/proc/sys"}))
    assert find_drift(SPEC, GOOD, expected) == ("/proc/sys is not mounted read-only",)
    covered = replace(GOOD, mounts=(*MOUNTS, mount("/proc/sys", fstype="proc")))
    assert find_drift(SPEC, covered, expected) == ()


@pytest.mark.parametrize("label", ["", "unconfined", "containai-agent (complain)", "other (enforce)"])
def test_another_apparmor_label_is_found(label: str) -> None:
    expected = replace(EXPECTED, apparmor_profile="containai-agent")
    assert len(find_drift(SPEC, replace(GOOD, apparmor=label), expected)) == 1
    assert find_drift(SPEC, replace(GOOD, apparmor="containai-agent (enforce)"), expected) == ()
