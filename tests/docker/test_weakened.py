"""Each setting that Docker is asked for, left out on the way to the daemon: who notices, and what then holds inside.

The containers are made by the product's own engine. Its ``Daemon`` is the one careless part: it asks for something else
than it is told to, so that the plan and what was rendered are right, and what exists is not. Of each container three
things are demanded: Docker's answer differs from what was asked for, the kernel's differs from the plan (I11), and an
agent that is started all the same (the drift check switched off) finds inside what the setting keeps away.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from containai.engine.docker import engine as docker_engine
from containai.engine.docker.engine import DockerEngine
from containai.engine.protocol import ContainerSpec, Stdio
from containai.engine.verify import find_drift
from containai.errors import EngineError
from containai.host.clock import monotonic_s
from containai.host.docker import Daemon
from containai.policy.model import Limits
from tests.docker.bare import SESSION, bare_spec, bare_tools
from tests.docker.conftest import made_ready

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(400)]

# One fact a line, as a program inside the container finds it.
LOOK = r"""
while read -r name value; do case $name in
    Uid:|Groups:|CapEff:|CapBnd:|NoNewPrivs:|Seccomp:) echo "${name%:}" $value;;
esac; done </proc/self/status
read -r label </proc/self/attr/current; echo apparmor $label
for n in cgroup ipc net pid uts; do echo ns.$n $(readlink /proc/self/ns/$n); done
echo interfaces $(tail -n +3 /proc/net/dev | cut -d: -f1)
echo core $(ulimit -Hc)
echo devices $(ls /dev)
while read -r _ _ _ _ target options _; do echo mount.$target ${options%%,*}; done </proc/self/mountinfo
unshare -U true 2>/dev/null && echo unshare yes || echo unshare no
[ "$(head -c 40m /dev/zero | tail -c 40m 2>/dev/null | wc -c)" = 41943040 ] && held=yes || held=no
echo forty-megabytes $held
mkfifo /tmp/wait
(for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do read -r x </tmp/wait & done) >/dev/null 2>&1 &&
    ran=yes || ran=no
echo twenty-processes $ran
"""
LIMITS = replace(Limits(), cpus=0.5, memory_bytes=24 << 20, pids_max=16)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found out about one container."""

    kernel: tuple[str, ...]
    docker: tuple[str, ...]
    inside: Mapping[str, str]


Change = Callable[[dict[str, Any], dict[str, Any]], object]


class Careless(Daemon):
    """Asks for something else than it is told to."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self._change = change

    def create(self, config: Mapping[str, Any], name: str) -> str:
        body = copy.deepcopy(dict(config))
        self._change(body, body["HostConfig"])
        return super().create(body, name)


Look = Callable[[Change], Found]


@pytest.fixture(scope="module")
def look(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Look]:
    """Makes a container with a change, compares it with its plan, and has it looked at from inside."""
    tmp_path = tmp_path_factory.mktemp("weakened")
    tmp_path.chmod(0o777)
    spec = bare_spec(image, tmp_path, LOOK, LIMITS, supervised=False)
    tools = bare_tools()
    with made_ready():
        yield lambda change: _look(DockerEngine(tools, Careless(change)), spec)


def _look(engine: DockerEngine, spec: ContainerSpec) -> Found:
    with contextlib.ExitStack() as held:
        null = os.open(os.devnull, os.O_RDWR)
        held.callback(os.close, null)
        held.callback(engine.settle)
        read, write = os.pipe()
        os.fchown(write, spec.identity.agent_uid, -1)
        try:
            container = engine.begin(spec, Stdio(stdin=null, stdout=write, stderr=null)).complete()
        finally:
            os.close(write)
        held.callback(container.destroy)
        pipe = held.enter_context(os.fdopen(read))
        kernel = find_drift(spec, container.inspect(), engine.expectation)
        docker = container.engine_drift()
        container.start()
        ended = container.wait(monotonic_s() + 150)
        assert ended is not None
        inside = dict(line.rstrip("\n").partition(" ")[::2] for line in pipe)
    return Found(kernel=kernel, docker=docker, inside=inside)


PROMISED = {
    "Uid": "1000 1000 1000 1000",  # I1
    "Groups": "1000",
    "NoNewPrivs": "1",  # I2
    "CapEff": "0000000000000000",  # I5
    "CapBnd": "0000000000000000",
    "Seccomp": "2",  # I3
    "unshare": "no",
    "apparmor": "containai-agent (enforce)",  # I4
    "twenty-processes": "no",  # I6
    "forty-megabytes": "no",  # I7
    "interfaces": "lo",  # I8
    "mount./": "ro",
    "mount./proc/sys": "ro",
    "core": "0",
}


def test_as_it_is_asked_for_nothing_differs_and_everything_holds(look: Look) -> None:
    found = look(lambda _body, _host: None)
    assert (found.kernel, found.docker) == ((), ())
    assert {name: found.inside.get(name) for name in PROMISED} == PROMISED
    assert "mount./proc/kallsyms" in found.inside
    assert "vda" not in found.inside["devices"].split()
    for name in ("cgroup", "ipc", "net", "pid", "uts"):
        assert found.inside[f"ns.{name}"] != os.readlink(f"/proc/self/ns/{name}")


def _bind(source: str, target: str, *, read_only: bool = True) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _ns(name: str) -> str:
    return os.readlink(f"/proc/self/ns/{name}")


def _root(body: dict[str, Any], host: dict[str, Any]) -> None:
    """By himself he could not open the control socket, which is the agent's, and no container would come about."""
    body["User"] = "0:0"
    host["CapAdd"] = ["DAC_OVERRIDE"]
    host["SecurityOpt"][1] = "apparmor=unconfined"


