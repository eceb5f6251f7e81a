"""The agent's standard streams.

A container never receives a descriptor of the host's: through one it could reopen, truncate or read
back a file, or type into the user's terminal. It gets pipes, or a terminal of its own, and the
launcher copies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import termios
import threading
import tty
from typing import Any

from containai.engine.protocol import Stdio
from containai.session.terminal import Written

_CHUNK = 65536
_LAST_STANDARD_FD = 2
_DRAIN_TIMEOUT_S = 5.0


class PipedStreams:
    """Pipes between the launcher's streams and the agent's."""

    def __init__(self, owner_uid: int, stdout: int, *, with_input: bool = True) -> None:
        self._stdout = stdout
        self._with_input = with_input
        self._threads: list[threading.Thread] = []
        self._terminals: list[tuple[int, Written]] = []
        in_read, self._in_write = os.pipe()
        self._out_read, out_write = os.pipe()
        self._err_read, err_write = os.pipe()
        self.stdio = Stdio(stdin=in_read, stdout=out_write, stderr=err_write)
        self._theirs = (in_read, out_write, err_write)
        if os.geteuid() == 0:  # so that the agent can open /dev/stdout
            for fd in self._theirs:
                os.fchown(fd, owner_uid, -1)

    def given(self) -> None:
        """Close the agent's ends: they live on in the container alone."""
        for fd in self._theirs:
            os.close(fd)

    def pump(self, _terminal_fd: int) -> None:
        """Start to copy."""
        if self._with_input:
            threading.Thread(target=_copy, args=(0, self._in_write), daemon=True, name="stdin").start()
        else:
            os.close(self._in_write)
        for read, write in ((self._out_read, self._stdout), (self._err_read, 2)):
            written = Written() if os.isatty(write) else None
            if written is not None:
                self._terminals.append((write, written))
            thread = threading.Thread(target=_copy, args=(read, write, written), daemon=True, name=f"stdio-{write}")
            thread.start()
            self._threads.append(thread)

    def drain(self) -> None:
        """Wait until everything that the agent wrote has arrived."""
        for thread in self._threads:
            thread.join(_DRAIN_TIMEOUT_S)
        while self._terminals:
            _restore(*self._terminals.pop())


class TerminalStreams:
    """The user's terminal, in raw mode, joined to the agent's own."""

    def __init__(self) -> None:
        self.stdio = Stdio(stdin=-1, stdout=-1, stderr=-1, terminal=True)
        self._before: list[Any] | None = None
        self._output: threading.Thread | None = None
        self._master = -1
        self._written = Written()

    def given(self) -> None:
        """Nothing was given away."""

    def pump(self, terminal_fd: int) -> None:
        """Start to copy; size changes follow the user's terminal."""
        self._master = os.dup(terminal_fd)
        self._before = termios.tcgetattr(0)
        tty.setraw(0)
        self._resize()
        signal.signal(signal.SIGWINCH, lambda *_: self._resize())
        threading.Thread(target=_copy, args=(0, self._master), daemon=True, name="terminal-in").start()
        self._output = threading.Thread(
            target=_copy, args=(self._master, 1, self._written), daemon=True, name="terminal-out"
        )
        self._output.start()

    def _resize(self) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def drain(self) -> None:
        """Wait for the last output and give the user's terminal back."""
        if self._output is not None:
            self._output.join(_DRAIN_TIMEOUT_S)
        if self._before is not None:
            _restore(1, self._written)
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(0, termios.TCSAFLUSH, self._before)
            self._before = None


def open_streams(owner_uid: int, *, quiet_stdout: bool, unattended: bool) -> PipedStreams | TerminalStreams:
    """A terminal for the agent when the user sits at one, else pipes.

    Args:
        owner_uid: The agent's user, who may open his streams again.
        quiet_stdout: Whether standard output is kept for the result: what the agent prints then goes
            to standard error.
        unattended: Whether nobody answers: the agent gets no terminal, and its input ends at once. Agents
            that were given a task wait for more on an input that stays open.
    """
    if unattended:
        return PipedStreams(owner_uid, 2 if quiet_stdout else 1, with_input=False)
    if sys.stdin.isatty() and sys.stdout.isatty() and not quiet_stdout:
        return TerminalStreams()
    return PipedStreams(owner_uid, 2 if quiet_stdout else 1)


def _copy(source: int, target: int, written: Written | None = None) -> None:
    """Copy until either side ends, then close ours: the other side must learn of it, not wait."""
    with contextlib.suppress(OSError):
        while chunk := os.read(source, _CHUNK):
            if written is not None:
                written.saw(chunk)
            _write(target, chunk)
    for fd in (source, target):
        if fd > _LAST_STANDARD_FD:
            os.close(fd)


def _write(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]


def _restore(terminal: int, written: Written) -> None:
    with contextlib.suppress(OSError):
        _write(terminal, written.restoring)
