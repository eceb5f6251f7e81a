"""Where programs really are: what a name on a search path leads to, under all its names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from containai.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPrograms:
    """Where programs are, and which of them are nowhere."""

    paths: frozenset[str]
    missing: tuple[str, ...] = ()


def find_programs(programs: Sequence[str], search_path: str, trees: Sequence[str]) -> FoundPrograms:
    """The real paths of programs below ``trees``, and of every hard link to them there.

    Args:
        programs: Names, looked for on ``search_path``, and absolute paths.
    """
    if not programs:
        return FoundPrograms(paths=frozenset())
    found: set[str] = set()
    missing = []
    for program in programs:
        places = [program] if program.startswith("/") else [os.path.join(d, program) for d in search_path.split(":")]
        real = {os.path.realpath(place) for place in places if os.path.isfile(place)}
        there = {path for path in real if any(path == tree or path.startswith(tree + "/") for tree in trees)}
        found |= there
        if not there:
            missing.append(program)
    linked = {_identity(path) for path in found if os.stat(path).st_nlink > 1}
    named = set(_named(linked, trees)) if linked else set()
    return FoundPrograms(paths=frozenset(found | named), missing=tuple(missing))


def _identity(path: str) -> tuple[int, int]:
    entry = os.stat(path)
    return entry.st_dev, entry.st_ino


def _named(wanted: set[tuple[int, int]], trees: Iterable[str]) -> Iterator[str]:
    """Every name that these files have in the container."""
    for tree in trees:
        for folder, _, names in os.walk(tree):
            for name in names:
                path = os.path.join(folder, name)
                entry = os.lstat(path)
                if stat.S_ISREG(entry.st_mode) and (entry.st_dev, entry.st_ino) in wanted:
                    yield path
