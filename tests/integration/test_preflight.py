"""Preflight on this machine as it is, and with one thing taken away in a private mount namespace."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.users import OrdinaryUser

SOURCE = Path(__file__).resolve().parents[2] / "src"
CONTAINAI = f"{shlex.quote(sys.executable)} -m containai"

pytestmark = [pytest.mark.timeout(90), pytest.mark.needs("root", "bubblewrap")]


def within(
    prepare: str, command: str, place: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a mount namespace of its own, after preparing that."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f"cd {shlex.quote(str(place))}\n{prepare}\n{command}"],
        env={
            "PYTHONPATH": str(SOURCE),
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "XDG_STATE_HOME": str(place / "state"),
            **(env or {}),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def doctor(place: Path, prepare: str = "", env: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The doctor's findings, by name."""
    done = within(prepare, f"{CONTAINAI} doctor --json", place, env)
    assert done.stdout, done.stderr
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["verdict"] == "ready" else 1)
    return {finding["id"]: finding for finding in said["findings"]}


def refusals(found: Mapping[str, dict[str, Any]]) -> list[str]:
    return [name for name, finding in found.items() if finding["verdict"] == "refuse"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q", "."], check=True, timeout=20)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "init"], check=True, timeout=20)
    return tmp_path


def test_this_machine_as_it_is(tmp_path: Path) -> None:
    found = doctor(tmp_path)
    for name in ("architecture", "kernel", "seccomp", "tmpfs", "namespaces", "cgroups", "bubblewrap", "git"):
        assert (found[name]["state"], found[name]["verdict"]) == ("on", "pass"), found[name]
    assert not (tmp_path / "state").exists()  # looking changes nothing


# The finding, what is taken away, what is said. The mounts are seen by nobody else, and end with the command.
TAKEN = [
    ("namespaces", "mount -t tmpfs -o ro none /proc/fs", "Can't mount proc"),  # a masked /proc, as in a container
    ("squid", "mount --bind /bin/true /usr/sbin/squid", "does not tell its version"),
    ("state", "mkdir state && mount -t tmpfs -o ro none state", "Read-only file system"),
    ("state", "mkdir state && mount -t tmpfs -o size=1m none state", "MiB are free"),
]


@pytest.mark.needs("squid")
@pytest.mark.parametrize(("name", "prepare", "said"), TAKEN)
def test_what_is_taken_away_is_found_and_refused_by_doctor_and_run_alike(
    name: str, prepare: str, said: str, repository: Path
) -> None:
    """P7."""
    before = refusals(doctor(repository))
    found = doctor(repository, prepare)
    assert set(refusals(found)) - set(before) in ({name}, {name, "tmpfs"})
    assert said in found[name]["summary"]
    assert found[name]["remedy"]
    (repository / "state").rmdir() if (repository / "state").exists() else None
    launched = within(prepare, f"{CONTAINAI} run -- true", repository)
    assert launched.returncode == 125
    known = [each for each in refusals(found) if found[each]["state"] != "unknown"] or refusals(found)
    assert f"containai: error[preflight.{known[0]}]" in launched.stderr  # not what could therefore not be tried
    assert said in launched.stderr
    branches = subprocess.run(
        ["git", "-C", repository, "branch"], capture_output=True, text=True, check=True, timeout=20
    )
    assert len(branches.stdout.splitlines()) == 1


def test_an_old_git_is_named(tmp_path: Path) -> None:
    fake = "printf '#!/bin/sh\\necho git version 2.20.1\\n' > fake && chmod 755 fake && mount --bind fake /usr/bin/git"
    assert doctor(tmp_path, fake)["git"]["summary"] == "/usr/bin/git: 2.20.1 is too old; 2.30 is needed"


def test_a_kernel_without_any_namespace_to_spare_is_named(tmp_path: Path) -> None:
    """In a user namespace of its own, so that the limit holds for nobody else."""
    script = (
        "import json;from pathlib import Path;from containai.preflight.facts import Trials, collect_facts;"
        "from containai.preflight.checks import check;from containai.plan.model import Identity;"
        "me=Identity(agent_uid=0,agent_gid=0,proxy_uid=0,proxy_gid=0);"
        "print(*[f.summary for f in check(collect_facts(Trials(me),state_dir=Path('.')),'embedded') if f.id=='namespaces'])"
    )
    command = f"echo 0 > /proc/sys/user/max_user_namespaces; {shlex.quote(sys.executable)} -c {shlex.quote(script)}"
    done = within("", f"unshare --user --map-root-user sh -ec {shlex.quote(command)}", tmp_path)
    assert done.stdout.strip() == "user.max_user_namespaces is 0", done.stderr


def test_a_chroot_is_called_one(repository: Path) -> None:
    """The kernel makes no user namespace there; what could therefore not be tried does not come first."""
    enter = """mkdir root && mount -t tmpfs none root
        for each in /*; do
            if [ -L "$each" ]; then cp -a "$each" root; elif [ -d "$each" ]; then mkdir "root$each" && mount --rbind "$each" "root$each"; fi
        done
        umount --lazy root/run"""  # where a mark may say that this machine is a container, to which another is said
    command = f"chroot root sh -c {shlex.quote(f'cd {repository} && {CONTAINAI} run -- true')}"
    launched = within(enter, command, repository)
    assert launched.returncode == 125
    assert launched.stderr.startswith("containai: error[preflight.namespaces]"), launched.stderr
    assert "the kernel makes no user namespace here, as in a chroot" in launched.stderr
    assert "pivot_root" in launched.stderr


def test_a_demo_that_is_refused_says_why_once_and_names_a_program_that_is_there(repository: Path) -> None:
    done = within("mount -t tmpfs -o ro none /proc/fs", f"{CONTAINAI} demo 2>&1", repository)
    assert done.returncode == 1
    assert done.stdout.count("error[preflight.namespaces]") == 1, done.stdout
    assert done.stdout.index("error[preflight.namespaces]") < done.stdout.index("error[demo.session]")
    program = done.stdout.splitlines()[-2].strip().removesuffix(" doctor")
    assert shutil.which(shlex.split(program)[0])


def test_the_environment_feeds_no_check(tmp_path: Path) -> None:
    """P5: programs of the same names first in PATH, and every variable that could mean something."""
    lies = tmp_path / "bin"
    lies.mkdir()
    for name in ("bwrap", "squid", "git", "setpriv", "cat", "uname"):
        (lies / name).write_text("#!/bin/sh\necho version 99.9\n")
        (lies / name).chmod(0o755)
    env = {
        "PATH": f"{lies}:{os.environ['PATH']}",
        "CONTAINAI_SKIP_PREFLIGHT": "1",
        "CONTAINAI_PREFLIGHT": "off",
        "GIT_EXEC_PATH": str(lies),
    }
    prepare = "mount -t tmpfs -o ro none /proc/fs"
    found = doctor(tmp_path, prepare, env)
    assert found["namespaces"]["verdict"] == "refuse"
    for name in ("bubblewrap", "squid", "git"):
        assert "99.9" not in found[name]["summary"]
        assert str(lies) not in found[name]["summary"]


@pytest.mark.needs("cgroup-v1", "open-checkout")
def test_an_ordinary_user_is_told_everything_at_once(ordinary: OrdinaryUser, tmp_path: Path) -> None:
    """P3: his missing cgroup and his missing state directory, in one answer."""
    env = {"PYTHONPATH": str(SOURCE), "XDG_STATE_HOME": "/proc/nowhere"}
    done = ordinary.run([sys.executable, "-m", "containai", "doctor", "--json"], env=env, cwd=Path("/"))
    said = {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert "state" in refusals(said)
    assert said["namespaces"]["verdict"] == "pass"
    if "cgroups" in refusals(said):  # another run may have given him one
        assert said["cgroups"]["remedy"][0].startswith("sudo mkdir -p /sys/fs/cgroup/pids/containai/user-")
