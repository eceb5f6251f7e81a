"""What a package manager's own files give away: what it runs, and where packages come from. PURE.

Trust: every byte here is the agent's making.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from containai.review.locks import can_be_read, read_contents, read_json
from containai.review.model import shown

_SHOWN = 5

LOCK_FILES = re.compile(
    r"package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|deno\.lock|poetry\.lock|uv\.lock|pdm\.lock|pixi\.lock"
    r"|pylock.*\.toml|pipfile\.lock|conda-lock\.yml|.*requirements.*\.(?:txt|in)|constraints.*\.txt|cargo\.lock|go\.sum|gemfile\.lock|composer\.lock|flake\.lock|packages\.lock\.json"
    r"|gradle\.lockfile|mix\.lock|pubspec\.lock|package\.resolved|podfile\.lock|module\.bazel\.lock|\.terraform\.lock\.hcl|cabal\.project\.freeze"
)
# Each part is bounded: what begins like a source at each of a million places must not be read to its end each time.
_SOURCE = re.compile(
    r"(?i)\b(?:(git\+)?[a-z][a-z0-9+.-]{0,30}://(?:[^\s/@\"']{0,200}@)?([a-z0-9.-]+)|(git@[a-z0-9.-]+)|(file:[^\s\"']+))"
    r"(?::[0-9]+)?[:/]?([^\s/\"'#?:]{1,200}/[^\s/\"'#?]{1,200})?"
)
_FORGES = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "sr.ht", "git.sr.ht", "dev.azure.com")
# Keys of package.json that nothing runs, resolves or obeys. Source: npm, package-json(5).
_HARMLESS = frozenset(
    {"name", "version", "description", "license", "author", "contributors", "maintainers", "keywords", "homepage"}
    | {"repository", "bugs", "funding", "private"}
)


def changed_keys(before: str, after: str) -> str:
    """What a new ``package.json`` changes besides words for people; nothing, or a few words."""
    try:
        new = json.loads(after)
    except (ValueError, RecursionError):
        return "is not valid JSON"
    try:
        old = json.loads(before) if before else {}
    except (ValueError, RecursionError):
        old = {}
    if not isinstance(new, dict) or not isinstance(old, dict):
        return "is not a JSON object"
    changed = []
    for key in sorted({*old, *new}):
        if key in _HARMLESS or old.get(key) == new.get(key):
            continue
        if key == "scripts" and isinstance(new.get(key), dict):
            had = old.get(key) if isinstance(old.get(key), dict) else {}
            names = sorted(name for name in new[key] if new[key][name] != (had or {}).get(name))
            changed += [f"scripts.{name}" for name in names] or [key]
        else:
            changed.append(key)
    return f"changes {_few(changed, 60)}" if changed else ""


def new_sources(name: str, before: str, after: str) -> Iterator[str]:
    """Where packages of a lock file come from now and did not before; and those whose content changed silently.

    Args:
        name: The file's, in lower case.
    """
    if not can_be_read(name, after) and can_be_read(name, before):
        yield "it can no longer be read here"
    fresh = sorted(_sources(name, after) - _sources(name, before))
    if fresh:
        yield _few(fresh, 80)
    old, new = read_contents(name, before), read_contents(name, after)
    other = sorted(package for package, digest in new.items() if old.get(package, digest) != digest)
    if other:
        yield f"the same version with another content: {_few(other, 60)}"


def _sources(name: str, text: str) -> set[str]:
    if name == "flake.lock":
        return set(_flake_sources(read_json(text)))
    return {_source(found) for found in _SOURCE.finditer(text)}


def _source(found: re.Match[str]) -> str:
    if found[4]:
        return found[4]
    host = (found[2] or found[3].partition("@")[2]).casefold()
    # On a forge anybody can have a repository: there the owner and the repository count too.
    path = (found[5] or "").removesuffix(".git") if found[1] or found[3] or host in _FORGES else ""
    return f"{found[1] or ('git@' if found[3] else '')}{host}{'/' if path else ''}{path}"


def _flake_sources(lock: Mapping[str, Any]) -> Iterator[str]:
    nodes = lock.get("nodes")
    for node in nodes.values() if isinstance(nodes, dict) else ():
        for part in ("original", "locked"):
            about = node.get(part) if isinstance(node, dict) else None
            if isinstance(about, dict):
                words = (about.get(key) for key in ("type", "host", "owner", "repo", "url", "path", "id", "dir"))
                yield "/".join(str(word) for word in words if word)


def _few(words: list[str], most: int) -> str:
    # JSON can hold half of a surrogate pair, which is no text: it is shown as the bytes that it would be.
    few = ", ".join(shown(word.encode("utf-8", "surrogatepass"))[:most] for word in words[:_SHOWN])
    return few + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")
