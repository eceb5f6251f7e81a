"""Which paths are execution triggers. PURE, but for reading this package's own table.

The table is data: ``data/triggers.toml``. Source: W7.
"""

from __future__ import annotations

import os
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib import resources

from containai.record import dataclass
from containai.review.characters import is_ignorable


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Paths of one kind, and why they matter."""

    kind: str
    why: str
    matches: re.Pattern[str]


@cache
def load_rules() -> tuple[Rule, ...]:
    """The table of this package."""
    table = tomllib.loads((resources.files("containai.data") / "triggers.toml").read_text(encoding="utf-8"))
    return tuple(
        Rule(kind=rule["kind"], why=rule["why"], matches=re.compile("|".join(map(_regex, rule["paths"]))))
        for rule in table["rule"]
    )


def find_rules(path: bytes) -> Iterator[Rule]:
    """The rules that a path falls under.

    Trust: the path is the agent's making. Case and invisible characters are taken out first: some file systems,
    and every reader, take such twins for the same name.
    """
    if path.isascii():  # nothing of that is in it, and a branch may have a million paths
        folded = path.decode().casefold()
    else:
        text = "".join(c for c in os.fsdecode(path) if unicodedata.category(c) != "Cf" and not is_ignorable(c))
        folded = unicodedata.normalize("NFKC", text).casefold()
    for rule in load_rules():
        if rule.matches.fullmatch(folded):
            yield rule


def _regex(pattern: str) -> str:
    """A pattern of the table as a regular expression for the whole, case-folded path."""
    anchored = pattern.startswith("/")
    parts = re.split(r"(\*\*|\*)", pattern.removeprefix("/").casefold())
    body = "".join("(?s:.*)" if part == "**" else "[^/]*" if part == "*" else re.escape(part) for part in parts)
    return body if anchored else f"(?s:.*/)?{body}"
