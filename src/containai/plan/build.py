"""From a request, a policy and the host's facts to the plan. PURE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from containai.agents.model import Adapter, Program
from containai.host.layout import HostLayout
from containai.plan.filesystem import account_files, home_directories, plan_mounts
from containai.plan.model import (
    AGENT_USER,
    COMMIT_MESSAGE,
    HOME,
    PROXY_PORT,
    WORKSPACE,
    Identity,
    SessionPlan,
    Source,
    StagedFile,
)
from containai.plan.request import RunRequest
from containai.policy.model import NetworkMode, Policy
from containai.policy.narrow import Narrowed

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNNAMEABLE = re.compile(r"[^A-Za-z0-9_.-]+")


def build_plan(
    *,
    request: RunRequest,
    adapter: Adapter,
    program: Program | None,
    files: tuple[StagedFile, ...],
    source: Source,
    branch: str,
    narrowed: Narrowed,
    layout: HostLayout,
    identity: Identity,
    session_id: str,
    workspace: Path,
    terminal_type: str,
    engine: str,
    engine_reason: str,
    image: str,
) -> SessionPlan:
    """Decide everything about a session.

    Args:
        program: Where the agent's program is; None when the request brings its own command.
        files: The agent's configuration and credential files (C1).
        terminal_type: The user's ``TERM``.
        engine_reason: Why it is this one.
        image: Identity of the engine's image, where it has images.
    """
    policy = narrowed.policy
    mounts = plan_mounts(
        layout, workspace, program.mounts if program else (), adapter.writable, policy.limits.tmpfs_bytes
    )
    account = account_files()
    if engine == "docker":
        mounts += home_directories(files, policy.limits.tmpfs_bytes)
        account = account_files(identity.agent_uid)
    return SessionPlan(
        session_id=session_id,
        name=request.name or session_name(adapter.name, source, branch),
        agent=adapter.name,
        engine=engine,
        engine_reason=engine_reason,
        image=image,
        source=source,
        branch=branch,
        in_place=request.use_current_branch,
        command=_command(request, adapter, program),
        environment=tuple(sorted(_environment(adapter, program, policy, session_id, branch, terminal_type).items())),
        passed_variables=request.passed_variables,
        mounts=mounts,
        files=(*account, *files),
        identity=identity,
        policy=policy,
        push=request.push,
        timeout_s=narrowed.timeout_s,
        author=narrowed.author,
    )


def session_name(agent: str, source: Source, branch: str) -> str:
    """``{agent}-{repo}-{branch}`` (D4), in characters that every tool accepts."""
    leaf = branch.removeprefix(f"{agent}/")
    return "-".join(
        _UNNAMEABLE.sub("-", part).strip("-") or "x"
        for part in (agent, source.toplevel.name.removesuffix(".git"), leaf)
    )


def _command(request: RunRequest, adapter: Adapter, program: Program | None) -> tuple[str, ...]:
    if request.command:
        return request.command
    if program is None:
        raise ValueError("an agent without a program needs a command")
    return (*program.argv, *adapter.arguments(request.prompt))


def _environment(
    adapter: Adapter, program: Program | None, policy: Policy, session_id: str, branch: str, terminal_type: str
) -> Mapping[str, str]:
    path = ":".join([*(program.path if program else ()), _PATH])
    environment = {
        "HOME": str(HOME),
        "USER": AGENT_USER,
        "LOGNAME": AGENT_USER,
        "SHELL": "/bin/bash",
        "PATH": path,
        "PWD": str(WORKSPACE),
        "LANG": "C.UTF-8",
        "TERM": terminal_type or "dumb",
        "CONTAINAI_SESSION": session_id,
        "CONTAINAI_BRANCH": branch,
        "CONTAINAI_COMMIT_MESSAGE": str(COMMIT_MESSAGE),
    }
    if policy.network.mode is not NetworkMode.NONE:
        proxy = f"http://127.0.0.1:{PROXY_PORT}"
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment |= {name: proxy, name.upper(): proxy}
        environment |= dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1")
        environment["NODE_USE_ENV_PROXY"] = "1"  # Node.js 22.21 and 24
    return environment | dict(adapter.environment)
