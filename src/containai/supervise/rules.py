"""The rules of the policy, asked about each exec before it goes on.

What they look at is what the process asked for, read from its memory, and the file that its path led to a moment ago.
Both can change before the kernel looks itself. So a rule holds against habits, not against somebody who means to get
round it, and its record says that the supervisor denied. Where something could not be looked at, a rule matches.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from fnmatch import translate
from typing import Any, BinaryIO

from containai.policy.model import ExecRule
from containai.record import dataclass

DENY = 1 << 16  # native/supervise/supervise.c
_LARGEST_HASHED = 256 * 1024 * 1024  # each exec of such a file waits for a fraction of a second
_CHUNK_BYTES = 1 << 18
_MAX_KNOWN = 4096
_LOADER = re.compile(r"ld(-.+)?\.so(\.[0-9]+)*")

_Identity = tuple[int, int, int, int, int]


class RuleBook:
    """The rules of one session, and the digests that it has already made."""

    def __init__(self, rules: tuple[ExecRule, ...], *, enforced: bool) -> None:
        self._rules = tuple(map(_prepare, rules))
        self._deny = DENY if enforced else 0
        self._digests: dict[_Identity, str] = {}

    def decide(self, event: Mapping[str, Any], program: int) -> int:
        """The number of the first rule that matches, beginning at 1, with ``DENY`` where it is enforced; else 0.

        Args:
            event: The record of the exec.
            program: What its path led to, opened without the right to read; -1 where that could not be followed.
        """
        if event.get("absent"):  # a search along PATH goes on as it would
            return 0
        for number, rule in enumerate(self._rules, 1):
            if self._matches(rule, event, program):
                return number | self._deny
        return 0

    def _matches(self, rule: _Rule, event: Mapping[str, Any], program: int) -> bool:
        places, words = {event["path"], event["resolved"]}, list(event["argv"][1:])
        if any(_LOADER.fullmatch(os.path.basename(place)) for place in places):
            places.update(words)  # the loader's own argument is the program
        names = {os.path.basename(place) for place in (*places, *event["argv"][:1])}
        if event["resolved"] and ((rule.places and not rule.places & places) or (rule.name and rule.name not in names)):
            return False
        if event["argv"]:  # git, called as git-push, does what `git push` does
            words.extend(os.path.basename(event["argv"][0]).split("-", 1)[1:])
        seen = all(any(pattern.match(word) for word in words) for pattern in rule.patterns)
        if not seen and not event["truncated"]:
            return False
        return not rule.sha256 or self._digest(program) in (rule.sha256, None)

    def _digest(self, program: int) -> str | None:
        """The digest of the program's file; None where it cannot be had."""
        if program < 0:
            return None
        place = f"/proc/self/fd/{program}"
        try:
            if not stat.S_ISREG(os.stat(place).st_mode):  # asked first: to open a pipe would wait
                return ""
            with open(place, "rb", opener=_open) as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    return ""
                if found.st_size > _LARGEST_HASHED:
                    return None
                if not os.fstatvfs(file.fileno()).f_flag & os.ST_RDONLY:
                    # The agent may hold a shared mapping, through which a file changes and its times do not.
                    return _hash(file)
                known = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                if known not in self._digests:
                    made = _hash(file)
                    if made is None:
                        return None
                    if len(self._digests) >= _MAX_KNOWN:
                        self._digests.clear()
                    self._digests[known] = made
                return self._digests[known]
        except OSError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    places: frozenset[str]
    name: str
    patterns: tuple[re.Pattern[str], ...]
    sha256: str


def _prepare(rule: ExecRule) -> _Rule:
    is_path = rule.program.startswith("/")
    return _Rule(
        # /bin is a link on most systems; where it is not, the second name is the first.
        places=frozenset({rule.program, os.path.realpath(rule.program)}) if is_path else frozenset(),
        name="" if is_path else rule.program,
        patterns=tuple(re.compile(translate(pattern)) for pattern in rule.arguments),
        sha256=rule.sha256,
    )


def _hash(file: BinaryIO) -> str | None:
    """None where it has become larger than what is hashed: the agent can make it grow as fast as it is read."""
    made, left = hashlib.sha256(), _LARGEST_HASHED
    while chunk := file.read(_CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            return None
        made.update(chunk)
    return made.hexdigest()


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
