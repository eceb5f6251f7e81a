"""Who listens on a TCP port of this machine: the kernel's own answer."""

from __future__ import annotations

import socket
from pathlib import Path

_LISTEN = "0A"  # Source: TCP_LISTEN, include/net/tcp_states.h


def listener_uid(table: str, address: str, port: int) -> int | None:
    """The user whose socket listens on an IPv4 address and port, by a text of ``/proc/net/tcp``; None where none does.

    Source: proc(5): the address is in the byte order of the machine, the eighth field is the user.
    """
    wanted = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"
    for line in table.splitlines()[1:]:
        fields = line.split(None, 8)
        if fields[1] == wanted and fields[3] == _LISTEN:
            return int(fields[7])
    return None


def tcp_table(pid: int) -> str:
    """The TCP sockets in the network namespace of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii")
    except OSError:
        return ""


def open_sockets(pid: int) -> int:
    """How many sockets a process has open; 0 when that cannot be seen."""
    count = 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                count += str(entry.readlink()).startswith("socket:")
            except FileNotFoundError:
                continue
    except OSError:
        return 0
    return count
