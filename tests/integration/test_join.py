"""containai-shim join: what a container's first process takes from the launcher over a socket, and from nobody else.

Without Docker: the shim runs as a process of the test's own, with all the guards that it puts on itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from containai.engine.first_process import memory_file, receive_report
from containai.engine.spec_format import Made, encode_spec
from containai.policy.model import Limits
from containai.render.landlock import LandlockRules
from containai.session.engines import native_file

pytestmark = [pytest.mark.user]

EVERYTHING = (1 << 13) - 1  # Source: linux/landlock.h, the file rights of ABI 1
REFUSED = 125


@dataclass
class Joined:
    """A shim that has connected, and the launcher's end."""

    control: socket.socket
    child: subprocess.Popen[bytes]
    directory: Path

    def hand(self, command: Sequence[str], fds: Sequence[int], **changes: Any) -> None:
        """Give a specification."""
        wanted: dict[str, Any] = {
            "command": command,
            "environment": {"PATH": "/usr/bin:/bin"},
            "working_directory": str(self.directory),
            "ports": (),
            "limits": Limits(),
            "landlock": LandlockRules(handled_fs=EVERYTHING, handled_net=0, scoped=0, paths=(("/", EVERYTHING),)),
            "seccomp_filter": native_file("housekeeping.bpf").read_bytes(),
            "apparmor_profile": "",
            "supervised": False,
            "terminal": False,
        }
        spec = memory_file(encode_spec(**(wanted | changes)))
        try:
            socket.send_fds(self.control, [b"S"], [spec, *fds])
        finally:
            os.close(spec)


# The shim as the first process of a PID namespace, and as the second, whose first waits for it.
FIRST = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
SECOND = (*FIRST, "sh", "-c", '"$@"; exit $?', "sh")


@contextlib.contextmanager
def join(tmp_path: Path, *prefix: str) -> Iterator[Joined]:
    """The shim, joined and waiting."""
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listening.bind(str(tmp_path / "control"))
        listening.listen(1)
        listening.settimeout(20)
        child = subprocess.Popen(
            [*prefix, native_file("containai-shim"), "join", tmp_path / "control"],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        held.callback(child.communicate)
        held.callback(child.kill)
        control, _ = listening.accept()
        held.enter_context(control)
        control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        yield Joined(control, child, tmp_path)


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Joined]:
    """The shim as a process among the machine's others."""
    with join(tmp_path) as found:
        yield found


@contextlib.contextmanager
def streams() -> Iterator[tuple[list[int], int]]:
    """Three descriptors for the agent, and the reading end of its output."""
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        yield [null, write, write], read
    finally:
        for fd in {null, write, read}:
            os.close(fd)


def test_specification_streams_and_word_make_the_agent_run(joined: Joined) -> None:
    inside = joined.directory / "own"
    made = [
        Made(path=str(inside), mode=0o700),
        Made(path=str(inside / "settings"), mode=0o640, content=b"say=hello\n"),
    ]
    with streams() as (fds, read):
        joined.hand(
            ["sh", "-c", "cat own/settings; stat -c %a own own/settings; cat /proc/self/status"], fds, made=made
        )
        report = receive_report(joined.control)
        assert report.pid == joined.child.pid, report.problem
        joined.control.send(b"G")
        assert joined.control.recv(64)[:1] == b"E"
        said = os.read(read, 65536).decode()
    assert said.splitlines()[:3] == ["say=hello", "700", "640"]
    assert "NoNewPrivs:\t1" in said
    assert "Seccomp:\t2" in said


def test_nothing_runs_without_the_word(joined: Joined) -> None:
    with streams() as (fds, _):
        joined.hand(["touch", "ran"], fds)
        assert receive_report(joined.control).pid == joined.child.pid
        joined.control.close()
        assert joined.child.wait(20) == REFUSED
    assert not (joined.directory / "ran").exists()


def test_a_launcher_that_goes_before_it_said_anything(joined: Joined) -> None:
    joined.control.close()
    assert joined.child.wait(20) == REFUSED


@pytest.mark.parametrize("count", [1, 2])
def test_the_wrong_number_of_descriptors_is_refused(joined: Joined, count: int) -> None:
    with streams() as (fds, _):
        joined.hand(["touch", "ran"], fds[:count])
        assert joined.child.wait(20) == REFUSED
    assert not (joined.directory / "ran").exists()


