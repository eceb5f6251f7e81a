"""The embedded engine: bubblewrap makes the container, containai-shim guards it. No daemon, no image.

``create`` in numbered steps:

    1. a cgroup with the planned limits
    2. descriptors: the shim itself, the specification, staged files, a control socket
    3. bubblewrap as the session's user, tied to the launcher's life
    4. the first process reports, all guards on, and hands over its descriptors
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from containai.engine.embedded.container import EmbeddedContainer, end_monitor
from containai.engine.embedded.reach import Staging, plan_staging
from containai.engine.embedded.spec_format import encode_spec
from containai.engine.protocol import ContainerSpec, Stdio
from containai.engine.verify import Expectation
from containai.errors import EngineError
from containai.host import cgroups, process
from containai.render.bwrap import render_bwrap
from containai.render.landlock import render_landlock

SHIM_INSIDE = PurePosixPath("/run/containai-shim")
_CREATE_TIMEOUT_S = 30.0
_MAX_FDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The host programs and kernel facts that the engine works with, as preflight found them."""

    bwrap: Path
    shim: Path
    agent_filter: bytes
    housekeeping_filter: bytes
    landlock_abi: int
    apparmor_profile: str
    delegation: cgroups.Delegation


class EmbeddedEngine:
    """See ``engine.protocol.Engine``."""

    name = "embedded"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.expectation = Expectation(apparmor_profile=tools.apparmor_profile, engine_files=(str(SHIM_INSIDE),))

    def create(self, spec: ContainerSpec, stdio: Stdio) -> EmbeddedContainer:
        """Make a container with all guards on and nothing of the agent run yet."""
        return self.begin(spec, stdio).complete()

    def begin(self, spec: ContainerSpec, stdio: Stdio) -> PendingContainer:
        """Begin to make a container; ``complete`` or ``abandon`` must follow."""
        cgroup = cgroups.create(self._tools.delegation, f"{spec.session_id}-{spec.label}", spec.limits)  # 1
        with contextlib.ExitStack() as undo:
            if cgroup is not None:
                undo.callback(cgroup.destroy)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            monitor = self._launch(spec, stdio, theirs, cgroup)
            undo.callback(end_monitor, monitor)
            return PendingContainer(spec, stdio, monitor, ours, cgroup, undo.pop_all())

    def _launch(
        self, spec: ContainerSpec, stdio: Stdio, control: socket.socket, cgroup: cgroups.Cgroup | None
    ) -> process.Child:
        with contextlib.ExitStack() as held:
            held.callback(control.close)
            files: list[int] = []

            def hold(content: bytes) -> int:
                fd = _memory_file(content)
                held.callback(os.close, fd)
                files.append(fd)
                return fd

            streams = () if stdio.terminal else (stdio.stdin, stdio.stdout, stdio.stderr)
            staging = (
                plan_staging(spec.mounts, spec.files, spec.identity.agent_uid)
                if os.geteuid() == 0
                else Staging(reach={})
            )
            arguments = render_bwrap(  # 2
                spec,
                reach=staging.reach,
                data_fd=lambda file: hold(file.content.encode()),
                engine_files={SHIM_INSIDE: hold(self._tools.shim.read_bytes())},
                first_process=(
                    str(SHIM_INSIDE),
                    "init",
                    str(hold(self._encode(spec, stdio.terminal))),
                    str(control.fileno()),
                    *map(str, streams),
                ),
            )
            args_fd = hold(b"\0".join(map(os.fsencode, arguments[: arguments.index("--")])) + b"\0")
            inside = arguments[arguments.index("--") :]
            tether = self.tether(
                staging.arguments,
                cgroup,
                uid=spec.identity.agent_uid,
                gid=spec.identity.agent_gid,
            )
            prefix = self._tools.delegation.command_prefix(spec.limits) if cgroup is None else ()
            return process.spawn(  # 3
                [*prefix, *tether, str(self._tools.bwrap), "--args", str(args_fd), *inside],
                stderr=process.PIPE,
                pass_fds=(*files, control.fileno(), *streams),
            )

    def tether(self, staging: Sequence[str], cgroup: cgroups.Cgroup | None, *, uid: int, gid: int) -> tuple[str, ...]:
        """The argument prefix that ties a host process to this launcher."""
        joins = [part for file in (cgroup.procs_files if cgroup else ()) for part in ("--join", str(file))]
        user = ("--uid", str(uid), "--gid", str(gid)) if os.geteuid() == 0 else ()
        return (str(self._tools.shim), "tether", "--parent", str(os.getpid()), *joins, *staging, *user, "--")

    def _encode(self, spec: ContainerSpec, terminal: bool) -> bytes:
        return encode_spec(
            command=spec.command,
            environment=spec.environment,
            working_directory=str(spec.working_directory),
            ports=spec.listeners,
            limits=spec.limits,
            landlock=render_landlock(spec.mounts, spec.files, self._tools.landlock_abi),
            seccomp_filter=self._tools.agent_filter if spec.supervised else self._tools.housekeeping_filter,
            apparmor_profile=self._tools.apparmor_profile,
            supervised=spec.supervised,
            terminal=terminal,
        )


