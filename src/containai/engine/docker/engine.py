"""The Docker engine: the daemon makes the container, containai-shim guards it from inside, as in the embedded engine.

``begin`` in numbered steps, in a thread of its own:

    1. a private directory in memory: the socket that the first process joins, the door of Docker's seccomp profile
    2. the container, created and started; its first exec waits at the door
    3. the exec is let go on; the first process joins, and the kernel says who it is
    4. the specification and the agent's streams go to it; it reports, all guards on, and hands over its descriptors
    5. the names of what was staged go away
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from containai.engine.docker.container import DockerContainer, Removals
from containai.engine.docker.door import Door
from containai.engine.docker.podman import MARKER, to_podman
from containai.engine.docker.staging import Staging
from containai.engine.first_process import memory_file, receive_report
from containai.engine.protocol import ContainerSpec, Expectation, Stdio
from containai.engine.spec_format import Made, encode_spec
from containai.engine.tether import tether_prefix
from containai.engine.usher import Usher, let_continue
from containai.errors import ContainaiError, EngineError
from containai.host.clock import monotonic_s
from containai.host.docker import Daemon
from containai.plan.model import Mount, MountKind
from containai.record import dataclass, field
from containai.render.docker import (
    CONTROL_INSIDE,
    IMAGE_TREES,
    MASKED,
    READ_ONLY,
    SHIM_INSIDE,
    render_docker,
)
from containai.render.landlock import render_landlock

_CREATE_TIMEOUT_S = 60.0
_CREDENTIALS = struct.Struct("3i")  # Source: unix(7), SO_PEERCRED
_CPU_INFO = Mount(kind=MountKind.DATA, target=PurePosixPath("/sys/devices/system/cpu"))
_TREES = tuple(Mount(kind=MountKind.READ_ONLY, target=PurePosixPath(path), source=path) for path in IMAGE_TREES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerTools:
    """The host files and kernel facts that the engine works with, as preflight found them."""

    shim: Path
    agent_filter: bytes
    housekeeping_filter: bytes
    seccomp_profile: Mapping[str, Any] = field(repr=False)
    landlock_abi: int
    apparmor_profile: str
    podman: bool = False  # whether Podman answers in Docker's place
    may_trace: bool = True  # whether the launcher may read the memory of what the daemon started


class DockerEngine:
    """See ``engine.protocol.Engine``."""

    name = "docker"
    prepares_inside = True
    makes_ahead = True

    def __init__(self, tools: DockerTools, daemon: Daemon | None = None) -> None:
        self._tools = tools
        self._daemon = daemon or Daemon()
        self._removals = Removals(self._daemon)
        self.expectation = Expectation(
            apparmor_profile=tools.apparmor_profile,
            engine_files=(str(SHIM_INSIDE), str(CONTROL_INSIDE), *((MARKER,) if tools.podman else ())),
            shared_namespaces=frozenset({"user"}),
            read_only=frozenset({*READ_ONLY, "/sys", "/sys/fs/cgroup"}),
            writable={"/dev": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue"},
            must_be_read_only=frozenset(path for path in (*READ_ONLY, "/sys") if os.path.exists(path)),
            covers=frozenset(MASKED),
            must_be_covered=frozenset(path for path in MASKED if os.path.exists(path)),
            setuid_is_ignored=True,
        )

    def begin(self, spec: ContainerSpec, stdio: Stdio) -> PendingDocker:
        """Begin to make a container; ``complete`` or ``abandon`` must follow."""
        given = () if stdio.terminal else (stdio.stdin, stdio.stdout, stdio.stderr)
        return PendingDocker(self, spec, stdio, tuple(os.dup(fd) for fd in given))

    def settle(self) -> tuple[str, ...]:
        """Wait for the daemon to have removed what was destroyed."""
        return self._removals.settle()

    def tether(self, *, uid: int, gid: int) -> tuple[str, ...]:
        """The argument prefix that ties a host process to this launcher."""
        return tether_prefix(self._tools.shim, (), uid=uid, gid=gid)

    def make(self, spec: ContainerSpec, stdio: Stdio, streams: Sequence[int]) -> DockerContainer:
        """Make a container, in the steps above.

        Raises:
            EngineError: It could not be made; nothing is left behind.
        """
        with contextlib.ExitStack() as undo:
            staging = Staging(spec.session_id, spec.identity)  # 1
            undo.callback(staging.remove)
            token = secrets.token_hex(16)
            door = Door(staging.door_path, token)
            undo.callback(door.close)
            asked = self._render(spec, staging, token)
            identity = self._daemon.create(asked, spec.name)  # 2
            undo.callback(self._daemon.remove, identity)
            self._daemon.start(identity)
            deadline_s = monotonic_s() + _CREATE_TIMEOUT_S
            listener = door.first(deadline_s)
            listener_held = undo.enter_context(contextlib.ExitStack())
            listener_held.callback(os.close, listener)
            control, pid = self._await_first(staging, listener, identity, deadline_s)  # 3
            undo.callback(control.close)
            usher = None
            if spec.supervised:
                # The first process now installs a filter with a listener of its own, and only one can have one. From
                # here on a notification of Docker's filter that no newer filter takes over would fail.
                listener_held.close()
            else:
                listener_held.pop_all()
                usher = Usher(listener)
                undo.callback(usher.close)
            self._hand_specification(control, spec, stdio, streams)  # 4
            report = receive_report(control)
            if report.pid != pid:
                details = report.problem or f"process {report.pid} reported, and {pid} joined"
                raise _not_created(details)
            container = DockerContainer(
                spec, stdio, control, report, daemon=self._daemon, removals=self._removals, identity=identity,
                asked=asked, door=door, usher=usher, staging=staging, podman=self._tools.podman,
                read_inside=self._reads_inside(spec),
            )  # fmt: skip
            undo.callback(container.close_descriptors)
            staging.forget()  # 5
            door.open_to(None)
            undo.pop_all()
            return container

    def _render(self, spec: ContainerSpec, staging: Staging, token: str) -> dict[str, Any]:
        seccomp = {
            **self._tools.seccomp_profile,
            "listenerPath": str(staging.door_path),
            "listenerMetadata": token,
        }
        body = render_docker(
            spec,
            files=staging.write(file for file in spec.files if file.read_only),
            shim=str(self._tools.shim),
            control=str(staging.control_path),
            seccomp=seccomp,
            apparmor_profile=self._tools.apparmor_profile,
        )
        return to_podman(body, staging.write_profile(json.dumps(seccomp))) if self._tools.podman else body

    def _await_first(
        self, staging: Staging, listener: int, identity: str, deadline_s: float
    ) -> tuple[socket.socket, int]:
        """The connection of the first process, and its id as kernel and daemon both say it."""
        poll = select.poll()
        poll.register(staging.control, select.POLLIN)
        poll.register(listener, select.POLLIN)
        while True:
            events = dict(poll.poll(max(0, round((deadline_s - monotonic_s()) * 1000))))
            if staging.control.fileno() in events:
                break
            if not events or events[listener] & (select.POLLHUP | select.POLLERR):
                raise EngineError(
                    "the container ended before it began",
                    code="engine.create",
                    remedy=["containai doctor --engine docker"],
                )
            let_continue(listener)
        control, _ = staging.control.accept()
        control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        credentials = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid = _CREDENTIALS.unpack(credentials)[0]
        first = self._daemon.inspect(identity)["State"]["Pid"]
        if pid <= 0 or pid != first:
            control.close()
            raise EngineError(
                "somebody else joined in the container's place",
                code="engine.create",
                details=f"process {pid}, and the container's first is {first}",
            )
        return control, pid

    def _hand_specification(
        self, control: socket.socket, spec: ContainerSpec, stdio: Stdio, streams: Sequence[int]
    ) -> None:
        fd = memory_file(self._encode(spec, stdio.terminal))
        try:
            socket.send_fds(control, [b"S"], [fd, *streams])
        except OSError as error:
            raise EngineError("the container ended unexpectedly", code="engine.gone", details=str(error)) from error
        finally:
            os.close(fd)

    def _reads_inside(self, spec: ContainerSpec) -> bool:
        return spec.supervised and not self._tools.may_trace

    def _encode(self, spec: ContainerSpec, terminal: bool) -> bytes:
        return encode_spec(
            command=spec.command,
            environment=spec.environment,
            working_directory=str(spec.working_directory),
            ports=spec.listeners,
            limits=spec.limits,
            landlock=render_landlock(
                (*_TREES, _CPU_INFO, *spec.mounts),
                spec.files,
                self._tools.landlock_abi,
                runs_what_it_writes=spec.runs_what_it_writes,
            ),
            seccomp_filter=self._tools.agent_filter if spec.supervised else self._tools.housekeeping_filter,
            apparmor_profile="",  # Docker has put it on
            supervised=spec.supervised,
            terminal=terminal,
            read_inside=self._reads_inside(spec),
            made=_made(spec),
            preparation=spec.preparation,
            preparation_environment=spec.preparation_environment,
        )


class PendingDocker:
    """A container that a thread is making, while the launcher does something else."""

    def __init__(self, engine: DockerEngine, spec: ContainerSpec, stdio: Stdio, streams: tuple[int, ...]) -> None:
        self._engine, self._spec, self._stdio, self._streams = engine, spec, stdio, streams
        self._made: DockerContainer | None = None
        self._error: ContainaiError | None = None
        self._thread = threading.Thread(target=self._run, name="docker-create")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._made = self._engine.make(self._spec, self._stdio, self._streams)
        except ContainaiError as error:
            self._error = error
        except OSError as error:
            self._error = _not_created(str(error))
        finally:
            for fd in self._streams:
                os.close(fd)

    def complete(self) -> DockerContainer:
        """Wait until it is made.

        Raises:
            EngineError: It could not be made; nothing is left behind.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        made, self._made = self._made, None
        if made is None:
            raise _not_created("")
        return made

    def abandon(self) -> None:
        """Take it back. No effect once it is complete."""
        self._thread.join()
        if self._made is not None:
            self._made.destroy()
            self._made = None


