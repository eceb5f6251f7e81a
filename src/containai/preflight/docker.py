"""Look at this machine's Docker daemon. Input and output only; docker_checks.py judges."""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from containai.errors import ContainaiError
from containai.host.docker import SOCKET, Daemon
from containai.preflight.model import MIN_DOCKER, DockerFacts, Image

LIMITS = ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit")
_LOCAL = frozenset({"", f"unix://{SOCKET}", "unix:///run/docker.sock"})
_NAME = re.compile(r"name=([a-z0-9-]+)")


def is_docker_worth_asking() -> bool:
    """Whether there is a socket that this user may use: false without loading or asking anything."""
    return os.access(SOCKET, os.R_OK | os.W_OK)


def look_at_docker(docker_host: str, wanted_images: Sequence[str]) -> DockerFacts:
    """Ask the daemon.

    Args:
        docker_host: The user's ``DOCKER_HOST``. It is never followed: a daemon that a variable names could give any
            answer (P5), and one on another machine cannot be guarded from this one (P4).
        wanted_images: References of images that would do, the best first.
    """
    wanted = tuple(wanted_images)
    shared_memory = _shared_memory()
    if docker_host not in _LOCAL:
        return DockerFacts(elsewhere=docker_host, wanted_images=wanted, shared_memory=shared_memory)
    problem, denied = _why_not_asked()
    if problem:
        return DockerFacts(problem=problem, denied=denied, wanted_images=wanted, shared_memory=shared_memory)
    daemon = Daemon(SOCKET)
    try:
        version = _version(daemon.version())
        if version < MIN_DOCKER:  # an older one understands none of the other questions
            return DockerFacts(version=version, wanted_images=wanted, shared_memory=shared_memory)
        info = daemon.info()
        found = next((image for name in wanted if (image := _image(daemon, name)) is not None), None)
    except ContainaiError as error:
        return DockerFacts(problem=error.details or error.summary, wanted_images=wanted, shared_memory=shared_memory)
    return DockerFacts(
        version=version,
        security=frozenset(_NAME.findall(",".join(info.get("SecurityOptions") or ()))),
        limits=frozenset(name for name in LIMITS if info.get(name)),
        shared_memory=shared_memory,
        wanted_images=wanted,
        image=found,
    )


def _why_not_asked() -> tuple[str, bool]:
    """Why the socket cannot be used, and whether that is for lack of permission."""
    try:
        status = os.stat(SOCKET)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != 0:
            return f"{SOCKET} is not a socket of root's", False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(SOCKET)
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError as error:
        return f"{SOCKET}: {error.strerror}", isinstance(error, PermissionError)
    if struct.unpack("3i", credentials)[1] != 0:
        return f"the daemon behind {SOCKET} is not root's", False
    return "", False


def _image(daemon: Daemon, reference: str) -> Image | None:
    found = daemon.image(reference)
    if found is None:
        return None
    config: Mapping[str, Any] = found.get("Config") or {}
    return Image(
        reference=reference,
        id=str(found["Id"]),
        platform=f"{found.get('Os', '')}/{found.get('Architecture', '')}",
        volumes=tuple(sorted(config.get("Volumes") or ())),
    )


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"(\d+(?:\.\d+)+)", text)
    return tuple(map(int, match[1].split("."))) if match else ()


def _shared_memory() -> frozenset[str]:
    """Source: proc(5), mountinfo. The last mount at a place is the one that counts."""
    options: frozenset[str] = frozenset()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if fields[4] == "/dev/shm":
            options = frozenset(fields[5].split(",")) if after.split(" ")[0] == "tmpfs" else frozenset()
    return options