VDA = [{"PathOnHost": "/dev/vda", "PathInContainer": "/dev/vda", "CgroupPermissions": "rwm"}]
ALLOWING = '"defaultAction":"SCMP_ACT_ALLOW"'

# What is left out; Docker's word for it; the kernel's; what an agent finds inside, by name: a value, or a test of it.
CASES: dict[str, tuple[Change, str, str, str, Callable[[str | None], bool]]] = {
    "root user": (_root, "User", "user ids", "Uid", lambda v: v == "0 0 0 0"),
    "a further group": (
        lambda _, h: h.update(GroupAdd=["0"]), "GroupAdd", "groups are held: 0", "Groups", lambda v: "0" in str(v).split()
    ),
    "capabilities": (
        lambda _, h: h.update(CapDrop=[]), "CapDrop", "capabilities", "CapBnd", lambda v: int(str(v), 16) != 0
    ),
    "a capability": (
        lambda _, h: h.update(CapAdd=["SYS_ADMIN"]), "CapAdd", "capabilities", "CapBnd", lambda v: int(str(v), 16) == 1 << 21
    ),
    "a device": (
        lambda _, h: h.update(Devices=VDA), "Devices", "devices in /dev", "devices", lambda v: "vda" in str(v).split()
    ),
    "AppArmor": (
        lambda _, h: h["SecurityOpt"].__setitem__(1, "apparmor=unconfined"),
        "AppArmor profile", "AppArmor confinement", "apparmor", lambda v: v == "unconfined",
    ),
    "our AppArmor profile": (
        lambda _, h: h["SecurityOpt"].__setitem__(1, "apparmor=docker-default"),
        "AppArmor profile", "AppArmor confinement", "apparmor", lambda v: v == "docker-default (enforce)",
    ),
    "read-only root": (
        lambda _, h: h.update(ReadonlyRootfs=False), "ReadonlyRootfs", "/ is writable", "mount./", lambda v: v == "rw"
    ),
    "masked paths": (
        lambda _, h: h.update(MaskedPaths=[]), "MaskedPaths", "/proc/kallsyms is not covered", "mount./proc/kallsyms",
        lambda v: v is None,
    ),
    "read-only paths": (
        lambda _, h: h.update(ReadonlyPaths=[]), "ReadonlyPaths", "/proc/sys is not mounted read-only",
        "mount./proc/sys", lambda v: v is None,
    ),
    "processes": (
        lambda _, h: h.update(PidsLimit=0), "PidsLimit", "pids.max", "twenty-processes", lambda v: v == "yes"
    ),
    "memory": (
        lambda _, h: h.update(Memory=0, MemorySwap=0), "Memory", "memory limit", "forty-megabytes",
        lambda v: v == "yes",
    ),
    "process ids": (
        lambda _, h: h.update(PidMode="host"), "PidMode", " pid", "ns.pid", lambda v: v == _ns("pid")
    ),
    "shared memory": (
        lambda _, h: h.update(IpcMode="host"), "IpcMode", " ipc", "ns.ipc", lambda v: v == _ns("ipc")
    ),
    "host name": (
        lambda b, h: (b.update(Hostname=""), h.update(UTSMode="host")), "UTSMode", " uts", "ns.uts",
        lambda v: v == _ns("uts"),
    ),
    "place in the cgroup tree": (
        lambda _, h: h.update(CgroupnsMode="host"), "CgroupnsMode", " cgroup", "ns.cgroup",
        lambda v: v == _ns("cgroup"),
    ),
    "network": (
        lambda b, h: (b.update(Hostname=""), b.update(NetworkDisabled=False), h.update(NetworkMode="host")),
        "NetworkMode", "network interfaces", "ns.net", lambda v: v == _ns("net"),
    ),
    "a network": (
        lambda b, h: (b.update(NetworkDisabled=False), h.update(NetworkMode="bridge")),
        "bridge", "network interfaces", "interfaces", lambda v: "eth0" in str(v).split(),
    ),
    "a mount": (
        lambda _, h: h["Mounts"].append(_bind("/etc", "/srv")), "bound /etc to /srv", "/srv is mounted", "mount./srv",
        lambda v: v == "ro",
    ),
    "the engine's socket": (
        lambda _, h: h["Mounts"].append(_bind("/run/docker.sock", "/run/docker.sock", read_only=False)),
        "bound /run/docker.sock", "/run/docker.sock is mounted", "mount./run/docker.sock", lambda v: v == "rw",
    ),
}  # fmt: skip


