"""What the attacks are aimed at: a repository with the attacking programs, and bait on the host around it."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from containai.errors import SelfTestError
from containai.host.process import MINIMAL_ENVIRONMENT, Child, run, spawn
from containai.policy.model import Policy
from containai.record import dataclass

MEMORY_BYTES = 256 * 1024 * 1024  # of the session in which resources are attacked
FLOOD = 400  # programs that are started as fast as may be
SECRET_NAME, PASSED_NAME = "SELFTEST_SECRET", "SELFTEST_PASSED"
_PROGRAMS = resources.files("containai.data") / "selftest"
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_IPC_CREAT_EXCL, _IPC_RMID = 0o3600, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The bait, as the judge needs it.

    Attributes:
        token: A word that occurs nowhere else.
        secret: Value of a variable of the launcher's that is not passed.
        passed: Value of one that is.
        marker: A file that appears when a planted hook runs on the host.
        victim: A process of the host's.
        service: A service of the host's.
    """

    repository: Path
    token: str
    secret: str
    passed: str
    marker: Path
    victim: Child
    service: Service

    def git(self, *words: str) -> str:
        """Git in the repository, as its user."""
        return _git(self.repository, *words)


class Service:
    """A service on the host's loopback, by TCP, that answers anybody with a word and counts who came."""

    def __init__(self, word: str) -> None:
        self._answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(word)}\r\nConnection: close\r\n\r\n{word}".encode()
        self._listeners = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self._listeners[0].getsockname()[1]
        with suppress(OSError):  # a machine without IPv6, or somebody else has the port there
            self._listeners.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        self.visitors = 0
        for listener in self._listeners:
            threading.Thread(target=self._serve, args=(listener,), name="selftest-service", daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                link, _ = listener.accept()
                self.visitors += 1
                with link, suppress(OSError):
                    link.settimeout(2)
                    link.recv(4096)
                    link.sendall(self._answer)

    def stop(self) -> None:
        """Close it."""
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@contextmanager
def set_stage(policy: Policy, home: Path, state_dir: Path) -> Iterator[Stage]:
    """Lay out the bait; take it away afterwards.

    Raises:
        SelfTestError: The repository cannot be made.
    """
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="containai-selftest-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        token = f"selftest{secrets.token_hex(8)}"
        answer = secrets.token_hex(16)
        service = Service(answer)
        stack.callback(service.stop)
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{token}")
        abstract.listen()
        named = stack.enter_context(socket.socket(socket.AF_UNIX))
        named.bind(os.fspath(place / "socket"))
        named.listen()
        (place / "canary").write_text(f"{token}\n")
        for bait, mode in ((place, 0o755), (place / "canary", 0o644), (place / "socket", 0o666)):
            bait.chmod(mode)  # nothing but the container keeps the agent from it
        (place / token).write_text("")
        victim = spawn(["tail", "-f", place / token])
        stack.callback(_end, victim)
        repository, private = _make_repository(place, token)
        targets = {
            **_policy_facts(policy),
            "token": token,
            "answer": answer,
            "port": service.port,
            "victim": victim.pid,
            "canary": str(place / "canary"),
            "decoy": str(place),
            "socket": str(place / "socket"),
            "home": str(home),
            "state": str(state_dir),
            "shadow": "/etc/shadow",
            "repository": str(repository),
            "another": str(_make_another(place)),
            "marker": str(place / "marker"),
            "private_commit": private,
            "shm_key": stack.enter_context(_shared_memory()),
            "secret_name": SECRET_NAME,
            "flood": FLOOD,
        }
        (repository / "selftest/targets.json").write_text(json.dumps(targets))
        _git(repository, "add", "--all")
        _git(repository, *_NAMED, "commit", "--quiet", "--message", "Attacks")
        yield Stage(
            repository=repository,
            token=token,
            secret=secrets.token_hex(16),
            passed=secrets.token_hex(16),
            marker=place / "marker",
            victim=victim,
            service=service,
        )


def _policy_facts(policy: Policy) -> dict[str, Any]:
    return {
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES},
        "mode": policy.network.mode.value,
        "allowed": next(iter(policy.network.domains), "example.org").removeprefix("*."),
        "granted": [service.port for service in policy.network.local_services],
        "pids": policy.limits.pids_max,
        "open_files": policy.limits.open_files,
        "memory": MEMORY_BYTES,
        "tmpfs": policy.limits.tmpfs_bytes,
    }


_NAMED = ("-c", "user.name=Self-test", "-c", "user.email=selftest@containai.invalid")


def _make_repository(place: Path, token: str) -> tuple[Path, str]:
    """The repository, and a commit that is on a branch of its own which no session may see."""
    repository = place / "repository"
    (repository / "selftest").mkdir(parents=True)
    for entry in _PROGRAMS.iterdir():
        if entry.name.endswith(".py"):
            (repository / "selftest" / entry.name).write_text(entry.read_text(encoding="utf-8"))
    (repository / ".gitignore").write_text("__pycache__/\n")
    _git(repository, "init", "--quiet", "--initial-branch=main")
    _git(repository, "add", ".gitignore")
    _git(repository, *_NAMED, "commit", "--quiet", "--message", "Begin")
    tree = _git(repository, "rev-parse", "HEAD^{tree}")
    private = _git(repository, *_NAMED, "commit-tree", tree, "-p", "HEAD", "-m", f"private {token}")
    _git(repository, "update-ref", "refs/heads/private", private)
    return repository, private


def _make_another(place: Path) -> Path:
    """A repository that no session has to do with."""
    repository = place / "another"
    repository.mkdir()
    _git(repository, "init", "--quiet", "--initial-branch=main")
    _git(repository, *_NAMED, "commit", "--quiet", "--allow-empty", "--message", "Another")
    return repository


def _git(repository: Path, *words: str) -> str:
    done = run(["git", "-C", repository, *words], env={**MINIMAL_ENVIRONMENT, "HOME": "/nonexistent"})
    if done.status != 0:
        raise SelfTestError(
            "the self-test's repository cannot be used",
            code="selftest.git",
            details=done.said,
            remedy=["df -h: is there room in the directory for temporary files?", "containai doctor"],
        )
    return done.stdout.decode(errors="replace").strip()


@contextmanager
def _shared_memory() -> Iterator[int]:
    """A System V segment of the host's, under a key of its own."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    key = secrets.randbelow(1 << 30) + 1
    segment = libc.shmget(key, 4096, _IPC_CREAT_EXCL)
    try:
        yield key
    finally:
        if segment >= 0:
            libc.shmctl(segment, _IPC_RMID, None)


def _end(child: Child) -> None:
    child.kill()
    child.wait()
