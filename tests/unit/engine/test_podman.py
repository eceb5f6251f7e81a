"""Podman's words for what Docker is asked for, and its answers: what means the same passes, any difference is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from containai.engine.docker.drift import find_engine_drift
from containai.engine.docker.podman import from_podman, to_podman
from containai.render.docker import MASKED
from tests.unit.engine.test_docker_drift import _set
from tests.unit.render.test_docker import asked as docker_asked

pytestmark = pytest.mark.user

PID = 4711
PROFILE = "/dev/shm/x/seccomp.json"


def asked() -> dict[str, Any]:
    return to_podman(docker_asked(), PROFILE)


def answer() -> dict[str, Any]:
    """What Podman 5.4.2 answers for it, as far as it is compared."""
    body = asked()
    sent = body["HostConfig"]
    told = {"Name": "RLIMIT_CORE", "Soft": 0, "Hard": 0}, {"Name": "RLIMIT_NOFILE", "Soft": 1048576, "Hard": 1048576}
    tmpfs = {
        path: options.replace(",U,notmpcopyup", ",uid=1234,gid=1234,rprivate")
        for path, options in sent["Tmpfs"].items()
    }
    host = {
        **sent,
        "CapDrop": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID"],
        "PidMode": "private",
        "UTSMode": "private",
        "CgroupnsMode": "",
        "MaskedPaths": None,
        "ReadonlyPaths": None,
        "SecurityOpt": ["no-new-privileges", f"seccomp={PROFILE}", "apparmor=containai-agent"],
        "Tmpfs": tmpfs,
        "Ulimits": list(told),
        "Binds": [
            f"{m['Source']}:{m['Target']}:{'ro' if m['ReadOnly'] else 'rw'},rprivate,bind" for m in sent["Mounts"]
        ],
        "LogConfig": {"Type": "none", "Config": None},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "VolumesFrom": None,
        "DeviceRequests": None,
    }
    mounts = [
        {"Type": m["Type"], "Source": m["Source"], "Destination": m["Target"], "RW": not m["ReadOnly"]}
        for m in host.pop("Mounts")
    ]
    names = ("Hostname", "User", "Entrypoint", "Cmd", "WorkingDir", "Tty", "OpenStdin", "Labels")
    config = {name: body[name] for name in names}
    config["Healthcheck"] = {"Test": ["NONE"], "Interval": 30000000000, "Timeout": 30000000000, "Retries": 3}
    return {
        "State": {"Pid": PID},
        "Image": body["Image"],
        "AppArmorProfile": "containai-agent",
        "Config": config,
        "HostConfig": copy.deepcopy(host),
        "Mounts": mounts,
        "NetworkSettings": {"Networks": {"none": {}}},
    }


def drift(found: dict[str, Any]) -> tuple[str, ...]:
    return find_engine_drift(asked(), from_podman(found, asked()), PID)


def test_the_profile_is_a_file_and_every_masked_path_an_option() -> None:
    options = asked()["HostConfig"]["SecurityOpt"]
    assert options == [
        "no-new-privileges:true",
        "apparmor=containai-agent",
        f"seccomp={PROFILE}",
        "mask=" + ":".join(MASKED),
    ]


def test_a_tmpfs_is_the_agents_and_nothing_of_the_image_is_copied_into_it() -> None:
    for options in asked()["HostConfig"]["Tmpfs"].values():
        words = options.split(",")
        assert {"U", "notmpcopyup", "nosuid", "nodev"} <= set(words)
        assert not any(word.startswith(("uid=", "gid=")) for word in words)


def test_all_else_is_what_docker_would_be_asked_for() -> None:
    ours, dockers = json.loads(json.dumps(asked())), json.loads(json.dumps(docker_asked()))
    for body in (ours, dockers):
        del body["HostConfig"]["SecurityOpt"], body["HostConfig"]["Tmpfs"]
    assert ours == dockers


def test_as_asked_for_it_passes() -> None:
    assert drift(answer()) == ()


def _tmpfs(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        told = found["HostConfig"]["Tmpfs"]
        assert old in told["/tmp"]
        told["/tmp"] = told["/tmp"].replace(old, new)

    return change


def _bind(bind: str) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["HostConfig"]["Binds"].append(bind)


DIFFERENCES = [
    (_set("State", "Pid", to=1), "process 1"),
    (_set("Image", to="sha256:other"), "sha256:other"),
    (_set("AppArmorProfile", to="unconfined"), "unconfined"),
    (_set("AppArmorProfile", to=""), "AppArmor"),
    (_set("Config", "User", to="0:0"), "User"),
    (_set("Config", "Entrypoint", to=["/bin/sh"]), "Entrypoint"),
    (_set("Config", "Healthcheck", to={"Test": ["CMD", "/evil"]}), "Healthcheck"),
    (_set("Config", "Healthcheck", to=None), "Healthcheck"),
    (_set("HostConfig", "Privileged", to=True), "Privileged"),
    (_set("HostConfig", "CapAdd", to=["SYS_ADMIN"]), "CapAdd"),
    (_set("HostConfig", "ReadonlyRootfs", to=False), "ReadonlyRootfs"),
    (_set("HostConfig", "NetworkMode", to="bridge"), "NetworkMode"),
    (_set("HostConfig", "PidMode", to="host"), "PidMode"),
    (_set("HostConfig", "UTSMode", to="host"), "UTSMode"),
    (_set("HostConfig", "IpcMode", to="host"), "IpcMode"),
    (_set("HostConfig", "SecurityOpt", to=None), "SecurityOpt"),
    (_set("HostConfig", "SecurityOpt", to=["no-new-privileges", "apparmor=containai-agent"]), "SecurityOpt"),
    (
        _set("HostConfig", "SecurityOpt", to=["seccomp=" + PROFILE, "apparmor=containai-agent"]),
        "SecurityOpt",
    ),
    (
        _set(
            *("HostConfig", "SecurityOpt"),
            to=["no-new-privileges", "apparmor=containai-agent", f"seccomp={PROFILE}", "label=disable"],
        ),
        "SecurityOpt",
    ),
    (_tmpfs("nosuid,", ""), "Tmpfs"),
    (_tmpfs("uid=1234", "uid=0"), "Tmpfs"),
    (_tmpfs("rprivate", "rprivate,tmpcopyup"), "Tmpfs"),
    (_tmpfs("rprivate", "rshared"), "Tmpfs"),
    (_set("HostConfig", "Tmpfs", to=None), "Tmpfs"),
    (_set("HostConfig", "Ulimits", to=[]), "Ulimits"),
    (_set("HostConfig", "Ulimits", to=[{"Name": "RLIMIT_CORE", "Soft": 0, "Hard": -1}]), "Ulimits"),
    (_bind("/etc:/srv:ro,rprivate,bind"), "Binds"),
    (_bind("/etc:/etc/hosts:ro,rprivate,bind"), "Binds"),
    (_set("HostConfig", "Memory", to=0), "Memory"),
    (_set("HostConfig", "PidsLimit", to=0), "PidsLimit"),
    (_set("HostConfig", "Devices", to=[{"PathOnHost": "/dev/kmsg"}]), "Devices"),
    (_set("HostConfig", "AutoRemove", to=False), "AutoRemove"),
]


@pytest.mark.parametrize(("change", "said"), DIFFERENCES)
def test_any_one_difference_is_found(change: Callable[[dict[str, Any]], None], said: str) -> None:
    found = answer()
    change(found)
    differences = drift(found)
    assert differences
    assert any(said in each for each in differences), differences