def test_no_descriptor_at_all_is_refused(joined: Joined) -> None:
    joined.control.send(b"S")
    assert joined.child.wait(20) == REFUSED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seccomp_filter": b""}, "incomplete"),
        ({"landlock": LandlockRules(handled_fs=0, handled_net=0, scoped=0, paths=())}, "incomplete"),
        ({"limits": Limits(), "working_directory": "a\0b"}, "NUL byte"),
    ],
)
def test_a_specification_without_a_guard_is_refused(joined: Joined, changes: dict[str, Any], said: str) -> None:
    with streams() as (fds, _):
        joined.hand(["touch", "ran"], fds, **changes)
        report = receive_report(joined.control)
        assert (report.pid, said in report.problem) == (0, True)
        assert joined.child.wait(20) == REFUSED
    assert not (joined.directory / "ran").exists()


def test_a_file_that_is_there_already_is_not_overwritten(joined: Joined) -> None:
    (joined.directory / "settings").symlink_to("/dev/null")
    with streams() as (fds, _):
        joined.hand(
            ["touch", "ran"], fds, made=[Made(path=str(joined.directory / "settings"), mode=0o600, content=b"x")]
        )
        assert "File exists" in receive_report(joined.control).problem
    assert not (joined.directory / "ran").exists()


def test_no_socket_no_agent(tmp_path: Path) -> None:
    done = subprocess.run(
        [native_file("containai-shim"), "join", tmp_path / "none"], capture_output=True, timeout=20, check=False
    )
    assert done.returncode == REFUSED
    assert b"No such file" in done.stderr


PREPARE = """
echo "$ONLY_HERE $SECRET"; env | wc -l; pwd; cat; echo no input; echo prepared > made
trap '' TERM HUP; (trap '' TERM HUP; exec setsid sleep 1000) & echo $! > left; kill -0 $!
"""


def test_a_preparation_runs_alone_and_leaves_no_process(tmp_path: Path) -> None:
    with join(tmp_path, *FIRST) as joined, streams() as (fds, read):
        joined.hand(
            ["sh", "-c", 'cat made; kill -0 "$(cat left)" 2>/dev/null && echo alive; echo "$ONLY_HERE.$SECRET"'],
            fds,
            environment={"PATH": "/usr/bin:/bin", "SECRET": "s3cret"},
            preparation=["sh", "-c", PREPARE],
            preparation_environment={"PATH": "/usr/bin:/bin", "ONLY_HERE": "here"},
        )
        report = receive_report(joined.control)
        (printed,) = report.fds
        joined.control.settimeout(20)
        joined.control.send(b"P")
        assert joined.control.recv(64) == b"Z" + bytes(4)
        with os.fdopen(printed, "rb") as output:
            said = output.read().decode().splitlines()  # to its end: nobody holds it any more
        assert said[0] == "here "
        assert said[2:] == [str(tmp_path), "no input"]
        assert not select.select([read], [], [], 0)[0]  # the agent's stream is not its
        joined.control.send(b"G")
        assert joined.control.recv(64) == b"E" + bytes(4)
        assert os.read(read, 65536).decode().splitlines() == ["prepared", ".s3cret"]


def test_a_preparation_that_fails_says_so_and_the_launcher_decides(tmp_path: Path) -> None:
    with join(tmp_path, *FIRST) as joined, streams() as (fds, _):
        joined.hand(["touch", "ran"], fds, preparation=["sh", "-c", "echo sorry >&2; exit 3"])
        (printed,) = receive_report(joined.control).fds
        joined.control.settimeout(20)
        joined.control.send(b"P")
        assert joined.control.recv(64) == b"Z" + (3 << 8).to_bytes(4, "little")
        with os.fdopen(printed, "rb") as output:
            assert output.read() == b"sorry\n"
        joined.control.close()
        assert joined.child.wait(20) == REFUSED
    assert not (tmp_path / "ran").exists()


def test_a_preparation_needs_a_container(tmp_path: Path) -> None:
    """What ends its processes would end those of a whole machine."""
    with join(tmp_path, *SECOND) as joined, streams() as (fds, _):
        joined.hand(["touch", "ran"], fds, preparation=["touch", "prepared"])
        for fd in receive_report(joined.control).fds:
            os.close(fd)
        joined.control.settimeout(20)
        joined.control.send(b"P")
        assert b"not the first process" in joined.control.recv(512)
        assert joined.child.wait(20) == REFUSED
    assert not (tmp_path / "prepared").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("words", [b"P", b"PP"])
def test_no_preparation_where_there_is_none_and_none_twice(tmp_path: Path, words: bytes) -> None:
    with join(tmp_path, *FIRST) as joined, streams() as (fds, _):
        joined.hand(["touch", "ran"], fds, preparation=["true"] if len(words) == 2 else [])
        for fd in receive_report(joined.control).fds:
            os.close(fd)
        joined.control.settimeout(20)
        joined.control.send(words[:1])
        if words[1:]:
            assert joined.control.recv(64)[:1] == b"Z"
            joined.control.send(words[1:])
        assert joined.child.wait(20) == REFUSED
    assert not (tmp_path / "ran").exists()
