"""The notes of ``refs/notes/containai``: read within bounds, appended to in one transaction.

Each line that is a statement's envelope is ours; other lines of a note stay as they are. All notes of one return
are written by one ``git fast-import``, which takes a new tip only if it contains the one that stands there by then:
two returns at the same time lose nothing of each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from containai.errors import ProvenanceError
from containai.record import dataclass
from containai.workspace.git import run_git
from containai.workspace.refs import DURABLE

NOTES_REF = "refs/notes/containai"
MAX_NOTE_BYTES = 8 * 1024 * 1024
"""Longest note that is read or appended to."""

_MAX_ALL_BYTES = 512 * 1024 * 1024
_TIMEOUT_S = 300.0
_ATTEMPTS = 40
# What git says when another process has moved the ref meanwhile.
_PASSING = ("does not contain", "cannot lock ref", "but expected", "reference already exists", "File exists")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The notes of some commits. ``tip``: the notes commit they were read from; empty if there is none."""

    tip: str
    texts: Mapping[str, bytes]


class _Blob(NamedTuple):
    name: str
    size: int


def read_notes(git_dir: Path, commits: Iterable[str]) -> Notes:
    """The notes of ``commits``; a commit without one is missing in the result.

    Raises:
        ProvenanceError: They cannot be read, or one is too large.

    Trust: the notes may come from anywhere; they are bytes here.
    """
    tip = _tip(git_dir)
    if not tip:
        return Notes(tip="", texts={})
    wanted = set(commits)
    done = run_git(["ls-tree", "-r", "-l", "-z", "--full-tree", tip], git_dir=git_dir, timeout_s=_TIMEOUT_S)
    if done.status != 0:
        raise _unreadable(done.said)
    found: dict[str, list[_Blob]] = {}
    total = 0
    for entry in done.stdout.split(b"\0"):
        head, _, path = entry.partition(b"\t")
        commit = path.replace(b"/", b"").decode(errors="replace")
        if commit not in wanted:
            continue
        _, kind, name, size = head.split()
        if kind != b"blob":
            raise _unreadable(f"the note of {commit} is no file")
        if not size.isdigit():  # git says BAD where the object is not there
            raise _unreadable(f"objects are missing: {name.decode()}")
        found.setdefault(commit, []).append(_Blob(name.decode(), int(size)))
        _check_size(commit, sum(blob.size for blob in found[commit]))
    blobs = {blob.name: blob.size for several in found.values() for blob in several}
    total = sum(blobs.values())
    if total > _MAX_ALL_BYTES:
        raise _too_large(f"{total} bytes in all")
    content = read_objects(git_dir, list(blobs), "blob")
    if missing := blobs.keys() - content.keys():
        raise _unreadable(f"objects are missing: {min(missing)}")
    # Two entries for one commit are one note to git, too: it joins them.
    return Notes(tip=tip, texts={c: b"\n".join(content[b.name] for b in several) for c, several in found.items()})


def read_objects(git_dir: Path, names: Sequence[str], kind: str) -> dict[str, bytes]:
    """The content of objects of one kind; what is missing, or of another kind, is missing in the result."""
    if not names:
        return {}
    stdin = "".join(f"{name}\n" for name in names).encode()
    done = run_git(["cat-file", "--batch"], git_dir=git_dir, stdin=stdin, timeout_s=_TIMEOUT_S)
    if done.status != 0:
        raise _unreadable(done.said)
    content, at = {}, 0
    for name in names:
        end = done.stdout.index(b"\n", at)
        words = done.stdout[at:end].split()
        at = end + 1
        if len(words) != 3:
            continue
        size = int(words[2])
        if words[1] == kind.encode():
            content[name] = done.stdout[at : at + size]
        at += size + 1
    return content


