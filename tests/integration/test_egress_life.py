"""A proxy's life: who is served, what happens when it cannot start or dies, and that nothing is left or lost."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containai.egress import squid as squid_module
from containai.egress.listening import open_sockets
from containai.policy.model import LocalService
from containai.render.squid import make_key
from tests.support.internet import PUBLIC_V4, Internet, internet
from tests.support.proxied import PROXY_UID, Proxied, descriptors, proxied, receive

pytestmark = [pytest.mark.needs("root", "squid")]

OK = b"HTTP/1.1 200"
CONNECT = b"CONNECT a.test:443 HTTP/1.1\r\n\r\n"


@pytest.fixture(scope="module")
def net() -> Iterator[Internet]:
    with internet() as made:
        made.zone = {"a.test": [PUBLIC_V4]}
        yield made


def neighbour(proxy: Proxied, raw: bytes) -> bytes:
    """What another program of the proxy's own machine gets from Squid's port."""

    def ask() -> bytes:
        with socket.create_connection((proxy.squid.address, proxy.squid.port), timeout=5) as there:
            there.sendall(raw)
            return receive(there, 0.2)

    return proxy.net.proxy_side.run(ask)


@pytest.mark.parametrize("part", ["nothing", "all", "source", "destination", "port"])
def test_only_the_relay_is_served(net: Internet, tmp_path: Path, part: str) -> None:
    with proxied(net, tmp_path, "a.test") as proxy:
        assert proxy.connect("a.test").startswith(OK)
        net.seen.clear()
        mine, theirs = proxy.squid.key, make_key(os.urandom(10))
        forged = {
            "nothing": b"",
            "all": theirs.header(5),
            "source": mine.header(5).replace(mine.source.encode(), theirs.source.encode()),
            "destination": mine.header(5).replace(mine.destination.encode(), theirs.destination.encode()),
            "port": mine.header(5).replace(b" %d\r" % mine.port, b" %d\r" % (mine.port % 65535 + 1)),
        }[part]
        assert neighbour(proxy, forged + CONNECT) == b""
        assert net.seen == []
        assert neighbour(proxy, mine.header(5) + CONNECT).startswith(OK), "the test's own way of asking works"
        proxy.wait_for(lambda: len(proxy.events) >= 2)
    foreign = [fields for event, fields in proxy.events if event == "foreign-request"]
    assert len(foreign) == (1 if part != "nothing" or foreign else 0)
    assert all(fields["verdict"] == "deny" for fields in foreign)
    assert mine.source not in str(proxy.events)


def test_without_the_rule_a_neighbour_would_be_served(net: Internet, tmp_path: Path) -> None:
    def open_to_all(config: str) -> str:
        return config.replace("http_access deny !relay\n", "").replace(
            "http_access allow relay", "http_access allow all"
        )

    with proxied(net, tmp_path, "a.test", edit=open_to_all) as proxy:
        assert proxy.connect("a.test").startswith(OK)
        assert neighbour(proxy, make_key(os.urandom(10)).header(5) + CONNECT).startswith(OK)


def test_nothing_is_left_and_nothing_is_lost(net: Internet, tmp_path: Path) -> None:
    before, threads = descriptors(), threading.active_count()
    with proxied(net, tmp_path, "a.test") as proxy:
        for _ in range(20):
            assert proxy.connect("a.test").startswith(OK)
        with proxy.dial() as tunnel, proxy.dial() as idle, proxy.dial() as silent:
            tunnel.sendall(CONNECT)
            assert tunnel.recv(4096).startswith(OK)
            idle.sendall(b"GET http://a.test/ HTTP/1.1\r\n\r\n")
            assert idle.recv(4096).startswith(OK)
            pid, service = proxy.squid._child.pid, proxy.squid._service
            started = time.monotonic()
            proxy.stop()
            assert time.monotonic() - started < 10
            assert receive(silent, 0.1) == b""
        assert len([fields for event, fields in proxy.events if event == "request"]) == 22
        assert not Path(f"/proc/{pid}").exists()
        assert not list(Path("/dev/shm").glob(f"{service}*"))
        assert proxy.squid.key.source not in "".join(
            path.read_text(encoding="utf-8") for path in proxy.directory.rglob("*") if path.is_file()
        )
        proxy.stop()  # once more does nothing
    assert descriptors() == before
    assert threading.active_count() == threads


def test_a_request_that_cannot_end_is_logged_too(net: Internet, tmp_path: Path) -> None:
    blocked = threading.Event()

    def stuck(data: bytes) -> bytes:
        blocked.wait(10)
        return data[:1]

    with proxied(net, tmp_path, "a.test") as proxy:
        with proxy.dial() as tunnel:
            tunnel.sendall(CONNECT)
            assert tunnel.recv(4096).startswith(OK)
            net.reply, echo = stuck, net.reply
            tunnel.setblocking(False)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                try:
                    tunnel.send(b"x" * 65536)
                except BlockingIOError:
                    time.sleep(0.01)
            proxy.stop()
        blocked.set()
        net.reply = echo
        assert [fields["verdict"] for event, fields in proxy.events if event == "request"] == ["allow"]
        assert proxy.events[0][1]["bytes_out"] > 65536


def test_an_early_stop_does_not_wait(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "a.test") as proxy:
        started = time.monotonic()
        proxy.stop()
        assert time.monotonic() - started < 10
        assert proxy.squid.ended


def test_squid_dies(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "a.test") as proxy:
        with proxy.dial() as tunnel:
            tunnel.sendall(CONNECT)
            assert tunnel.recv(4096).startswith(OK)
            proxy.wait_for(lambda: bool(net.seen))  # its own side may see the connection a little later
            net.seen.clear()
            os.kill(proxy.squid._child.pid, signal.SIGKILL)
            assert receive(tunnel, 0.1) == b""
        proxy.wait_for(lambda: any(event == "proxy-failed" for event, _ in proxy.events))
        assert proxy.ask(CONNECT) == b""
        assert net.seen == []


@pytest.mark.parametrize("broken", ["acl odd dstdom_regex [", "acl private dst 10.1.0.0/16"])
def test_a_configuration_that_squid_does_not_understand_serves_nobody(
    net: Internet, tmp_path: Path, broken: str
) -> None:
    with proxied(net, tmp_path, "a.test", edit=lambda config: config + broken + "\n") as proxy:
        assert proxy.ask(CONNECT) == b""
        proxy.wait_for(lambda: any(event == "proxy-failed" for event, _ in proxy.events))
        assert net.seen == []


def test_our_configuration_is_understood_whole(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "a.test", "*.b.test") as proxy:
        assert proxy.connect("a.test").startswith(OK)
        said = proxy.squid._said.decode()
    assert "WARNING" not in said
    assert "ERROR" not in said


def test_a_squid_that_cannot_be_started(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "a.test", squid=Path("/nonexistent/squid")) as proxy:
        assert proxy.ask(CONNECT) == b""
        proxy.wait_for(lambda: any(event == "proxy-failed" for event, _ in proxy.events))


def test_an_address_that_is_taken_is_not_talked_to(
    net: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else listens where Squid was to listen: he gets neither the key nor the agent's words."""
    heard: list[bytes] = []

    def squat() -> socket.socket:
        taken = socket.create_server(("127.44.0.1", 30001))
        taken.settimeout(0.2)
        return taken

    squatter = net.proxy_side.run(squat)
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            try:
                there, _ = squatter.accept()
            except TimeoutError:
                continue
            with there:
                there.settimeout(0.5)
                heard.append(receive(there, 0.2))

    listener = threading.Thread(target=listen)
    listener.start()
    endpoints = iter([("127.44.0.1", 30001), ("127.44.0.2", 30002)])
    monkeypatch.setattr(squid_module, "free_endpoint", lambda: next(endpoints))
    with proxied(net, tmp_path, "a.test") as proxy:
        assert proxy.connect("a.test").startswith(OK)
        assert proxy.squid.address == "127.44.0.2"
    stop.set()
    listener.join()
    squatter.close()
    assert heard == []


