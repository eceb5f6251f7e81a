"""The checks of the Docker engine, with facts made by hand, and a daemon that is not what it should be."""

from __future__ import annotations

import http.server
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import pytest

from containai.host import docker as host_docker
from containai.preflight import docker as looking
from containai.preflight.catalogue import DOCKER, HOST
from containai.preflight.checks import check
from containai.preflight.docker import look_at_docker
from containai.preflight.model import DockerFacts, Facts, Finding, Image, Platform, State, Verdict
from containai.session.engines import settle_engine
from tests.unit.preflight.test_checks import GOOD as HOST_FACTS

pytestmark = pytest.mark.user

IMAGE = Image(reference="containai:latest", id="sha256:abc", platform="linux/amd64")
DAEMON = DockerFacts(
    version=(26, 1, 5),
    security=frozenset({"apparmor", "seccomp", "cgroupns"}),
    limits=frozenset({"MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit"}),
    shared_memory=frozenset({"rw", "nosuid", "nodev"}),
    wanted_images=("containai-claude:latest", "containai:latest"),
    image=IMAGE,
)
GOOD = replace(HOST_FACTS, docker=DAEMON, may_trace=True)


def with_(**changes: Any) -> Facts:
    return replace(GOOD, docker=replace(DAEMON, **changes))


def refusals(facts: Facts) -> list[str]:
    return [each.id for each in check(facts, "docker") if each.verdict is Verdict.REFUSE]


def finding(facts: Facts, name: str) -> Finding:
    (found,) = [each for each in check(facts, "docker") if each.id == name]
    return found


def test_a_good_host_is_ready_in_the_order_of_the_catalogue() -> None:
    findings = check(GOOD, "docker")
    assert [each.id for each in findings] == [entry.id for entry in (*HOST, *DOCKER)]
    assert {each.verdict for each in findings} == {Verdict.PASS}


def test_neither_bubblewrap_nor_a_cgroup_of_ours_is_needed() -> None:
    assert refusals(replace(GOOD, bwrap=replace(GOOD.bwrap, path=None), probe=None)) == []


BAD = [
    ("docker", {"elsewhere": "tcp://10.0.0.1:2375"}, "tcp://10.0.0.1:2375"),
    ("docker", {"elsewhere": "ssh://me@host"}, "ssh://me@host"),
    ("docker", {"elsewhere": "unix:///tmp/mine.sock"}, "unix:///tmp/mine.sock"),
    ("docker", {"problem": "/var/run/docker.sock: No such file or directory"}, "No such file"),
    ("docker", {"problem": "/var/run/docker.sock: Permission denied", "denied": True}, "Permission denied"),
    ("docker", {"product": "Podman", "problem": "/run/podman/podman.sock: Connection refused"}, "Connection refused"),
    ("docker", {"product": "Podman", "problem": "/run/podman/podman.sock: no", "denied": True}, "podman.sock"),
    ("docker-version", {"product": "Podman", "version": (5, 4, 1)}, "Podman 5.4.1 is too old; 5.4.2 is needed"),
    ("docker-version", {"product": "Podman", "version": (4, 9, 3)}, "Podman 4.9.3 is too old; 5.4.2 is needed"),
    ("docker-version", {"product": "Docker", "version": (5, 4, 2)}, "Docker 5.4.2 is too old; 25.0.5 is needed"),
    ("docker-version", {"version": (25, 0, 4)}, "25.0.4 is too old"),
    ("docker-version", {"version": (20, 10, 24)}, "20.10.24 is too old"),
    ("docker-security", {"security": frozenset({"seccomp"})}, "apparmor"),
    ("docker-security", {"security": frozenset({"apparmor"})}, "seccomp"),
    ("docker-security", {"security": frozenset({"apparmor", "seccomp", "rootless"})}, "without root"),
    ("docker-security", {"security": frozenset({"apparmor", "seccomp", "userns"})}, "userns-remap"),
    ("docker-limits", {"limits": frozenset({"MemoryLimit", "CpuCfsQuota", "PidsLimit"})}, "swap"),
    ("docker-limits", {"limits": frozenset()}, "processes"),
    ("image", {"image": None}, "none of the images containai-claude:latest, containai:latest"),
    ("image", {"image": replace(IMAGE, platform="linux/arm64")}, "linux/arm64"),
    ("image", {"image": replace(IMAGE, volumes=("/data",))}, "/data"),
    ("tmpfs", {"shared_memory": frozenset()}, "/dev/shm"),
    ("tmpfs", {"shared_memory": frozenset({"nosuid"})}, "nodev"),
]


