"""One policy out of the defaults, the user's file, the command line and the repository's file. PURE.

    standing  =  defaults, then the user's file         what the user allows everywhere
    wanted    =  standing, then the command line        what the user allows this time
    result    =  wanted ∩ repository                    never more than ``wanted``

The user may widen what he allows everywhere; a repository may only narrow. A repository that asks
for more than both ``standing`` and ``wanted`` is refused by name (``policy.widens``), so that nobody
takes its file for granted; less than that needs no mention, since the intersection holds anyway.
"""

from __future__ import annotations

from typing import TypeVar

from containai.errors import PolicyError
from containai.policy.domains import covers, intersect_all
from containai.policy.load import Config
from containai.policy.model import (
    DEFAULT_DOMAINS,
    Author,
    CredentialMode,
    ExecPolicy,
    Limits,
    LocalService,
    NetworkMode,
    NetworkPolicy,
    Policy,
)
from containai.record import dataclass, replace

_T = TypeVar("_T")
_Quantity = TypeVar("_Quantity", int, float)

_WIDEST_FIRST = (NetworkMode.SQUID, NetworkMode.RESTRICTED, NetworkMode.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line says. None is "says nothing"."""

    mode: NetworkMode | None = None
    domains: tuple[str, ...] | None = None
    local_services: tuple[LocalService, ...] = ()
    cpus: float | None = None
    memory_bytes: int | None = None
    timeout_s: float | None = None
    credentials: CredentialMode | None = None
    exec_policy: ExecPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowed:
    """The policy of a session, and what the files say beside it.

    Attributes:
        engine: The engine that the user's file names, ``auto`` otherwise.
        author: Who stands in the commits, by the user's file alone; None for the agent itself.
        notes: For the user to read: what was narrowed to nothing, or has no effect yet.
    """

    policy: Policy
    timeout_s: float | None
    engine: str
    author: Author | None
    notes: tuple[str, ...]


def narrow(user: Config, repository: Config, flags: Flags, *, api_hosts: tuple[str, ...] = ()) -> Narrowed:
    """Decide what a session may do.

    Args:
        user: The user's file.
        repository: The repository's file. Trust: hostile; it can only take away.
        flags: The command line.
        api_hosts: Hosts without which the chosen agent cannot work (its vendor's API). They are part
            of what the user allows by choosing the agent, in every mode but ``none`` (N2).

    Raises:
        PolicyError: ``policy.widens``: the repository asks for more than the user allows.
    """
    network, notes = _network(user, repository, flags, api_hosts)
    timeout_s = flags.timeout_s if flags.timeout_s is not None else user.timeout_s
    # A denial only takes away: the repository's add to the user's.
    denied = tuple(sorted({*user.denied_programs, *repository.denied_programs}))
    rules = (*user.exec_rules, *repository.exec_rules)
    standing = ExecPolicy.ENFORCE if denied or rules else ExecPolicy.OBSERVE
    policy = Policy(
        network=network,
        limits=_limits(user, repository, flags),
        credentials=_first(flags.credentials, user.credentials, CredentialMode.MOUNT),
        exec_policy=_first(flags.exec_policy, standing),
        denied_programs=denied,
        exec_rules=rules,
    )
    return Narrowed(
        policy=policy,
        timeout_s=_timeout(user.timeout_s, timeout_s, repository),
        engine=user.engine or "auto",
        author=user.author,
        notes=(*user.notes, *repository.notes, *notes),
    )


def _network(
    user: Config, repository: Config, flags: Flags, api_hosts: tuple[str, ...]
) -> tuple[NetworkPolicy, tuple[str, ...]]:
    standing = _first(user.mode, NetworkMode.SQUID)
    wanted = _first(flags.mode, standing)
    if repository.mode is not None and _rank(repository.mode) < min(_rank(standing), _rank(wanted)):
        raise _widens(repository, "network.mode", repository.mode.value, wanted.value)
    mode = max(wanted, repository.mode or wanted, key=_rank)

    chosen = flags.domains if flags.domains is not None else user.domains  # N5: replaces the defaults
    everywhere = user.domains if user.domains is not None else DEFAULT_DOMAINS
    _check_domains(repository, (*everywhere, *(chosen or ()), *api_hosts))

    notes: tuple[str, ...] = ()
    if repository.domains is not None:
        allowed = chosen if chosen is not None else DEFAULT_DOMAINS if wanted is NetworkMode.SQUID else ()
        named = intersect_all(allowed, repository.domains)
        if not named and mode is not NetworkMode.NONE:
            notes = (f"{repository.origin}: network.domains leaves none of the hosts that you allow",)
    else:
        named = chosen if chosen is not None else DEFAULT_DOMAINS if mode is NetworkMode.SQUID else ()
    domains = () if mode is NetworkMode.NONE else tuple(dict.fromkeys((*api_hosts, *named)))
    return NetworkPolicy(mode=mode, domains=domains, local_services=flags.local_services), notes


def _check_domains(repository: Config, allowed: tuple[str, ...]) -> None:
    for pattern in repository.domains or ():
        if not any(covers(known, pattern) for known in allowed):
            raise PolicyError(
                f"{repository.origin}: network.domains asks for {pattern}, which you do not allow",
                code="policy.widens",
                details="a repository can narrow what a session may do, and never widen it",
                remedy=(
                    f"to allow it, name {pattern} in --squid-domains or in [network] domains of your own configuration",
                    f"else remove it from {repository.origin}",
                ),
            )


def _limits(user: Config, repository: Config, flags: Flags) -> Limits:
    base = Limits()
    memory_bytes = _narrower(
        repository, "limits.memory", _first(user.memory_bytes, base.memory_bytes), flags.memory_bytes,
        repository.memory_bytes,
    )  # fmt: skip
    return replace(
        base,
        cpus=_narrower(repository, "limits.cpus", _first(user.cpus, base.cpus), flags.cpus, repository.cpus),
        memory_bytes=memory_bytes,
        pids_max=_narrower(repository, "limits.pids", _first(user.pids_max, base.pids_max), None, repository.pids_max),
        workspace_bytes=_narrower(
            repository,
            "limits.workspace",
            _first(user.workspace_bytes, base.workspace_bytes),
            None,
            repository.workspace_bytes,
        ),
        tmpfs_bytes=min(base.tmpfs_bytes, memory_bytes),  # what a tmpfs holds counts as memory
    )


def _narrower(
    repository: Config, key: str, standing: _Quantity, flag: _Quantity | None, asked: _Quantity | None
) -> _Quantity:
    wanted = standing if flag is None else flag
    if asked is None:
        return wanted
    if asked > max(standing, wanted):
        raise _widens(repository, key, f"{asked:g}", f"{max(standing, wanted):g}")
    return min(asked, wanted)


def _timeout(standing: float | None, wanted: float | None, repository: Config) -> float | None:
    asked = repository.timeout_s
    if asked is None or wanted is None:  # nobody else sets one, so nothing can be wider
        return wanted if asked is None else asked
    if standing is not None and asked > max(standing, wanted):
        raise _widens(repository, "limits.timeout_s", f"{asked:g}", f"{max(standing, wanted):g}")
    return min(asked, wanted)


def _widens(repository: Config, key: str, asked: str, allowed: str) -> PolicyError:
    return PolicyError(
        f"{repository.origin}: {key} = {asked} is wider than what you allow ({allowed})",
        code="policy.widens",
        details="a repository can narrow what a session may do, and never widen it",
        remedy=(
            f"to allow it, set {key} in your own configuration or on the command line",
            f"else remove {key} from {repository.origin}",
        ),
    )


def _rank(mode: NetworkMode) -> int:
    return _WIDEST_FIRST.index(mode)


def _first(*values: _T | None) -> _T:
    return next(value for value in values if value is not None)
