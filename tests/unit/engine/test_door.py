"""Who asks to enter a container: with the profile's token he is let in where a visitor is awaited, else turned away."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containai.engine.docker.door import Door
from containai.errors import EngineError
from containai.host.clock import monotonic_s

pytestmark = pytest.mark.user


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path / "door", "t0ken")
    yield made
    made.close()


def knock(path: Path, token: str | None) -> int:
    """As runc does; the other end of what was handed over."""
    read, write = os.pipe()
    state = {"ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": 1, "state": {}} | (
        {"metadata": token} if token else {}
    )
    with socket.socket(socket.AF_UNIX) as runc:
        runc.connect(str(path))
        socket.send_fds(runc, [json.dumps(state).encode()], [write])
    os.close(write)
    return read


def is_closed(read: int) -> bool:
    """Whether nobody holds what was handed over: its other end is at its end."""
    with os.fdopen(read, "rb") as pipe:
        return pipe.read() == b""


def test_the_first_is_let_in(door: Door, tmp_path: Path) -> None:
    read = knock(tmp_path / "door", "t0ken")
    listener = door.first(monotonic_s() + 5)
    os.write(listener, b"x")
    os.close(listener)
    assert os.read(read, 1) == b"x"
    os.close(read)


@pytest.mark.parametrize("token", ["another", None])
def test_one_without_the_token_is_not_the_first(door: Door, tmp_path: Path, token: str | None) -> None:
    read = knock(tmp_path / "door", token)
    with pytest.raises(EngineError, match="somebody else"):
        door.first(monotonic_s() + 5)
    assert is_closed(read)


def test_nobody_comes(door: Door) -> None:
    with pytest.raises(EngineError, match="did not ask"):
        door.first(monotonic_s())


def test_visitors_are_turned_away_until_they_are_awaited(door: Door, tmp_path: Path) -> None:
    door.open_to(None)
    assert is_closed(knock(tmp_path / "door", "t0ken"))
    came = threading.Event()
    held = []

    def visitor(listener: int) -> None:
        held.append(listener)
        came.set()

    door.open_to(visitor)
    assert is_closed(knock(tmp_path / "door", "another"))
    read = knock(tmp_path / "door", "t0ken")
    assert came.wait(10)
    os.close(held[0])
    assert is_closed(read)


def test_a_closed_door_lets_nobody_in(door: Door, tmp_path: Path) -> None:
    door.open_to(None)
    door.close()
    with pytest.raises(ConnectionRefusedError):
        knock(tmp_path / "door", "t0ken")
