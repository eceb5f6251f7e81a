"""``python -m tests.docker.ready``: what a user does before his first session in Docker, on a throw-away machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.docker.conftest import IMAGE, SCOPE, docker, load_profile
from tests.docker.rootfs import write_rootfs

if __name__ == "__main__":
    SCOPE.write_text("1")
    load_profile()
    if docker("image", "inspect", IMAGE, check=False).returncode == 0:
        sys.exit()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        write_rootfs(Path(folder, "rootfs.tar"))
        docker("import", str(Path(folder, "rootfs.tar")), IMAGE)
