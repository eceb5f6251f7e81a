"""What Docker is asked for: every flag of docs/docker.md, and nothing secret."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from containai.engine.protocol import ContainerSpec
from containai.host.layout import HostLayout
from containai.plan.filesystem import account_files, home_directories, plan_mounts
from containai.plan.model import HOME, FileOrigin, Identity, StagedFile
from containai.policy.model import Limits
from containai.render.docker import MASKED, render_docker

pytestmark = pytest.mark.user

LAYOUT = HostLayout(links=(), trees=(), etc=(), masked=(), cpu_info=False, cpus=2, memory_bytes=1 << 32)
CREDENTIAL = StagedFile(target=HOME / ".codex/auth.json", origin=FileOrigin.HOST, content="/home/me/.codex/auth.json")
WRITABLE = StagedFile(target=HOME / ".x", origin=FileOrigin.TEXT, content="mine", read_only=False)
FILES = (*account_files(1234), CREDENTIAL)
SPEC = ContainerSpec(
    label="agent",
    session_id="0123456789ab",
    hostname="containai",
    command=("agent", "--token", "C0MMAND"),
    environment={"KEY": "S3CRET"},
    working_directory=PurePosixPath("/workspace"),
    mounts=(*plan_mounts(LAYOUT, Path("/s/workspace"), (), (), 1 << 20), *home_directories(FILES, 1 << 20)),
    files=(*FILES, WRITABLE),
    identity=Identity(agent_uid=1234, agent_gid=1234, proxy_uid=1, proxy_gid=1),
    limits=replace(Limits(), cpus=1.5, memory_bytes=1 << 30, pids_max=77),
    listeners=(9418,),
    supervised=True,
    name="shell-repo-session-1",
    labels=(("containai.type", "agent"),),
    image="sha256:abc",
)


def asked() -> dict[str, Any]:
    return render_docker(
        SPEC,
        files={file: f"/dev/shm/x/{number}" for number, file in enumerate(FILES)},
        shim="/usr/lib/containai-shim",
        control="/dev/shm/x/control",
        seccomp={"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/dev/shm/x/door"},
        apparmor_profile="containai-agent",
    )


FLAGS: list[tuple[str, Any]] = [
    ("Privileged", False),
    ("CapDrop", ["ALL"]),
    ("CapAdd", []),
    ("ReadonlyRootfs", True),
    ("NetworkMode", "none"),
    ("IpcMode", "private"),
    ("PidMode", ""),
    ("UTSMode", ""),
    ("CgroupnsMode", "private"),
    ("RestartPolicy", {"Name": "no"}),
    ("LogConfig", {"Type": "none"}),
    ("AutoRemove", True),
    ("Binds", []),
    ("Devices", []),
    ("GroupAdd", []),
    ("PidsLimit", 77),
    ("Memory", 1 << 30),
    ("MemorySwap", 1 << 30),
    ("CpuPeriod", 100_000),
    ("CpuQuota", 150_000),
]


@pytest.mark.parametrize(("name", "value"), FLAGS)
def test_a_flag(name: str, value: Any) -> None:
    assert asked()["HostConfig"][name] == value


def test_the_three_security_options() -> None:
    nnp, apparmor, seccomp = asked()["HostConfig"]["SecurityOpt"]
    assert nnp == "no-new-privileges:true"
    assert apparmor == "apparmor=containai-agent"
    assert json.loads(seccomp.removeprefix("seccomp="))["listenerPath"] == "/dev/shm/x/door"


def test_no_core_dump() -> None:
    assert asked()["HostConfig"]["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]


def test_what_docker_shows_holds_neither_command_nor_environment() -> None:
    """C2."""
    text = json.dumps(asked())
    assert "S3CRET" not in text
    assert "C0MMAND" not in text
    assert asked()["Env"] == []


def test_the_image_decides_neither_user_nor_program_nor_health_check() -> None:
    body = asked()
    assert body["User"] == "1234:1234"
    assert body["Entrypoint"] == ["/run/containai-shim"]
    assert body["Cmd"] == ["join", "/run/containai-control"]
    assert body["Healthcheck"] == {"Test": ["NONE"]}
    assert body["Image"] == "sha256:abc"


def test_only_the_workspace_is_bound_writable_and_no_socket_of_docker_is() -> None:
    mounts = asked()["HostConfig"]["Mounts"]
    assert [m["Target"] for m in mounts if not m["ReadOnly"]] == ["/workspace"]
    assert not [m for m in mounts if "docker" in m["Source"]]
    assert {m["BindOptions"]["Propagation"] for m in mounts} == {"rprivate"}
    assert str(CREDENTIAL.target) in {m["Target"] for m in mounts}
    assert str(WRITABLE.target) not in {m["Target"] for m in mounts}


def test_every_tmpfs_is_nosuid_and_nodev_and_the_agents_own() -> None:
    tmpfs = asked()["HostConfig"]["Tmpfs"]
    assert set(tmpfs) == {"/tmp", "/var/tmp", "/run", str(HOME), str(HOME / ".codex")}
    for options in tmpfs.values():
        assert {"nosuid", "nodev", "uid=1234", "gid=1234"} <= set(options.split(","))
    assert "noexec" in tmpfs["/run"].split(",")
    assert "mode=700" in tmpfs[str(HOME)].split(",")
    assert asked()["HostConfig"]["ShmSize"] == 512 * 1024 * 1024


def test_what_tells_about_the_host_is_masked() -> None:
    masked = asked()["HostConfig"]["MaskedPaths"]
    assert {"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/sys/firmware"} <= set(masked)
    assert masked == list(MASKED)


def test_a_directory_with_a_credential_in_it_is_the_agents_own() -> None:
    deep = replace(CREDENTIAL, target=HOME / ".config/gh/hosts.yml")
    assert [str(m.target) for m in home_directories([deep, WRITABLE], 5)] == [
        str(HOME / ".config"),
        str(HOME / ".config/gh"),
    ]


def test_the_accounts_inside_name_the_agents_user_as_he_is() -> None:
    passwd = next(file for file in account_files(1234) if str(file.target) == "/etc/passwd")
    assert "agentuser:x:1234:1234:" in passwd.content
    passwd = next(file for file in account_files() if str(file.target) == "/etc/passwd")
    assert "agentuser:x:1000:1000:" in passwd.content