def test_two_sessions_do_not_meet(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "a.test") as first, proxied(net, tmp_path, "other.test") as second:
        assert first.connect("a.test").startswith(OK)
        assert second.connect("a.test").startswith(b"HTTP/1.1 403")
        assert neighbour(second, first.squid.key.header(1) + CONNECT) == b""


def test_it_works_where_ipv6_is_switched_off(net: Internet, tmp_path: Path) -> None:
    """Without ::1 Squid switches IPv6 off, and ignores each IPv6 address in its rules."""
    try:
        net.proxy_side.command("ip", "-6", "address", "flush", "dev", "lo")
        with proxied(net, tmp_path, "a.test") as proxy:
            assert proxy.connect("a.test").startswith(OK)
            assert proxy.connect("evil.test").startswith(b"HTTP/1.1 403")
    finally:
        net.proxy_side.command("ip", "-6", "address", "add", "::1/128", "dev", "lo")


def test_a_local_service_is_reached_and_counted(net: Internet, tmp_path: Path) -> None:
    net.listen_on_proxy_side("127.0.0.1", 18080)
    service = LocalService(host="127.0.0.1", port=18080)
    with proxied(net, tmp_path, "a.test", services=(service,)) as proxy:
        (listener,) = proxy.local
        with socket.create_connection(listener.getsockname(), timeout=5) as agent:
            agent.sendall(b"ping")
            agent.shutdown(socket.SHUT_WR)
            assert receive(agent, 0.2) == b"ping"
        proxy.wait_for(lambda: bool(proxy.events))
        fields = proxy.events[0][1]
        assert (fields["host"], fields["port"], fields["verdict"]) == ("127.0.0.1", 18080, "allow")
        assert (fields["bytes_in"], fields["bytes_out"]) == (4, 4)


def test_squid_runs_as_a_user_of_its_own(net: Internet, tmp_path: Path) -> None:
    with proxied(net, tmp_path, "a.test") as proxy:
        assert proxy.connect("a.test").startswith(OK)
        pid = proxy.squid._child.pid
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        assert f"Uid:\t{PROXY_UID}\t{PROXY_UID}\t{PROXY_UID}" in status
        assert f"Gid:\t{PROXY_UID}\t{PROXY_UID}\t{PROXY_UID}" in status
        assert "CapEff:\t0000000000000000" in status
        assert (proxy.directory / "squid.conf").stat().st_mode & 0o777 == 0o400
        proxy.wait_for(lambda: open_sockets(pid) == 3)  # its listener, and two of the resolver
