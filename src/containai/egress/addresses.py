"""Addresses of this machine: one for the proxy to listen on, and those that the proxy must not reach."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from containai.errors import EgressError

_FIRST_PORT, _PORTS = 20000, 40000
_TRIES = 100


def free_endpoint() -> tuple[str, int]:
    """A random address of 127.0.0.0/8 and a port that can be bound now: sessions do not meet.

    Raises:
        EgressError: There is none.
    """
    for _ in range(_TRIES):
        first, second, third, *number = os.urandom(7)
        address = f"127.{1 + first % 254}.{second}.{1 + third % 254}"
        port = _FIRST_PORT + int.from_bytes(bytes(number), "big") % _PORTS
        with socket.socket() as trial:
            try:
                trial.bind((address, port))
            except OSError:
                continue
            return address, port
    raise EgressError(
        "no free port for the proxy",
        code="egress.port",
        remedy=["ss -ltn: what listens on so many ports of the loopback?"],
    )


def own_addresses() -> tuple[str, ...]:
    """Addresses of this machine's interfaces: whatever resolves to one would reach the host's own services."""
    return tuple(
        sorted(
            {
                *parse_fib_trie(_read("/proc/thread-self/net/fib_trie")),
                *parse_if_inet6(_read("/proc/thread-self/net/if_inet6")),
            }
        )
    )


def parse_fib_trie(text: str) -> list[str]:
    """The local IPv4 addresses in a text of ``/proc/net/fib_trie``."""
    found, candidate = [], ""
    for line in text.splitlines():
        if "|--" in line:
            candidate = line.rpartition(" ")[2]
        elif "/32 host LOCAL" in line and candidate:
            found.append(candidate)
    return found


def parse_if_inet6(text: str) -> list[str]:
    """The IPv6 addresses in a text of ``/proc/net/if_inet6``."""
    return [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])) for line in text.splitlines() if line]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:  # a machine without IPv6 has no such file
        return ""