class PendingContainer:
    """A container that bubblewrap is making, while the launcher does something else."""

    def __init__(
        self,
        spec: ContainerSpec,
        stdio: Stdio,
        monitor: process.Child,
        control: socket.socket,
        cgroup: cgroups.Cgroup | None,
        undo: contextlib.ExitStack,
    ) -> None:
        self._spec, self._stdio = spec, stdio
        self._monitor, self._control, self._cgroup = monitor, control, cgroup
        self._undo = undo

    def complete(self) -> EmbeddedContainer:
        """Wait for the first process's report.

        Raises:
            EngineError: The container could not be made; nothing is left behind.
        """
        with self._undo as undo:
            pid, fds = _receive(self._control, self._monitor)  # 4
            container = _adopt(self._spec, self._stdio, self._monitor, self._control, pid, fds, self._cgroup)
            undo.pop_all()
            return container

    def abandon(self) -> None:
        """Take it back. No effect once it is complete."""
        self._undo.close()


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create("containai", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _receive(control: socket.socket, monitor: process.Child) -> tuple[int, list[int]]:
    """The first process's report: its id, vouched for by the kernel, and its descriptors."""
    control.settimeout(_CREATE_TIMEOUT_S)
    room = socket.CMSG_SPACE(_MAX_FDS * 4) + socket.CMSG_SPACE(struct.calcsize("3i"))
    try:
        message, ancillary, _, _ = control.recvmsg(512, room)
    except OSError as error:
        raise EngineError("the container did not report", code="engine.create", details=str(error)) from error
    pid, fds = 0, array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack("3i", data)[0]
    if message != b"R" or pid <= 0:
        for fd in fds:
            os.close(fd)
        said = b"" if monitor.stderr is None else monitor.stderr.read()  # its end of file is the monitor's end
        end_monitor(monitor)
        details = (message[1:] if message[:1] == b"F" else said).decode(errors="replace").strip()
        raise EngineError("the container could not be created", code="engine.create", details=details)
    control.settimeout(None)
    return pid, list(fds)


def _adopt(
    spec: ContainerSpec,
    stdio: Stdio,
    monitor: process.Child,
    control: socket.socket,
    pid: int,
    fds: list[int],
    cgroup: cgroups.Cgroup | None,
) -> EmbeddedContainer:
    for fd in fds:
        os.set_inheritable(fd, False)
    expected = len(spec.listeners) + stdio.terminal + spec.supervised
    if len(fds) != expected:
        raise EngineError(
            "the container handed over the wrong descriptors",
            code="engine.create",
            details=f"{len(fds)} instead of {expected}",
        )
    rest = fds[len(spec.listeners) :]
    return EmbeddedContainer(
        monitor=monitor,
        control=control,
        pid=pid,
        listeners=tuple(fds[: len(spec.listeners)]),
        terminal_fd=rest.pop(0) if stdio.terminal else -1,
        notify_fd=rest.pop(0) if spec.supervised else -1,
        cgroup=cgroup,
    )
