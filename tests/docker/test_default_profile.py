"""Our filter beside the one that a running Docker puts on a container that asks for nothing: the kernel's own copies."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.docker.conftest import docker
from tests.support import bpf
from tests.support.docker_default import ROOT, docker_allows, number_of, questions
from tests.support.installed_filter import installed_filters

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(300)]

OURS = (ROOT / "src/containai/_native/agent.bpf").read_bytes()


@pytest.fixture(scope="module")
def dockers(image: str) -> bytes:
    """The filter of a container with Docker's default profile and no Linux capability."""
    name = docker("run", "-d", "--cap-drop", "ALL", "--network", "none", image, "sleep", "600").stdout.decode().strip()
    try:
        pid = int(docker("inspect", "--format", "{{.State.Pid}}", name).stdout)
        assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
        (found,) = installed_filters(pid)
    finally:
        docker("rm", "-f", name)
    return found


def compare(ours: bytes, dockers: bytes) -> tuple[set[int], set[int]]:
    """The calls that ours allows and Docker's refuses, with some arguments, and the other way round."""
    looser: set[int] = set()
    stricter: set[int] = set()
    for number, arguments in questions():
        allowed = bpf.run_filter(ours, number, arguments) in (bpf.RET_ALLOW, bpf.RET_NOTIFY)
        if allowed != (bpf.run_filter(dockers, number, arguments) == bpf.RET_ALLOW):
            (looser if allowed else stricter).add(number)
    return looser, stricter


def test_ours_allows_nothing_that_dockers_refuses(dockers: bytes) -> None:
    """But for calls that this Docker does not know yet, and a later one allows: they are in the record of the latest."""
    looser, stricter = compare(OURS, dockers)
    always, conditional = docker_allows()
    names = {number_of(name): name for name in (*always, *conditional)}
    print("asked", sum(1 for _ in questions()))
    print("looser", sorted(names.get(number, str(number)) for number in looser))
    print("stricter", sorted(names.get(number, str(number)) for number in stricter))
    assert looser <= {number_of(name) for name in always}
    assert {number_of(name) for name in ("ptrace", "process_vm_readv", "memfd_secret", "socket", "ioctl")} <= stricter
    assert bpf.run_filter(dockers, number_of("clone3")) == bpf.RET_ERRNO | 38


def test_a_filter_that_allows_more_is_noticed(dockers: bytes) -> None:
    everything = struct.pack("<HBBI", 6, 0, 0, bpf.RET_ALLOW)
    looser, stricter = compare(everything, dockers)
    assert {number_of(name) for name in ("bpf", "keyctl", "unshare", "clone", "socket", "io_uring_setup")} <= looser
    assert not stricter


def test_of_other_architectures_dockers_allows_calls_and_ours_ends_the_process(dockers: bytes) -> None:
    getpid = 20  # of i386
    assert bpf.run_filter(dockers, getpid, arch=bpf.AUDIT_ARCH_I386) == bpf.RET_ALLOW
    assert bpf.run_filter(OURS, getpid, arch=bpf.AUDIT_ARCH_I386) == bpf.RET_KILL_PROCESS
