"""What one idle session holds in memory outside its container, part by part."""

from __future__ import annotations

import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import table
from bench.place import Absent, Place, small_repository

GOAL_MB = 80
_TRIES = 3
_TIMEOUT_S = 30
# The request goes to the session's Squid, which refuses it: nothing leaves the machine.
_IDLE = "git ls-remote http://bench.invalid/x.git >/dev/null 2>&1; echo idle >&2; exec sleep 60"


def section(place: Place) -> Iterator[str]:
    tries = [_one_session(place) for _ in range(_TRIES)]
    parts = list(dict.fromkeys(name for one in tries for name in one))
    yield "## Memory of an idle session\n"
    yield (
        f"PSS (`/proc/PID/smaps_rollup`) of the processes around an agent that sleeps, after one request through "
        f"Squid; median of {_TRIES} sessions. The agent's own memory is not in it.\n"
    )
    rows = [[name, f"{statistics.median(one.get(name, 0) for one in tries):.1f}"] for name in parts]
    total = statistics.median(sum(one.values()) for one in tries)
    verdict = "met" if total < GOAL_MB else "**missed**"
    rows.append(["**together**", f"**{total:.1f}**"])
    yield table(["part", "PSS, MB"], rows)
    yield f"The goal, below {GOAL_MB} MB, is {verdict}.\n"


def _one_session(place: Place) -> dict[str, float]:
    argv = place.session(small_repository(place), "/bin/sh", "-c", _IDLE)
    # stdout and stderr are apart, and the agent's output comes on the latter.
    with subprocess.Popen(argv, env=place.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as launcher:
        assert launcher.stderr
        try:
            said = b""
            while line := launcher.stderr.readline():
                said += line
                if line.strip() == b"idle":
                    break
            else:
                raise Absent(said.decode(errors="replace"))
            time.sleep(1)
            return _measure(launcher.pid)
        finally:
            launcher.send_signal(signal.SIGTERM)
            launcher.stderr.read()
            launcher.wait(_TIMEOUT_S)


def _measure(launcher: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for pid in _tree(launcher):
        try:
            name = "launcher (Python)" if pid == launcher else _part(pid)
            if name:
                found[name] = found.get(name, 0.0) + _pss_mb(pid)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return found


def _part(pid: int) -> str:
    """Which part a process is; nothing for those of the agent."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    name = Path(words[0].decode(errors="replace")).name
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = re.search(r"^NSpid:\t(.*)$", status, re.MULTILINE)
    inside = len(numbers[1].split()) > 1 if numbers else False
    if not inside:
        return "Squid" if "squid" in name else "bubblewrap" if name == "bwrap" else f"other: {name}"
    return "shim (first process of the container)" if numbers and numbers[1].split()[-1] == "1" else ""


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def _pss_mb(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except PermissionError as error:
        raise Absent(f"the memory of process {pid} can be read by root only ({error.strerror})") from error
    match = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) * 1024 / 1e6 if match else 0.0
