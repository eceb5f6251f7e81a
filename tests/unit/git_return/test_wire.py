"""The protocol's beginning, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containai.git_return.wire import (
    FLUSH,
    Service,
    WireError,
    advertisement,
    packet,
    parse_command,
    parse_length,
    parse_pack_header,
    parse_request,
)

pytestmark = pytest.mark.user

A, B = "a" * 40, "b" * 40


def test_the_two_requests_that_exist() -> None:
    assert parse_request(b"git-upload-pack /return.git\0host=127.0.0.1:9418\0") is Service.FETCH
    assert parse_request(b"git-receive-pack /return.git\0host=x\0\0version=2\0") is Service.PUSH


@pytest.mark.parametrize(
    "request_line",
    [
        b"",
        b"git-upload-archive /return.git\0",
        b"git-upload-pack /return.git/../../host\0",
        b"git-upload-pack /../return.git\0",
        b"git-upload-pack //return.git\0",
        b"git-upload-pack /return.git/\0",
        b"git-upload-pack /Return.git\0",
        b"git-upload-pack return.git\0",
        b"git-upload-pack  /return.git\0",
        b"git-upload-pack /return.git --upload-pack=x\0",
        b"git-upload-pack /\0",
        b"git-receive-pack /etc\0host=/return.git\0",
        b"git-shell /return.git\0",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_everything_else_is_refused(request_line: bytes) -> None:
    with pytest.raises(WireError):
        parse_request(request_line)


@pytest.mark.parametrize("head", [b"0001", b"0002", b"0004", b"ffff", b"+004", b"0x10", b" 001", b"1_00", b"zzzz", b""])
def test_impossible_lengths(head: bytes) -> None:
    with pytest.raises(WireError):
        parse_length(head)


def test_lengths() -> None:
    assert parse_length(FLUSH) == 0
    assert parse_length(packet(b"abc")[:4]) == 3
    assert packet(b"abc") == b"0007abc"


def test_a_command_with_capabilities() -> None:
    line = parse_command(f"{A} {B} refs/heads/x\0report-status side-band-64k\n".encode())
    assert line.command is not None
    assert (line.command.old, line.command.new, line.command.ref) == (A, B, "refs/heads/x")
    assert line.capabilities == {b"report-status", b"side-band-64k"}
    assert not line.command.deletes


def test_a_deletion_and_a_shallow_line() -> None:
    deletion = parse_command(f"{A} {'0' * 40} refs/heads/x".encode()).command
    assert deletion is not None
    assert deletion.deletes
    assert parse_command(f"shallow {A}\n".encode()).command is None


@pytest.mark.parametrize(
    "line", [b"push-cert\0x", b"a b c", A.encode(), b"shallow x", f"{A} {B} a b".encode(), b"\xff"]
)
def test_no_commands(line: bytes) -> None:
    with pytest.raises(WireError):
        parse_command(line)


def test_pack_headers() -> None:
    assert parse_pack_header(b"PACK\0\0\0\x02\0\0\1\0") == 256
    for wrong in (b"", b"PACK", b"pack\0\0\0\x02\0\0\1\0", b"PACK\0\0\0\x09\0\0\1\0"):
        with pytest.raises(WireError):
            parse_pack_header(wrong)


def test_thin_packs_are_not_asked_for() -> None:
    assert b" no-thin " in advertisement(A, "refs/heads/x")
    assert b"object-format=sha256" in advertisement("a" * 64, "refs/heads/x")


@pytest.mark.property
@given(st.binary(max_size=200))
def test_bytes_never_do_more_than_be_refused(data: bytes) -> None:
    for parse in (parse_request, parse_length, parse_command, parse_pack_header):
        try:
            parse(data)
        except WireError:
            continue
