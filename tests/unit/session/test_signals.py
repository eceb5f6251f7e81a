"""Signals that end a session: none is lost, whichever thread the kernel gives it to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

pytestmark = pytest.mark.user
ROUNDS = 200
WAITS = f"""
import os, select, signal, threading
from containai.session.signals import EndingSignals
signals = EndingSignals()
signal.signal(signal.SIGWINCH, lambda *_: None)
def work():
    while True:
        os.stat("/")
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
poll = select.poll()
poll.register(signals.wake_fd, select.POLLIN)
for _ in range({ROUNDS}):
    print("ready", flush=True)
    taken = set()
    while len(taken) < 3:
        poll.poll()
        while (number := signals.take()) is not None:
            taken.add(number)
    print(*sorted(taken), flush=True)
"""


def test_none_is_lost_while_other_threads_work() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        end = threading.Timer(60, child.kill)
        end.start()
        try:
            for _ in range(ROUNDS):
                assert child.stdout.readline() == "ready\n"
                for number in (signal.SIGHUP, signal.SIGWINCH, signal.SIGINT, signal.SIGTERM):
                    os.kill(child.pid, number)
                assert child.stdout.readline() == "1 2 15\n"
        finally:
            end.cancel()
            child.kill()
