"""Which engine a session runs on, and that engine, made from what preflight found."""

from __future__ import annotations

from pathlib import Path

from containai.engine.protocol import Engine
from containai.errors import EngineError
from containai.host.cgroups import Delegation
from containai.host.docker import PODMAN
from containai.preflight.docker import is_docker_worth_asking, look_at_docker
from containai.preflight.facts import Trials, collect_facts
from containai.preflight.model import DockerFacts, Facts, Verdict

ENGINES = ("embedded", "docker")
_PACKAGE = Path(__file__).resolve().parent.parent
SUPERVISE_LIBRARY = "libcontainai-supervise.so"
_NATIVE = ("containai-shim", SUPERVISE_LIBRARY, "agent.bpf", "housekeeping.bpf")


def require_engine(name: str) -> None:
    """Refuse an engine that this version has not; a named one is never replaced by another.

    Raises:
        EngineError: It has not.
    """
    if name not in ("auto", *ENGINES):
        raise EngineError(
            f"the engine {name} is not part of this version",
            code="engine.unavailable",
            remedy=[f"containai run --engine {each} ..." for each in ENGINES],
        )


def images_of(agent: str, named: str | None) -> tuple[str, ...]:
    """The images that would do for an agent, the best first; a named one alone."""
    if named is not None:
        return (named,)
    own = () if agent == "shell" else (f"containai-{agent}:latest",)
    return (*own, "containai:latest", *(("containai-base:latest",) if agent == "shell" else ()))


def every_image() -> tuple[str, ...]:
    """All images of ours, for who asks without naming an agent: one of them is enough to start something."""
    agents = ("claude", "codex", "copilot")
    return ("containai:latest", *(f"containai-{agent}:latest" for agent in agents), "containai-base:latest")


def look_at_host(
    trials: Trials,
    state_dir: Path,
    *,
    with_proxy: bool,
    docker: DockerFacts | None = None,
) -> Facts:
    """Collect the facts that a launch and ``doctor`` share (P7)."""
    native = [native_file(name) for name in _NATIVE]
    return collect_facts(trials, state_dir=state_dir, native=native, with_proxy=with_proxy, docker=docker)


def ask_docker(engine: str, docker_host: str, images: tuple[str, ...], *, apparmor: bool | None) -> DockerFacts | None:
    """Ask the daemon where the answer can matter: not for ``auto`` on a host where Docker is out of the question."""
    if engine == "docker" or (engine == "auto" and apparmor and is_docker_worth_asking()):
        return look_at_docker(docker_host, images)
    return None


def settle_engine(wanted: str, facts: Facts) -> tuple[str, str]:
    """The engine, and why it is this one; no reason where it was asked for.

    ``auto`` is Docker where every check of it passes and an image of ours is there, else the embedded engine.
    """
    if wanted != "auto":
        return wanted, ""
    if not facts.apparmor_enabled:
        return "embedded", "auto: no AppArmor, without which Docker is refused"
    if facts.docker is None:
        return "embedded", "auto: no Docker daemon that you may ask"
    from containai.preflight.checks import check

    refused = [finding for finding in check(facts, "docker") if finding.verdict is Verdict.REFUSE]
    if refused:
        return "embedded", f"auto: Docker is refused: {refused[0].summary}"
    return "docker", f"auto: {facts.docker.product} is usable, and an image is there"


def native_file(name: str) -> Path:
    """A file that the package's build compiled."""
    return _PACKAGE / "_native" / name


def make_engine(name: str, facts: Facts) -> Engine:
    """The engine.

    Preconditions: ``refuse_if_needed`` has passed for it, so everything is there.
    """
    agent, housekeeping = native_file("agent.bpf").read_bytes(), native_file("housekeeping.bpf").read_bytes()
    if name == "docker":
        from containai.engine.docker.engine import DockerEngine, DockerTools, read_profile

        profile = _PACKAGE / "data" / "seccomp-containai-agent.json"
        return DockerEngine(
            DockerTools(
                shim=native_file("containai-shim"),
                agent_filter=agent,
                housekeeping_filter=housekeeping,
                seccomp_profile=read_profile(profile),
                landlock_abi=facts.landlock_abi,
                apparmor_profile=facts.profile(name)[0],
                may_trace=facts.may_trace,
                podman=facts.docker is not None and facts.docker.product == PODMAN,
            )
        )
    from containai.engine.embedded.engine import EmbeddedEngine, Tools

    assert facts.bwrap.path is not None
    assert isinstance(facts.delegation, Delegation)
    return EmbeddedEngine(
        Tools(
            bwrap=facts.bwrap.path,
            shim=native_file("containai-shim"),
            agent_filter=agent,
            housekeeping_filter=housekeeping,
            landlock_abi=facts.landlock_abi,
            apparmor_profile=facts.profile(name)[0] if facts.apparmor_enabled else "",
            delegation=facts.delegation,
        )
    )


def remove_docker_leftovers(session_id: str) -> None:
    """Remove the containers and staged files of a session whose launcher was killed.

    Raises:
        EngineError: The daemon cannot be asked; a container may be left.
    """
    from containai.engine.docker.staging import remove_leftovers
    from containai.host.docker import Daemon

    daemon = Daemon()
    for container in daemon.find(f"containai.session={session_id}"):
        daemon.remove(container)
    remove_leftovers(session_id)
