# mypy: disable-error-code="assignment,method-assign"
"""Containers of the product's own Docker engine without a session around them, and launchers that kill themselves.

As a program, ``python -m tests.docker.bare MOMENT PART containai WORD...`` is the product, and
``... MOMENT PART container IMAGE FOLDER`` makes one container and releases it; both kill themselves when they make the
container of that part (``agent``, ``prepare``, ``finish``) and come to that moment.
"""

from __future__ import annotations

import ctypes
import glob
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from containai.engine.docker import engine as making
from containai.engine.docker.container import DockerContainer
from containai.engine.docker.door import Door
from containai.engine.docker.engine import DockerEngine, DockerTools, read_profile
from containai.engine.protocol import ContainerSpec, Stdio
from containai.host.docker import Daemon
from containai.host.layout import layout_of_image, read_layout
from containai.plan.filesystem import account_files, plan_mounts
from containai.plan.model import WORKSPACE, Identity
from containai.policy.model import Limits
from containai.session.engines import native_file

SESSION = "0123456789ab"
AWAITS = "BARE_AWAITS"
"""The variable with a pattern: the launcher dies once there is such a file, so that an agent has come so far."""


def bare_tools() -> DockerTools:
    """What the engine works with on a machine that preflight lets pass."""
    return DockerTools(
        shim=native_file("containai-shim"),
        agent_filter=native_file("agent.bpf").read_bytes(),
        housekeeping_filter=native_file("housekeeping.bpf").read_bytes(),
        seccomp_profile=read_profile(Path(str(resources.files("containai") / "data" / "seccomp-containai-agent.json"))),
        landlock_abi=int(ctypes.CDLL(None).syscall(444, None, 0, 1)),
        apparmor_profile="containai-agent",
    )


def bare_spec(image: str, workspace: Path, script: str, limits: Limits, *, supervised: bool) -> ContainerSpec:
    """The agent's container of a session that there is not."""
    return ContainerSpec(
        label="agent",
        session_id=SESSION,
        hostname="containai",
        command=("/bin/sh", "-c", script),
        environment={"PATH": "/usr/bin:/bin"},
        working_directory=WORKSPACE,
        mounts=plan_mounts(layout_of_image(read_layout((), ())), workspace, (), (), 16 << 20),
        files=account_files(1000),
        identity=Identity(agent_uid=1000, agent_gid=1000, proxy_uid=65534, proxy_gid=65534),
        limits=limits,
        listeners=(),
        supervised=supervised,
        labels=(("containai.session", SESSION), ("containai.type", "agent")),
        image=image,
    )


def _die() -> None:
    deadline = time.monotonic() + 60
    awaited = os.environ.get(AWAITS, "")
    while awaited and not glob.glob(awaited) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


_here = threading.local()
Hook = Callable[[str], None]


def _at(owner: Any, name: str, *, before: bool = False, during_s: float = 0) -> Hook:
    """Die before or after a function of the engine's, or while it works, where it works for a part."""

    def hook(part: str) -> None:
        inner = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            mine = getattr(_here, "part", "") == part
            if mine and during_s:
                threading.Timer(during_s, _die).start()
            if mine and before:
                _die()
            result = inner(*args, **kwargs)
            if mine:
                _die()
            return result

        setattr(owner, name, wrapped)

    return hook


def _released(part: str) -> None:
    start = DockerContainer.start

    def wrapped(self: DockerContainer) -> None:
        start(self)
        if self._asked["Labels"]["containai.type"] == part:
            _die()

    DockerContainer.start = wrapped


MOMENTS: dict[str, Hook] = {
    "staged": _at(making, "render_docker"),
    "creating": _at(Daemon, "create", during_s=0.1),
    "created": _at(Daemon, "create"),
    "starting": _at(Daemon, "start", during_s=0.4),
    "started": _at(Daemon, "start"),
    "at the door": _at(Door, "first"),
    "let in": _at(making, "let_continue"),
    "joined": _at(DockerEngine, "_hand_specification", before=True),
    "specified": _at(DockerEngine, "_hand_specification"),
    "reported": _at(making, "receive_report"),
    "released": _released,
}


def main() -> None:
    """Come to the moment; whoever gets past it says so with status 99."""
    moment, part, kind, *words = sys.argv[1:]
    make = DockerEngine.make

    def known(self: DockerEngine, spec: ContainerSpec, *rest: Any) -> DockerContainer:
        _here.part = spec.label
        try:
            return make(self, spec, *rest)
        finally:
            _here.part = ""

    DockerEngine.make = known
    MOMENTS[moment](part)
    if kind == "containai":
        from containai.cli.main import main as containai

        containai(words)
        sys.exit(99)
    null = os.open(os.devnull, os.O_RDWR)
    spec = bare_spec(words[0], Path(words[1]), "echo ran > ran; exec sleep 1000", Limits(), supervised=True)
    DockerEngine(bare_tools()).begin(spec, Stdio(stdin=null, stdout=null, stderr=null)).complete().start()
    sys.exit(99)


if __name__ == "__main__":
    main()
