"""From the plan to the containers of a session. PURE.

    prepare   checks the branch out; where a container costs much, in the agent's, before the agent
    agent     runs the agent, supervised, with its network and credentials
    finish    commits what the agent left and pushes it

``prepare`` and ``finish`` run our own git commands on what may be a hostile repository: same guards,
no network but the return port, no credential, no variable of the user's, and no program from where they may write.
``finish`` is supervised, too: the agent has been there, and git is a program that can be made to run others.
"""

from __future__ import annotations

from collections.abc import Mapping

from containai.engine.protocol import ContainerSpec
from containai.plan.model import HOME, PROXY_PORT, RETURN_PORT, WORKSPACE, SessionPlan
from containai.policy.model import ExecPolicy, NetworkMode
from containai.record import replace

HOSTNAME = "containai"
HOUSEKEEPING_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_HOUSEKEEPING_ENVIRONMENT = {
    "HOME": str(HOME),
    "PATH": HOUSEKEEPING_PATH,
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


def listener_ports(plan: SessionPlan) -> tuple[int, ...]:
    """Ports that the agent finds served on its loopback: git, the proxy, then each local service."""
    network = plan.policy.network
    proxy = () if network.mode is NetworkMode.NONE else (PROXY_PORT,)
    return (RETURN_PORT, *proxy, *(service.port for service in network.local_services))


def render_agent(plan: SessionPlan, passed: Mapping[str, str], *, preparation: tuple[str, ...] = ()) -> ContainerSpec:
    """The agent's container.

    Args:
        passed: Values of the variables that the user named with ``--env``; secret.
        preparation: What is run in it before the agent, without any of these.
    """
    digest = {"CONTAINAI_SESSION_CONFIG_SHA256": plan.plan_sha256}  # Source: A1
    return ContainerSpec(
        label="agent",
        session_id=plan.session_id,
        hostname=HOSTNAME,
        command=plan.command,
        environment={**dict(plan.environment), **digest, **passed},
        working_directory=WORKSPACE,
        mounts=plan.mounts,
        files=plan.files,
        identity=plan.identity,
        limits=plan.policy.limits,
        listeners=listener_ports(plan),
        supervised=True,
        name=plan.name,
        labels=_labels(plan, "agent"),
        image=plan.image,
        denied=plan.denied_files if plan.policy.exec_policy is ExecPolicy.ENFORCE else (),
        preparation=preparation,
        preparation_environment=_HOUSEKEEPING_ENVIRONMENT if preparation else {},
    )


def render_housekeeping(
    plan: SessionPlan,
    label: str,
    command: tuple[str, ...],
    *,
    supervised: bool = False,
    needed: frozenset[str] | None = None,
) -> ContainerSpec:
    """The container that prepares the workspace or finishes it.

    Args:
        supervised: Whether its execs are delivered to a supervisor.
        needed: Real paths of the programs that it works with. It has them although the policy denies them to the
            agent, git for example; what else the policy denies it has not. None: it has everything, since the agent
            has not been there.
    """
    agent = render_agent(plan, {})
    return replace(
        agent,
        label=label,
        command=command,
        environment=_HOUSEKEEPING_ENVIRONMENT,
        files=tuple(file for file in plan.files if file.target.is_relative_to("/etc")),
        listeners=(RETURN_PORT,),
        supervised=supervised,
        denied=() if needed is None else tuple(path for path in agent.denied if path not in needed),
        runs_what_it_writes=False,
        name=f"{plan.name}-{label}",
        labels=_labels(plan, label),
    )


def _labels(plan: SessionPlan, part: str) -> tuple[tuple[str, str], ...]:
    """D4."""
    return (
        ("containai.type", part),
        ("containai.session", plan.session_id),
        ("containai.agent", plan.agent),
        ("containai.repo", plan.source.toplevel.name.removesuffix(".git")),
        ("containai.branch", plan.branch),
    )
