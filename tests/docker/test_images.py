"""`containai image build` on a daemon whose disk is full: a small one of the test's own, with the real command in front."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.product import Product, Ran, make_repository

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(300)]

BUSYBOX = Path("/bin/busybox")  # a static one
PROGRAMS = ("sh", "cat", "dd", "rm", "true")
# The package manager of the tiny image takes more room than there is, and says what the kernel says.
APT = "#!/bin/sh\ndd if=/dev/zero of=/packages bs=64k\nexit 100\n"
ROOM = "48m"


class SmallDaemon:
    """A daemon with little room."""

    def __init__(self, folder: Path) -> None:
        self.data, self.socket = folder / "data", folder / "docker.sock"
        self.data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", self.data], check=True, timeout=20)
        words: list[str | Path] = ["--data-root", self.data, "--exec-root", folder / "run", "--pidfile", folder / "pid"]
        words += ["--host", f"unix://{self.socket}", "--bridge=none", "--iptables=false", "--log-level=error"]
        self._log = (folder / "log").open("wb")
        self._child = subprocess.Popen(
            ["dockerd", *words], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        deadline = time.monotonic() + 120
        while self.docker("info", check=False).returncode != 0:
            assert self._child.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.3)

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "--host", f"unix://{self.socket}", *words],
            capture_output=True, text=True, timeout=120, check=check,
        )  # fmt: skip

    def free(self) -> int:
        found = os.statvfs(self.data)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(60)
        self._log.close()
        subprocess.run(["umount", "--lazy", self.data], check=True, timeout=20)


def tiny(target: Path) -> Path:
    """A root file system that is hardly anything."""
    with tarfile.open(target, "w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
        for name in PROGRAMS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for name, text in {"bin/apt-get": APT, "etc/passwd": "root:x:0:0::/:/bin/sh\n"}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    return target


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDaemon]:
    folder = tmp_path_factory.mktemp("small")
    made = SmallDaemon(folder)
    made.docker("import", str(tiny(folder / "tiny.tar")), "tiny:1")
    yield made
    made.close()


def build(daemon: SmallDaemon, folder: Path) -> Ran:
    """The command, for which this daemon is the machine's."""
    (folder / "home").mkdir(mode=0o700)
    (folder / "tmp").mkdir()
    make_repository(folder / "repo")
    product = Product(home=folder / "home", repository=folder / "repo", variables={"TMPDIR": str(folder / "tmp")})
    words = product.argv("image", "build", "--base-image", "tiny:1", "--npm-registry", "http://127.0.0.1:9", "base")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /run/docker.sock && exec "$@"', daemon.socket, *words],
        cwd=product.repository, env=product.environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert not list((folder / "tmp").iterdir())
    return Ran(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def check(daemon: SmallDaemon, ran: Ran) -> None:
    """It says so, and neither a name nor a container is there."""
    assert (ran.status, ran.stdout) == (1, ""), ran.stderr
    assert (
        "error[image.space]: containai-base:latest could not be built: there is no room on Docker's disk" in ran.stderr
    )
    assert "o space left on device" in ran.stderr
    assert "docker image prune" in ran.stderr
    assert daemon.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split("\n")[:-1].count("tiny:1") == 1
    assert "containai" not in daemon.docker("images", "--all").stdout
    assert daemon.docker("ps", "--all", "--quiet").stdout == ""


def test_a_step_of_the_build_takes_the_last_room(daemon: SmallDaemon, tmp_path: Path) -> None:
    before = daemon.free()
    ran = build(daemon, tmp_path)
    check(daemon, ran)
    assert "containai-base: packages" in ran.stderr
    assert daemon.free() > before - (2 << 20)  # what the step had written is gone
    daemon.docker("image", "prune", "--force")
    assert "<none>" not in daemon.docker("images", "--all").stdout


def test_there_is_no_room_for_the_builds_own_files(daemon: SmallDaemon, tmp_path: Path) -> None:
    filler = daemon.data / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    try:
        check(daemon, build(daemon, tmp_path))
    finally:
        filler.unlink()
