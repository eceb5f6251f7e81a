"""Who joins a container's control socket: its first process is given the specification, anybody else nothing.

The engine is the product's own. The daemon's part, and runc's, is played by processes of this machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containai.engine.docker.engine import DockerEngine, DockerTools
from containai.engine.docker.staging import PREFIX, SHARED_MEMORY
from containai.engine.protocol import Stdio
from containai.errors import EngineError
from containai.plan.model import FileOrigin, Identity
from tests.unit.render.test_docker import SPEC

pytestmark = [pytest.mark.user, pytest.mark.timeout(60)]

SESSION = "00112233aabb"
# Joins, and says what it was given: the message, and how many descriptors.
JOIN = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
    control.connect(sys.argv[1])
    message, fds, _, _ = socket.recv_fds(control, 64, 8)
print(message.decode(), len(fds))
"""


class Stand:
    """Stands for the daemon: one process is the container's first, and one joins; they may be the same."""

    def __init__(self, *, impostor: bool) -> None:
        self._impostor = impostor
        self._asked: Mapping[str, Any] = {}
        self.joined: subprocess.Popen[str] | None = None
        self.first: subprocess.Popen[str] | None = None
        self.removed: list[str] = []

    def create(self, config: Mapping[str, Any], _name: str) -> str:
        self._asked = config
        return "one"

    def start(self, _container: str) -> None:
        host = self._asked["HostConfig"]
        control = host["Mounts"][-1]["Source"]
        self.joined = self.first = _python(JOIN, control)
        if self._impostor:
            self.first = _python("import time; time.sleep(1000)")
        profile = json.loads(host["SecurityOpt"][2].removeprefix("seccomp="))
        read, write = os.pipe()
        with socket.socket(socket.AF_UNIX) as runc:
            runc.connect(profile["listenerPath"])
            socket.send_fds(runc, [json.dumps({"metadata": profile["listenerMetadata"]}).encode()], [read])
        os.close(read)
        self._held = write

    def inspect(self, _container: str) -> dict[str, Any]:
        assert self.first
        return {"State": {"Pid": self.first.pid}}

    def remove(self, container: str) -> None:
        self.removed.append(container)

    def close(self) -> None:
        os.close(self._held)
        for child in {self.first, self.joined}:
            if child is not None:
                child.kill()
                child.communicate()


def _python(script: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True)


def make(stand: Stand) -> EngineError:
    """Have a container made; how that failed."""
    tools = DockerTools(
        shim=Path("/usr/bin/true"),
        agent_filter=b"",
        housekeeping_filter=b"",
        seccomp_profile={},
        landlock_abi=6,
        apparmor_profile="containai-agent",
    )
    spec = replace(
        SPEC,
        session_id=SESSION,
        identity=Identity(agent_uid=os.geteuid(), agent_gid=os.getegid(), proxy_uid=1, proxy_gid=1),
        files=tuple(file for file in SPEC.files if file.origin is FileOrigin.TEXT),
    )
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with pytest.raises(EngineError) as failed:
            DockerEngine(tools, stand).begin(spec, Stdio(stdin=null, stdout=null, stderr=null)).complete()  # type: ignore[arg-type]
    finally:
        os.close(null)
    return failed.value


@pytest.fixture
def stands() -> Iterator[list[Stand]]:
    """What a test makes, ended."""
    made: list[Stand] = []
    yield made
    for stand in made:
        stand.close()


def test_somebody_else_is_given_nothing_and_the_container_is_removed(stands: list[Stand]) -> None:
    stands.append(stand := Stand(impostor=True))
    error = make(stand)
    assert stand.first
    assert stand.joined
    assert error.code == "engine.create"
    assert error.summary == "somebody else joined in the container's place"
    assert error.details == f"process {stand.joined.pid}, and the container's first is {stand.first.pid}"
    assert stand.joined.communicate(timeout=20)[0] == " 0\n"
    assert stand.removed == ["one"]
    assert not list(SHARED_MEMORY.glob(f"{PREFIX}{SESSION}-*"))


def test_the_first_process_is_given_the_specification_and_the_streams(stands: list[Stand]) -> None:
    """That it then says nothing, as this one does, is another error."""
    stands.append(stand := Stand(impostor=False))
    error = make(stand)
    assert stand.joined
    assert stand.joined.communicate(timeout=20)[0] == "S 4\n"
    assert error.summary == "the container could not be created"
    assert stand.removed == ["one"]
