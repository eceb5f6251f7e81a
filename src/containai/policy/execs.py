"""The ``[exec]`` table: which programs, and which uses of programs, are denied. PURE."""

from __future__ import annotations

import re
from fnmatch import translate

from containai.policy.model import ExecRule
from containai.policy.tables import Table

MAX_RULES = 1000
_MAX_PATTERN = 1024  # characters; the record of an exec has no longer word
_PROGRAM = re.compile(r"(?:/[^/\x00-\x1f\x7f]+)+|[^/\s\x00-\x1f\x7f]{1,255}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_A_PROGRAM = 'the name of a program such as "nc", or an absolute path without "." and ".."; it is no pattern'


def parse_programs(execs: Table) -> tuple[str, ...]:
    """``deny``: names of programs, or absolute paths in their plain form."""
    programs = execs.strings("deny") or ()
    if not all(map(_is_program, programs)):
        execs.refuse("deny", f"a list; each is {_A_PROGRAM}")
    return programs


def parse_rules(execs: Table) -> tuple[ExecRule, ...]:
    """``rules``: a table for each."""
    rules = tuple(_parse_rule(table) for table in execs.tables("rules", MAX_RULES))
    names = [rule.name for rule in rules]
    if len(set(names)) != len(names):
        execs.refuse("rules", "rules with a name of their own each")
    return rules


def _parse_rule(table: Table) -> ExecRule:
    table.only("name", "program", "arguments", "sha256")
    rule = ExecRule(
        name=table.string("name") or "",
        program=table.string("program") or "",
        arguments=table.strings("arguments") or (),
        sha256=(table.string("sha256") or "").lower(),
    )
    if not _NAME.fullmatch(rule.name):
        table.refuse("name", "a name of letters, digits, '.', '_' and '-', at most 64")
    if rule.program and not _is_program(rule.program):
        table.refuse("program", _A_PROGRAM)
    if not all(0 < len(pattern) <= _MAX_PATTERN for pattern in rule.arguments):
        table.refuse("arguments", f"patterns of 1 to {_MAX_PATTERN} characters")
    if not all(map(_can_match, rule.arguments)):
        table.refuse("arguments", "patterns that can match: each [ with its ], and [[] for the character itself")
    if rule.sha256 and not _DIGEST.fullmatch(rule.sha256):
        table.refuse("sha256", "64 hexadecimal digits")
    # An exec may have more words than are read, and counts as a match then: that must not be every long command line.
    if rule.arguments and not (rule.program or rule.sha256):
        table.refuse("arguments", "a program (or sha256) beside them")
    if not rule.arguments and not rule.sha256:
        table.refuse("program", "arguments or sha256 beside it; a whole program belongs in exec.deny")
    return rule


def _is_program(text: str) -> bool:
    parts = text.split("/")
    if not _PROGRAM.fullmatch(text) or any(part in (".", "..") for part in parts):
        return False
    return parts[-1] == "[" or not set("*?[") & set(text)  # "[" is a program on most systems


def _can_match(pattern: str) -> bool:
    """Whether a pattern is one: fnmatch takes ``[`` without its ``]`` for itself, which nobody means."""
    outside = re.sub(r"\[!?+\]?+[^\]]*\]", "", pattern)
    return "[" not in outside and "(?!)" not in translate(pattern)  # that is how it says "nothing": [z-a]
