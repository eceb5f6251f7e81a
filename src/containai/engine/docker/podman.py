"""Docker's API as Podman speaks it: what it is asked for in other words, and what it answers in others. PURE.

What Podman does not tell at all (the capabilities that are gone, masked paths, the cgroup namespace) is left to the
kernel, which the drift check asks in any case. What it tells must mean what was asked for.
Source: tried with Podman 5.4.2; its pkg/api/handlers/compat/containers_create.go and containers.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where Podman tells programs that they run in a container: read-only, and empty in one that is not privileged.
MARKER = "/run/.containerenv"
_UNTOLD = ("CapDrop", "MaskedPaths", "ReadonlyPaths", "CgroupnsMode")


def to_podman(body: Mapping[str, Any], profile: str) -> dict[str, Any]:
    """The body of the ``create`` call so that Podman does what Docker would.

    Podman wants the seccomp profile in a file. It drops ``MaskedPaths`` in silence, and has an option of its own for
    them. It gives a tmpfs to the container's user by ``U``, and copies the image's files into it unless told not to.

    Args:
        body: What Docker would be sent.
        profile: The file with the seccomp profile.
    """
    host = body["HostConfig"]
    return {
        **body,
        "HostConfig": {
            **host,
            "SecurityOpt": [
                *(option for option in host["SecurityOpt"] if not option.startswith("seccomp=")),
                f"seccomp={profile}",
                f"mask={':'.join(host['MaskedPaths'])}",
            ],
            "Tmpfs": {target: _tmpfs(options) for target, options in host["Tmpfs"].items()},
        },
    }


def _tmpfs(options: str) -> str:
    kept = [each for each in options.split(",") if not each.startswith(("uid=", "gid="))]
    return ",".join((*kept, "U", "notmpcopyup"))


def from_podman(found: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What Podman's ``inspect`` answers, in the words of what it was asked for where it means the same.

    Args:
        found: Podman's answer.
        asked: The body of the ``create`` call, as Podman got it.
    """
    wanted, told = asked["HostConfig"], found["HostConfig"]
    limits = {each["Name"] for each in wanted["Ulimits"]}
    bound = {f"{mount['Source']}:{mount['Target']}" for mount in wanted["Mounts"]}
    options = {option.removesuffix(":true") for option in wanted["SecurityOpt"] if not option.startswith("mask=")}
    host = {
        **told,
        **{name: wanted[name] for name in _UNTOLD},
        **{name: "" for name in ("PidMode", "UTSMode") if told[name] == "private"},
        "SecurityOpt": wanted["SecurityOpt"] if set(told["SecurityOpt"] or ()) == options else told["SecurityOpt"],
        "Tmpfs": {target: _asked_tmpfs(each, asked["User"]) for target, each in (told["Tmpfs"] or {}).items()},
        "Ulimits": [limit for limit in map(_ulimit, told["Ulimits"] or ()) if limit["Name"] in limits],
        "Binds": [bind for bind in told["Binds"] or () if bind.rpartition(":")[0] not in bound],
    }
    config = {**found["Config"], "Healthcheck": {"Test": (found["Config"].get("Healthcheck") or {}).get("Test")}}
    return {**found, "HostConfig": host, "Config": config}


def _asked_tmpfs(options: str, user: str) -> str:
    """Podman says whose the tmpfs is, and names its defaults."""
    uid, _, gid = user.partition(":")
    told = options.split(",")
    owner = [f"uid={uid}", f"gid={gid}"]
    if told[-3:] != [*owner, "rprivate"]:
        return options
    return ",".join((*told[:-3], "U", "notmpcopyup"))


def _ulimit(told: Mapping[str, Any]) -> dict[str, Any]:
    return {**told, "Name": str(told["Name"]).removeprefix("RLIMIT_").lower()}
