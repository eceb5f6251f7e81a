"""The disk while the repository's own files are checked out: a few kilobytes of objects can describe terabytes.

The session's guard of the disk (``disk``) begins with the agent. Before that the repository is as little trusted.
"""

from __future__ import annotations

from pathlib import Path

from containai.engine.protocol import Container
from containai.errors import ContainaiError, WorkspaceError
from containai.session.disk import RESERVE_BYTES, RESERVE_FILES, DiskGuard

_SHARE = 8  # of the reserve that is left free to others: less than beside an agent, as nothing has to be packed


class CheckoutGuard:
    """Kills the container in which the files are checked out before they fill the disk.

    Args:
        folder: The session's directory.
        workspace: The part of it that is filled.
        most_bytes: What the session may hold; an agent's could not go on with more.

    Attributes:
        failure: Why it was killed.
    """

    def __init__(self, container: Container, folder: Path, workspace: Path, most_bytes: int) -> None:
        self.failure: ContainaiError | None = None
        self._container = container
        self._disk = DiskGuard(
            folder,
            workspace,
            container.pid,
            most_bytes,
            self._fail,
            reserve_bytes=RESERVE_BYTES // _SHARE,
            reserve_files=RESERVE_FILES // _SHARE,
        )

    def start(self) -> None:
        """Begin to look, in a second: most checkouts have ended by then."""
        self._disk.start()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._disk.stop()

    def _fail(self, error: ContainaiError) -> None:
        self.failure = error
        if error.code == "workspace.disk":  # else it could not be measured
            self.failure = WorkspaceError(
                "the repository's files fill the disk",
                code="workspace.disk",
                details=error.details,
                remedy=[
                    "less of the tree: containai run --sparse FOLDER ...",
                    '[limits] workspace = "40g" in your configuration, where so much is needed',
                ],
            )
        self._container.kill()
