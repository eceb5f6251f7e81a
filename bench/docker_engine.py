"""A session in Docker, beside a bare ``docker run`` with the same flags."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.measure import Values, interleave, ratio, spread, table
from bench.place import Absent, Place, answer, run, small_repository
from containai.engine.docker.engine import read_profile

_IMAGE = "containai:latest"
_PROFILE = Path(__file__).resolve().parents[1] / "src/containai/data/seccomp-containai-agent.json"
_MEMORY_FILE_SYSTEMS = ("/tmp", "/var/tmp", "/run", "/home/agentuser")
_WORK_S = 3  # of an agent that works for a while, and so has its end made ready meanwhile
_BARE, _DOCKER, _EMBEDDED = "docker run --rm", "**containai run --engine docker**", "containai run --engine embedded"


def section(place: Place, rounds: int) -> Iterator[str]:
    """Bare Docker, both engines, in turns."""
    try:
        run(["docker", "image", "inspect", _IMAGE])
    except Absent as reason:
        yield f"**Not measured: a session in Docker: no daemon with an image {_IMAGE} ({reason}).**\n"
        return
    repository, flags = small_repository(place), _flags(place)

    def bare_run(program: list[str]) -> Values:
        begun = time.monotonic()
        run(["docker", "run", "--rm", *flags, _IMAGE, *program])
        return {"whole": time.monotonic() - begun}

    def session(engine: str, program: list[str]) -> Values:
        argv = [str(place.containai), "run", "--json", "--engine", engine, "--network-proxy", "none"]
        begun = time.monotonic()
        output = run([*argv, str(repository), "--", *program], env=place.environment)
        return {"whole": time.monotonic() - begun, "start": float(answer(output)["startup_s"])}

    yield "## A session in Docker\n"
    yield (
        f"{rounds} times, in turns; `docker run` with the flags of an agent's container. *Start*: from the start of "
        "the process to the agent's first instruction. *Whole*: to the end of the tool, without what the program "
        "sleeps. Seconds: median (lowest to highest); the ratios, to the whole `docker run` of the same round, are "
        "medians over the rounds.\n"
    )
    for work_s in (0, _WORK_S):
        program = ["/usr/bin/sleep", str(work_s)] if work_s else ["/usr/bin/true"]
        cases = {
            _BARE: partial(bare_run, program),
            _DOCKER: partial(session, "docker", program),
            _EMBEDDED: partial(session, "embedded", program),
        }
        results = interleave(cases, rounds)
        yield f"`{' '.join(program)}`:\n"
        yield table(["", "start, s", "× docker run", "whole, s", "× docker run"], _rows(results, work_s))


def _rows(results: dict[str, list[Values]], work_s: int) -> list[list[str]]:
    """A line for each tool; the bare one's whole run is what the others are compared with."""
    own = {name: [{"whole": each["whole"] - work_s} for each in values] for name, values in results.items()}
    base = own[_BARE]
    rows = [[_BARE, "", "", spread(base, "whole", 1, 2), "1.00"]]
    for name in (_DOCKER, _EMBEDDED):
        starts = [{"whole": each["start"]} for each in results[name]]
        start, whole = ratio(starts, base, "whole"), ratio(own[name], base, "whole")
        rows.append(
            [name, spread(starts, "whole", 1, 2), f"{start:.2f}", spread(own[name], "whole", 1, 2), f"{whole:.2f}"]
        )
    return rows


def _flags(place: Place) -> list[str]:
    """Those of ``render/docker.py``, but for what nobody would answer: the notifications of the seccomp profile."""
    profile, workspace = place.work / "seccomp.json", place.work / "workspace"
    workspace.mkdir()
    profile.write_text(json.dumps(read_profile(_PROFILE)).replace("SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW"))
    user = "1000:1000" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
    memory = "rw,nosuid,nodev,exec,size=268435456,mode=755"
    return [
        *(f"--user={user}", "--cap-drop=ALL", "--read-only", "--network=none", "--ipc=private", "--cgroupns=private"),
        *("--security-opt=no-new-privileges:true", "--security-opt=apparmor=containai-agent"),
        f"--security-opt=seccomp={profile}",
        *("--memory=4g", "--memory-swap=4g", "--cpu-period=100000", "--cpu-quota=200000", "--pids-limit=1024"),
        *("--ulimit=core=0:0", "--shm-size=64m", "--log-driver=none", "--no-healthcheck", "--oom-score-adj=500"),
        "--hostname=containai",
        *(f"--tmpfs={path}:{memory}" for path in _MEMORY_FILE_SYSTEMS),
        f"--mount=type=bind,source={workspace},target=/workspace",
    ]
