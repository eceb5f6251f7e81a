"""A Docker daemon to compare with: the machine's, or for root one of this run's own, ended with it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.place import Absent, Place, run

_IMAGE = "containai-bench:1"
_START_TIMEOUT_S = 30
_OWN = (
    "no daemon runs on this machine ({reason}), so one was started for this run: storage driver vfs, an image of one "
    "static program, and no network bridge, which makes it faster than a usual one"
)
# The image holds this one program, in place of `date +%s%N`: no registry is asked for anything.
_PROGRAM = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return printf("%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec) < 0;
}
"""


@contextmanager
def find_docker(place: Place) -> Iterator[tuple[list[str], str]]:
    """The prefix of a command line that runs a program in a new container, and whose daemon that is.

    Raises:
        Absent: There is no daemon, and none can be started.
    """
    if not shutil.which("docker"):
        raise Absent("docker is not installed")
    image = _make_image(place)
    try:
        run(["docker", "info"])
    except Absent as reason:
        with _own_daemon(place, reason) as docker:
            run([*docker, "import", "-", _IMAGE], stdin=image)
            yield [*docker, "run", "--rm", "--network=none", _IMAGE], _OWN.format(reason=reason)
        return
    run(["docker", "import", "-", _IMAGE], stdin=image)
    try:
        yield ["docker", "run", "--rm", _IMAGE], "the machine's own daemon, as it is configured"
    finally:
        run(["docker", "rmi", _IMAGE])


def _make_image(place: Place) -> bytes:
    """A tar archive of a root file system."""
    source, program = place.work / "stamp.c", place.work / "stamp"
    source.write_text(_PROGRAM)
    run(["cc", "-O2", "-static", "-o", str(program), str(source)])
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(program, arcname="bin/date")
    return archive.getvalue()


@contextmanager
def _own_daemon(place: Place, reason: Absent) -> Iterator[list[str]]:
    if os.geteuid() != 0:
        raise Absent(f"no daemon answers ({reason}), and only root can start one")
    if not shutil.which("dockerd"):
        raise Absent(f"no daemon answers ({reason}), and dockerd is not installed (Debian: docker.io)")
    folder = place.work / "docker"
    folder.mkdir()
    log = folder / "log"
    address = f"unix://{folder / 'socket'}"
    # It leaves the machine's network and firewall as they are, and so is faster than a usual one.
    network = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    places = [
        "--data-root",
        str(folder / "data"),
        "--exec-root",
        str(folder / "exec"),
        "--pidfile",
        str(folder / "pid"),
    ]
    with log.open("wb") as output:
        argv = ["dockerd", "-H", address, "--storage-driver=vfs", *network, *places]
        daemon = subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        docker = ["docker", "-H", address]
        _await(docker, daemon, log)
        yield docker
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _unmount(folder)


def _await(docker: list[str], daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(Absent):
            run([*docker, "info"])
            return
        if daemon.poll() is not None:
            break
        time.sleep(0.2)
    said = log.read_text(errors="replace").strip().splitlines()
    raise Absent(f"a dockerd of this run's own did not start: {said[-1][:200] if said else 'it said nothing'}")


def _unmount(folder: Path) -> None:
    """What a daemon may leave mounted would keep the directory from being removed."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{folder}/"):
            subprocess.run(["umount", line.split()[4]], check=False)
