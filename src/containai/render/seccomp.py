"""The seccomp profile as data: parsed strictly, with the meaning that every compiler of it has to keep.

``data/seccomp-containai-agent.json`` is in the format of OCI and Docker, so that each engine takes the same
file. The embedded engine gets it compiled to BPF when the package is built (``scripts/compile_seccomp.py``);
the tests compare what was compiled with `SeccompProfile.decide`.

Source: I3; https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from containai.errors import PolicyError
from containai.record import dataclass

ARCHITECTURE = "SCMP_ARCH_X86_64"
U64_MAX = 2**64 - 1


class Action(Enum):
    """What the kernel does with a call."""

    ALLOW = "SCMP_ACT_ALLOW"
    ERRNO = "SCMP_ACT_ERRNO"
    NOTIFY = "SCMP_ACT_NOTIFY"


class Comparison(Enum):
    """How an argument is compared, unsigned and with all 64 bits."""

    EQUAL = "SCMP_CMP_EQ"
    GREATER = "SCMP_CMP_GT"
    MASKED_EQUAL = "SCMP_CMP_MASKED_EQ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An action and, for ``ERRNO``, its error number."""

    action: Action
    errno: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison with one argument of the call.

    Attributes:
        index: Which argument, from 0.
        value: What it is compared with; for ``MASKED_EQUAL`` the mask.
        value_two: For ``MASKED_EQUAL``, what the masked argument has to be.
    """

    index: int
    comparison: Comparison
    value: int
    value_two: int = 0

    def holds(self, arguments: Sequence[int]) -> bool:
        """Whether the arguments of a call meet it."""
        argument = arguments[self.index]
        match self.comparison:
            case Comparison.EQUAL:
                return argument == self.value
            case Comparison.GREATER:
                return argument > self.value
            case Comparison.MASKED_EQUAL:
                return argument & self.value == self.value_two

    def __str__(self) -> str:
        match self.comparison:
            case Comparison.EQUAL:
                return f"arg{self.index} = {self.value:#x}"
            case Comparison.GREATER:
                return f"arg{self.index} > {self.value:#x}"
            case Comparison.MASKED_EQUAL:
                return f"arg{self.index} & {self.value:#x} = {self.value_two:#x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A group of calls with one decision, taken where all conditions hold."""

    comment: str
    names: tuple[str, ...]
    decision: Decision
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompProfile:
    """The whole profile. No call meets two rules with different decisions, so that their order says nothing."""

    default: Decision
    rules: tuple[Rule, ...]

    def decide(self, name: str, arguments: Sequence[int] = (0,) * 6) -> Decision:
        """Return what the profile says about one call with its six arguments."""
        for rule in self.rules:
            if name in rule.names and all(condition.holds(arguments) for condition in rule.conditions):
                return rule.decision
        return self.default

    def names(self, action: Action) -> frozenset[str]:
        """The calls to which some rule gives this action."""
        return frozenset(name for rule in self.rules if rule.decision.action is action for name in rule.names)


def parse_profile(text: str | bytes) -> SeccompProfile:
    """Parse the profile; nothing unknown is skipped.

    Trust: the file is ours, shipped with the package.

    Raises:
        PolicyError: It has an unknown key, action or comparison, or names a call twice without conditions.
    """
    try:
        return _profile(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError("the seccomp profile is malformed", code="policy.seccomp", details=repr(error)) from error


def render_table(profile: SeccompProfile) -> str:
    """Render the profile as a Markdown table, for docs/seccomp.md."""
    lines = ["| calls | where | answer | reason |", "| --- | --- | --- | --- |"]
    for rule in profile.rules:
        where = " and ".join(f"`{condition}`" for condition in rule.conditions) or "always"
        names = " ".join(f"`{name}`" for name in rule.names)
        lines.append(f"| {names} | {where} | {_answer(rule.decision)} | {rule.comment} |")
    lines.append(f"| every other | always | {_answer(profile.default)} | Default deny. |")
    return "\n".join(lines) + "\n"


def _answer(decision: Decision) -> str:
    import errno  # only the docs need it

    if decision.action is Action.ERRNO:
        return errno.errorcode[decision.errno]
    return {Action.ALLOW: "allow", Action.NOTIFY: "supervisor"}[decision.action]


def _profile(data: Mapping[str, Any]) -> SeccompProfile:
    _only(data, "defaultAction", "defaultErrnoRet", "archMap", "syscalls")
    if data["archMap"] != [{"architecture": ARCHITECTURE, "subArchitectures": []}]:
        raise ValueError("archMap: x86_64 alone is expected")
    default = Decision(action=Action(data["defaultAction"]), errno=data["defaultErrnoRet"])
    if default.action is not Action.ERRNO:
        raise ValueError("defaultAction: only a refusal will do")
    rules = tuple(_rule(entry) for entry in data["syscalls"])
    _check_unambiguous(rules)
    return SeccompProfile(default=default, rules=rules)


def _rule(entry: Mapping[str, Any]) -> Rule:
    _only(entry, "comment", "names", "action", "errnoRet", "args")
    action = Action(entry["action"])
    if (action is Action.ERRNO) != ("errnoRet" in entry):
        raise ValueError(f"errnoRet belongs to SCMP_ACT_ERRNO: {entry['names']}")
    return Rule(
        comment=entry["comment"],
        names=tuple(entry["names"]),
        decision=Decision(action=action, errno=entry.get("errnoRet", 0)),
        conditions=tuple(_condition(argument) for argument in entry.get("args", ())),
    )


def _condition(data: Mapping[str, Any]) -> Condition:
    _only(data, "index", "value", "valueTwo", "op")
    condition = Condition(
        index=data["index"],
        comparison=Comparison(data["op"]),
        value=data["value"],
        value_two=data.get("valueTwo", 0),
    )
    if not (0 <= condition.index < 6 and 0 <= condition.value <= U64_MAX):
        raise ValueError(f"out of range: {data}")
    if condition.value_two & ~condition.value and condition.comparison is Comparison.MASKED_EQUAL:
        raise ValueError(f"never true: {data}")
    return condition


def _check_unambiguous(rules: Sequence[Rule]) -> None:
    always: set[str] = set()
    sometimes: set[str] = set()
    for rule in rules:
        for name in rule.names:
            if name in always or (name in sometimes and not rule.conditions):
                raise ValueError(f"two rules for {name}, one of them without conditions")
            (sometimes if rule.conditions else always).add(name)


def _only(data: Mapping[str, Any], *known: str) -> None:
    unknown = set(data) - set(known)
    if unknown:
        raise ValueError(f"unknown key: {', '.join(sorted(unknown))}")
