"""Secrets in text, found by detect-secrets; this module only chooses its detectors and keeps them fast.

Two of the library's detectors are left out: public IP addresses are no secrets, and basic authentication is found in
every example of a URL. Detectors are asked only about lines with a sign of what they look for (a keyword of their own
list, a value of the right shape): the same findings in a fraction of the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

_KEYWORDS = "Secret Keyword"
_LEFT_OUT = frozenset({"Public IP (ipv4)", "Basic Auth Credentials"})
# Detectors whose own expressions are slow on every line, and the run of characters that each of them ends in.
_VALUES = {
    "Cloudant Credentials": "[0-9a-z]{24}",
    "IBM Cloud IAM Key": "[A-Za-z0-9_-]{44}",
    "IBM COS HMAC Credentials": "[a-f0-9]{48}",
    "SoftLayer Credentials": "[a-z0-9]{64}",
    "Artifactory Credentials": "AKC|AP[0-9A-F]",
}
_QUOTED = re.compile(r"""["'][A-Za-z0-9+/=_\-]{16,}["']""")
_MOST_LINE = 4000
_LONG_WORD = re.compile(r"\w{129,}")


class _Secret(Protocol):
    type: str


class _Detector(Protocol):
    secret_type: str

    def analyze_line(self, *, filename: str, line: str, line_number: int) -> set[_Secret]: ...
    def analyze_string(self, text: str) -> object: ...


def find_secrets(name: str, text: str) -> tuple[str, ...]:
    """Kinds of secrets that ``text`` seems to hold, each with the number of its line there.

    Args:
        name: The file's name; the keyword detector judges by its suffix what a quoted value looks like.

    Trust: ``text`` is the agent's. No value that is found is ever returned.
    """
    lines = [(number, line[:_MOST_LINE]) for number, line in enumerate(text.split("\n"), 1) if line]
    whole = "\n".join(line for _, line in lines)
    found: dict[str, int] = {}
    for detector, signs in _detectors():
        likely = [sign for sign in signs if sign.search(whole)]
        if not likely:
            continue
        for number, text_line in lines:
            line = _shortened(text_line, signs) if detector.secret_type == _KEYWORDS else text_line
            if any(sign.search(line) for sign in likely) and detector.analyze_line(
                filename=name, line=line, line_number=number
            ):
                found[detector.secret_type] = number
                break
    return tuple(f"{kind} (line {number})" for kind, number in sorted(found.items(), key=lambda pair: pair[1]))


def _shortened(line: str, signs: Sequence[re.Pattern[str]]) -> str:
    """``line`` with each endless word cut to the keyword in it, if there is one.

    The detector looks from every keyword on to the end of its word: of a word of keywords, that takes seconds a line.
    """

    def cut(word: re.Match[str]) -> str:
        sign = next(filter(None, (sign.search(word[0]) for sign in signs)), None)
        return sign[0] if sign else word[0]

    return _LONG_WORD.sub(cut, line)


@cache
def _detectors() -> tuple[tuple[_Detector, tuple[re.Pattern[str], ...]], ...]:
    """Each detector, with the signs of which a line must show one before it is asked."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector
    from detect_secrets.plugins.keyword import DENYLIST

    chosen: list[tuple[_Detector, tuple[re.Pattern[str], ...]]] = []
    makers: Mapping[str, Callable[[], Any]] = get_mapping_from_secret_type_to_class()
    for kind, maker in sorted(makers.items()):
        if kind in _LEFT_OUT:
            continue
        detector = maker()
        if kind in _VALUES:
            signs: tuple[re.Pattern[str], ...] = (re.compile(_VALUES[kind], re.IGNORECASE),)
        elif kind == _KEYWORDS:
            signs = (re.compile("|".join(DENYLIST), re.IGNORECASE),)
        elif isinstance(detector, RegexBasedDetector):
            signs = tuple(detector.denylist)
        else:
            signs = (_QUOTED,)
        chosen.append((detector, signs))
    return tuple(chosen)
