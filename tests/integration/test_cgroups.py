"""Limits that the kernel really holds: as root, and as an ordinary user with what the remedy gives him."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from containai.errors import EngineError
from containai.host import cgroups
from containai.policy.model import MIB, Limits
from tests.support.users import OrdinaryUser

SOURCE = Path(__file__).resolve().parents[2] / "src"
LIMITS = Limits(cpus=0.5, memory_bytes=96 * MIB, pids_max=20)

# Joins each group named on its command line (up to "--"), then runs the rest.
JOIN = """
import sys, os
at = sys.argv.index("--")
for file in sys.argv[1:at]:
    open(file, "w").write("0")
os.execv(sys.argv[at + 1], sys.argv[at + 1:])
"""
FORK = """
import os, sys, time
born = 0
for _ in range(60):
    try:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        born += 1
    except OSError:
        break
print(born, flush=True)
time.sleep(30)
"""
FORK_FOREVER = """
import os, sys
print("on", flush=True)
for _ in range(5):
    os.fork()
while True:
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        pass
"""
HOG = """
held = []
for _ in range(50):
    held.append(bytearray(b"x" * (8 << 20)))
print("held it all", flush=True)
"""
SPIN = """
import time
end, before = time.monotonic() + 1.0, time.process_time()
while time.monotonic() < end:
    pass
print(time.process_time() - before)
"""


_children: list[subprocess.Popen[bytes]] = []


@pytest.fixture
def session() -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:10]}"
    yield name
    for group in cgroups.find_leftovers([name]):
        group.destroy()
    while _children:
        with _children.pop():  # waits, and closes its output
            pass


@pytest.fixture
def delegation() -> cgroups.Delegation:
    found = cgroups.find_delegation()
    if not isinstance(found, cgroups.Delegation) or found.kind is cgroups.Kind.SYSTEMD:
        pytest.skip(f"no direct delegation: {found}")
    return found


def start(group: cgroups.Cgroup, script: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", JOIN, *map(str, group.procs_files), "--", sys.executable, "-S", "-c", script]
    _children.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
    return _children[-1]


def first_line(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None
    return child.stdout.readline()


def made(delegation: cgroups.Delegation, name: str, limits: Limits = LIMITS) -> cgroups.Cgroup:
    group = cgroups.create(delegation, name, limits)
    assert group is not None
    return group


pytestmark = pytest.mark.timeout(90)
root = pytest.mark.needs("root")


@root
def test_limits_are_written_and_read_back(delegation: cgroups.Delegation, session: str) -> None:
    group = made(delegation, session)
    expected = cgroups.EffectiveLimits(pids_max=20, memory_bytes=96 * MIB, swap_bytes=0, cpus=0.5)
    assert group.read_limits() == expected
    child = start(group, "import time; print('on', flush=True); time.sleep(30)")
    assert first_line(child) == b"on\n"
    assert group.processes() == {child.pid}
    assert cgroups.effective_limits(child.pid) == expected
    assert cgroups.effective_limits(os.getpid()) != expected
    assert (group.directories[0] / "pids.max").read_text() == "20\n"
    group.destroy()
    assert child.wait(timeout=5) == -signal.SIGKILL


@root
def test_a_fork_bomb_stops_at_the_limit(delegation: cgroups.Delegation, session: str) -> None:
    group = made(delegation, session)
    child = start(group, FORK)
    assert int(first_line(child)) == 19
    assert len(group.processes()) == 20
    group.kill()
    assert group.processes() == frozenset()
    child.wait(timeout=5)


@root
def test_without_a_limit_the_same_bomb_goes_on(delegation: cgroups.Delegation, session: str) -> None:
    """What the test above would see if the limit did nothing."""
    group = made(delegation, session, replace(LIMITS, pids_max=4096, memory_bytes=1024 * MIB))
    child = start(group, FORK)
    assert int(first_line(child)) == 60
    group.kill()
    child.wait(timeout=5)


@root
def test_a_memory_hog_is_killed(delegation: cgroups.Delegation, session: str) -> None:
    child = start(made(delegation, session), HOG)
    assert child.wait(timeout=60) == -signal.SIGKILL
    assert first_line(child) == b""


@root
def test_with_enough_memory_the_same_hog_lives(delegation: cgroups.Delegation, session: str) -> None:
    child = start(made(delegation, session, replace(LIMITS, memory_bytes=1024 * MIB)), HOG)
    assert child.wait(timeout=60) == 0


@root
def test_a_busy_loop_gets_its_share(delegation: cgroups.Delegation, session: str) -> None:
    child = start(made(delegation, session, replace(LIMITS, cpus=0.2)), SPIN)
    assert float(first_line(child)) < 0.45
    child.wait(timeout=5)


@root
def test_processes_that_fork_all_the_time_are_all_killed(delegation: cgroups.Delegation, session: str) -> None:
    group = made(delegation, session, replace(LIMITS, cpus=2.0, pids_max=100, memory_bytes=512 * MIB))
    child = start(group, FORK_FOREVER)
    assert first_line(child) == b"on\n"
    group.kill()
    time.sleep(0.05)
    assert group.processes() == frozenset()
    assert (group.directories[0] / "pids.max").read_text() == "0\n"  # no race to win: nothing more can be born
    group.destroy()
    assert not any(directory.exists() for directory in group.directories)
    child.wait(timeout=5)


@root
def test_destroy_ends_what_runs_and_can_be_repeated(delegation: cgroups.Delegation, session: str) -> None:
    group = made(delegation, session)
    child = start(group, FORK)
    first_line(child)
    group.destroy()
    group.destroy()
    assert not any(directory.exists() for directory in group.directories)
    assert child.wait(timeout=5) == -signal.SIGKILL
    group.kill()


@root
def test_a_failed_creation_leaves_nothing(delegation: cgroups.Delegation, session: str) -> None:
    with pytest.raises(EngineError) as refused:
        cgroups.create(delegation, session, replace(LIMITS, cpus=10**9))  # the kernel refuses such a quota
    assert refused.value.code == "engine.cgroup"
    assert cgroups.find_leftovers([session]) == ()


@root
def test_a_name_is_used_once(delegation: cgroups.Delegation, session: str) -> None:
    group = made(delegation, session)
    with pytest.raises(EngineError):
        made(delegation, session)
    assert group.read_limits().pids_max == 20  # the first one is untouched


@root
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-x", "a\n", "x" * 101])
def test_a_name_cannot_lead_elsewhere(delegation: cgroups.Delegation, name: str) -> None:
    with pytest.raises(EngineError):
        cgroups.create(delegation, name, LIMITS)


@root
def test_leftovers_are_found_by_session_and_by_no_other(delegation: cgroups.Delegation, session: str) -> None:
    agent, finish = made(delegation, f"{session}-agent"), made(delegation, f"{session}-finish")
    other = made(delegation, f"{session}x")
    try:
        found = cgroups.find_leftovers([session])
        assert [set(group.directories) for group in found] == [set(agent.directories), set(finish.directories)]
        assert cgroups.find_leftovers([]) == ()
        child = start(agent, FORK)
        first_line(child)
        for group in found:
            group.destroy()
        assert child.wait(timeout=5) == -signal.SIGKILL
        assert cgroups.find_leftovers([session]) == ()
        assert all(directory.exists() for directory in other.directories)
    finally:
        other.destroy()


@root
@pytest.mark.needs("cgroup-v1")
def test_a_tighter_group_above_is_no_obstacle(delegation: cgroups.Delegation, session: str) -> None:
    above = made(delegation, f"{session}-above", replace(LIMITS, cpus=0.3))
    inner = made(replace(delegation, bases=above.directories), session, replace(LIMITS, cpus=2.0))
    try:
        assert inner.read_limits().cpus == 0.3
    finally:
        inner.destroy()


@root
@pytest.mark.needs("cgroup-v1")
def test_a_read_only_file_system_is_the_reason_that_is_given() -> None:
    script = f"mount -o remount,bind,ro /sys/fs/cgroup/pids && exec {shlex.quote(sys.executable)} -c '{ASK}'"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], env={"PYTHONPATH": str(SOURCE), "PATH": os.defpath},
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "read-only" in done.stdout.splitlines()[0]
    assert "/sys/fs/cgroup/pids" in done.stdout


# ---------------------------------------------------------------------------------- ordinary user

ASK = """
from containai.host import cgroups
found = cgroups.find_delegation()
if isinstance(found, cgroups.NoDelegation):
    print(found.reason, *found.remedy, sep=chr(10))