def write_notes(git_dir: Path, tip: str, texts: Mapping[str, bytes], message: str) -> bool:
    """Set the notes of some commits, if the notes still stand at ``tip``; False when another process was faster.

    Raises:
        ProvenanceError: The repository cannot be written.
    """
    stream = b"".join(_stream(tip, texts, message))
    # Source: git-fast-import(1): without --force a ref is only moved forward; --done refuses a stream cut short.
    arguments = [*DURABLE, "fast-import", "--quiet", "--done", "--date-format=now"]
    done = run_git(arguments, git_dir=git_dir, stdin=stream, timeout_s=_TIMEOUT_S)
    if done.status == 0:
        return True
    if any(sign in done.said for sign in _PASSING):
        return False
    raise ProvenanceError(
        "the statement could not be written to the repository's notes",
        code="provenance.unwritable",
        details=done.said[-1000:],
        remedy=[f"make {git_dir} writable, with space left"],
    )


def append_lines(git_dir: Path, lines: Mapping[str, bytes], message: str, held: Notes) -> str:
    """Append one line to the note of each commit; the new tip, or nothing when another process was faster."""
    # One statement is about up to a thousand commits, and has all their names: it is held once, not for each of them.
    made: dict[tuple[bytes, bytes], bytes] = {}
    texts = {}
    for commit, line in lines.items():
        old = held.texts.get(commit, b"")
        if (text := made.get((old, line))) is None:
            text = made[old, line] = old + (b"\n" if old and not old.endswith(b"\n") else b"") + line + b"\n"
            _check_size(commit, len(text))
        texts[commit] = text
    return _tip(git_dir) if write_notes(git_dir, held.tip, texts, message) else ""


def attempts() -> Iterable[int]:
    """The tries to write, with growing pauses between them, ending in an error."""
    for number in range(_ATTEMPTS):
        yield number
        time.sleep(0.01 * (number + 1))
    raise ProvenanceError(
        "the repository's notes are being changed all the time", code="provenance.busy", remedy=["try again"]
    )


def _stream(tip: str, texts: Mapping[str, bytes], message: str) -> Iterable[bytes]:
    marks: dict[bytes, int] = {}
    for text in texts.values():
        if text not in marks:
            marks[text] = len(marks) + 1
            yield b"blob\nmark :%d\ndata %d\n%b\n" % (marks[text], len(text), text)
    said = message.encode()
    yield b"commit %b\ncommitter ContainAI <host@containai.invalid> now\n" % NOTES_REF.encode()
    yield b"data %d\n%b\n" % (len(said), said)
    if tip:
        yield b"from %b\n" % tip.encode()
    for commit, text in texts.items():
        yield b"N :%d %b\n" % (marks[text], commit.encode())
    yield b"done\n"


def _tip(git_dir: Path) -> str:
    """The commit that the notes stand at; empty if there are none."""
    done = run_git(
        ["for-each-ref", "--format=%(refname) %(objectname) %(objecttype) %(symref)", NOTES_REF], git_dir=git_dir
    )
    if done.status != 0:
        raise _unreadable(done.said)
    for line in done.stdout.decode(errors="replace").splitlines():
        ref, name, kind, symbolic = line.split(" ", 3)
        if ref == NOTES_REF:
            if kind != "commit" or symbolic:
                raise _unreadable(f"{NOTES_REF} is no plain ref to a commit")
            return name
    if NOTES_REF in done.said:  # "ignoring broken ref": of such a one git says nothing else
        raise _unreadable(done.said)
    return ""


def _check_size(commit: str, size: int) -> None:
    if size > MAX_NOTE_BYTES:
        raise _too_large(f"commit {commit}: {size} bytes; {MAX_NOTE_BYTES} at most")


def _too_large(details: str) -> ProvenanceError:
    return ProvenanceError(
        "a note is too large",
        code="provenance.note-too-large",
        details=details,
        remedy=[
            f"git notes --ref={NOTES_REF} show COMMIT   # what is in it",
            f"git notes --ref={NOTES_REF} remove COMMIT   # throws away what is stated about it",
        ],
    )


def _unreadable(details: str) -> ProvenanceError:
    return ProvenanceError(
        "the repository's notes cannot be read",
        code="provenance.notes-unreadable",
        details=details[:1000],
        remedy=[
            f"git log --oneline {NOTES_REF}   # what the notes were, where git still can read them",
            f"git update-ref -d {NOTES_REF}   # without them nothing is stated; or fetch them again:",
            f"git fetch REMOTE +{NOTES_REF}:{NOTES_REF}",
        ],
    )
