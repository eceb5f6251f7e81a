"""The two scripts that run inside the container around the agent: their command lines, and what they report.

Both are data of this package, handed to ``/bin/sh -c`` as text: nothing has to be staged, and a container
without our package can run them.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from containai.plan.model import RETURN_URL, WORKSPACE, Source
from containai.policy.model import Author
from containai.record import dataclass

_DATA = Path(__file__).parent.parent / "data"
# One script, in this order.
FINISH_FILES = tuple(
    f"finish/{part}.sh"
    for part in ("begin", "message", "repository", "endless", "stage", "embed", "commit", "push", "main")
)
_PREFIX = "containai-finish "
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_NOTES = 20
_MAX_NOTE = 200
_LEAVES_WORK = ("not returned:", "left out:")  # how data/finish begins a note about work that stays in the workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishReport:
    """What ``finish`` says that it did.

    Attributes:
        result: The commit that the workspace came to; empty when it did not say. The quarantine's ref, not this,
            is what was returned.
        committed: Files that were not committed when the agent ended.
        failed: Why nothing could be pushed; empty when it could.
        keeps: Whether something stays in the workspace, or may: a note was dropped.
        notes: Sentences for the user, sanitised; those about work that stays in the workspace come first.
    """

    result: str = ""
    committed: int = 0
    failed: str = ""
    keeps: bool = False
    notes: tuple[str, ...] = ()


def agent_email(agent: str) -> str:
    """The address that stands in the agent's commits; no such domain can exist. Source: RFC 2606."""
    return f"{agent}@containai.invalid"


def commit_identity(agent: str, author: Author | None) -> tuple[str, str]:
    """Name and address in the commits: what the user chose, else the agent's."""
    return (author.name, author.email) if author else (agent, agent_email(agent))


def prepare_command(
    *,
    source: Source,
    branch: str,
    agent: str,
    author: Author | None = None,
    url: str = RETURN_URL,
    directory: PurePosixPath = WORKSPACE,
) -> tuple[str, ...]:
    """Clone ``branch`` from ``url`` into the empty ``directory``, ready for the agent to commit and push."""
    name, email = commit_identity(agent, author)
    arguments = (url, branch, str(source.depth), name, email, str(directory))
    submodules = (word for submodule in source.submodules for word in (submodule.name, submodule.path))
    return _command("prepare", ("prepare.sh",), *arguments, *submodules)


def finish_command(
    *,
    source: Source,
    branch: str,
    agent: str,
    session_id: str,
    config_sha256: str,
    author: Author | None = None,
    url: str = RETURN_URL,
    directory: PurePosixPath = WORKSPACE,
) -> tuple[str, ...]:
    """Commit what is left in ``directory`` and push it to ``branch`` at ``url``."""
    arguments = (url, branch, source.base_commit, session_id, config_sha256, *commit_identity(agent, author))
    return _command("finish", FINISH_FILES, *arguments, str(directory))


def parse_finish_output(output: bytes) -> FinishReport:
    """Read what ``finish`` printed; whatever is not of its form is passed over.

    Trust: file names, branch names and git's own messages in it are the agent's making.
    """
    result, failed, committed, keeps = "", "", 0, False
    notes: list[str] = []
    # Line feeds alone end a line: for str.splitlines() a name could hold a line of its own.
    for line in output.decode(errors="replace").split("\n"):
        if not line.startswith(_PREFIX):
            continue
        key, _, text = line.removeprefix(_PREFIX).partition(" ")
        if key == "result" and _COMMIT.fullmatch(text):
            result = text
        elif key == "committed" and text.isascii() and text.isdigit() and len(text) < 10:
            committed = int(text)
        elif key == "failed":
            failed = sanitised(text) or "git gave no reason"
        elif key == "kept" and not text:
            keeps = True
        elif key == "note":
            notes.append(text)
    notes.sort(key=lambda note: not note.startswith(_LEAVES_WORK))
    shown, dropped = [sanitised(note) for note in notes[:_MAX_NOTES]], len(notes) - _MAX_NOTES
    if dropped > 0:
        shown.append(f"and {dropped} more note{'s' if dropped > 1 else ''}")
    keeps = keeps or dropped > 0
    return FinishReport(result=result, committed=committed, failed=failed, keeps=keeps, notes=tuple(shown))


def sanitised(text: str) -> str:
    """``text`` fit for a terminal: no control, format or bidirectional character, and not long (W4)."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown if len(shown) <= _MAX_NOTE else shown[: _MAX_NOTE - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _command(name: str, files: tuple[str, ...], *arguments: str) -> tuple[str, ...]:
    text = "".join((_DATA / script).read_text(encoding="utf-8") for script in files)
    return ("/bin/sh", "-c", text, f"containai-{name}", *arguments)
