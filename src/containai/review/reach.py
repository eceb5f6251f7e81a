"""Under which other names a changed path acts: through links in the tree, and because the user's git is told to use it.

    links     ``CLAUDE.md -> docs/ai.md``: a change of ``docs/ai.md`` is one of ``CLAUDE.md``
    config    ``filter.x.smudge = tools/clean.sh``: git runs the agent's ``tools/clean.sh`` on the host
    ignored   a path that the user's ignore rules cover: ``git status`` never showed what stands there

Trust: the tree is the agent's making, the configuration the user's. Nothing that either names is opened or run.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from containai.record import dataclass, field
from containai.review.changes import read_links
from containai.review.content import Finding
from containai.review.model import Change
from containai.workspace.git import run_git_as_user, run_git_in_tree
from containai.workspace.notes import git_dir_of

_MOST_HOPS = 40  # Source: path_resolution(7)
_MOST_NAMES = 64  # of one changed path
_CONFIG_WHY = "your own git configuration names it: git reads or runs it on this host"
_IGNORED_WHY = "your ignore rules cover this path: git status never showed what you have there"
_MOST_FAILURES = 40  # of git, that are traced to the path it fails at

# Settings whose value is a path, and those whose value is a command. Source: git-config(1).
_FILES = re.compile(
    r"core\.(hookspath|attributesfile|excludesfile)|include(if\..*)?\.path|commit\.template|init\.templatedir"
    r"|blame\.ignorerevsfile|gpg\.ssh\..*file"
)
_COMMANDS = re.compile(
    r"(alias|pager|filter|diff|merge|mergetool|difftool|gpg|credential|trailer|sendemail|guitool|man|browser|imap"
    r"|instaweb|interactive|sequence|lfs|uploadpack|submodule|remote)\..*"
    r"|core\.(fsmonitor|editor|pager|sshcommand|askpass|gitproxy|alternaterefscommand)"
)
_PLACES = re.compile(r".*\.(url|pushurl|insteadof|pushinsteadof|fetch|push|remote|directory|worktree)")
_WORDS = re.compile(r"[\s;|&()<>\"'`=,!]+")
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})?/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What there is besides a path's own name.

    Attributes:
        links: By the path that they lead to: links that lead there.
        settings: Paths in the working tree, and the setting that names each.
        ignored: Added paths that the user's ignore rules cover, and of some whether they do: git cannot say.
    """

    links: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    settings: tuple[tuple[bytes, str], ...] = ()
    ignored: frozenset[bytes] = frozenset()

    def names(self, path: bytes) -> tuple[bytes, ...]:
        """Other paths under which ``path`` is reached; at most some, and then ``check`` says so."""
        found: dict[bytes, frozenset[bytes]] = {path: frozenset()}
        waiting = [path]
        while waiting and len(found) <= _MOST_NAMES:
            name = waiting.pop()
            used = found[name]
            for end in _ends(name):
                for link in self.links.get(name[:end], ()):
                    longer = b"/".join(filter(None, (link, name[end:].lstrip(b"/"))))
                    if link not in used and longer not in found:
                        found[longer] = used | {link}
                        waiting.append(longer)
        return tuple(found)[1:]

    def check(self, change: Change) -> Iterator[Finding]:
        """What to say about a change because of the user's own settings."""
        names = (change.path, *self.names(change.path))
        if len(names) > _MOST_NAMES:
            yield Finding(kind="symlink", why="so many links lead here that not all were followed")
        for place, setting in self.settings:
            if any(name == place or not place or name.startswith(place + b"/") for name in names):
                yield Finding(kind="git", why=_CONFIG_WHY, detail=setting)
        if change.path in self.ignored:
            yield Finding(kind="git", why=_IGNORED_WHY)


def read_reach(
    git_dir: Path, trees: Iterable[str], tree: Path | None, user: Mapping[str, str], added: Iterable[bytes]
) -> Reach:
    """Look at the links of some commits, and at the user's configuration for his working tree.

    Args:
        trees: The commits; the last one's links count first. A branch that receives the work may have others.
        tree: The user's working tree; None where there is none to speak of.
        added: Paths that the branch adds.
    """
    links: dict[bytes, bytes] = {}
    for commit in trees:
        links |= read_links(git_dir, commit)
    if tree is None or not (tree / ".git").exists():
        return Reach(links=find_links(links))
    return Reach(
        links=find_links(links),
        settings=tuple(_settings(tree, user)),
        ignored=_ignored(tree, git_dir, user, added),
    )


def find_links(links: Mapping[bytes, bytes]) -> dict[bytes, tuple[bytes, ...]]:
    """By the path that they lead to in the end: links that lead there, be it through others. PURE."""
    found: dict[bytes, list[bytes]] = {}
    for link, target in links.items():
        place = _resolve(_folder(link) + target.split(b"/"), links) if not target.startswith(b"/") else None
        if place is not None and place != link:
            found.setdefault(place, []).append(link)
    return {place: tuple(sorted(names)) for place, names in found.items()}


