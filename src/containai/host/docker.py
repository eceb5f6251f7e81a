"""The daemon's API, in the project's own words: the only user of the ``docker`` library, loaded on first use.

Trust: the daemon is root's, on this machine. Whoever may ask it may do everything here, so that a session never can.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from containai.errors import EngineError

SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"  # Source: Podman's podman.socket, root's
DOCKER, PODMAN = "Docker", "Podman"
API_VERSION = "1.44"  # Source: Docker 25.0, the oldest that preflight lets pass
_TIMEOUT_S = 60
_BUILD_TIMEOUT_S = 1800
_NAME_TAKEN, _GONE = 409, 404
_DOCKER_SAYS = re.compile(r"Docker/(\S+) \(\w+\)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def find_socket() -> str:
    """Where this machine's daemon is asked: at Docker's socket, or at Podman's where only that leads anywhere."""
    return PODMAN_SOCKET if not os.path.exists(SOCKET) and os.path.exists(PODMAN_SOCKET) else SOCKET


class Daemon:
    """A connection to the local daemon, Docker's or Podman's; safe from several threads."""

    def __init__(self, socket_path: str = "") -> None:
        self._socket_path = socket_path or find_socket()
        self._local = threading.local()

    def about(self) -> tuple[str, str]:
        """Docker or Podman, and its version, in a form of the question that every version answers.

        Docker tells both at the head of each answer. To the question itself it answers late, for it executes other
        programs, to ask them for their versions.
        """
        with _told(f"the daemon behind {self._socket_path} does not answer"):
            answer = self._client.get(f"{self._client.base_url}/_ping", timeout=_TIMEOUT_S)
            answer.raise_for_status()
            if told := _DOCKER_SAYS.fullmatch(answer.headers.get("Server", "")):
                return DOCKER, told[1]
            said = self._client.version(api_version=False)
            components = {str(each.get("Name")) for each in said.get("Components") or ()}
            return (PODMAN if "Podman Engine" in components else DOCKER), str(said["Version"])

    def info(self) -> dict[str, Any]:
        """``GET /info``."""
        with _told(f"the daemon behind {self._socket_path} does not answer"):
            return dict(self._client.info())

    def image(self, reference: str) -> dict[str, Any] | None:
        """``GET /images/REFERENCE/json``; None where there is none."""
        with _told("the image cannot be inspected"):
            try:
                return dict(self._client.inspect_image(reference))
            except _library().errors.ImageNotFound:
                return None

    def create(self, config: Mapping[str, Any], name: str) -> str:
        """Create a container; its id. Where the name is taken, it gets none of ours."""
        with _told("the container could not be created"):
            try:
                return str(self._client.create_container_from_config(dict(config), name=name or None)["Id"])
            except _library().errors.APIError as error:
                if not name or error.status_code != _NAME_TAKEN:
                    raise
            return str(self._client.create_container_from_config(dict(config))["Id"])

    def start(self, container: str) -> None:
        """Start a container."""
        with _told("the container could not be started"):
            self._client.start(container)

    def inspect(self, container: str) -> dict[str, Any]:
        """``GET /containers/ID/json``."""
        with _told("the container cannot be inspected"):
            return dict(self._client.inspect_container(container))

    def remove(self, container: str) -> None:
        """End and remove a container, and wait until it is gone. No effect on one that is."""
        with _told("the container could not be removed"):
            try:
                self._client.remove_container(container, force=True, v=True)
            except _library().errors.APIError as error:
                if error.status_code == _NAME_TAKEN:  # it is being removed
                    with contextlib.suppress(_library().errors.APIError):
                        self._client.wait(container, condition="removed")
                elif error.status_code != _GONE:
                    raise

    def find(self, label: str) -> list[str]:
        """Ids of all containers with a label, ``NAME=VALUE``."""
        with _told("the containers cannot be listed"):
            return [str(each["Id"]) for each in self._client.containers(all=True, filters={"label": label})]

    def build(self, context: bytes, tag: str, arguments: Mapping[str, str], network: str) -> Iterator[str]:
        """Build an image from an archive; each line that the build prints.

        Raises:
            EngineError: ``image.build``: a step failed.
        """
        printed = _Printed()
        with _told("the image could not be built"):
            lines = self._client.build(
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
        with _told("the root file system could not be imported"):
            self._client.import_image_from_file(str(archive), repository=repository, tag=tag)
        return reference

    @property
    def _client(self) -> Any:
        """This thread's own client."""
        client = getattr(self._local, "client", None)
        if client is None:
            client = _library().client(base_url=f"unix://{self._socket_path}", version=API_VERSION, timeout=_TIMEOUT_S)
            client.trust_env = False  # no proxy stands between us and a socket
            self._local.client = client
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
def _told(summary: str) -> Iterator[None]:
    """Every exception of the libraries' as one of ours."""
    library = _library()
    try:
        yield
    except (library.errors.DockerException, library.failure, OSError) as error:
        details = getattr(error, "explanation", None) or _reason(error)
        remedy = ["containai doctor --engine docker"]
        raise EngineError(summary, code="engine.docker", details=str(details), remedy=remedy) from error


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
    errors: Any
    failure: type[Exception]


# requests loads one of these to guess the encoding of answers that name none. Docker's are JSON, whose rule it knows.
_GUESSERS = ("charset_normalizer", "chardet")


def _metadata() -> ModuleType:
    """What urllib3 takes of ``importlib.metadata``; it is loaded if ever called: where HTTP/2 is asked for."""
    module = ModuleType("importlib.metadata")
    module.version = lambda name: importlib.import_module("importlib.metadata").version(name)  # type: ignore[attr-defined]
    return module


@cache
def _library() -> _Library:
    """The library's plain client, and none of what stands above it: of the time of a launch, every module costs some.

    The package is entered without its ``__init__``, which would load all of it.
    """
    with contextlib.ExitStack() as undo:
        if "docker" not in sys.modules:
            found = importlib.util.find_spec("docker")
            assert found is not None
            sys.modules["docker"] = importlib.util.module_from_spec(found)
        for name in _GUESSERS:
            if name not in sys.modules:
                sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
                undo.callback(sys.modules.pop, name)
        if "importlib.metadata" not in sys.modules:
            sys.modules["importlib.metadata"] = _metadata()
            undo.callback(sys.modules.pop, "importlib.metadata")
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # that there is none
        from docker.api.client import APIClient
        from requests.exceptions import RequestException

        from docker import errors
    return _Library(APIClient, errors, RequestException)
