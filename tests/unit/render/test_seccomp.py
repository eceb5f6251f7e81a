"""The seccomp profile as data: strict to parse, unambiguous, and nowhere looser than Docker's."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from containai.errors import PolicyError
from containai.render.seccomp import Action, Comparison, Decision, Rule, parse_profile, render_table
from tests.support.docker_default import docker_allows

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "src/containai/data/seccomp-containai-agent.json").read_text(encoding="utf-8")
PROFILE = parse_profile(TEXT)
EPERM = Decision(action=Action.ERRNO, errno=1)
ENOSYS = Decision(action=Action.ERRNO, errno=38)

# Source: requirement I3, name by name.
NEVER = """ptrace process_vm_readv process_vm_writev pidfd_getfd mount umount2 fsopen fsmount fsconfig fspick move_mount
open_tree mount_setattr setns unshare keyctl add_key request_key bpf perf_event_open userfaultfd io_uring_setup
io_uring_enter io_uring_register kexec_load kexec_file_load init_module finit_module delete_module open_by_handle_at
name_to_handle_at chroot pivot_root kcmp swapon swapoff reboot quotactl acct syslog iopl ioperm settimeofday
clock_settime clock_adjtime adjtimex nfsservctl lookup_dcookie""".split()


def allowing(name: str) -> list[Rule]:
    return [rule for rule in PROFILE.rules if name in rule.names and rule.decision.action is Action.ALLOW]


def test_allows_nothing_that_docker_refuses() -> None:
    always, conditional = docker_allows()
    ours = PROFILE.names(Action.ALLOW) | PROFILE.names(Action.NOTIFY)

    assert ours <= always | set(conditional)
    # Docker allows most calls; this list would pass an empty profile too, were it not for the tests below.
    assert len(ours) > 250


def test_conditions_are_at_least_dockers() -> None:
    _, conditional = docker_allows()
    values = {rule.conditions[0].value for rule in allowing("personality")}
    assert values == {int(word, 0) for word in conditional["personality"].removeprefix("arg0 in ").split()}
    for name, limit in conditional.items():
        for rule in allowing(name):
            first = next(condition for condition in rule.conditions if condition.index == 0)
            if limit.startswith("arg0 in"):
                assert first.comparison is Comparison.EQUAL
                assert first.value in {int(word, 0) for word in limit.removeprefix("arg0 in ").split()}
            else:
                assert (first.comparison, first.value, first.value_two) == (Comparison.MASKED_EQUAL, 0x7E020000, 0)


@pytest.mark.parametrize("name", NEVER)
def test_dangerous_call_is_refused_with_eperm_whatever_its_arguments(name: str) -> None:
    assert PROFILE.decide(name) == EPERM
    assert not [rule for rule in PROFILE.rules if name in rule.names and rule.conditions]


def test_clone3_and_unknown_calls_do_not_exist() -> None:
    assert PROFILE.decide("clone3") == ENOSYS
    assert PROFILE.decide("a_call_of_next_year") == ENOSYS


@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000], ids=hex
)
def test_clone_makes_no_namespace(flag: int) -> None:
    thread = 0x3D0F00
    assert PROFILE.decide("clone", (thread, 0, 0, 0, 0, 0)).action is Action.ALLOW
    assert PROFILE.decide("clone", (thread | flag, 0, 0, 0, 0, 0)) == EPERM


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "allowed"),
    [
        (1, 1, 0, True),
        (2, 1, 6, True),
        (10, 2 | 0o2004000, 17, True),
        (16, 3 | 0o2000000, 0, True),
        (16, 3, 12, False),  # NETLINK_NETFILTER
        (2, 3, 1, False),  # raw ICMP
        (2, 10, 3, False),  # SOCK_PACKET
        (2, 1, 132, False),  # SCTP
        (17, 3, 3, False),  # AF_PACKET
        (38, 5, 0, False),  # AF_ALG
        (40, 1, 0, False),  # AF_VSOCK
    ],
)
def test_sockets(family: int, kind: int, protocol: int, *, allowed: bool) -> None:
    assert (PROFILE.decide("socket", (family, kind, protocol, 0, 0, 0)).action is Action.ALLOW) is allowed


@pytest.mark.parametrize("above", [0, 1 << 32, 0xFFFFFFFF << 32], ids=hex)
def test_no_socket_gets_a_filter(above: int) -> None:
    """The kernel looks at the lower half of both words."""
    for option in range(90):
        decided = PROFILE.decide("setsockopt", (3, 1 | above, option | above, 0, 0, 0))
        assert decided == (EPERM if option in (26, 50, 51, 52) else Decision(action=Action.ALLOW)), option
    for level in (0, 6, 17, 41, 270):
        assert PROFILE.decide("setsockopt", (3, level | above, 26, 0, 0, 0)).action is Action.ALLOW


def test_only_exec_goes_to_the_supervisor() -> None:
    assert PROFILE.names(Action.NOTIFY) == {"execve", "execveat"}


def test_no_call_meets_two_rules_with_different_decisions() -> None:
    # libseccomp, runc and `decide` would each take another one.
    choice = random.Random(1)
    for left, right in itertools.combinations([rule for rule in PROFILE.rules if rule.conditions], 2):
        if left.decision == right.decision or not set(left.names) & set(right.names):
            continue
        for values in itertools.product(_interesting(left, right, choice), repeat=3):
            arguments = (*values, 0, 0, 0)
            both = [all(c.holds(arguments) for c in rule.conditions) for rule in (left, right)]
            assert not all(both), (left.comment, right.comment, arguments)


def _interesting(left: Rule, right: Rule, choice: random.Random) -> list[int]:
    values = {0, choice.getrandbits(64)}
    for condition in left.conditions + right.conditions:
        values |= {condition.value, condition.value_two, condition.value + 1}
    return sorted(values)


def first_condition(data: dict[str, Any]) -> dict[str, Any]:
    condition: dict[str, Any] = next(rule for rule in data["syscalls"] if rule.get("args"))["args"][0]
    return condition


def test_every_rule_says_why() -> None:
    assert all(len(rule.comment) > 10 for rule in PROFILE.rules)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda data: data.update(defaultAction="SCMP_ACT_ALLOW"),
        lambda data: data.update(flags=["SECCOMP_FILTER_FLAG_LOG"]),
        lambda data: data["archMap"][0]["subArchitectures"].append("SCMP_ARCH_X86"),
        lambda data: data["syscalls"].append({"comment": "", "names": ["ptrace"], "action": "SCMP_ACT_ALLOW"}),
        lambda data: data["syscalls"].append({"comment": "", "names": ["clone"], "action": "SCMP_ACT_ALLOW"}),
        lambda data: data["syscalls"].append({"comment": "", "names": ["x"], "action": "SCMP_ACT_TRACE"}),
        lambda data: data["syscalls"].append({"comment": "", "names": ["x"], "action": "SCMP_ACT_ERRNO"}),
        lambda data: data["syscalls"][0].update(includes={"caps": ["CAP_SYS_ADMIN"]}),
        lambda data: first_condition(data).update(op="SCMP_CMP_NE"),
        lambda data: first_condition(data).update(index=6),
        lambda data: data.pop("syscalls"),
    ],
)
def test_malformed_profile_is_refused(break_it: object) -> None:
    data = json.loads(TEXT)
    assert callable(break_it)
    break_it(data)
    with pytest.raises(PolicyError) as refused:
        parse_profile(json.dumps(data))
    assert refused.value.code == "policy.seccomp"


def test_table_has_a_line_for_each_rule() -> None:
    assert len(render_table(PROFILE).splitlines()) == len(PROFILE.rules) + 3