def _resolve(parts: list[bytes], links: Mapping[bytes, bytes]) -> bytes | None:
    """The path that ``parts`` lead to; None when that is outside of the tree, or nowhere."""
    done: list[bytes] = []
    waiting = parts[::-1]
    hops = 0
    while waiting:
        part = waiting.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not done:
                return None
            done.pop()
            continue
        done.append(part)
        target = links.get(b"/".join(done))
        if target is not None:
            hops += 1
            if hops > _MOST_HOPS or target.startswith(b"/"):
                return None
            done.pop()
            waiting += target.split(b"/")[::-1]
    return b"/".join(done)


def _folder(path: bytes) -> list[bytes]:
    return path.split(b"/")[:-1]


def _ends(path: bytes) -> Iterator[int]:
    """Where each beginning of a path ends, the empty one and the whole included."""
    yield 0
    at = path.find(b"/")
    while at >= 0:
        yield at
        at = path.find(b"/", at + 1)
    yield len(path)


def _settings(tree: Path, user: Mapping[str, str]) -> Iterator[tuple[bytes, str]]:
    done = run_git_as_user(["config", "--list", "--show-origin", "--includes", "-z"], tree, user)
    fields = iter(os.fsdecode(done.stdout).split("\0"))
    home = user.get("HOME", "")
    seen = set()
    for origin, entry in zip(fields, fields, strict=False):
        key, _, value = entry.partition("\n")
        file = tree / origin.removeprefix("file:") if origin.startswith("file:") else tree
        places = [(file, "a file that your git configuration includes")] if file != tree else []
        if not _PLACES.fullmatch(key):
            base = file.parent if key.startswith(("include.", "includeif.")) else tree
            places += [(place, key) for place in _paths(key, value, base, tree, home)]
        for place, why in places:
            for found in _inside(place, tree):
                if (found, why) not in seen and (found or why == "core.hookspath"):
                    seen.add((found, why))
                    yield found, why


def _paths(key: str, value: str, base: Path, tree: Path, home: str) -> Iterator[Path]:
    """Paths that a setting may mean: all that its words can be read as, where they look like a path."""
    if _FILES.fullmatch(key):
        words = [value]
    else:
        marks = "/." if _COMMANDS.fullmatch(key) else "/"
        words = [word for word in (value, *_WORDS.split(value)) if any(mark in word for mark in marks)]
    for word in dict.fromkeys(filter(None, words)):
        if word.startswith("~/") and home:
            yield Path(home, word[2:])
        elif (variable := _VARIABLE.match(word)) is not None:  # "$PWD/x"
            yield tree / word[variable.end() :]
        elif word.startswith("/"):
            yield Path(word)
            yield tree / word.lstrip("/")  # "$(git rev-parse --show-toplevel)/x"
        else:
            yield base / word


def _inside(place: Path, tree: Path) -> Iterator[bytes]:
    """Where a path is in the working tree, by name and in truth; nothing when it is elsewhere, or git's own."""
    try:
        ways = {(os.path.normpath(place), os.path.normpath(tree)), (os.path.realpath(place), os.path.realpath(tree))}
    except (OSError, ValueError):
        return
    for path, top in sorted(ways):
        if path == top or path.startswith(top + "/"):
            found = os.fsencode(path[len(top) + 1 :])
            if found != b".git" and not found.startswith(b".git/"):
                yield found


def _ignored(tree: Path, git_dir: Path, user: Mapping[str, str], added: Iterable[bytes]) -> frozenset[bytes]:
    """What git's ignore rules cover of ``added``, and what git cannot say it of.

    At a path that it takes no answer for, git ends and says nothing about those behind it: one behind a link of the
    working tree is not asked about; one in the place of a submodule is found by halves.
    """
    waiting = [[path for path in added if not _behind_link(tree, path)]]
    found: set[bytes] = set()
    failures = 0
    while waiting:
        asked = waiting.pop()
        if not asked:
            continue
        done = run_git_in_tree(
            ["check-ignore", "-z", "--stdin"],
            git_dir=git_dir_of(tree, git_dir),
            work_tree=tree,
            user=user,
            # As it is, a path that begins with a colon would be an order to git. Source: gitglossary(7), pathspec.
            stdin=b"".join(b"./" + path + b"\0" for path in asked),
        )
        if done.status in (0, 1):  # Source: git-check-ignore(1), EXIT STATUS
            found.update(path.removeprefix(b"./") for path in done.stdout.split(b"\0")[:-1])
            continue
        failures += 1
        if len(asked) == 1 or failures > _MOST_FAILURES:
            found.update(asked)
        else:
            waiting += asked[: len(asked) // 2], asked[len(asked) // 2 :]
    return frozenset(found)


def _behind_link(tree: Path, path: bytes) -> bool:
    place = os.fsencode(tree)
    for part in path.split(b"/")[:-1]:
        place += b"/" + part
        try:
            mode = os.lstat(place).st_mode
        except OSError:  # nothing is there, so nothing is below it
            return False
        if stat.S_ISLNK(mode):
            return True
    return False