@pytest.mark.parametrize(("name", "changes", "said"), BAD)
@pytest.mark.parametrize("platform", Platform)
def test_what_is_off_refuses_and_is_mended_by_commands(
    name: str, changes: dict[str, Any], said: str, platform: Platform
) -> None:
    facts = replace(with_(**changes), platform=platform)
    found = finding(facts, name)
    assert refusals(facts)[0] == name
    assert found.state is State.OFF
    assert said in found.summary
    assert found.remedy
    for line in found.remedy:
        assert line.startswith(("sudo ", "# ", "docker ", "unset ", "containai ", "df ")), line


def test_what_podman_lacks_is_mended_by_podmans_commands() -> None:
    silent = with_(product="Podman", problem="/run/podman/podman.sock: Connection refused")
    assert "sudo systemctl enable --now podman.socket" in finding(silent, "docker").remedy
    denied = with_(product="Podman", problem="/run/podman/podman.sock: Permission denied", denied=True)
    assert not any("usermod" in line for line in finding(denied, "docker").remedy)  # no group may use it
    assert "sudo apt-get install podman" in finding(with_(product="Podman", version=(4, 9, 3)), "docker-version").remedy


def test_podman_new_enough_is_ready() -> None:
    facts = with_(product="Podman", version=(5, 4, 2))
    assert settle_engine("auto", facts) == ("docker", "auto: Podman is usable, and an image is there")
    assert refusals(facts) == []
    assert finding(facts, "docker-version").summary == "Podman 5.4.2"


def test_a_daemon_that_cannot_be_asked_leaves_the_rest_unknown_and_refused() -> None:
    facts = with_(problem="no answer")
    assert refusals(facts) == ["docker", "docker-version", "docker-security", "docker-limits", "image"]
    assert finding(facts, "image").state is State.UNKNOWN


@pytest.mark.parametrize(
    "changes", [{"apparmor_enabled": False}, {"apparmor_mode": "complain"}, {"apparmor_mode": None}]
)
def test_without_apparmor_in_enforce_mode_nothing_takes_its_place(changes: dict[str, Any]) -> None:
    """P6."""
    assert refusals(replace(GOOD, **changes)) == ["apparmor"]


@pytest.mark.parametrize("mode", ["absent", "complain", None])
def test_an_ordinary_user_needs_the_profile_in_which_the_first_process_may_read(mode: str | None) -> None:
    """One that was loaded by an older version has not got it: that is found before a session is begun."""
    facts = replace(GOOD, may_trace=False, apparmor_reading_mode="enforce")
    assert refusals(facts) == []
    assert facts.profile("docker")[0] == "containai-agent-reading"
    facts = replace(facts, apparmor_reading_mode=mode)
    assert refusals(facts) == ["apparmor"]
    assert "containai-agent-reading" in finding(facts, "apparmor").summary
    assert finding(facts, "apparmor").remedy[-1] == "sudo apparmor_parser -r /etc/apparmor.d/containai-agent"
    for others in (replace(facts, may_trace=True), facts):
        assert others.profile("embedded") == ("containai-agent", "enforce")
    assert replace(facts, may_trace=True).profile("docker") == ("containai-agent", "enforce")


def test_the_two_profiles_differ_by_their_rules_of_ptrace_alone() -> None:
    text = (Path(str(resources.files("containai"))) / "data/apparmor/containai-agent").read_text()
    one, two = (
        [line.strip() for line in part.partition("{")[2].partition("\n}")[0].replace("-reading", "").splitlines()]
        for part in re.split(r"^profile ", text, flags=re.MULTILINE)[1:]
    )
    rules, others = ([line for line in lines if line and not line.startswith("#")] for lines in (one, two))
    assert len(rules) > 20
    assert set(rules) - set(others) == {"ptrace (read, readby) peer=containai-agent,", "deny ptrace (trace, tracedby),"}
    assert set(others) - set(rules) == {"ptrace (read, readby, trace, tracedby) peer=containai-agent,"}


def test_auto_is_docker_only_where_all_of_it_passes() -> None:
    assert settle_engine("auto", GOOD)[0] == "docker"
    for facts in (
        with_(image=None),
        with_(version=(20, 10, 24)),
        replace(GOOD, docker=None),
        replace(GOOD, apparmor_enabled=False),
        replace(GOOD, ptrace_scope=0),
    ):
        engine, reason = settle_engine("auto", facts)
        assert engine == "embedded"
        assert reason.startswith("auto: ")


