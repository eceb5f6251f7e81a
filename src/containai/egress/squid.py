"""One session's Squid: started early, awaited late, ended with the session.

Squid never runs as root: the caller's ``tether`` makes it the session's proxy user, whose only directory this is. It
works with paths relative to that directory, so nobody needs a right to walk to it.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from containai.egress.accesslog import parse_access
from containai.errors import EgressError
from containai.host import process
from containai.plan.model import Identity
from containai.policy.model import NetworkPolicy
from containai.render.squid import KEY_ENTROPY_BYTES, make_key, render_pages, render_squid_conf

_CONFIG, _FIFO = "squid.conf", "access.fifo"
_READY_TIMEOUT_S = 20.0
_ATTEMPT_S = 0.02
_END_TIMEOUT_S = 5.0
_FIRST_PORT, _PORTS = 20000, 40000

OnRequest = Callable[[dict[str, Any]], None]


class Squid:
    """A Squid of our own.

    Args:
        policy: Whose domains it allows.
        directory: An empty directory, made for it.
        identity: ``proxy_uid`` gets the directory.
        program: The ``squid`` program.
        tether: What to put before its command line.
        on_request: Called with the fields of each request, by a thread of this class.
    """

    def __init__(
        self,
        *,
        policy: NetworkPolicy,
        directory: Path,
        identity: Identity,
        program: Path,
        tether: Sequence[str],
        on_request: OnRequest,
    ) -> None:
        self._directory = directory
        self._service = service_name(directory.parent.name)
        self._on_request = on_request
        self._ready = threading.Event()
        self._drained = threading.Event()
        self._last_word = f"{secrets.token_hex(16)}.containai.invalid"
        self._connections = 0
        self._counting = threading.Lock()
        self.key = make_key(secrets.token_bytes(KEY_ENTROPY_BYTES))
        # An address of its own in 127.0.0.0/8: sessions do not meet, and nobody else listens there.
        self.address = f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
        self.port = _free_port(self.address)
        self._write_files(policy, identity)
        # Read and write: Squid's open does not wait, and an end of file comes only when we close.
        self._log_fd = os.open(directory / _FIFO, os.O_RDWR | os.O_CLOEXEC)
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._child = process.spawn([*tether, program, "-N", "-n", self._service, "-f", _CONFIG], cwd=directory)
        self._reader = threading.Thread(target=self._read, name="squid-log", daemon=True)
        self._reader.start()

    def _write_files(self, policy: NetworkPolicy, identity: Identity) -> None:
        config = render_squid_conf(
            policy=policy,
            address=self.address,
            port=self.port,
            key=self.key,
            run_dir=".",
            log=_FIFO,
            own_addresses=_own_addresses(),
        )
        pages = self._directory / "errors"
        try:
            pages.mkdir(mode=0o700)
            for name, text in render_pages().items():
                (pages / name).write_text(text)
            (self._directory / _CONFIG).write_text(config)
            os.mkfifo(self._directory / _FIFO, 0o600)
            if os.geteuid() == 0:
                for path in (*pages.iterdir(), pages, *self._directory.iterdir(), self._directory):
                    os.chown(path, identity.proxy_uid, identity.proxy_gid)
        except OSError as error:
            raise EgressError("the proxy's files cannot be written", details=str(error)) from error

    def connect(self) -> socket.socket:
        """A connection that Squid takes for the session's; waits for Squid to be ready the first time.

        Raises:
            EgressError: Squid has ended, or is not ready in time.
        """
        with self._counting:
            self._connections += 1
            number = (self._connections - 1) % 65535 + 1
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                upstream = socket.create_connection((self.address, self.port), timeout=5.0)
            except OSError as error:
                if self._child.poll() is not None or time.monotonic() > deadline or self._ready.is_set():
                    raise EgressError("the session's proxy does not answer", details=str(error)) from error
                time.sleep(_ATTEMPT_S)
                continue
            self._ready.set()
            upstream.settimeout(None)
            upstream.sendall(self.key.header(number))
            return upstream

    @property
    def ended(self) -> bool:
        """Whether Squid has ended by itself."""
        return self._child.poll() is not None

    def stop(self) -> None:
        """End Squid, and hand on the last lines of its log. Idempotent."""
        if self._log_fd < 0:
            return
        if self._connections and not self.ended:
            self._drain()
        self._child.kill()  # a request to end would take Squid a second, and it holds nothing that must be saved
        self._child.wait(_END_TIMEOUT_S)
        remove_shared_memory(self._service)
        os.eventfd_write(self._stop_fd, 1)
        self._reader.join()
        os.close(self._log_fd)
        os.close(self._stop_fd)
        self._log_fd = -1

    def _drain(self) -> None:
        """Wait until every request so far has been logged: Squid logs a last one of ours behind them."""
        try:
            with self.connect() as upstream:
                upstream.sendall(f"GET http://{self._last_word}/ HTTP/1.1\r\nHost: {self._last_word}\r\n\r\n".encode())
                self._drained.wait(_END_TIMEOUT_S)
        except (EgressError, OSError):
            return  # Squid is gone, and so is what it did not write

    def _read(self) -> None:
        import select

        os.set_blocking(self._log_fd, False)
        poll = select.poll()
        poll.register(self._log_fd, select.POLLIN)
        poll.register(self._stop_fd, select.POLLIN)
        pending = b""
        while True:
            stopping = self._stop_fd in dict(poll.poll())
            while chunk := self._read_some():
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    event = parse_access(line.decode("ascii", "replace"))
                    if event is not None and event["host"] == self._last_word:
                        self._drained.set()
                    elif event is not None:
                        self._on_request(event)
            if stopping:  # Squid has ended, and what it had written has been read
                return

    def _read_some(self) -> bytes:
        try:
            return os.read(self._log_fd, 65536)
        except BlockingIOError:
            return b""


def service_name(session_id: str) -> str:
    """The name under which a session's Squid keeps its shared memory: letters and digits, unique."""
    return f"containai{session_id}"


def remove_shared_memory(service: str) -> None:
    """Remove what a Squid that was killed left in shared memory. Idempotent."""
    for leftover in Path("/dev/shm").glob(f"{service}-*"):
        leftover.unlink(missing_ok=True)


def _free_port(address: str) -> int:
    """A port that can be bound now; on an address of our own nobody else will."""
    for _ in range(100):
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as trial:
            try:
                trial.bind((address, port))
            except OSError:
                continue
            return port
    raise EgressError("no free port for the proxy", code="egress.port")


def _own_addresses() -> tuple[str, ...]:
    """Addresses of this machine's interfaces, which the agent must not reach even when they are public."""
    found = set()
    candidate = ""
    try:
        for line in Path("/proc/net/fib_trie").read_text().splitlines():
            if "|--" in line:
                candidate = line.rpartition(" ")[2]
            elif "/32 host LOCAL" in line:
                found.add(candidate)
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits = line.split()[0]
            found.add(":".join(digits[i : i + 4] for i in range(0, 32, 4)))
    except (OSError, IndexError):
        pass
    return tuple(sorted(found))
