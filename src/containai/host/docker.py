"""The daemon's API, in the project's own words: the only user of the ``docker`` library, which only a build loads.

What a session asks goes straight to the socket (``unix_http``).

Trust: the daemon is root's, on this machine. Whoever may ask it may do everything here, so that a session never can.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from containai.errors import EngineError
from containai.host.unix_http import ask

SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"  # Source: Podman's podman.socket, root's
DOCKER, PODMAN = "Docker", "Podman"
API_VERSION = "1.44"  # Source: Docker 25.0, the oldest that preflight lets pass
_TIMEOUT_S = 60
_BUILD_TIMEOUT_S = 1800
_NAME_TAKEN, _GONE = 409, 404
_WITHOUT_WORDS = frozenset({204, 304})  # done, and nothing to say; nothing to do
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def find_socket() -> str:
    """Where this machine's daemon is asked: at Docker's socket, or at Podman's where only that leads anywhere."""
    return PODMAN_SOCKET if not os.path.exists(SOCKET) and os.path.exists(PODMAN_SOCKET) else SOCKET


class _Refused(Exception):
    """The daemon's own refusal, in its words."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Daemon:
    """A way to the local daemon, Docker's or Podman's; safe from several threads."""

    def __init__(self, socket_path: str = "") -> None:
        self._socket_path = socket_path or find_socket()

    def about(self) -> tuple[str, str]:
        """Docker or Podman, and its version, in a form of the question that every version answers."""
        with _told(f"the daemon behind {self._socket_path} does not answer"):
            said = self._ask("GET", "/version", version="")
            components = {str(each.get("Name")) for each in said.get("Components") or ()}
            return (PODMAN if "Podman Engine" in components else DOCKER), str(said["Version"])

    def info(self) -> dict[str, Any]:
        """``GET /info``."""
        with _told(f"the daemon behind {self._socket_path} does not answer"):
            return dict(self._ask("GET", "/info"))

    def image(self, reference: str) -> dict[str, Any] | None:
        """``GET /images/REFERENCE/json``; None where there is none."""
        with _told("the image cannot be inspected"):
            try:
                return dict(self._ask("GET", f"/images/{quote(reference, safe='/:')}/json"))
            except _Refused as error:
                if error.status == _GONE:
                    return None
                raise

    def create(self, config: Mapping[str, Any], name: str) -> str:
        """Create a container; its id. Where the name is taken, it gets none of ours."""
        with _told("the container could not be created"):
            try:
                return str(self._ask("POST", "/containers/create", config, **({"name": name} if name else {}))["Id"])
            except _Refused as error:
                if not name or error.status != _NAME_TAKEN:
                    raise
            return str(self._ask("POST", "/containers/create", config)["Id"])

    def start(self, container: str) -> None:
        """Start a container."""
        with _told("the container could not be started"):
            self._ask("POST", f"/containers/{container}/start")

    def inspect(self, container: str) -> dict[str, Any]:
        """``GET /containers/ID/json``."""
        with _told("the container cannot be inspected"):
            return dict(self._ask("GET", f"/containers/{container}/json"))

    def remove(self, container: str) -> None:
        """End and remove a container, and wait until it is gone. No effect on one that is."""
        with _told("the container could not be removed"):
            try:
                self._ask("DELETE", f"/containers/{container}", force="1", v="1")
            except _Refused as error:
                if error.status == _NAME_TAKEN:  # it is being removed
                    with contextlib.suppress(_Refused):
                        self._ask("POST", f"/containers/{container}/wait", condition="removed")
                elif error.status != _GONE:
                    raise

    def find(self, label: str) -> list[str]:
        """Ids of all containers with a label, ``NAME=VALUE``."""
        with _told("the containers cannot be listed"):
            found = self._ask("GET", "/containers/json", all="1", filters=json.dumps({"label": [label]}))
            return [str(each["Id"]) for each in found]

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        version: str = f"/v{API_VERSION}",
        **parameters: str,
    ) -> Any:
        """One question; what the daemon answers.

        Raises:
            _Refused: It says no.
            OSError: It says nothing.
            ValueError: What it says is no JSON.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        answer = ask(self._socket_path, method, f"{version}{path}{query}", content, timeout_s=_TIMEOUT_S)
        if not (200 <= answer.status < 300 or answer.status in _WITHOUT_WORDS):
            raise _Refused(answer.status, _why(answer.body) or f"status {answer.status}")
        return None if answer.status in _WITHOUT_WORDS else json.loads(answer.body)

    def build(self, context: bytes, tag: str, arguments: Mapping[str, str], network: str) -> Iterator[str]:
        """Build an image from an archive; each line that the build prints.

        Raises:
            EngineError: ``image.build``: a step failed.
        """
        printed, library = _Printed(), _library()
        with _told("the image could not be built", library.failures):
            lines = self._client(library).build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                tag=tag,
                buildargs=dict(arguments),
                network_mode=network or None,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=_BUILD_TIMEOUT_S,
            )
            for line in lines:
                if "error" in line:
                    raise EngineError(f"{tag} could not be built", code="image.build", details=str(line["error"]))
                yield from printed.lines(str(line.get("stream", "")) or f"{line.get('status', '')}\n")

    def import_archive(self, archive: Path, reference: str) -> str:
        """Make an image of a root file system; its name."""
        repository, _, tag = reference.partition(":")
        library = _library()
        with _told("the root file system could not be imported", library.failures):
            self._client(library).import_image_from_file(str(archive), repository=repository, tag=tag)
        return reference

    def _client(self, library: _Library) -> Any:
        client = library.client(base_url=f"unix://{self._socket_path}", version=API_VERSION, timeout=_TIMEOUT_S)
        client.trust_env = False  # no proxy stands between us and a socket
        return client


class _Printed:
    """What the programs of a build print, which the daemon hands on in pieces, and in colours."""

    def __init__(self) -> None:
        self._begun = ""

    def lines(self, piece: str) -> Iterator[str]:
        """The lines that end in this piece."""
        *whole, self._begun = (self._begun + _COLOUR.sub("", piece)).split("\n")
        yield from (text.rstrip("\r") for text in whole if text.strip())


@contextlib.contextmanager
def _told(summary: str, failures: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """What goes wrong, as one of our errors; ``failures`` are a library's."""
    told: tuple[type[Exception], ...] = (_Refused, OSError, ValueError, *failures)
    try:
        yield
    except told as error:
        details = getattr(error, "explanation", None) or _reason(error)
        remedy = ["containai doctor --engine docker"]
        raise EngineError(summary, code="engine.docker", details=str(details), remedy=remedy) from error


def _why(body: bytes) -> str:
    """The daemon's words in an answer that says no."""
    try:
        return str(json.loads(body)["message"])
    except (KeyError, TypeError, ValueError):
        return body.decode(errors="replace").strip()


def _reason(error: BaseException) -> str:
    """Why, in the kernel's words where it was the kernel that refused: the libraries wrap those up."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error)


class _Library(NamedTuple):
    client: Any
    failures: tuple[type[Exception], ...]


def _library() -> _Library:
    """Docker's own client, for what is more than a question and an answer."""
    from docker.api.client import APIClient
    from requests.exceptions import RequestException

    from docker import errors

    return _Library(APIClient, (errors.DockerException, RequestException))
