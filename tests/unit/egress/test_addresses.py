"""What the kernel's tables say about addresses and listeners."""

from __future__ import annotations

import os
import socket

import pytest

from containai.egress.addresses import free_endpoint, own_addresses, parse_fib_trie, parse_if_inet6
from containai.egress.listening import listener_uid, open_sockets, tcp_table

pytestmark = pytest.mark.user

TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 11.255.0.0/24 2 0 2
        |-- 11.255.0.0
           /24 link UNICAST
        |-- 11.255.0.2
           /32 host LOCAL
        |-- 11.255.0.255
           /32 link BROADCAST
Local:
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
"""


def test_own_addresses_are_the_local_ones() -> None:
    assert parse_fib_trie(TRIE) == ["11.255.0.2", "127.0.0.1"]
    assert parse_fib_trie("") == []
    assert parse_fib_trie("/32 host LOCAL") == []
    assert parse_if_inet6("00000000000000000000000000000001 01 80 10 80       lo\n") == ["::1"]
    assert "127.0.0.1" in own_addresses()


def test_endpoints_are_on_loopback_free_and_different() -> None:
    found = {free_endpoint() for _ in range(50)}
    assert len(found) > 45
    for address, port in found:
        assert address.startswith("127.")
        assert 20000 <= port < 60000


def test_the_listener_of_a_port() -> None:
    with socket.create_server(("127.3.2.1", 0)) as server:
        port = server.getsockname()[1]
        table = tcp_table(os.getpid())
        assert listener_uid(table, "127.3.2.1", port) == os.geteuid()
        assert listener_uid(table, "127.3.2.2", port) is None
        with socket.create_connection(server.getsockname()) as agent:
            agent_port = agent.getsockname()[1]
            assert listener_uid(tcp_table(os.getpid()), "127.3.2.1", agent_port) is None, "connected, not listening"
    assert listener_uid(tcp_table(os.getpid()), "127.3.2.1", port) is None
    assert listener_uid("", "127.0.0.1", 1) is None
    assert tcp_table(2**22 + 1) == ""


def test_sockets_are_counted() -> None:
    before = open_sockets(os.getpid())
    with socket.socket():
        assert open_sockets(os.getpid()) == before + 1
    assert open_sockets(2**22 + 1) == 0