# Each is told for itself; so that it takes minutes and not half an hour, what can be left out together is.
TOGETHER: dict[str, frozenset[str]] = {
    "as root, without AppArmor": frozenset({"root user", "AppArmor", "a network"}),
    "with one more capability": frozenset({"a capability"}),
}
TOGETHER["all else"] = frozenset(CASES) - frozenset().union(*TOGETHER.values())


@pytest.mark.parametrize("together", TOGETHER)
def test_what_is_left_out_is_found_by_docker_and_by_the_kernel_and_would_be_missed(look: Look, together: str) -> None:
    cases = {name: CASES[name] for name in sorted(TOGETHER[together])}

    def change(body: dict[str, Any], host: dict[str, Any]) -> None:
        for each, *_ in cases.values():
            each(body, host)

    found = look(change)
    for left_out, (_, docker, kernel, name, shows) in cases.items():
        assert any(docker in line for line in found.docker), (left_out, found.docker)
        assert any(kernel in line for line in found.kernel), (left_out, found.kernel)
        value = found.inside.get(name)
        assert shows(value), (left_out, name, value)
        assert name not in PROMISED or value != PROMISED[name], left_out


def test_a_limit_that_nobody_inside_can_see_is_found(look: Look) -> None:
    """This machine has no swap, and the time that something takes is no measure."""
    found = look(lambda _, host: host.update(MemorySwap=-1, CpuQuota=0))
    for docker, kernel in (("MemorySwap", "swap may be used beyond memory"), ("CpuQuota", "the CPU limit is")):
        assert any(docker in line for line in found.docker), found.docker
        assert any(kernel in line for line in found.kernel), found.kernel


def _profile_that_allows(_body: dict[str, Any], host: dict[str, Any]) -> None:
    host["SecurityOpt"][2] = host["SecurityOpt"][2].replace('"defaultAction":"SCMP_ACT_ERRNO"', ALLOWING)
    assert ALLOWING in host["SecurityOpt"][2]


# What the first process puts on itself as well: Docker's answer tells, and inside nothing is lost.
TWICE: dict[str, Change] = {
    "no-new-privileges": lambda _, host: host["SecurityOpt"].__setitem__(0, "no-new-privileges:false"),
    "Docker's seccomp filter": _profile_that_allows,
    "core dumps": lambda _, host: host.update(Ulimits=[]),
}


def test_what_the_first_process_does_too_is_found_by_docker_and_holds_all_the_same(look: Look) -> None:
    found = look(lambda body, host: [change(body, host) for change in TWICE.values()])
    (security,) = (line for line in found.docker if "SecurityOpt" in line)
    made, _, planned = security.partition(", planned ")
    assert "no-new-privileges:false" in made
    assert "no-new-privileges:true" in planned
    assert ALLOWING in made
    assert ALLOWING not in planned
    assert any("Ulimits" in line for line in found.docker), found.docker
    assert {name: found.inside.get(name) for name in PROMISED} == PROMISED


UNFILTERED: list[Change] = [
    lambda _, host: host["SecurityOpt"].__setitem__(2, "seccomp=unconfined"),
    lambda _, host: host.update(Privileged=True),  # Docker puts no filter on such a one
]


@pytest.mark.parametrize("change", UNFILTERED, ids=["unconfined", "privileged"])
def test_without_dockers_filter_no_container_comes_about(
    look: Look, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listener is what the launcher waits for."""
    monkeypatch.setattr(docker_engine, "_CREATE_TIMEOUT_S", 5.0)
    with pytest.raises(EngineError, match="did not ask for entry"):
        look(change)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not Daemon().find(f"containai.session={SESSION}")
