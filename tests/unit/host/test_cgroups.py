"""Where limits may be set, decided on made-up machines; the kernel's own word is in tests/integration."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from containai.host.cgroups.delegation import Host, search
from containai.host.cgroups.layout import Hierarchy, Layout, parse_hierarchies, parse_membership
from containai.host.cgroups.limits import limits_of, memory_kills_file, read_memory_kills
from containai.host.cgroups.model import UNLIMITED, Delegation, EffectiveLimits, Kind, NoDelegation
from containai.policy.model import GIB, Limits

pytestmark = pytest.mark.user

UID = os.geteuid() or 54321  # an ordinary user; the tree below is his where it says so
ALL = "cpu memory pids"


def v2_layout(top: Path, group: str = "/", *, options: str = "rw") -> Layout:
    return Layout(
        hierarchies=parse_hierarchies(f"30 23 0:26 / {top} {options},nosuid - cgroup2 cgroup2 {options}"),
        membership=parse_membership(f"0::{group}\n"),
    )


def v1_layout(top: Path, groups: dict[str, str], *, options: str = "rw", root: str = "/") -> Layout:
    mounts = [f"3{n} 23 0:2{n} {root} {top}/{c} {options} - cgroup cgroup rw,{c}" for n, c in enumerate(groups)]
    return Layout(
        hierarchies=parse_hierarchies("\n".join(mounts)),
        membership=parse_membership("\n".join(f"{n}:{c}:{path}" for n, (c, path) in enumerate(groups.items()))),
    )


_writable: set[Path] = set()  # by the user; as root the files' own modes would not say


def group(
    path: Path, *, owner: int = 0, controllers: str = ALL, enabled: str = "", procs: str = "", root: bool = False
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    files = {"cgroup.controllers": controllers, "cgroup.subtree_control": enabled, "cgroup.procs": procs}
    if not root:
        files["cgroup.type"] = "domain"
    for name, content in files.items():
        (path / name).write_text(content + "\n")
    for each in (path, *(path / name for name in files)):
        if owner == UID:
            _writable.add(each)
        if os.geteuid() == 0:
            os.chown(each, owner, owner)
    return path


def host(uid: int = UID, **changes: object) -> Host:
    plain = Host(uid=uid, systemd=False, systemd_run=None, runtime_dir=Path("/nonexistent"), swap=False)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def the_users_view_of_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    _writable.clear()
    monkeypatch.setattr("containai.host.cgroups.delegation.os.access", lambda path, _: path in _writable)


def refused(found: Delegation | NoDelegation, reason: str) -> NoDelegation:
    assert isinstance(found, NoDelegation), found
    assert reason in found.reason
    return found


# ------------------------------------------------------------------------------------------ parsing


def test_mounts_are_read_with_escapes_and_container_roots() -> None:
    found = parse_hierarchies(
        "29 23 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        "30 23 0:27 /docker/abc /sys/fs/cg\\040roup ro,nosuid - cgroup2 cgroup2 rw\n"
        "31 23 0:28 / /tmp rw - tmpfs cgroup2 rw\n"
        "garbage\n"
    )
    assert [(str(h.mount_point), h.root, h.unified, h.read_only) for h in found] == [
        ("/sys/fs/cgroup/cpu,cpuacct", "/", False, False),
        ("/sys/fs/cg roup", "/docker/abc", True, True),
    ]
    assert "cpu" in found[0].controllers
    assert found[1].directory("/docker/abc/x") == Path("/sys/fs/cg roup/x")
    assert found[1].directory("/docker/abc") == Path("/sys/fs/cg roup")
    assert found[1].directory("/docker/abcd") is None
    assert found[0].directory("/../other") is None  # outside of this process's cgroup namespace


def test_membership_has_an_entry_for_each_controller() -> None:
    assert parse_membership("4:memory:/a:b\n2:cpu,cpuacct:/c\n1:name=systemd:/\n0::/d\n") == {
        "memory": "/a:b", "cpu": "/c", "cpuacct": "/c", "name=systemd": "/", "": "/d",
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------- v2


def test_v2_root_gets_a_group_at_the_top(tmp_path: Path) -> None:
    top = group(tmp_path, root=True)
    assert search(v2_layout(top), host(0)) == Delegation(kind=Kind.V2, bases=(top / "containai",), parent=top)


def test_v2_read_only(tmp_path: Path) -> None:
    found = refused(search(v2_layout(group(tmp_path), options="ro"), host(0)), "read-only")
    assert any("docker run" in line for line in found.remedy)


def test_v2_user_in_a_delegated_group_moves_aside(tmp_path: Path) -> None:
    own = group(group(tmp_path, root=True) / "mine", owner=UID, procs=str(os.getpid()))
    layout = v2_layout(tmp_path, "/mine")
    if os.geteuid() == 0:  # /proc says that this process is root's: not the user's to move
        assert isinstance(search(layout, host()), NoDelegation)
        (own / "cgroup.procs").write_text("")
    expected = Delegation(kind=Kind.V2, bases=(own,), leaf=own / "containai.launcher")
    assert search(layout, host()) == expected


def test_v2_user_does_not_move_other_peoples_processes(tmp_path: Path) -> None:
    procs = "1" if os.geteuid() else str(os.getpid())
    group(group(tmp_path, root=True) / "mine", owner=UID, procs=procs)
    assert isinstance(search(v2_layout(tmp_path, "/mine"), host()), NoDelegation)


def test_v2_user_uses_the_group_above_when_it_hands_controllers_down(tmp_path: Path) -> None:
    above = group(group(tmp_path, root=True) / "mine", owner=UID, enabled=ALL)
    group(above / "leaf", owner=UID, procs="1", controllers="")
    assert search(v2_layout(tmp_path, "/mine/leaf"), host()) == Delegation(kind=Kind.V2, bases=(above,))


def test_v2_user_needs_the_right_to_move_out_of_the_group_above(tmp_path: Path) -> None:
    above = group(group(tmp_path, root=True) / "mine", owner=UID, enabled=ALL)
    group(above / "leaf", owner=UID, procs="1", controllers="")
    _writable.remove(above / "cgroup.procs")  # the common ancestor's file
    assert isinstance(search(v2_layout(tmp_path, "/mine/leaf"), host()), NoDelegation)


def test_v2_a_group_above_with_processes_and_no_controllers_is_not_used(tmp_path: Path) -> None:
    above = group(group(tmp_path, root=True) / "mine", owner=UID, procs="1")
    group(above / "leaf", owner=UID, procs="1", controllers="")
    assert isinstance(search(v2_layout(tmp_path, "/mine/leaf"), host()), NoDelegation)


def test_v2_user_without_anything_is_told_how(tmp_path: Path) -> None:
    group(group(tmp_path, root=True) / "other", owner=0)
    found = refused(search(v2_layout(tmp_path, "/other"), host()), "no cgroup is delegated")
    assert any(f"chown {UID}" in line for line in found.remedy)


def test_v2_under_systemd_a_writable_group_is_not_yet_ours(tmp_path: Path) -> None:
    """Systemd would take the controllers away again, and our limits with them."""
    own = group(group(tmp_path, root=True) / "mine", owner=UID)
    layout = v2_layout(tmp_path, "/mine")
    assert isinstance(search(layout, host(systemd=True)), NoDelegation)
    try:
        os.setxattr(own, "user.delegate", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    found = search(layout, host(systemd=True))
    assert isinstance(found, Delegation)
    assert found.kind is Kind.V2


# ------------------------------------------------------------------------------------------ systemd


@pytest.fixture
def user_manager() -> Iterator[Path]:
    """A runtime directory in which the user's systemd listens (a socket's path must be short)."""
    with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        (Path(directory) / "systemd").mkdir()
        listening.bind(f"{directory}/systemd/private")
        yield Path(directory)


def systemd(top: Path, runtime: Path, offered: str = ALL) -> Delegation | NoDelegation:
    group(top, root=True)
    group(top / f"user.slice/user-{UID}.slice/user@{UID}.service", owner=UID, controllers=offered, enabled=offered)
    group(top / "user.slice/session.scope")
    there = host(systemd=True, systemd_run=Path("/usr/bin/systemd-run"), runtime_dir=runtime)
    return search(v2_layout(top, "/user.slice/session.scope"), there)


def test_systemd_starts_a_scope_with_the_limits(tmp_path: Path, user_manager: Path) -> None:
    found = systemd(tmp_path, user_manager)
    assert isinstance(found, Delegation)
    assert found.kind is Kind.SYSTEMD
    prefix = found.command_prefix(Limits(cpus=1.25, memory_bytes=GIB, pids_max=7))
    assert prefix[:2] == ("/usr/bin/env", f"XDG_RUNTIME_DIR={user_manager}")
    assert prefix[2:5] == ("/usr/bin/systemd-run", "--user", "--scope")
    for item in ("TasksMax=7", f"MemoryMax={GIB}", "MemorySwapMax=0", "CPUQuota=125%"):
        assert prefix[prefix.index(item) - 1] == "-p"
    assert prefix[-1] == "--"


def test_a_systemd_that_does_not_run_is_started_by_the_remedy(tmp_path: Path) -> None:
    found = refused(systemd(tmp_path, Path("/nonexistent")), "does not run")
    assert f"sudo loginctl enable-linger {UID}" in found.remedy


def test_a_systemd_without_the_cpu_controller_is_given_it(tmp_path: Path, user_manager: Path) -> None:
    found = refused(systemd(tmp_path, user_manager, offered="memory pids"), "may not limit cpu")
    assert any("Delegate=cpu memory pids" in line for line in found.remedy)


def test_the_managers_own_group_is_not_ours(tmp_path: Path, user_manager: Path) -> None:
    """A process in user@UID.service/x stands below a group that is delegated, but to the manager."""
    manager = group(tmp_path / f"user.slice/user-{UID}.slice/user@{UID}.service", owner=UID, enabled=ALL)
    group(tmp_path, root=True)
    group(manager / "x", owner=UID, procs="1", controllers="")
    try:
        os.setxattr(manager, "user.delegate", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    there = host(systemd=True, systemd_run=Path("/usr/bin/systemd-run"), runtime_dir=user_manager)
    found = search(v2_layout(tmp_path, f"/user.slice/user-{UID}.slice/user@{UID}.service/x"), there)
    assert isinstance(found, Delegation)
    assert found.kind is Kind.SYSTEMD


# ----------------------------------------------------------------------------------------------- v1

GROUPS = {"pids": "/", "memory": "/own", "cpu": "/"}


def v1_tree(top: Path, *, owner: int = 0) -> Path:
    for path in ("pids", "memory/own", "cpu"):
        group(top / path, owner=owner)
    return top


def test_v1_root_works_below_its_own_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("containai.host.cgroups.delegation.os.access", lambda *_: True)
    found = search(v1_layout(v1_tree(tmp_path), GROUPS), host(0))
    assert found == Delegation(kind=Kind.V1, bases=(tmp_path / "pids", tmp_path / "memory/own", tmp_path / "cpu"))


def test_v2_beside_v1_takes_the_processes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no controller there; what is in a group of it can be stopped and killed as a whole."""
    v1 = v1_layout(v1_tree(tmp_path), GROUPS)
    top = group(tmp_path / "unified", root=True)
    beside = Hierarchy(mount_point=top, root="/", controllers=frozenset(), unified=True, read_only=False)
    layout = replace(v1, hierarchies=(*v1.hierarchies, beside), membership={**v1.membership, "": "/"})
    (top / "cgroup.controllers").write_text("\n")
    monkeypatch.setattr("containai.host.cgroups.delegation.os.access", lambda *_: True)
    found = search(layout, host(0))
    assert isinstance(found, Delegation)
    assert found.bases == (tmp_path / "pids", tmp_path / "memory/own", tmp_path / "cpu", top)
    shut = replace(layout, hierarchies=(*v1.hierarchies, replace(beside, read_only=True)))
    assert search(shut, host(0)) == search(v1, host(0))


