"""The only reader of the process environment.

Nothing here can turn a check off or feed it a fact (P5): variables say where things are kept, how
to print, and which values the user passes on.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from containai.errors import UsageError
from containai.record import dataclass, field

_ROOT_STATE_DIR = Path("/var/lib/containai")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the process was started with."""

    home: Path
    search_path: str
    state_dir: Path
    config_file: Path
    terminal_type: str
    docker_host: str  # never followed: preflight refuses one that names another daemon (P5)
    debug: bool
    colour: bool
    variables: Mapping[str, str] = field(repr=False)

    def values_of(self, names: tuple[str, ...]) -> dict[str, str]:
        """The values of variables to pass into a container.

        Raises:
            UsageError: One is not set.
        """
        missing = [name for name in names if name not in self.variables]
        if missing:
            raise UsageError(
                f"--env {missing[0]}: the variable is not set",
                code="usage.env",
                remedy=[f"export {missing[0]} first; its value is never given on the command line"],
            )
        return {name: self.variables[name] for name in names}


def read_surroundings() -> Surroundings:
    """Read the environment once."""
    env = os.environ
    home = Path(env.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)
    return Surroundings(
        home=home,
        search_path=env.get("PATH", os.defpath),
        state_dir=_state_dir(env, home),
        config_file=Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "containai" / "config.toml",
        terminal_type=_plain(env.get("TERM", "")),
        docker_host=env.get("DOCKER_HOST", ""),
        debug=env.get("CONTAINAI_DEBUG") == "1",
        colour="NO_COLOR" not in env and env.get("TERM") != "dumb",
        variables=dict(env),
    )


def _plain(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", word) else ""


def _state_dir(env: Mapping[str, str], home: Path) -> Path:
    """Root's sessions run as users of their own, who cannot walk through /root: hence /var/lib."""
    chosen = env.get("XDG_STATE_HOME")
    if chosen and Path(chosen).is_absolute():  # the XDG specification: a relative path is to be ignored
        return Path(chosen) / "containai"
    return _ROOT_STATE_DIR if os.geteuid() == 0 else home / ".local/state/containai"