def test_a_named_engine_is_never_replaced() -> None:
    assert settle_engine("docker", replace(GOOD, docker=None))[0] == "docker"
    assert settle_engine("embedded", GOOD)[0] == "embedded"


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "ssh://h", "unix:///tmp/x.sock", "fd://", "npipe:////./pipe/x"])
def test_a_daemon_that_a_variable_names_is_never_asked(host: str) -> None:
    """P4, P5."""
    found = look_at_docker(host, ("containai:latest",))
    assert found.elsewhere == host
    assert found.version == ()


INFO = {
    "ServerVersion": "26.1.5+dfsg1",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
}


# What Podman 5.4.2 answers as root on cgroup v2, whose limits of swap and CPU time it keeps all the same.
PODMAN_INFO = {
    "ServerVersion": "5.4.2",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
    "MemoryLimit": True,
    "SwapLimit": False,
    "CpuCfsQuota": False,
    "PidsLimit": True,
    "CgroupVersion": "2",
}


class _Answers(http.server.BaseHTTPRequestHandler):
    product = "Docker"
    version = "26.1.5+dfsg1"
    asked: ClassVar[list[str]] = []
    components: tuple[str, ...] = ("Engine", "containerd", "runc")
    info = INFO

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v1.44")
        self.asked.append(path)
        if path == "/_ping":
            self._answer(200, "OK")
        elif path == "/version":
            components = [{"Name": name, "Version": "1"} for name in self.components]
            self._answer(200, {"Version": self.version, "Components": components})
        elif path == "/info":
            self._answer(200, self.info)
        elif path == "/images/containai:latest/json":
            config: Any = {"Volumes": {"/data": {}}}
            self._answer(200, {"Id": "sha256:abc", "Os": "linux", "Architecture": "amd64", "Config": config})
        else:
            self._answer(404, {"message": "no such image"})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        product = "Libpod" if "Podman Engine" in self.components else self.product
        return f"{product}/{self.version} (linux)"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def daemon(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something that answers like Docker, behind the path that is asked."""
    monkeypatch.setattr(looking, "find_socket", lambda: str(path))
    with socketserver.ThreadingUnixStreamServer(str(path), _Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_the_daemons_own_words_become_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's daemon is asked, and this one is ours")
    with daemon(tmp_path / "s", monkeypatch):
        found = look_at_docker("", ("containai-codex:latest", "containai:latest"))
    assert found.problem == ""
    assert found.version == (26, 1, 5)
    assert found.security == {"apparmor", "seccomp", "cgroupns"}
    assert found.limits == DAEMON.limits
    assert found.image == replace(IMAGE, volumes=("/data",))


def test_an_old_daemon_is_asked_for_nothing_but_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's daemon is asked, and this one is ours")
    monkeypatch.setattr(_Answers, "version", "20.10.24")
    monkeypatch.setattr(_Answers, "asked", [])
    with daemon(tmp_path / "s", monkeypatch):
        facts = replace(GOOD, docker=look_at_docker("", ("containai:latest",)))
    assert _Answers.asked == ["/_ping"]
    assert "Docker 20.10.24 is too old" in finding(facts, "docker-version").summary
    for name in ("docker-security", "docker-limits", "image"):
        assert finding(facts, name).state is State.UNKNOWN


def test_a_daemon_that_does_not_say_it_at_the_head_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's daemon is asked, and this one is ours")
    monkeypatch.setattr(_Answers, "product", "Something else, Docker")
    monkeypatch.setattr(_Answers, "asked", [])
    with daemon(tmp_path / "s", monkeypatch):
        found = look_at_docker("", ("containai:latest",))
    assert _Answers.asked[:2] == ["/_ping", "/version"]
    assert (found.product, found.version) == ("Docker", (26, 1, 5))


def test_a_daemon_that_is_not_roots_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with daemon(tmp_path / "s", monkeypatch):
        if os.geteuid() == 0:
            os.chown(tmp_path / "s", 65534, 65534)
        found = look_at_docker("", ("containai:latest",))
    assert "not a socket of root's" in found.problem
    assert found.version == ()


# A socket of root's, at which another user's process listens: the kernel remembers who called listen(2).
_LISTEN = """
import os, socket, sys, time
with socket.socket(socket.AF_UNIX) as taken:
    taken.bind(sys.argv[1])
    os.setuid(65534)
    taken.listen()
    print("listening", flush=True)
    time.sleep(60)
"""


def test_another_users_process_behind_roots_socket_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can put a socket of root's there")
    monkeypatch.setattr(looking, "find_socket", lambda: str(tmp_path / "s"))
    with subprocess.Popen([sys.executable, "-c", _LISTEN, tmp_path / "s"], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            assert child.stdout.readline() == b"listening\n"
            found = look_at_docker("", ("containai:latest",))
        finally:
            child.kill()
    assert "is not root's" in found.problem
    assert found.version == ()


def test_a_version_that_is_not_told_is_unknown_and_refused() -> None:
    facts = with_(version=())
    assert refusals(facts)[0] == "docker-version"
    assert finding(facts, "docker-version").state is State.UNKNOWN


def test_what_is_no_socket_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SOCKET", str(tmp_path / "absent"))
    assert "No such file" in look_at_docker("", ()).problem


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Podman behind the path that is asked, and the controllers of the kernel's cgroups."""
    if os.geteuid() != 0:
        pytest.skip("only root's daemon is asked, and this one is ours")
    monkeypatch.setattr(_Answers, "version", "5.4.2")
    monkeypatch.setattr(_Answers, "components", ("Podman Engine", "Conmon", "OCI Runtime (crun)"))
    monkeypatch.setattr(_Answers, "info", PODMAN_INFO)
    monkeypatch.setattr(looking, "_CGROUPS", tmp_path)
    monkeypatch.setattr(looking, "has_swap", lambda: True)
    (tmp_path / "machine.slice").mkdir()
    with daemon(tmp_path / "s", monkeypatch):
        yield tmp_path


def test_podmans_limits_are_the_kernels(podman: Path) -> None:
    """Its own answer denies two that it keeps."""
    (podman / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (podman / "machine.slice/memory.swap.max").touch()
    found = look_at_docker("", ("containai:latest",))
    assert (found.product, found.version, found.problem) == ("Podman", (5, 4, 2), "")
    assert found.limits == DAEMON.limits
    assert found.security == {"apparmor", "seccomp"}


def test_a_kernel_that_cannot_limit_is_found_behind_podman_too(podman: Path) -> None:
    (podman / "cgroup.controllers").write_text("memory\n")
    found = look_at_docker("", ("containai:latest",))
    assert found.limits == {"MemoryLimit"}
    said = finding(replace(GOOD, docker=found), "docker-limits").summary
    assert said == "the daemon cannot limit swap, CPU time, processes"


def test_an_old_podman_is_asked_for_nothing_but_its_version(podman: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Answers, "version", "4.3.1")
    facts = replace(GOOD, docker=look_at_docker("", ("containai:latest",)))
    assert "Podman 4.3.1 is too old" in finding(facts, "docker-version").summary
    assert finding(facts, "docker-limits").state is State.UNKNOWN


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where Docker's and Podman's sockets would be."""
    docker, podman = tmp_path / "docker.sock", tmp_path / "podman.sock"
    for module in (host_docker, looking):
        monkeypatch.setattr(module, "SOCKET", str(docker))
        monkeypatch.setattr(module, "PODMAN_SOCKET", str(podman))
    return docker, podman


@pytest.mark.parametrize(
    ("docker", "podman", "asked"),
    [
        (False, False, "docker.sock"),
        (True, False, "docker.sock"),
        (True, True, "docker.sock"),
        (False, True, "podman.sock"),
    ],
)
def test_docker_comes_first_and_podman_where_there_is_none(
    sockets: tuple[Path, Path], docker: bool, podman: bool, asked: str
) -> None:
    for path, there in zip(sockets, (docker, podman), strict=True):
        if there:
            path.touch()
    assert Path(host_docker.find_socket()).name == asked


def test_a_link_of_podman_docker_that_leads_nowhere_is_podmans(sockets: tuple[Path, Path]) -> None:
    """Package podman-docker makes it, whether or not podman.socket is enabled."""
    docker, podman = sockets
    docker.symlink_to(podman)
    found = look_at_docker("", ())
    assert (found.product, found.socket) == ("Podman", str(docker))
    assert "No such file" in found.problem
    assert "sudo systemctl enable --now podman.socket" in finding(replace(GOOD, docker=found), "docker").remedy


def test_docker_host_may_say_what_is_so_anyway(sockets: tuple[Path, Path]) -> None:
    docker, podman = sockets
    podman.touch()
    for path in (docker, podman):  # Podman's is asked, as Docker's is not there
        assert bool(look_at_docker(f"unix://{path}", ()).elsewhere) == (path == docker)
    docker.symlink_to(podman)
    for path in (docker, podman):
        assert look_at_docker(f"unix://{path}", ()).elsewhere == ""
    docker.unlink()
    docker.touch()  # a Docker of its own: Podman's would be another daemon
    assert look_at_docker(f"unix://{docker}", ()).elsewhere == ""
    elsewhere = replace(GOOD, docker=look_at_docker(f"unix://{podman}", ()))
    said = finding(elsewhere, "docker").summary
    assert said == f"DOCKER_HOST names unix://{podman}; only this machine's own daemon can be used, {docker}"
