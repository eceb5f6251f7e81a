"""Bytes go both ways, to the end, whatever either side does; and it stops when told."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from containai.egress import relay as relay_module
from containai.egress.relay import Relay
from containai.errors import EgressError

pytestmark = pytest.mark.user


@contextmanager
def served(
    server: Callable[[socket.socket], None],
) -> Iterator[tuple[Callable[[], socket.socket], list[tuple[int, int, str]], Relay]]:
    """A relay to a server function; how to dial it, its events, itself."""
    listener = socket.create_server(("127.0.0.1", 0))
    upstream = socket.create_server(("127.0.0.1", 0))
    ended: list[tuple[int, int, str]] = []
    threads: list[threading.Thread] = []

    def connect() -> socket.socket:
        mine = socket.create_connection(upstream.getsockname(), timeout=5)
        mine.settimeout(None)
        theirs, _ = upstream.accept()
        thread = threading.Thread(target=run, args=(theirs,))
        threads.append(thread)
        thread.start()
        return mine

    def run(theirs: socket.socket) -> None:
        with theirs:
            theirs.settimeout(10)
            try:
                server(theirs)
            except OSError:
                pass

    relay = Relay(listener.fileno(), connect, lambda *event: ended.append(event), threading.BoundedSemaphore(500))
    try:
        yield lambda: socket.create_connection(listener.getsockname(), timeout=10), ended, relay
    finally:
        relay.stop()
        for thread in threads:
            thread.join(10)
        listener.close()
        upstream.close()


def read_all(sock: socket.socket) -> bytes:
    received = bytearray()
    while chunk := sock.recv(1 << 18):
        received += chunk
    return bytes(received)


def echo(theirs: socket.socket) -> None:
    while chunk := theirs.recv(65536):
        theirs.sendall(chunk)


def wait(event: threading.Event) -> None:
    event.wait(10)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_bytes_go_both_ways_and_are_counted() -> None:
    with served(echo) as (dial, ended, _), dial() as agent:
        agent.sendall(b"hello")
        assert agent.recv(100) == b"hello"
        agent.shutdown(socket.SHUT_WR)
        assert read_all(agent) == b""
        wait_for(lambda: bool(ended))
        assert ended == [(5, 5, "")]


def test_one_side_may_end_before_the_other() -> None:
    def answer_at_the_end(theirs: socket.socket) -> None:
        theirs.sendall(b"%d" % len(read_all(theirs)))

    with served(answer_at_the_end) as (dial, _, _), dial() as agent:
        agent.sendall(b"x" * 100_000)
        agent.shutdown(socket.SHUT_WR)
        assert read_all(agent) == b"100000"


def test_a_server_that_answers_while_it_is_sent_to_does_not_stop_the_flow() -> None:
    """Both sides write more than all buffers hold before either reads: no direction may wait for the other."""
    size = 24 * 1024 * 1024  # beyond the buffers of three sockets

    def talk_first(theirs: socket.socket) -> None:
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: theirs.recv(1 << 20), b"")])
        theirs.sendall(b"y" * size)  # nothing is read until all of this is gone
        reader.start()
        reader.join()

    with served(talk_first) as (dial, _, _), dial() as agent:
        agent.settimeout(20)

        def send() -> None:
            agent.sendall(b"x" * size)
            agent.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(0.2)  # the way out is full now
        assert len(read_all(agent)) == size
        sender.join(20)
        assert not sender.is_alive()


def test_a_refused_connection_is_closed_and_said() -> None:
    def refuse() -> socket.socket:
        raise EgressError("not today")

    ended: list[tuple[int, int, str]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(listener.fileno(), refuse, lambda *event: ended.append(event), threading.BoundedSemaphore(500))
        with socket.create_connection(listener.getsockname(), timeout=5) as agent:
            assert agent.recv(10) == b""
        relay.stop()
    assert ended == [(0, 0, "not today")]


def test_stopping_is_prompt_and_leaves_nothing() -> None:
    before, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
    done = threading.Event()
    with served(lambda _theirs: wait(done)) as (dial, ended, relay):
        agents = [dial() for _ in range(20)]
        agents[0].setblocking(False)
        try:
            while agents[0].send(b"x" * 65536):  # a server that does not read
                pass
        except BlockingIOError:
            pass
        wait_for(lambda: len(relay._threads) == 20)
        started = time.monotonic()
        relay.stop()
        assert time.monotonic() - started < 10
        assert len(ended) == 20
        for agent in agents:
            agent.close()
        relay.stop()
        done.set()
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_the_number_of_connections_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "MAX_CONNECTIONS", 3)
    with served(echo) as (dial, _, relay):
        agents = [dial() for _ in range(3)]
        for agent in agents:
            agent.sendall(b"x")
            assert agent.recv(1) == b"x"
        with dial() as one_more:
            assert one_more.recv(1) == b""
        agents.pop().close()
        wait_for(lambda: len(relay._threads) == 2)
        with dial() as again:
            again.sendall(b"y")
            assert again.recv(1) == b"y"
        for agent in agents:
            agent.close()


def test_a_reset_ends_both_sides() -> None:
    def reset(theirs: socket.socket) -> None:
        theirs.recv(10)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with served(reset) as (dial, ended, _), dial() as agent:
        agent.sendall(b"x")
        agent.settimeout(5)
        try:
            assert agent.recv(10) == b""
        except ConnectionResetError:
            pass
        agent.close()
        wait_for(lambda: bool(ended))


def test_relays_share_the_room_for_connections() -> None:
    """Without that they held 3 each."""
    together = threading.BoundedSemaphore(4)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        upstream = socket.create_server(("127.0.0.1", 0))
        relays = [
            Relay(one.fileno(), lambda: socket.create_connection(upstream.getsockname(), 10), lambda *_: None, together)
            for one in (server, other)
        ]
        agents = [socket.create_connection(one.getsockname(), timeout=10) for one in (server, other) for _ in range(3)]
        turned_away = 0
        for agent in agents:
            agent.settimeout(1)
            try:
                turned_away += agent.recv(1) == b""
            except TimeoutError:
                continue
        assert turned_away == 2
        for agent in agents:
            agent.close()
        upstream.close()  # with all that wait to be accepted
        deadline = time.monotonic() + 30
        while together._value < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert together._value == 4
        for relay in relays:
            relay.stop()


@pytest.mark.parametrize(("soft", "most"), [(256, 1), (1024, 312), (8192, 600)])
def test_the_room_follows_from_what_the_launcher_may_open(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    monkeypatch.setattr(relay_module, "allowed", lambda: soft)
    assert relay_module.connections_together() == most
