"""What the user asked for, as parsed from the command line. No decision has been made yet."""

from __future__ import annotations

from pathlib import Path

from containai.plan.address import Address
from containai.policy.model import CredentialMode, ExecPolicy, LocalService, NetworkMode
from containai.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One ``containai run``. None means: not said, the configuration or the default decides."""

    source: Path
    agent: str
    command: tuple[str, ...] = ()
    prompt: str | None = None
    engine: str = "auto"
    image: str | None = None
    branch: str | None = None
    name: str | None = None
    replace_branch: bool = False
    use_current_branch: bool = False
    network: NetworkMode | None = None
    domains: tuple[str, ...] | None = None
    local_services: tuple[LocalService, ...] = ()
    credentials: CredentialMode | None = None
    passed_variables: tuple[str, ...] = ()
    exec_policy: ExecPolicy | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    timeout_s: float | None = None
    push: bool = True
    address: Address | None = None  # instead of ``source``
    with_changes: bool = False
    included: tuple[str, ...] = ()
    sparse: tuple[str, ...] = ()
    with_submodules: bool = False
    with_lfs: bool = False
