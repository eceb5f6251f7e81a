"""TCP connections that were closed before all was sent: the kernel keeps them, and only so many for the whole machine.

Beyond that it resets each one that anybody closes so: what a server of the host's has not sent yet is then lost.
Source: Documentation/networking/ip-sysctl.rst, ``tcp_max_orphans``; proc(5), /proc/net/sockstat and /proc/net/tcp.
"""

from __future__ import annotations

from pathlib import Path

from containai.host.holdings import lines_of

_MOST = Path("/proc/sys/net/ipv4/tcp_max_orphans")
_CLOSING = (b"04", b"09", b"0B")  # Source: tcp_states.h: FIN_WAIT1, LAST_ACK, CLOSING
_TABLES = ("tcp", "tcp6")


def most_orphans() -> int:
    """How many the machine keeps; 0 where the kernel does not say, as in a network namespace."""
    try:
        return int(_MOST.read_text())
    except FileNotFoundError:
        return 0


def orphans_of_the_machine() -> int:
    """How many there are, in all network namespaces together."""
    for line in Path("/proc/self/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[:1] == ["TCP:"]:
            return int(words[words.index("orphan") + 1])
    return 0


def orphans_of(first: int, most: int) -> int:
    """How many are in the network of a process, counted until there are more than ``most``.

    Raises:
        OSError: The process has ended.
    """
    count = 0
    for table in _TABLES:
        try:
            for line in lines_of(Path(f"/proc/{first}/net/{table}")):
                fields = line.split(None, 10)
                count += len(fields) > 9 and fields[3] in _CLOSING and fields[9] == b"0"  # no file is left of it
                if count > most:
                    return count
        except FileNotFoundError:
            if table == "tcp":
                raise
    return count
