"""The launcher's side of one container, in the host's memory: sockets, and the files that are bound read-only.

The directory lies in /dev/shm, is the launcher's alone, and is as good as empty once the container has started: what
is mounted stays where it is mounted, and its name is gone (C2: no secret in a file that outlives the session).
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

from containai.errors import EngineError
from containai.plan.model import FileOrigin, Identity, StagedFile

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "containai-docker-"


class Staging:
    """A private directory in memory.

    Args:
        session_id: Whose; ``remove_leftovers`` finds it again.
    """

    def __init__(self, session_id: str, identity: Identity) -> None:
        self._identity = identity
        try:
            self._path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{session_id}-", dir=SHARED_MEMORY))
        except OSError as error:
            raise EngineError(
                "no place in memory for the session",
                code="engine.stage",
                details=str(error),
                remedy=[f"df -h {SHARED_MEMORY}: is it there, and has it room?", "containai doctor --engine docker"],
            ) from error
        self.control_path = self._path / "control"
        self.door_path = self._path / "door"
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.bind(str(self.control_path))
        self.control.listen(1)
        self._give(self.control_path, 0o600)

    def write(self, files: Iterable[StagedFile]) -> dict[StagedFile, str]:
        """Where each read-only file can be bound from.

        A credential of the user's is bound as it is where the agent's user may read it, else a copy in memory is.
        """
        places = {}
        for number, file in enumerate(files):
            if file.origin is FileOrigin.HOST and os.geteuid() != 0:
                places[file] = file.content
                continue
            place = self._path / f"file-{number}"
            content = Path(file.content).read_bytes() if file.origin is FileOrigin.HOST else file.content.encode()
            place.write_bytes(content)
            self._give(place, file.mode & 0o444)
            places[file] = str(place)
        return places

    def write_profile(self, text: str) -> str:
        """Where a daemon that wants the seccomp profile in a file finds it: the launcher's alone."""
        place = self._path / "seccomp.json"
        place.write_text(text)
        return str(place)

    def _give(self, path: Path, mode: int) -> None:
        """To the agent's user; nobody else comes through the directory."""
        os.chmod(path, mode)
        if os.geteuid() == 0:
            os.chown(path, self._identity.agent_uid, self._identity.agent_gid)

    def forget(self) -> None:
        """Take the names of everything but the door away: what is mounted stays mounted. Idempotent."""
        self.control.close()
        for entry in self._path.iterdir():
            if entry != self.door_path:
                entry.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all of it. Idempotent."""
        self.control.close()
        shutil.rmtree(self._path, ignore_errors=True)


def remove_leftovers(session_id: str) -> None:
    """Remove what a killed launcher left of a session."""
    for path in SHARED_MEMORY.glob(f"{PREFIX}{session_id}-*"):
        if path.lstat().st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)
