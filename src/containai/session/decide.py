"""Everything that is found out and decided before anything of a session is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from containai.agents.load import load_adapter
from containai.agents.model import Adapter, Program
from containai.agents.resolve import resolve_files, resolve_program
from containai.errors import AgentError, PolicyError
from containai.host.layout import HostLayout, layout_of_image, read_layout
from containai.plan.filesystem import ETC_ALLOWED, PROC_MASKED
from containai.plan.model import AGENT_UID, HOME, FileOrigin, Identity, Source, StagedFile
from containai.plan.request import RunRequest
from containai.policy.load import load_user, parse_repository
from containai.policy.model import CredentialMode, NetworkMode
from containai.policy.narrow import Flags, Narrowed, narrow
from containai.preflight.facts import Trials
from containai.preflight.model import Facts
from containai.preflight.report import refuse_if_needed
from containai.record import dataclass, replace
from containai.session.engines import ask_docker, images_of, look_at_host, require_engine, settle_engine
from containai.session.identity import choose_identity
from containai.workspace.choose import choose_source
from containai.workspace.committed import read_committed_file

REPOSITORY_CONFIG = "config.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The user's side of a launch: where things are, and the values of variables to pass.

    Attributes:
        variables: What git as the user needs of his environment.
        exported: The names of all that he has exported: what may be passed, without a value.
    """

    home: Path
    search_path: str
    state_dir: Path
    config_file: Path
    terminal_type: str
    variables: Mapping[str, str]
    docker_host: str = ""
    exported: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """All that the plan is built from."""

    engine: str
    engine_reason: str
    image: str
    source: Source
    adapter: Adapter
    program: Program | None
    files: tuple[StagedFile, ...]
    narrowed: Narrowed
    layout: HostLayout
    identity: Identity
    facts: Facts
    notes: tuple[str, ...]


def decide(request: RunRequest, host: Host) -> Decided:
    """Resolve the request against the host, in the order of P1: host checks first.

    Raises:
        ContainaiError: Anything that makes a launch impossible or unsafe.
    """
    require_engine(request.engine)
    adapter = load_adapter(request.agent)
    identity = choose_identity()
    trials = Trials(identity, embedded=request.engine != "docker")
    source = choose_source(request, host.variables, host.state_dir)
    narrowed = narrow(
        load_user(host.config_file),
        parse_repository(read_committed_file(source, REPOSITORY_CONFIG)),
        Flags(
            mode=request.network,
            domains=request.domains,
            local_services=request.local_services,
            cpus=request.cpus,
            memory_bytes=request.memory_bytes,
            timeout_s=request.timeout_s,
            credentials=request.credentials,
            exec_policy=request.exec_policy,
        ),
        api_hosts=adapter.api_hosts,
    )
    wanted = narrowed.engine if request.engine == "auto" else request.engine
    require_engine(wanted)
    docker = ask_docker(
        wanted, host.docker_host, images_of(adapter.name, request.image), apparmor=trials.apparmor_enabled
    )
    with_proxy = narrowed.policy.network.mode is not NetworkMode.NONE
    facts = look_at_host(trials, host.state_dir, with_proxy=with_proxy, docker=docker)
    engine, reason = settle_engine(wanted, facts)
    refuse_if_needed(facts, engine)
    _refuse_denials(engine, narrowed)
    layout = read_layout(ETC_ALLOWED, PROC_MASKED)
    program: Program | None
    if engine == "docker":
        identity = _without_user_namespace(identity)
        layout = layout_of_image(layout)
        program = _in_image(adapter)
    else:
        program = _find_program(request, adapter, host)
    files = resolve_files(adapter, host.home, narrowed.policy.credentials)
    return Decided(
        engine=engine,
        engine_reason=reason,
        image=facts.docker.image.id if engine == "docker" and facts.docker and facts.docker.image else "",
        source=source,
        adapter=adapter,
        program=program,
        files=files,
        narrowed=narrowed,
        layout=layout,
        identity=identity,
        facts=facts,
        notes=(*narrowed.notes, *source.notes, *_sign_ins(request, narrowed.policy.credentials, adapter, files, host)),
    )


def _refuse_denials(engine: str, narrowed: Narrowed) -> None:
    if engine == "docker" and narrowed.policy.denied_programs:
        raise PolicyError(
            "[exec] deny is kept by the embedded engine alone",
            code="policy.exec-engine",
            details="the programs of an image are not this host's, and so no rule can name them",
            remedy=["--engine embedded", "or leave [exec] deny out"],
        )


def _find_program(request: RunRequest, adapter: Adapter, host: Host) -> Program | None:
    """The agent's program. With a command of the user's own it is brought along where it is installed."""
    try:
        return resolve_program(adapter, host.search_path, host.home)
    except AgentError:
        if request.command:
            return None
        raise


def _in_image(adapter: Adapter) -> Program:
    """The agent's program where the image has it: on its PATH."""
    return Program(argv=(adapter.binaries[0],), mounts=(), path=(), found=Path(adapter.binaries[0]), version="")


def _without_user_namespace(identity: Identity) -> Identity:
    """Docker makes none: 1000 inside is 1000 outside. An ordinary user stays himself, so that the work is his."""
    return replace(identity, agent_uid=AGENT_UID, agent_gid=AGENT_UID) if os.geteuid() == 0 else identity


def _sign_ins(
    request: RunRequest, mode: CredentialMode, adapter: Adapter, files: tuple[StagedFile, ...], host: Host
) -> tuple[str, ...]:
    """What of the user's credentials the agent can read; or that it has none, which it says in words of its own."""
    secret = {HOME / file.path for file in adapter.host_files if file.secret}
    given = sorted(str(file.target) for file in files if file.target in secret and file.origin is FileOrigin.HOST)
    if given:
        return (f"{adapter.title} can read, not change: {', '.join(given)} (credentials, mode mount)",)
    known = adapter.credential_variables
    if request.command or mode is CredentialMode.NONE or not known:
        return ()
    if not frozenset(known).isdisjoint(request.passed_variables):
        return ()
    there = [name for name in known if name in host.exported]
    if there:
        return (f"no sign-in of {adapter.title} was found, and {there[0]} is not passed: --env {there[0]}",)
    return (
        f"no sign-in of {adapter.title} was found; sign in outside, or export {known[0]} and give --env {known[0]}",
    )
