#!/usr/bin/env python3
"""Compiles the seccomp profile to BPF with libseccomp: ``compile_seccomp.py PROFILE.json DIRECTORY``.

Writes ``agent.bpf`` (execve and execveat wait for the supervisor) and ``housekeeping.bpf`` (they are allowed)
as arrays of ``struct sock_filter``. Runs when the package is built, never at run time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from containai.render.seccomp import Action, Comparison, Condition, Decision, SeccompProfile, parse_profile

# Calls that are younger than the libseccomp of Debian 12 and Ubuntu 22.04 (2.5.3), so that every build host makes
# the same filter. Source: Linux, arch/x86/entry/syscalls/syscall_64.tbl.
YOUNG_CALLS = {
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
}
# Source: seccomp_api_set(3): 5 is user notification. Set, not probed: the filter is for the user's kernel, and the
# build may run where a probe of seccomp fails, in another container for example.
API_LEVEL = 5
OPTIMIZE_BINARY_TREE = 2  # Source: seccomp_attr_set(3), SCMP_FLTATR_CTL_OPTIMIZE


def compile_profile(profile: Path, directory: Path) -> None:
    """Write both filters of a profile to a directory."""
    parsed = parse_profile(profile.read_bytes())
    for name, supervised in (("agent.bpf", True), ("housekeeping.bpf", False)):
        (directory / name).write_bytes(compile_filter(parsed, supervised=supervised))


def compile_filter(profile: SeccompProfile, *, supervised: bool) -> bytes:
    """Return one filter; without supervision, what would notify is allowed."""
    seccomp = _libseccomp()
    seccomp.set_api(API_LEVEL)
    made = seccomp.SyscallFilter(_code(seccomp, profile.default))
    # x86_64 alone is in the filter. A call of i386 (int 0x80) or x32 comes with another architecture or number
    # range and ends the process: an errno would let such a program run on, its exit refused too.
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    try:
        made.set_attr(seccomp.Attr.CTL_OPTIMIZE, OPTIMIZE_BINARY_TREE)
    except OSError:  # libseccomp < 2.5: the same filter, with a linear search
        print("compile_seccomp: this libseccomp has no binary tree; the filter is slower", file=sys.stderr)
    for rule in profile.rules:
        decision = rule.decision
        if decision.action is Action.NOTIFY and not supervised:
            decision = Decision(action=Action.ALLOW)
        if decision == profile.default:
            continue  # libseccomp refuses a rule that says what the default says
        arguments = [_argument(seccomp, condition) for condition in rule.conditions]
        for name in rule.names:
            made.add_rule_exactly(_code(seccomp, decision), _number(seccomp, name), *arguments)
    return _export(made)


def _libseccomp() -> Any:
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        raise SystemExit(
            f"compile_seccomp: {error}\n"
            "  Debian, Ubuntu:  apt-get install libseccomp2\n"
            "  Fedora:          dnf install libseccomp"
        ) from error
    return pyseccomp


def _number(seccomp: Any, name: str) -> int:
    if name in YOUNG_CALLS:
        return YOUNG_CALLS[name]
    number = int(seccomp.resolve_syscall(seccomp.Arch.X86_64, name))
    if number < 0:
        raise SystemExit(f"compile_seccomp: x86_64 has no system call {name}")
    return number


def _code(seccomp: Any, decision: Decision) -> int:
    match decision.action:
        case Action.ALLOW:
            return int(seccomp.ALLOW)
        case Action.NOTIFY:
            return int(seccomp.NOTIFY)
        case Action.ERRNO:
            return int(seccomp.ERRNO(decision.errno))


def _argument(seccomp: Any, condition: Condition) -> Any:
    operator = {
        Comparison.EQUAL: seccomp.EQ,
        Comparison.GREATER: seccomp.GT,
        Comparison.MASKED_EQUAL: seccomp.MASKED_EQ,
    }[condition.comparison]
    return seccomp.Arg(condition.index, operator, condition.value, condition.value_two)


def _export(made: Any) -> bytes:
    # A memory file: libseccomp writes to a descriptor, and a pipe could fill up.
    with os.fdopen(os.memfd_create("filter"), "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


if __name__ == "__main__":
    compile_profile(Path(sys.argv[1]), Path(sys.argv[2]))
