"""./bootstrap: what needs root is said as one command, the PATH gets this program's commands alone, errors are named."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.users import PATH, OrdinaryUser

ROOT = Path(__file__).resolve().parents[2]
# What the script itself needs; no compiler and no sudo, so that something is missing that root would have to install.
TOOLS = ("sh", "id", "dirname", "sed", "tr", "head", "find", "stat", "grep", "cat", "sha256sum", "cut", "python3",
         "git", "bwrap", "setpriv", "env")  # fmt: skip

pytestmark = pytest.mark.user


class Bench:
    """A copy of the script in a place of an ordinary user's, and a PATH of few tools."""

    def __init__(self, user: OrdinaryUser, place: Path) -> None:
        self.user, self.script, self.tools, self.asked = user, place / "bootstrap", place / "bin", place / "asked"
        shutil.copy(ROOT / "bootstrap", self.script)
        self.tools.mkdir()
        for name in TOOLS:
            found = shutil.which(name)
            if found is not None:
                (self.tools / name).symlink_to(found)

    def record(self, name: str) -> None:
        """Put a program there that notes its arguments and does nothing."""
        self.place(name, f'echo "{name} $*" >>"{self.asked}"')

    def place(self, name: str, script: str) -> None:
        """Put a program there."""
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run it as the ordinary user; its status and standard error."""
        done = self.user.run([self.script, *arguments], env={"PATH": str(self.tools)})
        return done.returncode, done.stderr.decode()


@pytest.fixture
def bench(ordinary: OrdinaryUser) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(dir=ordinary.home, prefix="bootstrap-") as place:
        Path(place).chmod(0o777)  # the user's, whoever makes it
        yield Bench(ordinary, Path(place))


def test_without_sudo_root_is_told_one_command(bench: Bench) -> None:
    bench.record("apt-get")

    status, said = bench.run("install")

    assert status == 1
    assert f"{bench.script} prepare-host {bench.user.name}    then run this again" in said
    assert not bench.asked.exists(), "apt-get ran without root"
    assert not (bench.script.parent / ".venv").exists()


def test_where_sudo_refuses_root_is_told_the_same_command(bench: Bench) -> None:
    """A user who has the program sudo, and no right to it."""
    bench.place("sudo", 'echo "sudo: a password is required" >&2; exit 1')
    bench.record("apt-get")

    status, said = bench.run("install")

    assert status == 1
    assert "bootstrap: this needs root, and sudo did not give it: " in said
    assert f"{bench.script} prepare-host {bench.user.name}    then run this again" in said
    assert not bench.asked.exists(), "apt-get ran without root"


def test_a_command_that_fails_under_sudo_is_not_taken_for_a_missing_right(bench: Bench) -> None:
    bench.place("sudo", '[ "$1" = -n ] || exit 1')
    bench.record("apt-get")

    status, said = bench.run("install")

    assert status == 1
    assert "sudo did not give it" not in said


def test_what_root_runs_is_shown_as_a_shell_would_read_it() -> None:
    """So that a reader can judge it, and give it himself."""
    (function,) = re.findall(r"^shown\(\) \{\n.*?^\}$", (ROOT / "bootstrap").read_text(), re.MULTILINE | re.DOTALL)
    words = ["sh", "-c", 'printf "#!/bin/sh\\nexit 101\\n" >a && b', "", "it's", "A=b", "$HOME", "/usr/sbin/x.y", "*"]
    done = subprocess.run(
        ["sh", "-c", f'{function}\nshown "$@"', "sh", *words], capture_output=True, text=True, timeout=20, check=True
    )
    assert shlex.split(done.stdout) == words
    assert done.stdout.startswith(" sh -c 'printf ")


def test_that_command_installs_what_is_missing(bench: Bench) -> None:
    bench.record("apt-get")
    bench.record("sudo")

    status, said = bench.run("prepare-host", bench.user.name)

    asked = bench.asked.read_text()
    assert "--no-install-recommends gcc libc6-dev" in asked
    assert "libc6-dev curl e2fsprogs" in asked, "what the tests need is root's to install, too"
    assert "still missing after apt-get: gcc libc6-dev" in said  # the recorder installed nothing
    assert status == 1


@pytest.mark.needs("cc", "squid", "bubblewrap")
def test_a_host_that_is_prepared_is_called_so(bench: Bench) -> None:
    bench.record("sudo")
    for name in (
        "curl",
        "ip",
        "chattr",
    ):  # this machine may lack them, or have them where an ordinary user does not look
        bench.record(name)

    done = bench.user.run([bench.script, "prepare-host", bench.user.name], env={"PATH": f"{bench.tools}:{PATH}"})

    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().endswith(f"bootstrap: this host is prepared for {bench.user.name}\n")
    assert not bench.asked.exists() or "apt-get" not in bench.asked.read_text()


def test_nobody_is_prepared_who_does_not_exist(bench: Bench) -> None:
    bench.record("sudo")

    status, said = bench.run("prepare-host", "no-such-user")

    assert status == 1
    assert "no-such-user" in said
    assert not bench.asked.exists()


def test_a_misspelt_request_is_named(bench: Bench) -> None:
    status, said = bench.run("instal")

    assert status == 2
    assert said.startswith("bootstrap: unknown: instal\n./bootstrap demo ")


@pytest.mark.needs("cc", "squid", "bubblewrap")
def test_the_path_gets_the_commands_of_this_program_alone(bench: Bench) -> None:
    """pip is not run, which takes a minute: what is tested is what comes after it."""
    checkout = bench.script.parent
    shutil.copy(ROOT / "pyproject.toml", checkout)
    environment = checkout / ".venv/bin"
    environment.mkdir(parents=True)
    (environment / "python").write_text('#!/bin/sh\n[ "$1" = -m ] || exec /usr/bin/env python3 "$@"\n')
    (environment / "python").chmod(0o755)
    environment.parent.chmod(0o777)
    bench.record("sudo")

    done = bench.user.run([bench.script, "install"], env={"PATH": f"{bench.tools}:{PATH}"})

    assert done.returncode == 0, done.stderr.decode()
    line = done.stdout.decode()
    assert line.startswith('export PATH="')
    assert line.endswith(':$PATH"\n')
    given = Path(line.removeprefix('export PATH="').removesuffix(':$PATH"\n'))
    assert given.is_relative_to(checkout)
    with (ROOT / "pyproject.toml").open("rb") as file:
        commands = set(tomllib.load(file)["project"]["scripts"])
    assert {path.name for path in given.iterdir()} == commands
    assert all((given / name).resolve() == environment / name for name in commands)
