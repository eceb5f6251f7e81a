"""Domain patterns: what is one, what it covers, and how two of them meet. PURE.

A pattern is ``host.name`` (this host alone) or ``*.suffix`` (every host below ``suffix``, at any depth, and not
``suffix`` itself: N5). Whatever a proxy could read as "everything" or as "nothing" is an error: an empty list, an
empty entry, ``*``, ``.``, ``.x``, ``*.com``, an address in any notation. Source: threats.md, Egress.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from containai.errors import PolicyError

MAX_PATTERNS = 1000  # far above any real list; a bound for the size of squid.conf
MAX_NAME = 253  # Source: RFC 1035, 2.3.4 (255 octets on the wire)
_WILDCARD = "*."
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # Source: RFC 1123, 2.1
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # Source: WHATWG URL, "ends in a number"
_HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # a real host may have underscores
_SHOWN = 80


def parse_domains(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list, such as ``--squid-domains`` takes.

    Raises:
        PolicyError: ``policy.domains``. No list allows everything.
    """
    return parse_patterns(text.split(","))


def parse_patterns(entries: Iterable[str]) -> tuple[str, ...]:
    """Parse patterns: lower case, without spaces around them and duplicates, in the order given.

    Raises:
        PolicyError: ``policy.domains``: there is none, there are too many, or one is not a pattern.
    """
    patterns: dict[str, None] = {}
    for entry in entries:
        pattern = entry.strip(" ")
        if pattern.isascii():  # other letters could become ASCII ones here (the Kelvin sign)
            pattern = pattern.lower()
        fault = find_fault(pattern)
        if fault:
            raise _refuse(f"{_show(pattern)} is not a domain that can be allowed", fault)
        patterns[pattern] = None
        if len(patterns) > MAX_PATTERNS:
            raise _refuse(f"more than {MAX_PATTERNS} domains", "name fewer, with *.suffix for many of one domain")
    if not patterns:
        raise _refuse("the list of domains is empty", "an empty list would allow no host; network mode none says so")
    return tuple(patterns)


def find_fault(pattern: str) -> str:
    """What keeps ``pattern`` from being one; empty when nothing does."""
    name = pattern.removeprefix(_WILDCARD)
    if not pattern:
        return "an entry of the list is empty"
    if not name.isascii():
        return "write international names in their ASCII form (xn--...)"
    if "*" in name:
        return "'*' stands only for whole labels in front, as in *.example.com"
    if len(name) > MAX_NAME:
        return f"a name has at most {MAX_NAME} characters"
    labels = name.split(".")
    for label in labels:
        if not _LABEL.fullmatch(label):
            return "a name is labels of letters, digits and inner hyphens with one dot between: no port, no path"
    if _NUMBER.fullmatch(labels[-1]):
        return "an address is not a name, and addresses are never allowed"
    if len(labels) < 2:
        return "a name needs at least two labels: neither one machine of no domain nor a whole top-level domain"
    return ""


def _refuse(summary: str, details: str) -> PolicyError:
    return PolicyError(
        summary, code="policy.domains", details=details, remedy=("write it as in: api.example.com,*.example.org",)
    )


def _show(pattern: str) -> str:
    shown = ascii(pattern)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def matches(pattern: str, host: str) -> bool:
    """Whether ``pattern`` covers ``host``. What is no host name is covered by nothing.

    Trust: ``host`` may be hostile.
    """
    if not host.isascii():
        return False
    name = host.lower()
    if len(name) > MAX_NAME or not all(_HOST_LABEL.fullmatch(label) for label in name.split(".")):
        return False
    return name.endswith(pattern[1:]) if pattern.startswith(_WILDCARD) else name == pattern


def allows(patterns: Iterable[str], host: str) -> bool:
    """Whether any of ``patterns`` covers ``host``; none do not."""
    return any(matches(pattern, host) for pattern in patterns)


def covers(wide: str, narrow: str) -> bool:
    """Whether every host of the pattern ``narrow`` is one of ``wide``."""
    if wide == narrow:
        return True
    return wide.startswith(_WILDCARD) and narrow.removeprefix(_WILDCARD).endswith(wide[1:])


def intersect(first: str, second: str) -> str | None:
    """The pattern of the hosts that both cover; None when there are none. Two patterns never overlap in part."""
    if covers(first, second):
        return second
    return first if covers(second, first) else None


def intersect_all(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    """The patterns of the hosts that both lists cover, without duplicates, in the order of ``second``."""
    ours = tuple(first)
    common = (intersect(mine, theirs) for theirs in second for mine in ours)
    return tuple(dict.fromkeys(pattern for pattern in common if pattern is not None))
