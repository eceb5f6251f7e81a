"""Defaults, user, command line and repository become one policy; a repository only takes away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from containai.errors import PolicyError
from containai.policy.load import NO_CONFIG, Config
from containai.policy.model import (
    DEFAULT_DOMAINS,
    CredentialMode,
    ExecPolicy,
    ExecRule,
    Limits,
    LocalService,
    NetworkMode,
)
from containai.policy.narrow import Flags, Narrowed, narrow

pytestmark = pytest.mark.user

API = ("api.agent.example",)
GIB = 1 << 30


def decide(user: Any = None, repository: Any = None, flags: Any = None, api: tuple[str, ...] = API) -> Narrowed:
    return narrow(
        Config(origin="user", **(user or {})) if user else NO_CONFIG,
        Config(origin="repo", **(repository or {})) if repository else NO_CONFIG,
        Flags(**(flags or {})),
        api_hosts=api,
    )


def refusal(**given: Any) -> PolicyError:
    with pytest.raises(PolicyError) as refused:
        decide(**given)
    assert refused.value.code == "policy.widens"
    return refused.value


def test_the_defaults() -> None:
    decided = decide()
    network = decided.policy.network
    assert network.mode is NetworkMode.SQUID
    assert network.domains == API + DEFAULT_DOMAINS
    assert network.local_services == ()
    assert decided.policy.limits == Limits()
    assert decided.policy.credentials is CredentialMode.MOUNT
    assert (decided.timeout_s, decided.engine, decided.notes) == (None, "auto", ())


def test_named_domains_replace_the_defaults() -> None:
    assert decide(flags={"domains": ("a.example",)}).policy.network.domains == (*API, "a.example")
    assert decide(user={"domains": ("u.example",)}).policy.network.domains == (*API, "u.example")
    both = decide(user={"domains": ("u.example",)}, flags={"domains": ("a.example",)})
    assert both.policy.network.domains == (*API, "a.example")
    assert decide(flags={"domains": ("a.example",)}, api=()).policy.network.domains == ("a.example",)


def test_restricted_is_the_agents_own_hosts_and_the_named_ones() -> None:
    restricted = {"mode": NetworkMode.RESTRICTED}
    assert decide(flags=restricted).policy.network.domains == API
    assert decide(flags=restricted, api=()).policy.network.domains == ()
    assert decide(flags=restricted | {"domains": ("a.example",)}).policy.network.domains == (*API, "a.example")
    assert decide(user={"domains": ("u.example",)}, flags=restricted).policy.network.domains == (*API, "u.example")


def test_none_is_no_host_at_all() -> None:
    network = decide(flags={"mode": NetworkMode.NONE, "domains": ("a.example",)}).policy.network
    assert (network.mode, network.domains) == (NetworkMode.NONE, ())


def test_the_command_line_may_widen_what_the_users_file_says() -> None:
    decided = decide(
        user={"mode": NetworkMode.NONE, "cpus": 1.0, "memory_bytes": GIB, "timeout_s": 5.0},
        flags={"mode": NetworkMode.SQUID, "cpus": 8.0, "memory_bytes": 8 * GIB, "timeout_s": 50.0},
    )
    assert decided.policy.network.mode is NetworkMode.SQUID
    assert (decided.policy.limits.cpus, decided.policy.limits.memory_bytes, decided.timeout_s) == (8.0, 8 * GIB, 50.0)


def test_a_repository_narrows() -> None:
    decided = decide(
        repository={
            "mode": NetworkMode.RESTRICTED,
            "domains": ("files.pypi.org", "*.github.com"),
            "cpus": 0.5,
            "memory_bytes": GIB,
            "pids_max": 64,
            "timeout_s": 60.0,
        }
    )
    assert decided.policy.network.mode is NetworkMode.RESTRICTED
    assert decided.policy.network.domains == (*API, "files.pypi.org", "*.github.com")
    limits = decided.policy.limits
    assert (limits.cpus, limits.memory_bytes, limits.pids_max, decided.timeout_s) == (0.5, GIB, 64, 60.0)
    assert limits.tmpfs_bytes == GIB


def test_a_repository_that_asks_for_restricted_leaves_no_default_host() -> None:
    assert decide(repository={"mode": NetworkMode.RESTRICTED}).policy.network.domains == API


def test_the_narrower_wins_whoever_says_it() -> None:
    narrower_user = {"cpus": 0.25, "timeout_s": 10.0}
    assert decide(flags=narrower_user, repository={"cpus": 0.5}).policy.limits.cpus == 0.25
    assert decide(flags=narrower_user, repository={"timeout_s": 60.0}).timeout_s == 10.0
    assert decide(flags={"timeout_s": 60.0}, repository={"timeout_s": 10.0}).timeout_s == 10.0
    assert decide(repository={"timeout_s": 10.0}).timeout_s == 10.0
    squid = decide(flags={"mode": NetworkMode.NONE}, repository={"mode": NetworkMode.SQUID})
    assert squid.policy.network.mode is NetworkMode.NONE
    assert squid.policy.network.domains == ()


def test_a_wildcard_of_the_user_is_narrowed_to_the_repositorys_host() -> None:
    decided = decide(flags={"domains": ("*.a.example",)}, repository={"domains": ("x.a.example",)})
    assert decided.policy.network.domains == (*API, "x.a.example")


def test_a_repository_that_leaves_nothing_is_said() -> None:
    decided = decide(flags={"domains": ("a.example",)}, repository={"domains": ("pypi.example", "*.github.com")[1:]})
    assert decided.policy.network.domains == API
    assert "leaves none" in decided.notes[0]


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"user": {"mode": NetworkMode.RESTRICTED}, "repository": {"mode": NetworkMode.SQUID}}, "network.mode"),
        ({"user": {"mode": NetworkMode.NONE}, "repository": {"mode": NetworkMode.RESTRICTED}}, "network.mode"),
        ({"repository": {"cpus": 2.5}}, "limits.cpus"),
        ({"repository": {"memory_bytes": 5 * GIB}}, "limits.memory"),
        ({"user": {"pids_max": 100}, "repository": {"pids_max": 101}}, "limits.pids"),
        ({"user": {"timeout_s": 10.0}, "repository": {"timeout_s": 11.0}}, "limits.timeout_s"),
        ({"repository": {"domains": ("evil.example",)}}, "evil.example"),
        ({"user": {"domains": ("x.a.example",)}, "repository": {"domains": ("*.a.example",)}}, "*.a.example"),
        ({"repository": {"domains": ("github.com",)}}, "github.com"),  # *.github.com does not cover it
    ],
)
def test_a_repository_that_asks_for_more_is_refused_by_name(given: dict[str, Any], key: str) -> None:
    error = refusal(**given)
    assert key in error.summary
    assert error.summary.startswith("repo: ")
    assert error.remedy


def test_a_repository_may_ask_for_what_the_user_allows_everywhere() -> None:
    """Else the user could not narrow one session of a repository that names its own limits."""
    decided = decide(
        flags={"cpus": 0.5, "memory_bytes": GIB, "domains": ("a.example",)},
        repository={"cpus": 2.0, "memory_bytes": 4 * GIB, "domains": ("*.github.com",)},
    )
    assert (decided.policy.limits.cpus, decided.policy.limits.memory_bytes) == (0.5, GIB)
    assert decided.policy.network.domains == API


def test_a_repository_never_takes_the_agents_own_hosts() -> None:
    assert decide(repository={"domains": ("*.github.com",)}).policy.network.domains == (*API, "*.github.com")


def test_local_services_and_credentials_are_the_users() -> None:
    service = LocalService(host="127.0.0.1", port=11434)
    decided = decide(
        flags={"mode": NetworkMode.NONE, "local_services": (service,)}, user={"credentials": CredentialMode.NONE}
    )
    assert decided.policy.network.local_services == (service,)
    assert decided.policy.credentials is CredentialMode.NONE
    over = decide(flags={"credentials": CredentialMode.MOUNT}, user={"credentials": CredentialMode.NONE})
    assert over.policy.credentials is CredentialMode.MOUNT


def test_engine_and_notes_come_through() -> None:
    user = replace(NO_CONFIG, origin="u", engine="embedded", notes=("one",))
    decided = narrow(user, replace(NO_CONFIG, notes=("two",)), Flags())
    assert (decided.engine, decided.notes) == ("embedded", ("one", "two"))


def test_denials_add_up_and_are_part_of_the_policy() -> None:
    user, repository = Config(denied_programs=("nc", "ssh")), Config(denied_programs=("nc", "curl"))
    policy = narrow(user, repository, Flags()).policy
    assert policy.denied_programs == ("curl", "nc", "ssh")
    assert policy.exec_policy is ExecPolicy.ENFORCE
    assert narrow(Config(), Config(), Flags()).policy.exec_policy is ExecPolicy.OBSERVE


def test_the_command_line_says_whether_rules_are_enforced() -> None:
    rule = ExecRule(name="r", program="git", arguments=("push",))
    ours, theirs = Config(exec_rules=(rule,)), Config(exec_rules=(replace(rule, name="s"),))
    assert [r.name for r in narrow(ours, theirs, Flags()).policy.exec_rules] == ["r", "s"]
    assert narrow(Config(), theirs, Flags()).policy.exec_policy is ExecPolicy.ENFORCE
    assert narrow(ours, theirs, Flags(exec_policy=ExecPolicy.OBSERVE)).policy.exec_policy is ExecPolicy.OBSERVE
    assert narrow(Config(), Config(), Flags(exec_policy=ExecPolicy.ENFORCE)).policy.exec_policy is ExecPolicy.ENFORCE
