"""Everything that is found out and decided before anything of a session is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from containai.agents.load import load_adapter
from containai.agents.model import Adapter, Program
from containai.agents.resolve import resolve_files, resolve_program
from containai.engine.embedded.engine import Tools
from containai.errors import AgentError, EngineError
from containai.host.cgroups import Delegation
from containai.host.layout import HostLayout, read_layout
from containai.plan.filesystem import ETC_ALLOWED, PROC_MASKED
from containai.plan.model import HOME, Identity, Source, StagedFile
from containai.plan.request import RunRequest
from containai.policy.load import load_user, parse_repository
from containai.policy.model import NetworkMode
from containai.policy.narrow import Flags, Narrowed, narrow
from containai.preflight.facts import PROFILE, Trials, collect_facts
from containai.preflight.model import Facts
from containai.preflight.report import refuse_if_needed
from containai.session.identity import choose_identity
from containai.workspace.choose import choose_source
from containai.workspace.committed import read_committed_file

REPOSITORY_CONFIG = "config.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The user's side of a launch: where things are, and the values of variables to pass."""

    home: Path
    search_path: str
    state_dir: Path
    config_file: Path
    terminal_type: str
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """All that the plan is built from."""

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
    _require_engine(request.engine)
    adapter = load_adapter(request.agent)
    identity = choose_identity()
    trials = Trials(identity)
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
        ),
        api_hosts=adapter.api_hosts,
    )
    _require_engine(narrowed.engine)
    with_proxy = narrowed.policy.network.mode is not NetworkMode.NONE
    facts = look_at_host(trials, host.state_dir, with_proxy=with_proxy)
    refuse_if_needed(facts, "embedded")
    program = _find_program(request, adapter, host)
    files = resolve_files(adapter, host.home, narrowed.policy.credentials)
    return Decided(
        source=source,
        adapter=adapter,
        program=program,
        files=files,
        narrowed=narrowed,
        layout=read_layout(ETC_ALLOWED, PROC_MASKED),
        identity=identity,
        facts=facts,
        notes=(*narrowed.notes, *source.notes, *_credential_notes(adapter, files)),
    )


def _find_program(request: RunRequest, adapter: Adapter, host: Host) -> Program | None:
    """The agent's program. With a command of the user's own it is brought along where it is installed."""
    try:
        return resolve_program(adapter, host.search_path, host.home)
    except AgentError:
        if request.command:
            return None
        raise


def _require_engine(name: str) -> None:
    """Only the embedded engine exists in this version; a named one is never replaced by another."""
    if name not in ("auto", "embedded"):
        raise EngineError(
            f"the engine {name} is not part of this version",
            code="engine.unavailable",
            remedy=["containai run --engine embedded ...", f"containai doctor --engine {name}"],
        )


def _credential_notes(adapter: Adapter, files: tuple[StagedFile, ...]) -> tuple[str, ...]:
    secret = {str(HOME / file.path) for file in adapter.host_files if file.secret}
    given = sorted(str(file.target) for file in files if str(file.target) in secret)
    if not given:
        return ()
    return (f"{adapter.title} can read, not change: {', '.join(given)} (credentials, mode mount)",)


def look_at_host(trials: Trials, state_dir: Path, *, with_proxy: bool) -> Facts:
    """Collect the facts that a launch and ``doctor`` share (P7)."""
    native = [native_file(name) for name in ("containai-shim", "agent.bpf", "housekeeping.bpf")]
    return collect_facts(trials, state_dir=state_dir, native=native, with_proxy=with_proxy)


def native_file(name: str) -> Path:
    """A file that the package's build compiled."""
    return Path(str(resources.files("containai") / "_native" / name))


def embedded_tools(facts: Facts) -> Tools:
    """The engine's tools.

    Preconditions: ``refuse_if_needed`` has passed, so everything is there.
    """
    assert facts.bwrap.path is not None
    assert isinstance(facts.delegation, Delegation)
    return Tools(
        bwrap=facts.bwrap.path,
        shim=native_file("containai-shim"),
        agent_filter=native_file("agent.bpf").read_bytes(),
        housekeeping_filter=native_file("housekeeping.bpf").read_bytes(),
        landlock_abi=facts.landlock_abi,
        apparmor_profile=PROFILE if facts.apparmor_enabled else "",
        delegation=facts.delegation,
    )
