"""Compare what Docker was asked for with what it says it made (I11). PURE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CONFIG = ("Hostname", "User", "Entrypoint", "Cmd", "WorkingDir", "Tty", "OpenStdin", "Healthcheck", "Labels")
_HOST_CONFIG = (
    *("Privileged", "CapAdd", "CapDrop", "ReadonlyRootfs", "NetworkMode", "IpcMode", "PidMode", "UTSMode"),
    *("CgroupnsMode", "MaskedPaths", "ReadonlyPaths", "Devices", "GroupAdd", "Binds", "VolumesFrom", "PortBindings"),
    *("AutoRemove", "Init", "Memory", "MemorySwap", "CpuPeriod", "CpuQuota", "PidsLimit", "SecurityOpt", "Tmpfs"),
    *("PublishAllPorts", "DeviceRequests", "Ulimits", "ShmSize", "OomScoreAdj", "RestartPolicy", "LogConfig"),
    # Never asked for, and so to be empty.
    *("DeviceCgroupRules", "CgroupParent", "Sysctls", "UsernsMode", "OomKillDisable", "ExtraHosts", "Links"),
)


def find_engine_drift(asked: Mapping[str, Any], found: Mapping[str, Any], pid: int) -> tuple[str, ...]:
    """Every difference, in words.

    Args:
        asked: The body of the ``create`` call.
        found: What ``inspect`` answers.
        pid: The first process, as the kernel vouches for it.
    """
    return tuple(_differences(asked, found, pid))


def _differences(asked: Mapping[str, Any], found: Mapping[str, Any], pid: int) -> Iterator[str]:
    if found["State"]["Pid"] != pid:
        yield f"Docker says that process {found['State']['Pid']} is the container's first, and not {pid}"
    if found["Image"] != asked["Image"]:
        yield f"the image is {found['Image']}, planned {asked['Image']}"
    if f"apparmor={found['AppArmorProfile']}" not in asked["HostConfig"]["SecurityOpt"]:
        yield f"Docker's AppArmor profile is {found['AppArmorProfile']!r}"
    labels = {k: v for k, v in (found["Config"]["Labels"] or {}).items() if k in asked["Labels"]}
    config = {**found["Config"], "Labels": labels}
    for name in _CONFIG:
        yield from _compare(name, asked[name], config.get(name))
    for name in _HOST_CONFIG:
        yield from _compare(name, asked["HostConfig"].get(name), found["HostConfig"].get(name))
    yield from _mounts(asked, found)
    networks = [name for name in found["NetworkSettings"]["Networks"] or {} if name != "none"]
    if networks:
        yield f"the container is in the networks {', '.join(networks)}"


def _compare(name: str, asked: Any, found: Any) -> Iterator[str]:
    if isinstance(asked, Mapping) and isinstance(found, Mapping):
        # Docker adds what is empty, such as the options of a driver.
        found = {key: value for key, value in found.items() if key in asked or value}
    if (asked or None) != (found or None):  # Docker answers null for nothing
        yield f"Docker's {name} is {found!r}, planned {asked!r}"


def _mounts(asked: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    wanted = {(m["Source"], m["Target"], m["ReadOnly"]) for m in asked["HostConfig"]["Mounts"]}
    made = {(m["Source"], m["Destination"], not m["RW"]) for m in found["Mounts"] if m["Type"] == "bind"}
    for source, target, _ in sorted(made - wanted):
        yield f"Docker bound {source} to {target}, which was not planned so"
    for source, target, _ in sorted(wanted - made):
        yield f"Docker did not bind {source} to {target} as planned"
    for mount in found["Mounts"]:
        if mount["Type"] not in ("bind", "tmpfs"):
            yield f"Docker mounted a {mount['Type']} at {mount['Destination']}, which was not planned"
