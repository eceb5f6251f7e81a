"""Domain patterns: what is one, what it covers, and how two of them meet."""

from __future__ import annotations

import pytest

from containai.errors import PolicyError
from containai.policy.domains import allows, covers, intersect, intersect_all, matches, parse_domains, parse_patterns

pytestmark = pytest.mark.user


def test_a_list_is_lower_case_without_spaces_and_duplicates() -> None:
    assert parse_domains(" API.Example.org, *.b.example ,api.example.org") == ("api.example.org", "*.b.example")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ",", "a.example,", ",a.example", "a.example,,b.example",
        ".", "*", "*.", "**.a.example", "*.*.example", "a.*.example", "*a.example", "a*.example",
        ".example.org", "example.org.", "*.example.org.", "a..example",
        "com", "*.com", "localhost",
        "https://example.org", "example.org/x", "example.org:443", "[::1]", "::1", "2001:db8::1",
        "127.0.0.1", "*.0.0.1", "10.1", "0x7f.1", "1.0x7f", "0x7f000001", "2130706433", "example.0x", "017700000001",
        "exam ple.org", "a.example\nhttp_access allow all", "a.example\0.b.example", "a.example#", 'a.example"',
        "-a.example", "a-.example", "ex\u00e4mple.org", "ｅxample.org", "exam\u212ale.org",
        "a" * 64 + ".example", ".".join(["abcdefgh"] * 30), "a.example\r", "a.example\x1b[2J",
    ],
)  # fmt: skip
def test_nothing_else_is_a_pattern(text: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_domains(text)
    assert refused.value.code == "policy.domains"
    assert refused.value.remedy
    assert refused.value.summary.isprintable()


def test_a_list_has_an_end() -> None:
    with pytest.raises(PolicyError, match="more than 1000"):
        parse_patterns(f"h{number}.example" for number in range(1001))


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("a.example", "a.example", True),
        ("a.example", "A.Example", True),
        ("a.example", "b.a.example", False),
        ("a.example", "a.example.evil.test", False),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "c.b.a.example", True),
        ("*.a.example", "a.example", False),  # N5
        ("*.a.example", "ba.example", False),
        ("*.a.example", ".a.example", False),
        ("*.a.example", "b..a.example", False),
        ("*.a.example", "evil.test\0.a.example", False),
        ("*.a.example", "evil.test/.a.example", False),
        ("*.a.example", "b.a.example.", False),
        ("*.a.example", "*.a.example", False),
        ("*.example.org", "\u212a.example.org", False),  # the Kelvin sign, whose lower case is k
        ("k.example.org", "\u212a.example.org", False),
        ("a.example", "", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, host: str, covered: bool) -> None:
    assert matches(pattern, host) is covered
    assert allows(("other.example", pattern), host) is covered


def test_no_pattern_allows_no_host() -> None:
    assert not allows((), "a.example")


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ("*.a.example", "x.a.example", "x.a.example"),
        ("*.a.example", "*.b.a.example", "*.b.a.example"),
        ("a.example", "a.example", "a.example"),
        ("*.a.example", "*.a.example", "*.a.example"),
        ("*.a.example", "a.example", None),
        ("a.example", "b.example", None),
        ("*.a.example", "*.b.example", None),
        ("*.a.example", "*.ba.example", None),
    ],
)
def test_the_hosts_that_two_patterns_share(first: str, second: str, common: str | None) -> None:
    assert intersect(first, second) == common
    assert intersect(second, first) == common


def test_a_pattern_covers_narrower_ones_and_itself() -> None:
    assert covers("*.a.example", "*.a.example")
    assert covers("*.a.example", "x.a.example")
    assert not covers("x.a.example", "*.a.example")
    assert not covers("*.a.example", "a.example")


def test_two_lists_share_what_any_pair_shares() -> None:
    assert intersect_all(("*.a.example", "b.example"), ("c.example", "x.a.example", "b.example")) == (
        "x.a.example",
        "b.example",
    )
    assert intersect_all(("a.example",), ()) == ()
