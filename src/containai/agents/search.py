"""Where programs are on the user's side: his PATH first, then where installers put them.

A relative or empty entry of PATH is never used: it would let a repository choose the program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

# The container sees these as the host does (``host.layout``).
VISIBLE = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

# Programs that only find out which program they stand for; alone in a container they find nothing.
_MANAGERS = frozenset({"asdf", "mise", "proto-shim", "rtx", "snap", "volta-shim"})
_ELF = b"\x7fELF"
_MAX_INTERPRETER = 4096


def search_directories(search_path: str, home: Path) -> Iterator[Path]:
    """Directories that may hold programs, in order; the installers' own only when PATH had none.

    Args:
        search_path: The user's PATH.
        home: The user's HOME.
    """
    for entry in search_path.split(os.pathsep):
        if entry.startswith("/"):
            yield Path(entry)
    yield from (home / ".local/bin", home / ".npm-global/bin")
    prefix = _npm_prefix(home)
    if prefix is not None:
        yield prefix / "bin"
    yield from (home / ".claude/local/node_modules/.bin", home / ".opencode/bin", home / ".bun/bin", home / "n/bin")
    for pattern in (
        ".nvm/versions/node/*/bin",
        ".local/share/fnm/node-versions/*/installation/bin",
        ".local/share/mise/installs/node/*/bin",
    ):
        yield from sorted(home.glob(pattern), key=_newest_last, reverse=True)
    yield from (Path("/usr/local/bin"), Path("/usr/bin"))


def find_programs(names: tuple[str, ...], search_path: str, home: Path) -> Iterator[Path]:
    """Every executable file with one of ``names``, best first, each once."""
    seen = set()
    for name in names:
        places = [Path(name)] if name.startswith("/") else (
            directory / name for directory in search_directories(search_path, home)
        )  # fmt: skip
        for place in places:
            if place not in seen and place.is_file() and os.access(place, os.X_OK):
                seen.add(place)
                yield place


def is_visible(path: str | Path) -> bool:
    """Whether the container has ``path`` anyway. Give it a resolved path."""
    return str(path).startswith(tuple(f"{root}/" for root in VISIBLE))


def is_manager(real: Path) -> bool:
    """Whether a resolved program is only the shim of a version manager."""
    return real.name in _MANAGERS


def is_elf(path: Path) -> bool:
    """Whether a file is a native program."""
    with path.open("rb") as file:
        return file.read(4) == _ELF


def elf_interpreter(path: Path) -> str:
    """The loader that a 64-bit native program asks for; empty for a static one or another kind.

    Source: elf(5), PT_INTERP.
    """
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:6] != _ELF + b"\x02\x01":  # 64 bits, little endian
            return ""
        offset, size, count = (int.from_bytes(header[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
        for index in range(count):
            file.seek(offset + index * size)
            entry = file.read(56)
            if int.from_bytes(entry[:4], "little") == 3:  # PT_INTERP
                start, length = (int.from_bytes(entry[a:b], "little") for a, b in ((8, 16), (32, 40)))
                file.seek(start)
                return file.read(min(length, _MAX_INTERPRETER)).rstrip(b"\0").decode(errors="replace")
    return ""


def script_interpreter(path: Path) -> str:
    """What a script's first line asks for: ``node`` for ``#!/usr/bin/env node``; empty when it is no script."""
    with path.open("rb") as file:
        line = file.readline(256).decode(errors="replace")
    if not line.startswith("#!"):
        return ""
    words = line[2:].split()
    if len(words) > 1 and words[0].endswith("/env"):
        words = [word for word in words[1:] if not word.startswith("-")]
    return words[0] if words else ""


def _npm_prefix(home: Path) -> Path | None:
    """The prefix that the user's ~/.npmrc sets."""
    try:
        text = (home / ".npmrc").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^\s*prefix\s*=\s*(.+?)\s*$", text, re.MULTILINE)
    if found is None:
        return None
    value = re.sub(r"^(~|\$\{HOME\})(?=/)", lambda _: str(home), found[1].strip("\"'"))
    return Path(value) if value.startswith("/") else None


def _newest_last(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(path)))