def read_profile(path: Path) -> dict[str, Any]:
    """The seccomp profile as Docker takes it: the file's own text, without what only people read."""
    profile = dict(json.loads(path.read_bytes()))
    profile["syscalls"] = [{k: v for k, v in rule.items() if k != "comment"} for rule in profile["syscalls"]]
    return profile


def _not_created(details: str) -> EngineError:
    return EngineError(
        "the container could not be created",
        code="engine.create",
        details=details,
        remedy=["containai doctor --engine docker"],
    )


def _made(spec: ContainerSpec) -> list[Made]:
    """What the first process makes where the agent may write: directories, then the files that it may change."""
    made: dict[str, Made] = {}
    places = {mount.target for mount in spec.mounts if mount.kind is MountKind.TMPFS}

    def directory(path: PurePosixPath, mode: int) -> None:
        if path in places or not any(path.is_relative_to(place) for place in places):
            return
        directory(path.parent, 0o700)
        made.setdefault(str(path), Made(path=str(path), mode=mode))

    for mount in spec.mounts:
        if mount.kind is MountKind.DIRECTORY:
            directory(mount.target, mount.mode)
    for file in spec.files:
        if not file.read_only:
            directory(file.target.parent, 0o700)
            made[str(file.target)] = Made(path=str(file.target), mode=file.mode, content=file.content.encode())
    return list(made.values())