def test_v1_user_gets_the_commands_that_give_him_groups(tmp_path: Path) -> None:
    found = refused(search(v1_layout(v1_tree(tmp_path), GROUPS), host()), "no cgroup of his own")
    given = " ".join(f"{tmp_path}/{name}/containai/user-{UID}" for name in ("pids", "memory", "cpu"))
    assert found.remedy == (f"sudo mkdir -p {given}", f"sudo chown {UID} {given}")


def test_v1_user_with_groups_of_his_own(tmp_path: Path) -> None:
    v1_tree(tmp_path)
    given = [group(tmp_path / name / f"containai/user-{UID}", owner=UID) for name in ("pids", "memory", "cpu")]
    assert search(v1_layout(tmp_path, GROUPS), host()) == Delegation(kind=Kind.V1, bases=tuple(given))


def test_v1_one_missing_controller_is_enough_to_refuse(tmp_path: Path) -> None:
    v1_tree(tmp_path)
    for name in ("pids", "memory"):
        group(tmp_path / name / f"containai/user-{UID}", owner=UID)
    refused(search(v1_layout(tmp_path, GROUPS), host()), "no cgroup of his own")


def test_v1_in_a_container_is_read_only(tmp_path: Path) -> None:
    refused(search(v1_layout(v1_tree(tmp_path), GROUPS, options="ro"), host(0)), "read-only")


