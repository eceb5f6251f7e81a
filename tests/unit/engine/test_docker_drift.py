"""What Docker says about a container: as asked for it passes, and any one difference is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from containai.engine.docker.drift import find_engine_drift
from tests.unit.render.test_docker import asked

pytestmark = pytest.mark.user

PID = 4711


def answer() -> dict[str, Any]:
    """What Docker 26.1.5 answers for it, as far as it is compared; it says null for what is empty."""
    body = asked()
    host = {
        **body["HostConfig"],
        **dict.fromkeys(("CapAdd", "Binds", "GroupAdd", "VolumesFrom")),
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }
    mounts = [
        {"Type": m["Type"], "Source": m["Source"], "Destination": m["Target"], "RW": not m["ReadOnly"]}
        for m in host.pop("Mounts")
    ]
    config = {
        name: body[name]
        for name in ("Hostname", "User", "Entrypoint", "Cmd", "WorkingDir", "Tty", "OpenStdin", "Healthcheck")
    }
    return {
        "State": {"Pid": PID},
        "Image": body["Image"],
        "AppArmorProfile": "containai-agent",
        "Config": {**config, "Labels": {**body["Labels"], "of.the.image": "x"}},
        "HostConfig": copy.deepcopy(host),
        "Mounts": mounts,
        "NetworkSettings": {"Networks": {"none": {}}},
    }


def test_as_asked_for_it_passes() -> None:
    assert find_engine_drift(asked(), answer(), PID) == ()


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        for name in path[:-1]:
            found = found[name]
        found[path[-1]] = to

    return change


def _more_mounts(**mount: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["Mounts"].append(mount)


DIFFERENCES = [
    (_set("State", "Pid", to=1), "process 1"),
    (_set("Image", to="sha256:other"), "sha256:other"),
    (_set("AppArmorProfile", to="docker-default"), "docker-default"),
    (_set("AppArmorProfile", to="unconfined"), "unconfined"),
    (_set("AppArmorProfile", to=""), "AppArmor"),
    (_set("AppArmorProfile", to="containai"), "AppArmor"),
    (_set("Config", "User", to="0:0"), "User"),
    (_set("Config", "Entrypoint", to=["/bin/sh"]), "Entrypoint"),
    (_set("Config", "Cmd", to=["-c", "true"]), "Cmd"),
    (_set("HostConfig", "Privileged", to=True), "Privileged"),
    (_set("HostConfig", "CapAdd", to=["SYS_ADMIN"]), "CapAdd"),
    (_set("HostConfig", "CapDrop", to=None), "CapDrop"),
    (_set("HostConfig", "ReadonlyRootfs", to=False), "ReadonlyRootfs"),
    (_set("HostConfig", "NetworkMode", to="bridge"), "NetworkMode"),
    (_set("HostConfig", "PidMode", to="host"), "PidMode"),
    (_set("HostConfig", "IpcMode", to="host"), "IpcMode"),
    (_set("HostConfig", "UTSMode", to="host"), "UTSMode"),
    (_set("HostConfig", "CgroupnsMode", to="host"), "CgroupnsMode"),
    (_set("HostConfig", "MaskedPaths", to=[]), "MaskedPaths"),
    (_set("HostConfig", "ReadonlyPaths", to=[]), "ReadonlyPaths"),
    (_set("HostConfig", "Devices", to=[{"PathOnHost": "/dev/sda"}]), "Devices"),
    (_set("HostConfig", "SecurityOpt", to=["no-new-privileges:true"]), "SecurityOpt"),
    (_set("HostConfig", "Memory", to=0), "Memory"),
    (_set("HostConfig", "MemorySwap", to=-1), "MemorySwap"),
    (_set("HostConfig", "CpuQuota", to=0), "CpuQuota"),
    (_set("HostConfig", "PidsLimit", to=0), "PidsLimit"),
    (_set("HostConfig", "Tmpfs", to={}), "Tmpfs"),
    (_set("HostConfig", "Ulimits", to=None), "Ulimits"),
    (_set("HostConfig", "ShmSize", to=1 << 40), "ShmSize"),
    (_set("HostConfig", "LogConfig", to={"Type": "json-file", "Config": {}}), "LogConfig"),
    (_set("HostConfig", "RestartPolicy", to={"Name": "always", "MaximumRetryCount": 0}), "RestartPolicy"),
    (_set("HostConfig", "RestartPolicy", to={"Name": "no", "MaximumRetryCount": 3}), "RestartPolicy"),
    (_set("HostConfig", "DeviceCgroupRules", to=["a *:* rwm"]), "DeviceCgroupRules"),
    (_set("HostConfig", "CgroupParent", to="/"), "CgroupParent"),
    (_set("HostConfig", "Sysctls", to={"net.ipv4.ip_forward": "1"}), "Sysctls"),
    (_set("HostConfig", "UsernsMode", to="host"), "UsernsMode"),
    (_set("Config", "Healthcheck", to={"Test": ["CMD", "true"]}), "Healthcheck"),
    (_set("NetworkSettings", "Networks", to={"none": {}, "bridge": {}}), "bridge"),
    (_more_mounts(Type="bind", Source="/", Destination="/host", RW=True), "/host"),
    (_more_mounts(Type="volume", Source="v", Destination="/data", RW=True), "/data"),
    (lambda found: found["Mounts"].pop(0), "did not bind"),
    (lambda found: found["Mounts"][-1].update(RW=True), "not planned so"),
]


@pytest.mark.parametrize(("change", "said"), DIFFERENCES)
def test_one_difference_is_found(change: Callable[[dict[str, Any]], None], said: str) -> None:
    found = answer()
    change(found)
    drift = find_engine_drift(asked(), found, PID)
    assert any(said in line for line in drift), drift
