"""One session's Squid: started early, awaited late, ended with the session.

Squid never runs as root: the caller's ``tether`` makes it the session's proxy user, whose only directory this is. It
works with paths relative to that directory, so nobody needs a right to walk to it.

Start: 1 choose an address, write the files; 2 spawn; 3 at the first connection, wait until the proxy's user listens
there, and Squid has understood every line of its configuration; 4 connect, and send the key only if Squid still lives.
End: 5 ask for something that is refused, and wait for its line in the log: every earlier request has been logged then;
6 kill, unless requests are still open, which Squid logs when it is asked to end.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess  # noqa: TID251  for its types: children are started by host/process.py
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from containai.egress.accesslog import MAX_LINE, parse_access
from containai.egress.addresses import free_endpoint, own_addresses
from containai.egress.listening import listener_uid, open_sockets, tcp_table
from containai.errors import ContainaiError, EgressError
from containai.host import process
from containai.host.clock import monotonic_s
from containai.plan.model import Identity
from containai.policy.model import NetworkPolicy
from containai.render.squid import KEY_ENTROPY_BYTES, make_key, render_pages, render_squid_conf

_CONFIG, _FIFO = "squid.conf", "access.fifo"
_READY_TIMEOUT_S = 20.0
_POLL_S = 0.003
_END_TIMEOUT_S = 5.0
_DRAIN_TIMEOUT_S = 1.0
_LAST_CONNECTION = 65535  # the number of the connection that asks for step 5
_LAST_REQUEST = b"OPTIONS http://containai.invalid/ HTTP/1.1\r\nConnection: close\r\n\r\n"
_MAX_SAID = 64 * 1024
_STARTS = 3
_ADDRESS_TAKEN = b"Address already in use"

# Squid drops what it does not understand and goes on: a rule could be missing.
_NOT_UNDERSTOOD = ("ERROR", "FATAL", "ignored", "Skipping")

OnEvent = Callable[[str, Mapping[str, Any]], None]


class Squid:
    """A Squid of our own.

    Call it from a thread that lives as long as the session: the kernel ends a tethered child with its parent *thread*.

    Args:
        policy: Whose domains it allows.
        directory: An empty directory, made for it.
        identity: ``proxy_uid`` gets the directory.
        program: The ``squid`` program.
        tether: What to put before its command line.
        on_event: Called with name and fields of each event, by a thread of this class: ``request`` for what the agent
            asked, ``foreign-request`` for what somebody else on this machine tried, ``proxy-failed``.

    Raises:
        EgressError: Its files cannot be written.
        ContainaiError: It cannot be started.
    """

    def __init__(
        self,
        *,
        policy: NetworkPolicy,
        directory: Path,
        identity: Identity,
        program: Path,
        tether: Sequence[str],
        on_event: OnEvent,
    ) -> None:
        self._policy = policy
        self._directory = directory
        self._uid = identity.proxy_uid
        self._gid = identity.proxy_gid
        if self._uid == 0 and os.geteuid() == 0:
            raise EgressError("the proxy would run as root", code="egress.root", remedy=["containai doctor"])
        self._service = service_name(directory.parent.name)
        self._on_event = on_event
        self._state = threading.Lock()  # guards: _ready, _fault, _connections
        self._ready = False
        self._fault = ""
        self._connections = 0
        self._sockets_at_rest = 0
        self._ending = threading.Event()
        self._drained = threading.Event()
        self._said = b""
        self.key = make_key(os.urandom(KEY_ENTROPY_BYTES))
        self._write_files()
        # Read and write: Squid's open does not wait, and an end of file comes only when we close.
        self._log_fd = os.open(directory / _FIFO, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._said_fd, self._say_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._command: list[str | bytes | Path] = [
            *tether,
            program,
            "-N",
            "-d",
            "0",
            "-n",
            self._service,
            "-f",
            _CONFIG,
        ]
        self._child = self._spawn()
        self._reader = threading.Thread(target=self._read, name="squid-log", daemon=True)
        self._reader.start()

    def _write_files(self) -> None:
        pages = self._directory / "errors"
        try:
            pages.mkdir(mode=0o700)
            for name, text in render_pages().items():
                (pages / name).write_text(text, encoding="utf-8")
            os.mkfifo(self._directory / _FIFO, 0o600)
            self._give(*pages.iterdir(), pages, self._directory / _FIFO, self._directory)
        except OSError as error:
            raise _unwritable(error) from error

    def _give(self, *paths: Path) -> None:
        if os.geteuid() == 0:
            for path in paths:
                os.chown(path, self._uid, self._gid, follow_symlinks=False)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.address, self.port = free_endpoint()
        config = render_squid_conf(
            policy=self._policy,
            address=self.address,
            port=self.port,
            key=self.key,
            run_dir=".",
            log=_FIFO,
            own_addresses=own_addresses(),
        )
        path = self._directory / _CONFIG
        try:
            path.unlink(missing_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)  # it holds the key
            with open(fd, "w", encoding="ascii") as file:
                file.write(config)
            self._give(path)
        except OSError as error:
            raise _unwritable(error) from error
        return process.spawn(self._command, cwd=self._directory, stderr=self._say_fd)

    def connect(self) -> socket.socket:
        """A connection that Squid takes for the session's; waits for Squid to be ready the first time.

        Raises:
            EgressError: Squid has ended, was never ready, or did not understand its configuration.
        """
        self._await_ready()
        with self._state:
            self._connections += 1
            number = (self._connections - 1) % (_LAST_CONNECTION - 1) + 1
        return self._open(number)

    def _open(self, number: int) -> socket.socket:
        try:
            upstream = socket.create_connection((self.address, self.port), timeout=5.0)
        except OSError as error:
            raise EgressError(
                "the session's proxy does not answer",
                details=str(error),
                remedy=["containai doctor", "containai log --kind network"],
            ) from error
        # While Squid lives, nobody else can listen there: so it was Squid that has accepted.
        if self.ended:
            upstream.close()
            raise EgressError("the session's proxy has ended", remedy=["containai log --kind network"])
        upstream.settimeout(None)
        upstream.sendall(self.key.header(number))
        return upstream

    def _await_ready(self) -> None:
        deadline = monotonic_s() + _READY_TIMEOUT_S
        while True:
            with self._state:
                if self._fault:
                    raise EgressError("the session's proxy is not there", details=self._fault)
                if self._ready:
                    return
                if listener_uid(tcp_table(self._child.pid), self.address, self.port) == self._uid:
                    self._note_start()
                    continue
            if self._ending.wait(_POLL_S):
                raise EgressError("the session ends")
            if monotonic_s() > deadline:
                self._fail("it was not ready in time")

    def _note_start(self) -> None:
        self._said += self._read_some(self._said_fd)
        said = self._said.decode("utf-8", "replace")
        if any(sign in said for sign in _NOT_UNDERSTOOD):
            self._fault = f"it did not understand its configuration: {said.strip()}"
            self._child.kill()
            return
        self._ready = True
        self._sockets_at_rest = open_sockets(self._child.pid)
        remove_shared_memory(self._service)  # it is mapped, and its names are of no further use

    @property
    def ended(self) -> bool:
        """Whether Squid has ended."""
        return self._child.poll() is not None

    def stop(self) -> None:
        """End Squid, and hand on the last lines of its log. Call it after the relay's ``stop``. Idempotent."""
        if self._log_fd < 0:
            return
        self._ending.set()
        settled = not self._connections or self._drain()
        if settled or not self._ready:
            self._child.kill()
        else:
            self._child.terminate()  # with shutdown_lifetime 0 it logs what is open and ends, after a second
        try:
            self._child.wait(_END_TIMEOUT_S)
        except process.TimeoutExpired:
            self._child.kill()
            self._child.wait(_END_TIMEOUT_S)
        os.eventfd_write(self._stop_fd, 1)
        self._reader.join()
        remove_shared_memory(self._service)
        (self._directory / _CONFIG).unlink(missing_ok=True)
        for fd in (self._log_fd, self._stop_fd, self._said_fd, self._say_fd):
            os.close(fd)
        self._log_fd = -1

    def _drain(self) -> bool:
        """Step 5; True when every request has ended and been logged."""
        deadline = monotonic_s() + _DRAIN_TIMEOUT_S
        try:
            with self._open(_LAST_CONNECTION) as last:
                last.settimeout(_DRAIN_TIMEOUT_S)
                last.sendall(_LAST_REQUEST)
                while last.recv(4096):
                    pass
        except (OSError, EgressError):
            return False
        if not self._drained.wait(_DRAIN_TIMEOUT_S):
            return False
        quiet_until = min(deadline, monotonic_s() + 0.05)
        while open_sockets(self._child.pid) > self._sockets_at_rest:
            if monotonic_s() > quiet_until:
                return False
            self._reader.join(_POLL_S)
        return True

    def _read(self) -> None:
        """Hand on the log until the end; notice when Squid ends before."""
        child = os.pidfd_open(self._child.pid)
        poll = select.poll()
        for fd in (self._log_fd, self._stop_fd, child):
            poll.register(fd, select.POLLIN)
        pending, starts = b"", 1
        while True:
            ready = dict(poll.poll())
            while chunk := self._read_some(self._log_fd):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
                pending = pending[-MAX_LINE:]
            if self._stop_fd in ready:  # Squid has ended, and what it had written has been read
                break
            if child in ready:
                poll.unregister(child)
                os.close(child)
                child = -1
                if self._start_again(starts):
                    starts += 1
                    child = os.pidfd_open(self._child.pid)
                    poll.register(child, select.POLLIN)
        if child >= 0:
            os.close(child)

    def _start_again(self, starts: int) -> bool:
        """Squid has ended by itself: start another where somebody else took its address; else say that it failed."""
        with self._state:
            if self._ending.is_set():
                return False
            self._child.wait()
            self._said = (self._said + self._read_some(self._said_fd))[-_MAX_SAID:]
            if not self._ready and not self._fault and starts < _STARTS and _ADDRESS_TAKEN in self._said:
                self._said = b""
                try:
                    self._child = self._spawn()
                except ContainaiError as error:
                    self._fault = error.summary
                else:
                    return True
            self._fault = self._fault or f"it has ended: {self._said.decode('utf-8', 'replace').strip()}"
            fault = self._fault
        self._on_event("proxy-failed", {"host": "", "port": 0, "verdict": "deny", "reason": _printable(fault)})
        return False

    def _take(self, line: bytes) -> None:
        try:
            access = parse_access(line, self.key)
        except ValueError:
            self._on_event("unreadable-request", {"host": "", "port": 0, "verdict": "deny", "reason": "unreadable"})
            return
        if access is None:
            return
        if access.connection == _LAST_CONNECTION:
            self._drained.set()
        else:
            self._on_event("request" if access.genuine else "foreign-request", access.fields)

    def _fail(self, fault: str) -> None:
        with self._state:
            self._fault = self._fault or fault
        self._child.kill()

    @staticmethod
    def _read_some(fd: int) -> bytes:
        try:
            return os.read(fd, _MAX_SAID)
        except BlockingIOError:
            return b""


def service_name(session_id: str) -> str:
    """The name under which a session's Squid keeps its shared memory: letters and digits, unique."""
    return f"containai{session_id}"


def remove_shared_memory(service: str) -> None:
    """Remove what a Squid that was killed left in shared memory. Idempotent."""
    for leftover in Path("/dev/shm").glob(f"{service}-*"):
        leftover.unlink(missing_ok=True)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:500]


def _unwritable(error: OSError) -> EgressError:
    return EgressError(
        "the proxy's files cannot be written",
        details=str(error),
        remedy=["df -h: is there room where the state is kept?"],
    )
