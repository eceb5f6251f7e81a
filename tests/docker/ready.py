"""``python -m tests.docker.ready``: what a user does before his first session in Docker, on a throw-away machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.docker.conftest import IMAGE, SCOPE, docker, load_profile
from tests.docker.rootfs import write_rootfs

if __name__ == "__main__":
    SCOPE.write_text("1")
    load_profile()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        write_rootfs(Path(folder, "rootfs.tar"))
        docker("import", str(Path(folder, "rootfs.tar")), IMAGE)
