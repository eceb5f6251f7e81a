"""Checkers that others wrote, over a session that runs in Docker: what they find is listed here, with its reason.

compose-lint judges what ``docker inspect`` says of the container, written down as the Compose file that would make it.
docker-bench-security is Docker's own script for the CIS benchmark. No package registry has it: it runs where its folder
is on the PATH.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docker.conftest import docker
from tests.docker.test_session import end, running, wait_for_file
from tests.support.product import Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(400)]

LONG = 300
BENCH_S = 600  # three minutes on an emulated machine: it asks Docker a hundred times

# What compose-lint finds in a session, and why it is so.
LINTED = {
    "CL-0013 staged": "files of this session alone, in the host's memory, read-only; their directory is the launcher's",
    "CL-0014": "what the agent prints goes to your terminal, and into no file of Docker's; what it does is in our log",
    "CL-0019": "the image is named by its identity, sha256:..., which binds more than a tag; it is read as a tag",
    "CL-0022 /tmp": "an agent builds and runs programs there; the filter, Landlock and AppArmor hold for them as well",
    "CL-0022 /var/tmp": "as /tmp",
    "CL-0022 /home/agentuser": "as /tmp: tools install programs there",
}

# What docker-bench-security 1.8.0, section 5, does not call passed, and why it is so.
BENCHED = {
    "WARN 5.12": "CPU time is limited by a quota (CpuQuota), which is stricter; it looks at shares and at NanoCpus",
    "WARN 5.15": "a container that has ended never comes back; it wants it to, up to five times",
    "WARN 5.27": "a health check is a program that Docker runs inside at times of its own: switched off",
    "NOTE 5.23": "about how docker exec is used, which is root's business; what enters is recorded",
    "NOTE 5.24": "as 5.23",
    "INFO 5.28": "for a person to judge: a session runs the identity that the image had at its start",
}


@contextmanager
def session(product: Product) -> Iterator[str]:
    """The container of a session whose agent waits."""
    script = "touch started; while [ ! -e go ]; do sleep 0.2; done"
    child = product.start(script, "--network-proxy", "none", "--engine", "docker")
    try:
        started = wait_for_file(product, "started")
        yield running(product)
        (started.parent / "go").touch()
        child.wait(LONG)
    finally:
        end(child)
    assert child.returncode == 0


@pytest.fixture
def careless(image: str) -> Iterator[str]:
    """A container that no judge may let pass."""
    words = (
        "--privileged",
        "--network=host",
        "--pid=host",
        "--ipc=host",
        "--uts=host",
        "--security-opt=seccomp=unconfined",
    )
    binds = ("-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", "/etc:/host", "--restart=always")
    name = "careless"
    docker("run", "-d", "--name", name, *words, *binds, "--entrypoint", "/bin/sleep", image, "1000")
    yield name
    docker("rm", "-f", name)


def compose(container: str) -> dict[str, Any]:
    """The Compose file that would make a container as it is; what is empty is left out, as its author would."""
    found = json.loads(docker("inspect", container).stdout)[0]
    host, config = found["HostConfig"], found["Config"]
    service = {
        "image": config["Image"],
        "user": config["User"],
        "entrypoint": config["Entrypoint"],
        "command": config["Cmd"],
        "environment": config["Env"],
        "privileged": host["Privileged"],
        "read_only": host["ReadonlyRootfs"],
        "cap_add": host["CapAdd"],
        "cap_drop": host["CapDrop"],
        "security_opt": [
            "seccomp=profile.json" if option.startswith("seccomp={") else option for option in host["SecurityOpt"] or ()
        ],
        "network_mode": host["NetworkMode"],
        "ipc": host["IpcMode"],
        "pid": host["PidMode"],
        "uts": host["UTSMode"],
        "userns_mode": host["UsernsMode"],
        "cgroup": host["CgroupnsMode"],
        "devices": [f"{each['PathOnHost']}:{each['PathInContainer']}" for each in host["Devices"] or ()],
        "group_add": host["GroupAdd"],
        "ports": [f"{port}" for port in host["PortBindings"] or ()],
        "tmpfs": [f"{target}:{options}" for target, options in (host.get("Tmpfs") or {}).items()],
        "volumes": [
            {"type": each["Type"], "source": each["Source"], "target": each["Destination"], "read_only": not each["RW"],
             "bind": {"propagation": each["Propagation"]}}
            for each in found["Mounts"]
        ],
        "mem_limit": host["Memory"],
        "memswap_limit": host["MemorySwap"],
        "cpus": host["CpuQuota"] / (host["CpuPeriod"] or 1),
        "pids_limit": host["PidsLimit"],
        "ulimits": {each["Name"]: {"soft": each["Soft"], "hard": each["Hard"]} for each in host["Ulimits"] or ()},
        "restart": host["RestartPolicy"]["Name"],
        "logging": {"driver": host["LogConfig"]["Type"]},
        "healthcheck": config.get("Healthcheck") and {"test": config["Healthcheck"]["Test"]},
    }  # fmt: skip
    return {"services": {"session": {name: value for name, value in service.items() if value}}}


def lint(container: str, folder: Path) -> set[str]:
    """What compose-lint finds: its rules, each with what it names where it can name several."""
    file = folder / f"{container}.yml"
    file.write_text(json.dumps(compose(container)))  # which is YAML as well
    words = ("-m", "compose_lint", "check", "--format", "json", str(file))
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=100, check=False)
    found = json.loads(done.stdout)["findings"]
    return {_named(each["rule_id"], each["message"]) for each in found}


def _named(rule: str, message: str) -> str:
    if rule == "CL-0013" and re.search(r"'/dev/shm/containai-docker-[0-9a-f]{12}-\w+/(control|file-\d)'", message):
        return f"{rule} staged"
    path = re.search(r"'(/[^']*)'", message)
    return f"{rule} {path[1]}" if path else rule


@pytest.mark.timeout(600)  # the first test of its boot: the image is made for it
def test_compose_lint_finds_what_is_explained_and_nothing_else(product: Product, tmp_path: Path) -> None:
    with session(product) as container:
        found = lint(container, tmp_path)
    assert found == set(LINTED)


def test_compose_lint_finds_a_careless_container(careless: str, tmp_path: Path) -> None:
    """So that the judge can be believed, and what it is told."""
    rules = {each.partition(" ")[0] for each in lint(careless, tmp_path)}
    wanted = {
        "CL-0001",
        "CL-0002",
        "CL-0003",
        "CL-0006",
        "CL-0007",
        "CL-0008",
        "CL-0009",
        "CL-0010",
        "CL-0025",
        "CL-0026",
    }
    assert wanted <= rules


@pytest.fixture
def bench() -> Path:
    """The folder of docker-bench-security: it finds its parts from there."""
    script = shutil.which("docker-bench-security.sh")
    assert script is not None
    return Path(script).resolve().parent


def judge(bench: Path, container: str, folder: Path) -> set[str]:
    """The numbers of section 5 that the script does not call passed, with how it calls them."""
    name = json.loads(docker("inspect", container).stdout)[0]["Name"].removeprefix("/")
    words = ("-b", "-l", str(folder / "log"), "-c", "container_runtime", "-i", f"^{name}$")
    done = subprocess.run(
        ["bash", "./docker-bench-security.sh", *words], cwd=bench, capture_output=True, text=True, timeout=BENCH_S,
        check=False,
    )  # fmt: skip
    print(done.stdout)
    verdicts = re.findall(r"^\[(PASS|WARN|INFO|NOTE)\] (5\.\d+) - ", done.stdout, re.MULTILINE)
    assert len(verdicts) >= 31, "not the whole of section 5"
    return {f"{verdict} {number}" for verdict, number in verdicts if verdict != "PASS"}


@pytest.mark.needs("docker-bench-security")
@pytest.mark.timeout(2 * BENCH_S)
def test_docker_bench_finds_what_is_explained_and_nothing_else(product: Product, bench: Path, tmp_path: Path) -> None:
    with session(product) as container:
        found = judge(bench, container, tmp_path)
    assert found == set(BENCHED)


@pytest.mark.needs("docker-bench-security")
@pytest.mark.timeout(2 * BENCH_S)
def test_docker_bench_finds_a_careless_container(careless: str, bench: Path, tmp_path: Path) -> None:
    found = judge(bench, careless, tmp_path)
    wanted = "5.2 5.5 5.6 5.10 5.11 5.13 5.16 5.17 5.21 5.22 5.26 5.29 5.32"
    assert {f"WARN {number}" for number in wanted.split()} <= found
