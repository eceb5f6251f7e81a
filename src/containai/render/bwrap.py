"""Bubblewrap's arguments for a container. PURE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from containai.engine.protocol import ContainerSpec
from containai.plan.model import AGENT_UID, Mount, MountKind, StagedFile

ISOLATION: tuple[str, ...] = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-net",
    "--unshare-cgroup",
    "--disable-userns",
    "--uid",
    str(AGENT_UID),
    "--gid",
    str(AGENT_UID),
    "--new-session",
    # Bubblewrap's own first process would live in the container without our guards.
    "--as-pid-1",
    "--cap-drop",
    "ALL",
)


def render_bwrap(
    spec: ContainerSpec,
    *,
    reach: Mapping[str, str],
    data_fd: Callable[[StagedFile], int],
    engine_files: Mapping[PurePosixPath, int],
    first_process: Sequence[str],
) -> list[str]:
    """The argument vector behind ``bwrap``.

    Args:
        spec: The container.
        reach: Host source to the path under which bubblewrap's user can reach it, where that differs.
        engine_files: Programs of the engine's own, read-only, from descriptors.
        data_fd: Gives the descriptor that holds a staged file's bytes.
        first_process: What runs as process 1.
    """
    args = [*ISOLATION, "--hostname", spec.hostname]
    for mount in spec.mounts:
        args += _mount(mount, reach.get(mount.source, mount.source))
    for file in spec.files:
        if file.is_bound:
            args += ["--ro-bind", reach.get(file.content, file.content), str(file.target)]
            continue
        args += ["--perms", f"{file.mode:04o}"]
        args += ["--ro-bind-data" if file.read_only else "--file", str(data_fd(file)), str(file.target)]
    for target, fd in engine_files.items():
        args += ["--perms", "0555", "--ro-bind-data", str(fd), str(target)]
    args += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    return [*args, "--", *first_process]


def _mount(mount: Mount, source: str) -> list[str]:
    target = str(mount.target)
    match mount.kind:
        case MountKind.READ_ONLY:
            return ["--ro-bind", source, target]
        case MountKind.WRITABLE:
            return ["--bind", source, target]
        case MountKind.TMPFS:
            return ["--perms", f"{mount.mode:04o}", "--size", str(mount.size_bytes), "--tmpfs", target]
        case MountKind.DIRECTORY:
            return ["--perms", f"{mount.mode:04o}", "--dir", target]
        case MountKind.SYMLINK:
            return ["--symlink", source, target]
        case MountKind.MASK:
            return ["--ro-bind", "/dev/null", target]
        case MountKind.DEVICES:
            return ["--dev", target]
        case MountKind.PROC:
            return ["--proc", target]
        case MountKind.DATA:
            raise ValueError("a data mount is made from a staged file")
