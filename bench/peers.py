"""The other tools: how each is had and called. One that cannot be had says why."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.docker import find_docker
from bench.measure import Case, Values
from bench.place import STAMP, Absent, Place, run, timed

# Pinned, so that two runs compare the same things.
_SRT = "@anthropic-ai/sandbox-runtime"
_SRT_VERSION = "0.0.78"
SANDLOCK = "sandlock==0.9.0"
_SANDLOCK_SCRIPT = """
import sys
from sandlock import Sandbox
readable = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/dev"]
result = Sandbox(fs_readable=readable, fs_writable=[".", "/tmp", "/dev"]).run(sys.argv[1:], timeout=300)
print(result.stdout.decode())
sys.exit(0 if result.success else f"{result}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool to compare with; ``note`` says what is special about it here."""

    case: Case
    note: str = ""


Obtain = Callable[[Place, Path, ExitStack], Peer]


def _peer(place: Place, argv: list[str], cwd: Path, note: str = "") -> Peer:
    def case() -> Values:
        return timed([*argv, *STAMP], cwd=cwd, env=place.environment)[0]

    return Peer(case=case, note=note)


def _bare(place: Place, repository: Path, _stack: ExitStack) -> Peer:
    return _peer(place, [], repository)


def _bubblewrap(place: Place, repository: Path, _stack: ExitStack) -> Peer:
    if not shutil.which("bwrap"):
        raise Absent("bwrap is not installed")
    mounts = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    here = ["--bind", str(repository), str(repository), "--chdir", str(repository)]
    return _peer(place, ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", *mounts, *here], repository)


def _srt(place: Place, repository: Path, _stack: ExitStack) -> Peer:
    for program in ("node", "npm", "socat", "rg"):
        if not shutil.which(program):
            raise Absent(f"{program} is not installed, which it needs")
    folder = place.cache / f"srt-{_SRT_VERSION}"
    program_path = folder / "node_modules/.bin/srt"
    if not program_path.exists():
        run(["npm", "install", "--no-fund", "--no-audit", "--prefix", str(folder), f"{_SRT}@{_SRT_VERSION}"])
    settings = place.work / "srt.json"
    network = {"allowedDomains": ["example.com"], "deniedDomains": []}
    files = {"denyRead": [], "allowWrite": ["."], "denyWrite": []}
    settings.write_text(json.dumps({"network": network, "filesystem": files}))
    return _peer(place, [str(program_path), "-s", str(settings)], repository)


def sandlock(place: Place) -> list[str]:
    """The words before a command that run it in sandlock; installed where it is not there yet.

    Raises:
        Absent: It cannot be had.
    """
    folder = place.cache / SANDLOCK
    python = folder / "bin/python"
    if not (folder / "complete").exists():
        run([sys.executable, "-m", "venv", "--clear", str(folder)])
        run([str(python), "-m", "pip", "install", "-q", SANDLOCK])
        (folder / "complete").touch()
    return [str(python), "-c", _SANDLOCK_SCRIPT]


def _sandlock(place: Place, repository: Path, _stack: ExitStack) -> Peer:
    return _peer(place, sandlock(place), repository)


def _docker(place: Place, _repository: Path, stack: ExitStack) -> Peer:
    prefix, note = stack.enter_context(find_docker(place))
    return _peer(place, prefix, place.work, note)


PEERS: dict[str, Obtain] = {
    "the command alone": _bare,
    "bubblewrap alone": _bubblewrap,
    f"sandlock ({SANDLOCK})": _sandlock,
    f"srt ({_SRT} {_SRT_VERSION})": _srt,
    "docker run --rm": _docker,
}


def obtain_peers(place: Place, repository: Path, stack: ExitStack) -> tuple[dict[str, Peer], dict[str, str]]:
    """Every peer, tried once; and the reason for each one that is absent."""
    peers: dict[str, Peer] = {}
    absent: dict[str, str] = {}
    for name, obtain in PEERS.items():
        try:
            peer = obtain(place, repository, stack)
            peer.case()
            peers[name] = peer
        except Absent as reason:
            absent[name] = str(reason)
    return peers, absent
