"""Programs that cannot be run: the rules of Landlock without them.

Landlock grants, and what a rule grants it grants below a whole directory. So a rule whose directory holds a denied
program is taken apart: the directory may be listed, and each entry but that program has a rule of its own. A denied
program can be neither executed nor read, so that it is not copied, and the loader cannot be started on it. The kernel
holds that for the file, under whatever name and however often a path is changed while somebody looks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from containai.record import replace
from containai.render.landlock import EXECUTE, READ_DIR, READ_FILE, LandlockRules


def deny_programs(rules: LandlockRules, programs: frozenset[str]) -> LandlockRules:
    """The same rules, without any right on ``programs``."""
    if not programs:
        return rules
    folders = {parent for program in programs for parent in _parents(program)}
    paths: list[tuple[str, int]] = []
    for path, rights in rules.paths:
        paths += _apart(path, rights, programs, folders) if rights & EXECUTE else [(path, rights)]
    return replace(rules, paths=tuple(paths))


def _apart(path: str, rights: int, programs: frozenset[str], folders: set[str]) -> Iterator[tuple[str, int]]:
    if path in programs:
        return
    if path not in folders:
        yield path, rights
        return
    yield path, rights & READ_DIR
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_symlink():  # a link grants nothing: what it leads to has a rule, or none
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _apart(entry.path, rights, programs, folders)
            elif entry.path not in programs:
                yield entry.path, rights & (EXECUTE | READ_FILE)


def _parents(path: str) -> Iterator[str]:
    while (path := os.path.dirname(path)) != "/":
        yield path
