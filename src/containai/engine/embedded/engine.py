"""The embedded engine: bubblewrap makes the container, containai-shim guards it. No daemon, no image.

``begin`` in numbered steps:

    1. a cgroup with the planned limits
    2. descriptors: the shim itself, the specification, staged files, a control socket
    3. bubblewrap as the session's user, tied to the launcher's life
    4. the first process reports, all guards on, and hands over its descriptors
    5. what the kernel counts for more than the container is limited for it
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from containai.engine.embedded.bounds import bound_container, shared_rlimits
from containai.engine.embedded.container import EmbeddedContainer
from containai.engine.embedded.denied import deny_programs
from containai.engine.embedded.monitor import KILLED, Monitor
from containai.engine.embedded.reach import Staging, plan_staging
from containai.engine.first_process import memory_file, receive_report
from containai.engine.protocol import ContainerSpec, Expectation, Stdio
from containai.engine.spec_format import encode_spec
from containai.engine.tether import tether_prefix
from containai.errors import EngineError
from containai.host import cgroups, process
from containai.record import dataclass
from containai.render.bwrap import render_bwrap
from containai.render.landlock import render_landlock

SHIM_INSIDE = PurePosixPath("/run/containai-shim")


# The kernel has compiled no filter: what all filters of the machine may take is used up, or in pieces.
# Source: kernel/bpf/core.c, bpf_prog_select_runtime(); sysctl net.core.bpf_jit_limit. libc has no word for the number.
_ENOTSUPP = "Unknown error 524"
_NO_ROOM_FOR_FILTERS = (
    "the kernel had no room for the compiled filter: end other sessions and containers, and try again; or:",
    "sudo sysctl net.core.bpf_jit_limit=1073741824",
)


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
    prepares_inside = False
    makes_ahead = False

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.expectation = Expectation(
            apparmor_profile=tools.apparmor_profile,
            engine_files=(str(SHIM_INSIDE),),
            groups=frozenset(os.getgroups() if os.geteuid() != 0 else ()),  # to leave one takes a capability
        )

    def begin(self, spec: ContainerSpec, stdio: Stdio) -> PendingEmbedded:
        """Begin to make a container; ``complete`` or ``abandon`` must follow."""
        cgroup = cgroups.create(self._tools.delegation, f"{spec.session_id}-{spec.label}", spec.limits)  # 1
        with contextlib.ExitStack() as undo:
            if cgroup is not None:
                undo.callback(cgroup.destroy)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            monitor = self._launch(spec, stdio, theirs, cgroup)
            undo.callback(monitor.end)
            undo.callback(ours.close)  # before: so the first process ends, and the monitor with it
            return PendingEmbedded(spec, stdio, monitor, ours, cgroup, undo.pop_all(), shim=self._tools.shim)

    def _launch(
        self, spec: ContainerSpec, stdio: Stdio, control: socket.socket, cgroup: cgroups.Cgroup | None
    ) -> Monitor:
        with contextlib.ExitStack() as held, contextlib.ExitStack() as failed:
            held.callback(control.close)
            leash, ours = os.pipe()
            held.callback(os.close, leash)
            failed.callback(os.close, ours)
            files: list[int] = []

            def hold(content: bytes) -> int:
                fd = memory_file(content)
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
                    str(leash),
                    *map(str, streams),
                ),
            )
            args_fd = hold(b"\0".join(map(os.fsencode, arguments[: arguments.index("--")])) + b"\0")
            inside = arguments[arguments.index("--") :]
            options = ("--leash", str(leash), *staging.arguments)
            tether = self._tether_to(options, cgroup, spec.identity.agent_uid, spec.identity.agent_gid)
            prefix = self._tools.delegation.command_prefix(spec.limits) if cgroup is None else ()
            child = process.spawn(  # 3
                [*prefix, *tether, str(self._tools.bwrap), "--args", str(args_fd), *inside],
                stderr=process.PIPE,
                pass_fds=(*files, control.fileno(), leash, *streams),
            )
            failed.pop_all()
            return Monitor(child, ours)

    def settle(self) -> tuple[str, ...]:
        """Nothing is left once a container is destroyed."""
        return ()

    def tether(self, *, uid: int, gid: int) -> tuple[str, ...]:
        """The argument prefix that ties a host process to this launcher."""
        return tether_prefix(self._tools.shim, (), uid=uid, gid=gid)

    def _tether_to(self, options: Sequence[str], cgroup: cgroups.Cgroup | None, uid: int, gid: int) -> tuple[str, ...]:
        joins = [part for file in (cgroup.procs_files if cgroup else ()) for part in ("--join", str(file))]
        return tether_prefix(self._tools.shim, (*joins, *options), uid=uid, gid=gid)

    def _encode(self, spec: ContainerSpec, terminal: bool) -> bytes:
        return encode_spec(
            command=spec.command,
            environment=spec.environment,
            working_directory=str(spec.working_directory),
            ports=spec.listeners,
            limits=spec.limits,
            rlimits=shared_rlimits(),
            landlock=deny_programs(
                render_landlock(
                    spec.mounts,
                    spec.files,
                    self._tools.landlock_abi,
                    runs_what_it_writes=spec.runs_what_it_writes,
                ),
                frozenset(spec.denied),
            ),
            seccomp_filter=self._tools.agent_filter if spec.supervised else self._tools.housekeeping_filter,
            apparmor_profile=self._tools.apparmor_profile,
            supervised=spec.supervised,
            terminal=terminal,
            preparation=spec.preparation,
            preparation_environment=spec.preparation_environment,
        )


class PendingEmbedded:
    """A container that bubblewrap is making, while the launcher does something else."""

    def __init__(
        self,
        spec: ContainerSpec,
        stdio: Stdio,
        monitor: Monitor,
        control: socket.socket,
        cgroup: cgroups.Cgroup | None,
        undo: contextlib.ExitStack,
        *,
        shim: Path,
    ) -> None:
        self._spec, self._stdio = spec, stdio
        self._monitor, self._control, self._cgroup = monitor, control, cgroup
        self._undo, self._shim = undo, shim

    def complete(self) -> EmbeddedContainer:
        """Wait for the first process's report.

        Raises:
            EngineError: The container could not be made; nothing is left behind.
        """
        with self._undo as undo:
            if problem := self._monitor.await_word(self._control):
                raise _not_created(problem)
            report = receive_report(self._control)  # 4
            if report.pid == 0:
                raise _not_created(report.problem or self._monitor.last_words())
            if self._monitor.has_ended():  # before the first process was tied to it
                raise _not_created(KILLED)
            bound_container(self._shim, report.pid)  # 5
            container = EmbeddedContainer(
                self._spec, self._stdio, self._control, report, monitor=self._monitor, cgroup=self._cgroup
            )
            undo.pop_all()
            return container

    def abandon(self) -> None:
        """Take it back. No effect once it is complete."""
        self._undo.close()


def _not_created(details: str) -> EngineError:
    return EngineError(
        "the container could not be created",
        code="engine.create",
        details=details,
        remedy=[*(_NO_ROOM_FOR_FILTERS if _ENOTSUPP in details else ()), "containai doctor"],
    )
