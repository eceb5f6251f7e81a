"""What the Docker engine needs of the daemon, from facts to findings (P4). PURE."""

from __future__ import annotations

from collections.abc import Callable

from containai.host.docker import PODMAN
from containai.preflight import remedies
from containai.preflight.catalogue import WHY
from containai.preflight.model import MIN_VERSION, DockerFacts, Facts, Finding, State, Verdict

PLATFORM = "linux/amd64"
_NAMES = ("docker", "docker-version", "docker-security", "docker-limits", "image")
_LIMIT_NAMES = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap",
    "CpuCfsQuota": "CPU time",
    "PidsLimit": "processes",
}
_ON, _OFF, _UNKNOWN = State.ON, State.OFF, State.UNKNOWN


def check_docker(facts: Facts) -> tuple[Finding, ...]:
    """Every finding about the daemon and the image."""
    docker = facts.docker or DockerFacts(problem="nobody asked the daemon")
    checks: tuple[Callable[[Facts, DockerFacts], Finding], ...] = (_daemon, _version, _security, _limits, _image)
    findings: list[Finding] = []
    for name, one in zip(
        ("docker", "docker-version", "docker-security", "docker-limits", "image"), checks, strict=True
    ):
        # A daemon that does not answer, or is too old, was not asked what comes after that.
        asked = all(finding.state is _ON for finding in findings[:2])
        findings.append(one(facts, docker) if asked else _unknown(name))
    return tuple(findings)


def _finding(name: str, state: State, summary: str, remedy: tuple[str, ...] = ()) -> Finding:
    verdict = Verdict.PASS if state is _ON else Verdict.REFUSE
    return Finding(id=name, state=state, verdict=verdict, summary=summary, why=WHY[name], remedy=remedy)


def _unknown(name: str) -> Finding:
    return _finding(name, _UNKNOWN, "the daemon could not be asked", remedies.DOCKER_INFO)


def _daemon(facts: Facts, docker: DockerFacts) -> Finding:
    if docker.elsewhere:
        summary = f"DOCKER_HOST names {docker.elsewhere}; only this machine's own daemon can be used, {docker.socket}"
        return _finding("docker", _OFF, summary, remedies.DOCKER_HOST)
    podman = docker.product == PODMAN
    if docker.denied:
        return _finding("docker", _OFF, docker.problem, remedies.PODMAN_ROOT if podman else remedies.DOCKER_GROUP)
    if docker.problem:
        return _finding("docker", _OFF, docker.problem, remedies.podman(facts) if podman else remedies.docker(facts))
    return _finding("docker", _ON, "this machine's daemon answers")


def _version(facts: Facts, docker: DockerFacts) -> Finding:
    product, minimum = docker.product, MIN_VERSION[docker.product]
    wanted = ".".join(map(str, minimum))
    newer = remedies.newer_podman(facts) if product == PODMAN else remedies.newer_docker(facts)
    if not docker.version:
        return _finding("docker-version", _UNKNOWN, f"{product} does not tell its version; {wanted} is needed", newer)
    version = ".".join(map(str, docker.version))
    if docker.version < minimum:
        return _finding("docker-version", _OFF, f"{product} {version} is too old; {wanted} is needed", newer)
    return _finding("docker-version", _ON, f"{product} {version}")


def _security(facts: Facts, docker: DockerFacts) -> Finding:
    missing = sorted({"seccomp", "apparmor"} - docker.security)
    if missing:
        summary = f"the daemon does not use {' and '.join(missing)}"
        return _finding("docker-security", _OFF, summary, remedies.docker_security(facts))
    for option, what in (("rootless", "runs without root"), ("userns", "moves user ids (userns-remap)")):
        if option in docker.security:
            summary = f"the daemon {what}; the session's files would be another user's inside"
            return _finding("docker-security", _OFF, summary, remedies.DOCKER_DAEMON_JSON)
    return _finding("docker-security", _ON, "the daemon uses seccomp and AppArmor")


def _limits(facts: Facts, docker: DockerFacts) -> Finding:
    missing = [words for name, words in _LIMIT_NAMES.items() if name not in docker.limits]
    if missing:
        return _finding("docker-limits", _OFF, f"the daemon cannot limit {', '.join(missing)}",
                        remedies.docker_limits(facts))  # fmt: skip
    return _finding("docker-limits", _ON, "the daemon can limit memory, swap, CPU time and processes")


def _image(_facts: Facts, docker: DockerFacts) -> Finding:
    image = docker.image
    if image is None:
        return _finding("image", _OFF, f"none of the images {', '.join(docker.wanted_images)}",
                        remedies.image(docker.wanted_images))  # fmt: skip
    if image.platform != PLATFORM:
        summary = f"{image.reference} is for {image.platform}; {PLATFORM} is needed"
        return _finding("image", _OFF, summary, remedies.image(docker.wanted_images))
    if image.volumes:
        summary = f"{image.reference} declares volumes ({', '.join(image.volumes)}), which would be writable"
        return _finding("image", _OFF, summary, remedies.image(docker.wanted_images))
    return _finding("image", _ON, f"{image.reference}, {image.id}")
