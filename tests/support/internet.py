"""A small internet in network namespaces that the test makes: nothing leaves this machine.

    proxy side (thread, its own network and mount namespace)          internet side (thread, its own network namespace)
    /etc/hosts, /etc/resolv.conf of its own                           answers on every address: whoever connects is seen
    11.255.0.2, 2600:ff::2  ------------------- veth ------------------ 11.255.0.1, 2600:ff::1, and every other address

The proxy side has a default route, so that a connection to a private or reserved address does arrive at a server when
nothing stops it: a test looks at ``seen``, not at what a client was told.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
PROXY_V4, PROXY_V6 = "11.255.0.2", "2600:ff::2"
NAME_SERVER = "11.255.0.1"
PUBLIC_V4, PUBLIC_V6 = "93.184.215.14", "2606:2800:21f::1"
PORTS = (22, 25, 80, 443, 3128, 8080, 8443)

Zone = dict[str, "list[str] | Callable[[str], list[str]]"]


@dataclass(slots=True)
class Seen:
    """A connection that arrived at a server: to which address and port, and what it sent."""

    address: str
    port: int
    data: bytearray = field(default_factory=bytearray)


class Namespace:
    """A thread in namespaces of its own that runs what it is given; threads and children of it live there too."""

    def __init__(self, flags: int) -> None:
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        self.run(lambda: _unshare(flags))

    def run(self, job: Callable[[], _T], *, timeout_s: float = 60) -> _T:
        """Run ``job`` there and return what it returns."""
        future: Future[_T] = Future()
        self._jobs.put((job, future))
        return future.result(timeout=timeout_s)

    def command(self, *argv: str) -> None:
        """Run a program there to its end."""
        self.run(lambda: subprocess.run(argv, check=True, capture_output=True, timeout=30))

    def close(self) -> None:
        self._jobs.put(None)
        self.thread.join(timeout=10)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001  it belongs to the caller
                future.set_exception(error)


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


class Internet:
    """Both sides, wired up. ``zone`` maps names to addresses; ``queries`` are the names asked for."""

    def __init__(self) -> None:
        self.zone: Zone = {}
        self.ttl = 0
        self.delay_s: Callable[[str], float] = lambda _name: 0.0
        self.queries: list[tuple[str, int]] = []
        self.seen: list[Seen] = []
        self.reply: Callable[[bytes], bytes] = _echo
        self._stop = threading.Event()
        self._open: list[socket.socket] = []
        self._files = tempfile.TemporaryDirectory(prefix="containai-test-")
        self.proxy_side = Namespace(CLONE_NEWNET | CLONE_NEWNS)
        self.outside = Namespace(CLONE_NEWNET)
        self._wire()
        self.outside.run(self._serve)

    def _wire(self) -> None:
        tid = str(self.outside.thread.native_id)
        hosts, resolv = Path(self._files.name, "hosts"), Path(self._files.name, "resolv.conf")
        hosts.write_text("127.0.0.1 localhost\n10.9.9.9 inhosts.allowed.test\n")
        resolv.write_text(f"nameserver {NAME_SERVER}\n")
        inner, outer = self.proxy_side.command, self.outside.command
        inner("mount", "--make-rprivate", "/")
        for source, target in ((hosts, "/etc/hosts"), (resolv, "/etc/resolv.conf")):
            inner("mount", "--bind", str(source), os.path.realpath(target))
        inner("ip", "link", "set", "lo", "up")
        outer("ip", "link", "set", "lo", "up")
        inner("ip", "link", "add", "name", "wan0", "type", "veth", "peer", "name", "wan1", "netns", tid)
        for side, link, v4, v6 in ((inner, "wan0", PROXY_V4, PROXY_V6), (outer, "wan1", NAME_SERVER, "2600:ff::1")):
            side("ip", "address", "add", f"{v4}/24", "dev", link)
            side("ip", "address", "add", f"{v6}/64", "dev", link, "nodad")
            side("ip", "link", "set", link, "up")
        inner("ip", "route", "add", "default", "via", NAME_SERVER)
        inner("ip", "-6", "route", "add", "default", "via", "2600:ff::1")
        # Every address is one of the outside's own, except the way back.
        outer("ip", "route", "add", "11.255.0.0/24", "dev", "wan1", "table", "local")
        outer("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo")
        outer("ip", "-6", "route", "add", "2600:ff::/64", "dev", "wan1", "table", "local")
        outer("ip", "-6", "route", "add", "local", "::/0", "dev", "lo", "table", "local")

    def _serve(self) -> None:
        for port in PORTS:
            for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                self._listen(family, any_address, port)
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind((NAME_SERVER, 53))
        names.settimeout(0.1)
        self._open.append(names)
        threading.Thread(target=self._answer_names, args=(names,), daemon=True).start()

    def listen_on_proxy_side(self, address: str, port: int) -> None:
        """Have a server on the proxy's own machine; it must not be reached."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.proxy_side.run(lambda: self._listen(family, address, port))

    def _listen(self, family: socket.AddressFamily, address: str, port: int) -> None:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.settimeout(0.1)
        self._open.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            name = connection.getsockname()
            seen = Seen(address=name[0], port=name[1])
            self.seen.append(seen)
            threading.Thread(target=self._talk, args=(connection, seen), daemon=True).start()

    def _talk(self, connection: socket.socket, seen: Seen) -> None:
        connection.settimeout(20)
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                seen.data += data
                connection.sendall(self.reply(data))

    def _answer_names(self, server: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                query, peer = server.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            name, kind, end = _question(query)
            self.queries.append((name, kind))
            threading.Thread(target=self._answer, args=(server, peer, query[:end], name, kind), daemon=True).start()

    def _answer(self, server: socket.socket, peer: Any, query: bytes, name: str, kind: int) -> None:
        time.sleep(self.delay_s(name))
        known = self.zone.get(name)
        addresses = known(name) if callable(known) else known
        records = b""
        count = 0
        for address in addresses or []:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            if kind == (28 if family == socket.AF_INET6 else 1):
                data = socket.inet_pton(family, address)
                records += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self.ttl, len(data)) + data
                count += 1
        flags = 0x8180 if addresses is not None else 0x8183
        with contextlib.suppress(OSError):
            server.sendto(query[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + query[12:] + records, peer)

    def close(self) -> None:
        self._stop.set()
        for opened in self._open:
            opened.close()
        self.proxy_side.close()
        self.outside.close()
        self._files.cleanup()


def _question(query: bytes) -> tuple[str, int, int]:
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    return ".".join(labels).lower(), struct.unpack(">H", query[at + 1 : at + 3])[0], at + 5


def _echo(data: bytes) -> bytes:
    """Answer HTTP with what was received, and anything else with itself."""
    if b" HTTP/1." not in data.split(b"\r\n", 1)[0]:
        return data
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(data) + data


@contextlib.contextmanager
def internet() -> Iterator[Internet]:
    """An internet for the length of a test module."""
    made = Internet()
    try:
        yield made
    finally:
        made.close()
