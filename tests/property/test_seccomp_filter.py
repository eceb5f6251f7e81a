"""The compiled filter answers as the profile says, for any call and any arguments.

Interpreted here, not by the kernel: millions of calls would take a kernel too long, and libseccomp's trees of
conditions are where a mistake would hide. tests/security/test_seccomp_rules.py asks the kernel.
"""

from __future__ import annotations

from pathlib import Path

import pyseccomp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containai.render.seccomp import Action, parse_profile
from scripts.compile_seccomp import YOUNG_CALLS
from tests.support import bpf

ROOT = Path(__file__).resolve().parents[2]
PROFILE = parse_profile((ROOT / "src/containai/data/seccomp-containai-agent.json").read_bytes())
AGENT = (ROOT / "src/containai/_native/agent.bpf").read_bytes()
HOUSEKEEPING = (ROOT / "src/containai/_native/housekeeping.bpf").read_bytes()

NAMES = sorted({name for rule in PROFILE.rules for name in rule.names})
CONDITIONAL = sorted({name for rule in PROFILE.rules if rule.conditions for name in rule.names})
CONSTANTS = sorted({v for rule in PROFILE.rules for c in rule.conditions for v in (c.value, c.value_two)})
U64 = st.integers(min_value=0, max_value=2**64 - 1)


def near(constants: list[int]) -> st.SearchStrategy[int]:
    """Values beside the constants of rules: the same, with a bit turned, or with the upper half set."""
    same = st.sampled_from(constants)
    turned = st.builds(lambda value, bit: value ^ 1 << bit, same, st.integers(0, 63))
    upper = st.builds(lambda value, half: value & 0xFFFFFFFF | half << 32, same, st.integers(1, 2**32 - 1))
    return st.one_of(same, turned, upper, st.integers(0, 64), U64)


def calls(name: str) -> st.SearchStrategy[tuple[str, tuple[int, ...]]]:
    """Calls of one name, with arguments that its own rules are about."""
    arguments = []
    for index in range(6):
        conditions = [c for rule in PROFILE.rules if name in rule.names for c in rule.conditions if c.index == index]
        arguments.append(near(sorted({v for c in conditions for v in (c.value, c.value_two)})) if conditions else U64)
    return st.tuples(st.just(name), st.tuples(*arguments))


ARGUMENTS = st.tuples(*[near(CONSTANTS)] * 6)

pytestmark = [pytest.mark.property, pytest.mark.user]


def number_of(name: str) -> int:
    return YOUNG_CALLS.get(name) or int(pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, name))


@pytest.mark.parametrize("name", CONDITIONAL)
@given(data=st.data())
def test_rules_with_conditions(name: str, data: st.DataObject) -> None:
    check_call(*data.draw(calls(name)))


@given(name=st.sampled_from(NAMES), arguments=ARGUMENTS)
def test_any_call(name: str, arguments: tuple[int, ...]) -> None:
    check_call(name, arguments)


def check_call(name: str, arguments: tuple[int, ...]) -> None:
    """Compare both filters with the profile."""
    decision = PROFILE.decide(name, arguments)
    answers = {
        Action.ALLOW: (bpf.RET_ALLOW, bpf.RET_ALLOW),
        Action.NOTIFY: (bpf.RET_NOTIFY, bpf.RET_ALLOW),
        Action.ERRNO: (bpf.RET_ERRNO | decision.errno,) * 2,
    }[decision.action]

    assert tuple(bpf.run_filter(code, number_of(name), arguments) for code in (AGENT, HOUSEKEEPING)) == answers


@given(number=st.integers(0, 2**32 - 1), arguments=ARGUMENTS, arch=st.integers(0, 2**32 - 1))
def test_other_architectures_end_the_process(number: int, arguments: tuple[int, ...], arch: int) -> None:
    if arch != bpf.AUDIT_ARCH_X86_64:
        assert bpf.run_filter(AGENT, number, arguments, arch) == bpf.RET_KILL_PROCESS


@given(number=st.integers(0, 2**30 - 1), arguments=ARGUMENTS)
def test_x32_ends_the_process(number: int, arguments: tuple[int, ...]) -> None:
    assert bpf.run_filter(AGENT, number | bpf.X32_BIT, arguments) == bpf.RET_KILL_PROCESS


def test_i386_ends_the_process() -> None:
    assert {bpf.run_filter(AGENT, number, arch=bpf.AUDIT_ARCH_I386) for number in range(600)} == {bpf.RET_KILL_PROCESS}
