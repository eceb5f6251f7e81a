"""The disk of the test VM's Docker daemon, with images on it: built at this machine's speed, kept in a cache.

Where the processor is emulated, building the image of an agent takes an hour, and loading it twelve minutes. So the VM's own
dockerd builds it here, in a chroot of the VM's file system (build-images), and the VM finds it on a disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.vm.vm_image import CA_BUNDLE, VmError, project_archive, require, run_logged, write_ext4

AGENT = "claude"
SIZE = "16G"  # sparse
HERE = Path(__file__).resolve().parent
# What decides what is in the images.
MADE_OF = ("src/containai/data/images", f"src/containai/data/agents/{AGENT}.toml", "src/containai/images",
           "tests/docker/rootfs.py", "tests/vm/build-images", "tests/vm/vm_docker_disk.py")  # fmt: skip


def docker_disk(cache: Path, machine: Path) -> Path:
    """The disk for the machine of this folder, built if need be."""
    digest = hashlib.sha256(machine.name.encode() + project_archive(Path.cwd(), within="", only=MADE_OF))
    disk = cache / f"docker-{digest.hexdigest()[:12]}.ext4"
    with open(cache / "docker-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building it
        if not disk.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="docker-build-") as work:
                _build(Path(work), machine).rename(disk)
    return disk


def _build(work: Path, machine: Path) -> Path:
    require({"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "npm": "npm"})
    containai = Path.cwd() / ".venv/bin/containai"
    if os.geteuid() != 0 or not containai.exists():
        raise VmError("building Docker's images needs root, and the project's own environment: ./bootstrap install")
    started = time.monotonic()
    print("vm: building Docker's images (once, some minutes)", file=sys.stderr)
    bundle = Path(os.environ.get("SSL_CERT_FILE", CA_BUNDLE))
    command: list[str | Path] = [
        HERE / "build-images",
        machine / "root.ext4",
        work,
        containai,
        AGENT,
        *([bundle] if bundle.exists() else []),
    ]
    # In a process namespace of its own, so that nothing of it is left however this ends.
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
    run_logged([*apart, *command], work / "log", "Docker's images cannot be built")
    disk = work / "docker.ext4"
    write_ext4(work / "data", disk, SIZE)
    shutil.rmtree(work / "data")
    print(f"vm: Docker's images built in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return disk
