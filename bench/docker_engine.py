"""A session in Docker, beside a bare ``docker run`` with the same flags."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Values, interleave, ratio, spread, table
from bench.place import Absent, Place, answer, run, small_repository
from containai.engine.docker.engine import read_profile

_IMAGE = "containai:latest"
_PROFILE = Path(__file__).resolve().parents[1] / "src/containai/data/seccomp-containai-agent.json"
_MEMORY_FILE_SYSTEMS = ("/tmp", "/var/tmp", "/run", "/home/agentuser")
_BARE, _DOCKER, _EMBEDDED = "docker run --rm", "**containai run --engine docker**", "containai run --engine embedded"


def section(place: Place, rounds: int) -> Iterator[str]:
    """Bare Docker, both engines, in turns."""
    try:
        run(["docker", "image", "inspect", _IMAGE])
    except Absent as reason:
        yield f"**Not measured: a session in Docker: no daemon with an image {_IMAGE} ({reason}).**\n"
        return
    repository = small_repository(place)
    bare = ["docker", "run", "--rm", *_flags(place), _IMAGE, "/usr/bin/true"]

    def bare_run() -> Values:
        begun = time.monotonic()
        run(bare)
        return {"whole": time.monotonic() - begun}

    def session(engine: str) -> Values:
        argv = [str(place.containai), "run", "--json", "--engine", engine, "--network-proxy", "none"]
        begun = time.monotonic()
        output = run([*argv, str(repository), "--", "true"], env=place.environment)
        return {"whole": time.monotonic() - begun, "start": float(answer(output)["startup_s"])}

    cases = {_BARE: bare_run, _DOCKER: lambda: session("docker"), _EMBEDDED: lambda: session("embedded")}
    results = interleave(cases, rounds)
    base = results[_BARE]
    yield "## A session in Docker\n"
    yield (
        f"`true`, {rounds} times, in turns; `docker run` with the flags of an agent's container. *Start*: from the "
        "start of the process to the agent's first instruction. *Whole*: to the end of the tool. Seconds: median "
        "(lowest to highest); the ratios, to the whole `docker run` of the same round, are medians over the rounds.\n"
    )
    rows = [[_BARE, "", "", spread(base, "whole", 1, 2), "1.00"]]
    for name in (_DOCKER, _EMBEDDED):
        values = results[name]
        starts = [{"whole": each["start"]} for each in values]
        start, whole = ratio(starts, base, "whole"), ratio(values, base, "whole")
        rows.append(
            [name, spread(values, "start", 1, 2), f"{start:.2f}", spread(values, "whole", 1, 2), f"{whole:.2f}"]
        )
    yield table(["", "start, s", "× docker run", "whole, s", "× docker run"], rows)


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
