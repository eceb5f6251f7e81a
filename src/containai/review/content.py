"""What the content of a change gives away. PURE: text in, findings out.

Trust: every byte here is the agent's making.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterator

from containai.record import dataclass
from containai.review.characters import find_hidden, find_modeline, is_hidden
from containai.review.model import ABSENT, EXECUTABLE, LINK, SUBMODULE, Change, shown
from containai.review.packages import LOCK_FILES, changed_keys, new_sources
from containai.review.secrets import find_secrets

HUGE_BYTES = 1024 * 1024
"""Above this a file is not looked into, and has to be acknowledged as it is."""

_BINARY_PROBE = 8000  # Source: git, xdiff-interface.c: buffer_is_binary looks at this many bytes
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one change: which kind, why it matters, what exactly."""

    kind: str
    why: str
    detail: str = ""


def check_entry(change: Change) -> Iterator[Finding]:
    """What kind and mode of an entry say, without its content."""
    if change.new_mode == SUBMODULE:
        yield Finding(
            kind="submodule",
            why="another repository's commit is checked out here, and its content is in no diff",
            detail=f"commit {change.new[:12]}",
        )
    elif change.new_mode == EXECUTABLE and change.old_mode != EXECUTABLE:
        yield Finding(kind="executable", why="can now be run as a program", detail=_moved(change))
    if (
        change.old_mode not in (ABSENT, change.new_mode)
        and change.new_mode != ABSENT
        and LINK in (change.old_mode, change.new_mode)
    ):
        yield Finding(
            kind="symlink", why="a file took the place of a link, or a link that of a file", detail=_moved(change)
        )
    odd = _odd_name(change.path)
    if odd and change.new_mode != ABSENT:
        yield Finding(kind="name", why="its name is not what it looks like, or not the same on every host", detail=odd)


def check_content(change: Change, old: bytes | None, new: bytes | None) -> Iterator[Finding]:
    """What the new content of a change says, compared with the old one.

    Args:
        old: None where there was none, or where it was too large.
        new: The same.
    """
    if new is None:
        return
    if change.new_mode == LINK:
        yield _link(change.path, new)
        return
    if b"\0" in new[:_BINARY_PROBE]:
        yield Finding(kind="binary", why="no diff shows what it holds", detail=f"{len(new):,} bytes")
    name = posixpath.basename(change.name)
    text, before = _text(new), _text(old or b"")
    yield from _check_packages(name.casefold(), before, text)
    known = set(before.split("\n"))
    added = [line if line not in known else "" for line in text.split("\n")]
    hidden = find_hidden(added)
    if hidden:
        yield Finding(
            kind="unicode", why="holds characters that cannot be seen, or that reorder what is read", detail=hidden
        )
    modeline = find_modeline(added)
    if modeline:
        yield Finding(kind="modeline", why="an editor or interpreter that opens it obeys a line in it", detail=modeline)
    if b"\0" not in new[:_BINARY_PROBE]:
        secrets = find_secrets(name, "\n".join(added))
        if secrets:
            yield Finding(
                kind="secret", why="looks like a secret; once it is pushed, it is known", detail=", ".join(secrets)
            )


def _check_packages(name: str, before: str, text: str) -> Iterator[Finding]:
    if name == "package.json":
        changed = changed_keys(before, text)
        if changed:
            yield Finding(kind="package", why="npm and its like run or install what stands here", detail=changed)
    if LOCK_FILES.fullmatch(name):
        for source in new_sources(name, before, text):
            yield Finding(
                kind="lock",
                why="packages come from a place, or have a content, that they had not before",
                detail=source,
            )


def _moved(change: Change) -> str:
    return "new file" if change.old_mode == ABSENT else f"{change.old_mode} -> {change.new_mode}"


def _link(path: bytes, target: bytes) -> Finding:
    place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    parts = place.lower().split(b"/")
    if target.startswith(b"/"):
        why = "a link out of the repository: what writes or reads here does so elsewhere"
    elif parts[0] == b"..":
        why = "a link that leaves the repository: what writes or reads here does so elsewhere"
    elif b".git" in parts:
        why = "a link into git's own files"
    else:
        why = "a link: what writes here writes there"
    return Finding(kind="symlink", why=why, detail=f"-> {shown(target)[:200]}")


def _odd_name(path: bytes) -> str:
    """What is confusing about a path; empty when nothing is."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return "is not valid UTF-8"
    is_plain = text.isascii() and text.isprintable()
    if not is_plain and any(unicodedata.category(c)[0] == "C" or is_hidden(c) for c in text):
        return f"holds control or invisible characters: {shown(path)}"
    if not is_plain and unicodedata.normalize("NFC", text) != text:
        return "is written with combining characters: another host may take it for another name"
    for part in text.split("/"):
        stem = part.partition(".")[0].rstrip(" ").casefold()
        # Source: Microsoft, "Naming Files, Paths, and Namespaces".
        if stem in _RESERVED or part != part.rstrip(" .") or any(c in part for c in '<>:"|?*\\'):
            return f"cannot exist on Windows, or means another file there: {shown(part.encode())}"
    return ""


_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in "0123456789¹²³")})


def _text(content: bytes) -> str:
    return content.decode(errors="replace").replace("\r\n", "\n")
