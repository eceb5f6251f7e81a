"""Look at this machine's Docker daemon, or at Podman in its place. Input and output only; docker_checks.py judges."""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from containai.errors import ContainaiError
from containai.host.cgroups.limits import V2_SWAP, has_swap
from containai.host.docker import DOCKER, PODMAN, PODMAN_SOCKET, SOCKET, Daemon, find_socket
from containai.preflight.model import MIN_VERSION, DockerFacts, Image
from containai.record import replace

LIMITS = ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit")
_CGROUPS = Path("/sys/fs/cgroup")
_NAME = re.compile(r"name=([a-z0-9-]+)")


def is_docker_worth_asking() -> bool:
    """Whether there is a socket that this user may use: false without loading or asking anything."""
    return os.access(find_socket(), os.R_OK | os.W_OK)


def look_at_docker(docker_host: str, wanted_images: Sequence[str]) -> DockerFacts:
    """Ask the daemon.

    Args:
        docker_host: The user's ``DOCKER_HOST``. It is never followed: a daemon that a variable names could give any
            answer (P5), and one on another machine cannot be guarded from this one (P4). It may say what is so anyway.
        wanted_images: References of images that would do, the best first.
    """
    path = find_socket()
    product = PODMAN if os.path.realpath(path) == os.path.realpath(PODMAN_SOCKET) else DOCKER
    facts = DockerFacts(
        product=product, socket=path, wanted_images=tuple(wanted_images), shared_memory=_shared_memory()
    )
    if docker_host and not _is_named(path, docker_host):
        return replace(facts, elsewhere=docker_host)
    problem, denied = _why_not_asked(path)
    if problem:
        return replace(facts, problem=problem, denied=denied)
    daemon = Daemon(path)
    try:
        product, said = daemon.about()
        facts = replace(facts, product=product, version=_version(said))
        if facts.version < MIN_VERSION[product]:  # an older one understands none of the other questions
            return facts
        info = daemon.info()
        found = next((image for name in facts.wanted_images if (image := _image(daemon, name)) is not None), None)
    except ContainaiError as error:
        return replace(facts, problem=error.details or error.summary)
    return replace(
        facts,
        security=frozenset(_NAME.findall(",".join(info.get("SecurityOptions") or ()))),
        limits=frozenset(_limits(product, info)),
        image=found,
    )


def _is_named(path: str, docker_host: str) -> bool:
    """Whether ``DOCKER_HOST`` names the very socket that is asked without it."""
    known = {f"unix://{name}": name for name in (SOCKET, "/run/docker.sock", PODMAN_SOCKET)}
    named = known.get(docker_host, "")
    both_dockers = path == SOCKET and named in (SOCKET, "/run/docker.sock")
    return both_dockers or (bool(named) and os.path.realpath(named) == os.path.realpath(path))


def _why_not_asked(path: str) -> tuple[str, bool]:
    """Why the socket cannot be used, and whether that is for lack of permission."""
    try:
        status = os.stat(path)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != 0:
            return f"{path} is not a socket of root's", False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError as error:
        return f"{path}: {error.strerror}", isinstance(error, PermissionError)
    if struct.unpack("3i", credentials)[1] != 0:
        return f"the daemon behind {path} is not root's", False
    return "", False


def _limits(product: str, info: Mapping[str, Any]) -> Iterator[str]:
    """Podman does not say what it can on cgroup v2 (5.4 denies CPU time and swap, and limits both); the kernel does."""
    if product != PODMAN or info.get("CgroupVersion") != "2":
        yield from (name for name in LIMITS if info.get(name))
        return
    controllers = (_CGROUPS / "cgroup.controllers").read_text().split()
    groups = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota", "pids": "PidsLimit"}
    yield from (name for controller, name in groups.items() if controller in controllers)
    if any(_CGROUPS.glob(f"*/{V2_SWAP}")) or not has_swap():
        yield "SwapLimit"


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