def test_v1_swap_that_is_not_accounted_for_is_no_limit(tmp_path: Path) -> None:
    v1_tree(tmp_path, owner=UID)
    layout = v1_layout(tmp_path, GROUPS)
    assert isinstance(search(layout, host(swap=False)), Delegation)
    refused(search(layout, host(swap=True)), "swap")
    (tmp_path / "memory/own/memory.memsw.limit_in_bytes").write_text("0")
    assert isinstance(search(layout, host(swap=True)), Delegation)


def test_a_controller_that_is_nowhere_is_named(tmp_path: Path) -> None:
    v1_tree(tmp_path)
    refused(search(v1_layout(tmp_path, {"pids": "/", "cpu": "/"}), host(0)), "not found: memory")
    refused(search(v2_layout(group(tmp_path / "u", controllers="pids")), host(0)), "not found: pids, memory, cpu")
    refused(search(Layout(hierarchies=(), membership={}), host(0)), "no cgroup file system")


# ------------------------------------------------------------------------------------------ reading


def test_limits_of_a_v2_group(tmp_path: Path) -> None:
    for name, content in {
        "pids.max": "64", "memory.max": str(GIB), "memory.swap.max": "0", "cpu.max": "150000 100000",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content + "\n")
    layout = v2_layout(tmp_path)
    assert limits_of(layout) == EffectiveLimits(pids_max=64, memory_bytes=GIB, swap_bytes=0, cpus=1.5)
    for name, content in {
        "pids.max": "max", "memory.max": "max", "memory.swap.max": "max", "cpu.max": "max 100000",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content + "\n")
    unlimited = EffectiveLimits(pids_max=UNLIMITED, memory_bytes=UNLIMITED, swap_bytes=UNLIMITED, cpus=UNLIMITED)
    assert limits_of(layout) == unlimited


