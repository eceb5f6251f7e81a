"""A line of the access log says what it says, whoever wrote the words in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containai.egress.accesslog import MAX_LINE, parse_access
from containai.render.squid import LOG_FIELDS, PAGES, ProxyKey

pytestmark = pytest.mark.user

KEY = ProxyKey(source="11.22.33.44", destination="55.66.77.88", port=4242)


def line(**changes: str) -> bytes:
    fields = {
        "source": KEY.source, "number": "7", "destination": KEY.destination, "port_of_key": "4242", "method": "GET",
        "host": "a.test", "port": "80", "url": "http://a.test/", "status": "200", "sent": "300", "received": "60",
        "took": "5", "outcome": "TCP_MISS/HIER_DIRECT", "server": "93.184.215.14", "error": "-",
    }  # fmt: skip
    assert len(fields) == LOG_FIELDS
    return " ".join((fields | changes).values()).encode()


def verdict(**changes: str) -> tuple[str, str]:
    access = parse_access(line(**changes), KEY)
    assert access is not None
    return access.fields["verdict"], access.fields.get("reason", "")


def test_an_allowed_request() -> None:
    access = parse_access(line(), KEY)
    assert access is not None
    assert (access.genuine, access.connection) == (True, 7)
    assert access.fields == {
        "method": "GET", "host": "a.test", "port": 80, "url": "http://a.test/", "status": 200, "verdict": "allow",
        "bytes_in": 300, "bytes_out": 60, "duration_ms": 5, "address": "93.184.215.14",
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_every_refusal_of_ours_says_why(page: str) -> None:
    assert verdict(outcome="TCP_DENIED/HIER_NONE", server="-", error=page) == ("deny", PAGES[page])
    assert verdict(outcome="TCP_DENIED/HIER_NONE", server="-", error=f"503:{page}") == ("deny", PAGES[page])


@pytest.mark.parametrize(
    ("outcome", "error", "expected"),
    [
        ("NONE_NONE/HIER_NONE", "-", "deny"),  # not HTTP
        ("NONE_NONE/HIER_NONE", "ERR_CONFLICT_HOST", "deny"),
        ("NONE_NONE/HIER_NONE", "ERR_CLIENT_GONE", "deny"),
        ("TCP_DENIED/HIER_NONE", "ERR_ACCESS_DENIED", "deny"),
        ("TCP_DENIED_REPLY/HIER_DIRECT", "-", "deny"),
        ("SOMETHING_NEW/HIER_NONE", "ERR_SOMETHING_NEW", "deny"),
        ("NONE_NONE/HIER_DIRECT", "ERR_CONNECT_FAIL", "allow"),
        ("NONE_NONE/HIER_NONE", "ERR_DNS_FAIL", "allow"),
        ("TCP_TUNNEL/HIER_DIRECT", "-", "allow"),
    ],
)
def test_what_did_not_leave_was_refused(outcome: str, error: str, expected: str) -> None:
    found, reason = verdict(outcome=outcome, error=error)
    assert found == expected
    assert bool(reason) == (expected == "deny")


@pytest.mark.parametrize("part", ["source", "destination", "port_of_key"])
def test_without_the_whole_key_it_is_somebody_else(part: str) -> None:
    access = parse_access(line(**{part: "1.2.3.4" if part != "port_of_key" else "1"}), KEY)
    assert access is not None
    assert (access.genuine, access.connection, access.fields["verdict"]) == (False, 0, "deny")


def test_a_connection_without_a_request_is_no_event() -> None:
    assert parse_access(line(method="-", host="-", port="-", received="0"), KEY) is None
    assert parse_access(line(method="-", host="-", port="-", received="9"), KEY) is not None


def test_credentials_in_a_url_are_not_logged() -> None:
    access = parse_access(line(url="http://me:pa%2540ss@a.test/x@y"), KEY)
    assert access is not None
    assert access.fields["url"] == "http://***@a.test/x@y"


def test_what_cannot_be_printed_is_escaped() -> None:
    access = parse_access(line(url="http://a.test/%1B[2J%0A%FF%E2%80%A8", method="G%22T"), KEY)
    assert access is not None
    assert access.fields["url"] == "http://a.test/\\x1b[2J\\n\\xff\\u2028"
    assert access.fields["method"] == 'G"T'


@pytest.mark.parametrize(
    "broken", [b"", b"a b c", line() + b" more", line(host="a b"), line(url="x" * MAX_LINE), b"\0" * 50]
)
def test_another_form_is_an_error(broken: bytes) -> None:
    with pytest.raises(ValueError, match="access log"):
        parse_access(broken, KEY)


def encode(value: bytes) -> str:
    """What Squid's '#' does: everything but the safe characters as %XX."""
    safe = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/:;?@&=+$,!*()"
    return "".join(chr(b) if b in safe else f"%{b:02X}" for b in value) or "-"


@given(method=st.binary(max_size=32), host=st.binary(max_size=64), url=st.binary(max_size=300))
def test_no_words_change_another_field(method: bytes, host: bytes, url: bytes) -> None:
    access = parse_access(line(method=encode(method), host=encode(host), url=encode(url)), KEY)
    assert access is not None
    fields = access.fields
    assert (fields["status"], fields["verdict"], fields["port"], access.genuine) == (200, "allow", 80, True)
    assert all(value.isprintable() for value in fields.values() if isinstance(value, str))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        access = parse_access(raw, KEY)
    except ValueError:
        return
    assert access is None or not access.genuine or KEY.source.encode() in raw
