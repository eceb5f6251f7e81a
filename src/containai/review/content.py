"""What the content of a change gives away. PURE: text in, findings out.

Trust: every byte here is the agent's making.
"""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from containai.review.model import ABSENT, EXECUTABLE, LINK, SUBMODULE, Change, shown
from containai.review.secrets import find_secrets

HUGE_BYTES = 1024 * 1024
"""Above this a file is not looked into, and has to be acknowledged as it is."""

_BINARY_PROBE = 8000  # Source: git, xdiff-interface.c: buffer_is_binary looks at this many bytes
_SHOWN = 5

_LOCK_FILES = re.compile(
    r"package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|deno\.lock|poetry\.lock|uv\.lock|pdm\.lock|pixi\.lock"
    r"|pylock.*\.toml|pipfile\.lock|conda-lock\.yml|.*requirements.*\.(?:txt|in)|constraints.*\.txt|cargo\.lock|go\.sum|gemfile\.lock|composer\.lock|flake\.lock|packages\.lock\.json"
    r"|gradle\.lockfile|mix\.lock|pubspec\.lock|package\.resolved|podfile\.lock|module\.bazel\.lock|\.terraform\.lock\.hcl|cabal\.project\.freeze"
)
_SOURCE = re.compile(
    r"(?i)\b(?:(git\+)?[a-z][a-z0-9+.-]*://(?:[^\s/@\"']*@)?([a-z0-9.-]+)|(git@[a-z0-9.-]+|file:[^\s\"']+))"
)
_SCRIPTED = (
    "scripts",
    "bin",
    "man",
    "gypfile",
    "workspaces",
    "config",
    "overrides",
    "resolutions",
    "exports",
    "main",
    "husky",
    "lint-staged",
    "pnpm",
    "packageManager",
)


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
    if name.casefold() == "package.json":
        yield from _package(before, text)
    if _LOCK_FILES.fullmatch(name.casefold()):
        yield from _sources(before, text)
    known = set(before.split("\n"))
    added = [line if line not in known else "" for line in text.split("\n")]
    hidden = _hidden(added)
    if hidden:
        yield Finding(
            kind="unicode", why="holds characters that cannot be seen, or that reorder what is read", detail=hidden
        )
    if b"\0" not in new[:_BINARY_PROBE]:
        secrets = find_secrets(name, "\n".join(added))
        if secrets:
            yield Finding(
                kind="secret", why="looks like a secret; once it is pushed, it is known", detail=", ".join(secrets)
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
    name = shown(path)
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return "is not valid UTF-8"
    if any(unicodedata.category(c)[0] == "C" for c in text):
        return f"holds control or invisible characters: {name}"
    if unicodedata.normalize("NFC", text) != text:
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


def _package(before: str, after: str) -> Iterator[Finding]:
    try:
        new = json.loads(after)
    except (ValueError, RecursionError):
        yield Finding(kind="package", why="npm runs its scripts on install and test", detail="is not valid JSON")
        return
    try:
        old = json.loads(before) if before else {}
    except (ValueError, RecursionError):
        old = {}
    if not isinstance(new, dict) or not isinstance(old, dict):
        yield Finding(kind="package", why="npm runs its scripts on install and test", detail="is not a JSON object")
        return
    changed = []
    for key in sorted({*old, *new}):
        if old.get(key) == new.get(key):
            continue
        if key == "scripts" and isinstance(new.get(key), dict):
            had = old.get(key) if isinstance(old.get(key), dict) else {}
            names = sorted(name for name in new[key] if new[key][name] != (had or {}).get(name))
            changed += [f"scripts.{name}" for name in names]
        elif key in _SCRIPTED or "ependencies" in key:
            changed.append(key)
    if changed:
        detail = ", ".join(shown(name.encode("utf-8", "surrogateescape"))[:60] for name in changed[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        yield Finding(
            kind="package", why="npm and its like run or install what stands here", detail=f"changes {detail}{more}"
        )


def _sources(before: str, after: str) -> Iterator[Finding]:
    new = sorted(_hosts(after) - _hosts(before))
    if new:
        shown_hosts = ", ".join(shown(host.encode("utf-8", "surrogateescape"))[:80] for host in new[:_SHOWN])
        more = f" and {len(new) - _SHOWN} more" if len(new) > _SHOWN else ""
        yield Finding(
            kind="lock", why="packages come from a place that they did not come from before", detail=shown_hosts + more
        )


def _hosts(text: str) -> set[str]:
    return {(f"{found[1] or ''}{found[2]}" if found[2] else found[3]).casefold() for found in _SOURCE.finditer(text)}


def _hidden(lines: list[str]) -> str:
    """Where characters stand that nobody sees. Source: CVE-2021-42574 ("Trojan Source"); Unicode TR 36."""
    counted: dict[str, int] = {}
    first = 0
    for number, line in enumerate(lines, 1):
        if line.isascii() and (line.isprintable() or not _CONTROL.search(line)):
            continue
        for character in line:
            if _is_hidden(character):
                counted[character] = counted.get(character, 0) + 1
                first = first or number
    if not counted:
        return ""
    names = [unicodedata.name(c, f"U+{ord(c):04X}") for c in list(counted)[:_SHOWN]]
    return f"line {first}: {', '.join(names)}"


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]")


def _is_hidden(character: str) -> bool:
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return character not in "\t\n\f"  # what is left of carriage returns stands alone, and overprints
    # Format characters (bidi, zero width, tags), fillers that show nothing, variation selectors that can carry data.
    return (
        (unicodedata.category(character) == "Cf")
        or 0x80 <= code < 0xA0
        or code in (0x115F, 0x1160, 0x3164, 0xFFA0, 0x034F, 0x17B4, 0x17B5, 0x2800)
        or 0xE0100 <= code <= 0xE01EF
        or 0xFE00 <= code <= 0xFE0E
    )