def test_limits_of_v1_groups(tmp_path: Path) -> None:
    v1_tree(tmp_path)
    layout = v1_layout(tmp_path, GROUPS)
    contents = {
        "pids/pids.max": "64",
        "memory/own/memory.limit_in_bytes": str(GIB),
        "memory/own/memory.memsw.limit_in_bytes": str(GIB + 4096),
        "cpu/cpu.cfs_quota_us": "50000",
        "cpu/cpu.cfs_period_us": "100000",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content + "\n")
    assert limits_of(layout) == EffectiveLimits(pids_max=64, memory_bytes=GIB, swap_bytes=4096, cpus=0.5)
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "memory/own/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory/own/memory.memsw.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "pids/pids.max").write_text("max\n")
    unlimited = EffectiveLimits(pids_max=UNLIMITED, memory_bytes=UNLIMITED, swap_bytes=UNLIMITED, cpus=UNLIMITED)
    assert limits_of(layout) == unlimited


def test_kills_for_lack_of_memory_are_counted_in_either_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "events").write_text("low 0\nhigh 0\nmax 31\noom 3\noom_kill 2\noom_group_kill 0\n")
    (tmp_path / "control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n")
    (tmp_path / "old").write_text("oom_kill_disable 0\nunder_oom 0\n")  # a kernel before 4.13
    assert [read_memory_kills(tmp_path / name) for name in ("events", "control", "old")] == [2, 7, 0]
    two, one = v2_layout(tmp_path / "two", "/a"), v1_layout(tmp_path / "one", {"memory": "/b"})
    for layout, path in ((two, "two/a/memory.events"), (one, "one/memory/b/memory.oom_control")):
        (tmp_path / path).parent.mkdir(parents=True)
        monkeypatch.setattr("containai.host.cgroups.limits.read_layout", lambda _pid, found=layout: found)
        assert memory_kills_file(1) == tmp_path / path