else:
    print(found.kind.value, *found.bases, sep=chr(10))
"""
LIMITED = """
import os, subprocess, sys
from containai.host import cgroups
from containai.policy.model import MIB, Limits
found = cgroups.find_delegation()
group = cgroups.create(found, sys.argv[1], Limits(cpus=0.5, memory_bytes=96 * MIB, pids_max=20))
argv = [sys.executable, "-c", JOIN, *map(str, group.procs_files), "--", sys.executable, "-S", "-c", FORK]
child = subprocess.Popen(argv, stdout=subprocess.PIPE)
born = int(child.stdout.readline())
print(born, cgroups.effective_limits(child.pid))
group.destroy()
print(child.wait(timeout=5), any(directory.exists() for directory in group.directories))
""".replace("JOIN", repr(JOIN)).replace("FORK", repr(FORK))


@pytest.fixture
def someone() -> OrdinaryUser:
    """A user id that nobody else on this machine uses, so that tests can run beside each other."""
    uid = 0x60000000 + secrets.randbelow(0x1000000)
    return OrdinaryUser(name="someone", uid=uid, gid=uid, home=Path("/"))


def remove(*directories: Path) -> None:
    for directory in directories:
        with contextlib.suppress(FileNotFoundError, OSError):  # not made, or used by another test run
            directory.rmdir()


def as_user(user: OrdinaryUser, script: str, *arguments: str) -> list[str]:
    done = user.run([sys.executable, "-c", script, *arguments], env={"PYTHONPATH": str(SOURCE)})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@root
@pytest.mark.needs("cgroup-v1", "open-checkout")
def test_an_ordinary_user_on_v1_is_told_what_to_do_and_it_works(someone: OrdinaryUser, session: str) -> None:
    given = [Path(f"/sys/fs/cgroup/{name}/containai/user-{someone.uid}") for name in ("pids", "memory", "cpu")]
    reason, *remedy = as_user(someone, ASK)
    assert "no cgroup of his own" in reason
    try:
        for command in remedy:
            assert command.startswith("sudo ")
            subprocess.run(["sh", "-c", command.removeprefix("sudo ")], check=True, timeout=10)
        assert as_user(someone, ASK) == ["v1", *map(str, given)]
        born, ended = as_user(someone, LIMITED, session)
        assert born == f"19 {cgroups.EffectiveLimits(pids_max=20, memory_bytes=96 * MIB, swap_bytes=0, cpus=0.5)}"
        assert ended == "-9 False"
    finally:
        remove(*given, *(path.parent for path in given))


@root
@pytest.mark.needs("cgroup-v1", "open-checkout")
def test_what_belongs_to_another_user_is_not_taken(someone: OrdinaryUser) -> None:
    given = [Path(f"/sys/fs/cgroup/{name}/containai/user-{someone.uid}") for name in ("pids", "memory", "cpu")]
    try:
        for path in given:
            path.mkdir(parents=True)
            path.chmod(0o777)  # writable by him, and root's
        assert "no cgroup of his own" in as_user(someone, ASK)[0]
    finally:
        remove(*given, *(path.parent for path in given))


@root
@pytest.mark.needs("cgroup-v2", "open-checkout")
def test_an_ordinary_user_on_v2_without_systemd_is_told_what_to_do_and_it_works(
    someone: OrdinaryUser, session: str
) -> None:
    reason, *remedy = as_user(someone, ASK)
    if "no cgroup is delegated" not in reason:
        pytest.skip(f"systemd delegates here: {reason}")
    own = Path(f"/sys/fs/cgroup/user-{someone.uid}")
    become = f"setpriv --reuid {someone.uid} --regid {someone.gid} --clear-groups {shlex.quote(sys.executable)} -c"
    try:
        # In one shell: the last command moves the shell itself, as it would the user's.
        asked, limited = f"{become} {shlex.quote(ASK)}", f"{become} {shlex.quote(LIMITED)} {session}"
        lines = ['sudo() { "$@"; }', *remedy, asked, limited]
        done = subprocess.run(
            ["sh", "-ec", "\n".join(lines)], env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, timeout=60, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        *_, kind, base, born, ended = done.stdout.splitlines()
        assert (kind, base) == ("v2", str(own))
        assert born == f"19 {cgroups.EffectiveLimits(pids_max=20, memory_bytes=96 * MIB, swap_bytes=0, cpus=0.5)}"
        assert ended == "-9 False"
    finally:
        remove(own / "shell", own)


@root
@pytest.mark.needs("cgroup-v2", "open-checkout")
def test_a_process_in_a_delegated_group_moves_aside(someone: OrdinaryUser, session: str) -> None:
    """As under ``systemd-run --user --scope -p Delegate=yes``: the group is the user's and he is in it."""
    own = Path(f"/sys/fs/cgroup/test-{session}")
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd marks what it delegates; this group would be nobody's")
    own.mkdir()
    try:
        for path in (own, own / "cgroup.procs", own / "cgroup.subtree_control"):
            os.chown(path, someone.uid, someone.gid)
        become = (
            f"exec setpriv --reuid {someone.uid} --regid {someone.gid} --clear-groups {shlex.quote(sys.executable)} -c"
        )
        done = subprocess.run(
            ["sh", "-ec", f"echo $$ > {own}/cgroup.procs\n{become} {shlex.quote(LIMITED)} {session}"],
            env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, timeout=60, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].startswith("19 ")
        assert done.stdout.splitlines()[1] == "-9 False"
        assert (own / "containai.launcher").is_dir()
    finally:
        remove(own / "containai.launcher", own)


COUNT = """
import sys
n = 0
while True:
    n += 1
    sys.stdout.write(f"{n}\\n"); sys.stdout.flush()
"""


@root
def test_a_group_stands_still_and_goes_on(delegation: cgroups.Delegation, session: str) -> None:
    """What stands still can be killed, too."""
    group = made(delegation, session)
    child = start(group, COUNT)
    assert first_line(child)
    assert cgroups.find_freezer(os.getpid()) is None  # never its own
    freezer = cgroups.find_freezer(child.pid)
    assert freezer is not None
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    with freezer.frozen() as still:
        assert still
        while child.stdout.read(1 << 16):
            pass
        time.sleep(0.2)
        assert not child.stdout.read(1)
    os.set_blocking(child.stdout.fileno(), True)
    assert child.stdout.read(1)
    with freezer.frozen() as still:
        assert still
        child.kill()
        assert child.wait(timeout=10) == -signal.SIGKILL
    group.destroy()
