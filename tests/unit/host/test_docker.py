"""What the daemon is asked, and its answers in the project's own words; a daemon of the test's stands behind a socket."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from containai.errors import EngineError
from containai.host.docker import Daemon

pytestmark = [pytest.mark.user, pytest.mark.timeout(60)]

_LOOK = """
import sys
from containai.host.docker import Daemon
print(*Daemon(sys.argv[1]).about())
print(*sorted({"docker", "requests", "urllib3", "http.client"} & set(sys.modules)))
from containai.host.docker import _library
print(_library().client.__name__, *(each.__name__ for each in _library().failures))
"""


class Stand(ThreadingMixIn, UnixStreamServer):
    """Answers each question as it was told to, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, dict[str, list[str]], Any]] = []
        super().__init__(self.path, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Stand

    def _handle(self) -> None:
        where = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, where.path, parse_qs(where.query), body))
        status, said = self.server.answers[self.command, where.path].pop(0)
        self.send_response(status)
        self.end_headers()
        if said is not None:
            self.wfile.write(json.dumps(said).encode())

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - the names are the library's

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path / "docker.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_launch_loads_no_library_and_a_build_does(stand: Stand) -> None:
    stand.answers["GET", "/version"] = [(200, {"Version": "26.1.5", "Components": [{"Name": "Engine"}]})]
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, stand.path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["Docker 26.1.5", "", "APIClient DockerException RequestException"], done.stderr


def test_a_daemon_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as told:
        Daemon(str(tmp_path / "no.sock")).about()
    error = told.value
    assert (error.summary, error.code, error.details, error.remedy) == (
        f"the daemon behind {tmp_path}/no.sock does not answer",
        "engine.docker",
        "No such file or directory",
        ("containai doctor --engine docker",),
    )


def test_a_refusal_is_told_in_the_daemons_words(stand: Stand) -> None:
    stand.answers["POST", "/v1.44/containers/one/start"] = [(500, {"message": "no room"}), (302, None)]
    for details in ("no room", "status 302"):
        with pytest.raises(EngineError) as told:
            Daemon(stand.path).start("one")
        assert (told.value.summary, told.value.details) == ("the container could not be started", details)


def test_an_answer_without_what_was_asked_for_is_an_error(stand: Stand) -> None:
    stand.answers["GET", "/v1.44/containers/one/json"] = [(200, None)]
    with pytest.raises(EngineError):
        Daemon(stand.path).inspect("one")


def test_a_name_that_is_taken_is_left_out(stand: Stand) -> None:
    create = ("POST", "/v1.44/containers/create")
    stand.answers[create] = [(409, {"message": "in use"}), (201, {"Id": "one"})]
    assert Daemon(stand.path).create({"Image": "x"}, "mine") == "one"
    assert stand.asked == [(*create, {"name": ["mine"]}, {"Image": "x"}), (*create, {}, {"Image": "x"})]


def test_an_image_that_is_not_there_and_a_reference_that_is_no_name(stand: Stand) -> None:
    path = "/v1.44/images/a/b:c%3Fd%23e/json"
    stand.answers["GET", path] = [(404, {"message": "no"}), (200, {"Id": "sha256:1"})]
    assert Daemon(stand.path).image("a/b:c?d#e") is None
    assert Daemon(stand.path).image("a/b:c?d#e") == {"Id": "sha256:1"}


def test_containers_are_found_by_their_label(stand: Stand) -> None:
    stand.answers["GET", "/v1.44/containers/json"] = [(200, [{"Id": "one"}, {"Id": "two"}])]
    assert Daemon(stand.path).find("containai.session=1") == ["one", "two"]
    ((_, _, query, _),) = stand.asked
    assert query == {"all": ["1"], "filters": ['{"label": ["containai.session=1"]}']}


def test_a_removal_is_waited_for_where_the_daemon_has_begun_it(stand: Stand) -> None:
    stand.answers["DELETE", "/v1.44/containers/one"] = [(204, None), (404, {"message": "no"}), (409, {"message": "is"})]
    stand.answers["POST", "/v1.44/containers/one/wait"] = [(200, {"StatusCode": 137})]
    for _ in range(3):
        Daemon(stand.path).remove("one")
    assert [(method, query) for method, _, query, _ in stand.asked] == [
        *[("DELETE", {"force": ["1"], "v": ["1"]})] * 3,
        ("POST", {"condition": ["removed"]}),
    ]
